package remotewrite

import (
	"encoding/binary"
	"errors"

	"github.com/golang/snappy"
)

// ErrSnappy is a body that is no snappy block.
var ErrSnappy = errors.New("the body is not a snappy block; send Content-Encoding: snappy")

// DecodedLen is the length that body claims to decode to, read from its first bytes; nothing is allocated.
func DecodedLen(body []byte) (int, error) {
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return 0, ErrSnappy
	}
	return n, nil
}

// Decode decodes body into dst, whose capacity must be DecodedLen(body) at least, and returns the decoded bytes.
func Decode(dst, body []byte) ([]byte, error) {
	out, err := snappy.Decode(dst[:cap(dst)], body)
	if err != nil {
		return nil, ErrSnappy
	}
	return out, nil
}

// EncodedBound is the capacity that Encode needs for n bytes.
func EncodedBound(n int) int { return snappy.MaxEncodedLen(n) }

// Encode encodes src into dst, whose capacity must be EncodedBound(len(src)) at least, and returns the block.
func Encode(dst, src []byte) []byte { return snappy.Encode(dst[:cap(dst)], src) }

// Store is Encode without searching for repeats: a block of one literal, which every snappy decoder reads. len(src) must be
// below 4 GiB.
func Store(dst, src []byte) []byte {
	dst = binary.AppendUvarint(dst[:0], uint64(len(src)))
	if len(src) == 0 {
		return dst
	}
	const literal4 = 63 << 2 // a literal whose length less one follows in four bytes
	dst = binary.LittleEndian.AppendUint32(append(dst, literal4), uint32(len(src)-1))
	return append(dst, src...)
}
