package remotewrite

import (
	"encoding/binary"
	"math/bits"
)

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// uvarintLen is the length of n as a minimal varint.
func uvarintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// appendTagged appends a one-byte tag and n as a varint.
func appendTagged(dst []byte, tag byte, n int) []byte {
	if n < 0x80 {
		return append(dst, tag, byte(n))
	}
	return binary.AppendUvarint(append(dst, tag), uint64(n))
}

// uvarint reads a varint of at most 10 bytes at p; next is 0 if there is none before end.
func uvarint(b []byte, p, end int) (v uint64, next int) {
	if p < end && b[p] < 0x80 {
		return uint64(b[p]), p + 1
	}
	for shift := uint(0); p < end && shift < 64; shift += 7 {
		c := b[p]
		p++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, 0
			}
			return v | uint64(c)<<shift, p
		}
		v |= uint64(c&0x7f) << shift
	}
	return 0, 0
}

// field is one field of a message: its number, wire type and payload bytes [start,end) of the request.
// For varints the payload is the varint itself and num its value.
type field struct {
	number, wire int
	start, end   int
	num          uint64
}

// next reads the field at p of the message that ends at end, and where the following one starts.
func next(b []byte, p, end int) (f field, after int, err error) {
	tag, q := uvarint(b, p, end)
	if q == 0 || tag > 1<<32-1 || tag>>3 == 0 {
		return f, 0, &SyntaxError{p, "a broken field tag"}
	}
	f = field{number: int(tag >> 3), wire: int(tag & 7), start: q}
	switch f.wire {
	case wireVarint:
		f.num, f.end = uvarint(b, q, end)
		if f.end == 0 {
			return f, 0, &SyntaxError{q, "a broken varint"}
		}
	case wireFixed64:
		f.end = q + 8
	case wireFixed32:
		f.end = q + 4
	case wireBytes:
		n, r := uvarint(b, q, end)
		if r == 0 {
			return f, 0, &SyntaxError{q, "a broken length"}
		}
		if n > uint64(end-r) {
			return f, 0, &SyntaxError{q, "a length beyond its message"}
		}
		f.start, f.end = r, r+int(n)
	default:
		return f, 0, &SyntaxError{p, "an unknown wire type"}
	}
	if f.end > end {
		return f, 0, &SyntaxError{p, "a truncated field"}
	}
	return f, f.end, nil
}

// want is an error unless f has the wire type w.
func (f *field) want(w int) error {
	if f.wire != w {
		return &SyntaxError{f.start, "a wrong wire type"}
	}
	return nil
}

// short reads the frame of a length-delimited field at p whose tag is one byte and whose length one or two, as nearly all
// are; ok is false if it is another one, or does not fit before end.
func short(b []byte, p, end int) (body, after int, ok bool) {
	if end-p < 2 {
		return 0, 0, false
	}
	n := int(b[p+1])
	if body = p + 2; n >= 0x80 {
		if end-p < 3 || b[p+2] >= 0x80 {
			return 0, 0, false
		}
		n, body = n&0x7f|int(b[p+2])<<7, p+3
	}
	return body, body + n, n <= end-body
}
