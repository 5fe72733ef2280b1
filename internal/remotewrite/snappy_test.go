package remotewrite

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// TestBlock: whatever the form of the block, it decodes to what prompb makes of the request, and the elements that are written
// without a search cost at most twice as much as those that snappy finds in the whole.
func TestBlock(t *testing.T) {
	p := timingPolicy(t)
	for _, n := range []int{0, 1, 100, 5000} {
		src := realistic(n)
		var in prompb.WriteRequest
		if err := in.Unmarshal(src); err != nil {
			t.Fatal(err)
		}
		ref := reference{label: "tenant", rules: Rules{Limits: Limits{NameBytes: 1024, ValueBytes: 32 << 10, Labels: 512}}, tenants: tenantA(), minT: testNow - 1, maxT: testNow + 1}
		out := ref.confine(in)
		want, err := out.req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 0, 2*len(want)+64)
		var c Confiner
		o := Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}
		block, _, err := c.Confine(dst, src, o)
		got, decodeErr := snappy.Decode(nil, block)
		if err != nil || decodeErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%d series: %v, %v", n, err, decodeErr)
		}
		if searched := len(snappy.Encode(nil, want)); len(block) > 2*searched+64 {
			t.Errorf("%d series: %d bytes, by a search %d", n, len(block), searched)
		}
		o.Plain = true
		block, _, err = c.Confine(dst, src, o)
		got, decodeErr = snappy.Decode(nil, block)
		if err != nil || decodeErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%d series, plain: %v, %v", n, err, decodeErr)
		}
	}
}

// TestShort: whatever the room, the answer is the block or ErrShort, and never a byte beyond the room.
func TestShort(t *testing.T) {
	p := timingPolicy(t)
	back := make([]byte, 1<<17)
	var c Confiner
	for i, src := range [][]byte{realistic(300), realistic(300), generator{rand.New(rand.NewPCG(5, 5))}.neighbours(200)} {
		plain := i == 1
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
