package remotewrite

import (
	"bytes"
	"errors"
	"testing"

	"github.com/golang/snappy"
)

// TestBlock: the pieces make the very block that snappy makes of the whole, and plain ones decode to the same.
func TestBlock(t *testing.T) {
	p := timingPolicy(t)
	for _, n := range []int{0, 1, 100, 5000} {
		src := realistic(n)
		want, _, err := raw(t, new(Confiner), src, V1, p, testNow-1, testNow+1)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 0, 2*len(want)+64)
		var c Confiner
		o := Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}
		block, _, err := c.Confine(dst, src, o)
		if err != nil || !bytes.Equal(block, snappy.Encode(nil, want)) {
			t.Errorf("%d series: not the block of the whole: %v", n, err)
		}
		o.Plain = true
		block, _, err = c.Confine(dst, src, o)
		got, decodeErr := snappy.Decode(nil, block)
		if err != nil || decodeErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%d series, plain: %v, %v", n, err, decodeErr)
		}
	}
}

// TestShort: whatever the room, the answer is the block or ErrShort, and never a byte beyond the room.
func TestShort(t *testing.T) {
	p := timingPolicy(t)
	src := realistic(300)
	back := make([]byte, 1<<17)
	var c Confiner
	for _, plain := range []bool{false, true} {
		fits := false
		for room := 0; room < len(back)-8 && !fits; room += 1 + room/16 {
			copy(back[room:], "canaries")
			block, _, err := c.Confine(back[0:0:room], src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit, Plain: plain})
			if string(back[room:room+8]) != "canaries" {
				t.Fatalf("room %d: written beyond", room)
			}
			if fits = err == nil; !fits && !errors.Is(err, ErrShort) || fits && len(block) > room {
				t.Fatalf("room %d: %v", room, err)
			}
		}
		if !fits {
			t.Error("no room was enough")
		}
	}
}

func TestLimit(t *testing.T) {
	p := timingPolicy(t)
	src := realistic(100)
	want, _, err := raw(t, new(Confiner), src, V1, p, testNow-1, testNow+1)
	if err != nil {
		t.Fatal(err)
	}
	for limit, fails := range map[int]error{len(want): nil, len(want) - 1: ErrTooLong} {
		if _, _, err := new(Confiner).Confine(make([]byte, 0, len(want)), src, Order{Policy: p, MaxT: testNow, Limit: limit}); !errors.Is(err, fails) {
			t.Errorf("limit %d of %d: %v", limit, len(want), err)
		}
	}
}
