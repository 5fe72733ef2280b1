package remotewrite

import (
	"bytes"
	"testing"

	"github.com/golang/snappy"
)

func TestStoreIsSnappy(t *testing.T) {
	for _, n := range []int{0, 1, 59, 60, 61, 255, 256, 65536, 65537, 1 << 24, 1<<24 + 1} {
		src := bytes.Repeat([]byte{'a', 'b', 0xff}, n/3+1)[:n]
		block := Store(make([]byte, 0, EncodedBound(n)), src)
		if len(block) > EncodedBound(n) {
			t.Errorf("%d bytes: a block of %d, over EncodedBound", n, len(block))
		}
		got, err := snappy.Decode(nil, block)
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
