package remotewrite

import (
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
