package remotewrite

import (
	"encoding/binary"
	"unicode/utf8"
)

// Classes of bytes in classic names.
const (
	letter = 1 << iota // may stand anywhere in a label name
	digit              // anywhere but first
	colon              // in metric names
)

var nameClass = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = letter, letter
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = digit
	}
	t['_'], t[':'] = letter, colon
	return t
}()

// validName checks a label's name or, with metric set, the value of __name__.
func (c *Confiner) validName(name []byte, metric bool) bool {
	if len(name) == 0 {
		return false
	}
	if c.p.rules.UTF8Names {
		return validText(name)
	}
	return classic(name, metric) && nameClass[name[0]]&digit == 0
}

// classic reports that every byte of name may stand in a classic name.
func classic(name []byte, metric bool) bool {
	allowed := uint8(letter | digit)
	if metric {
		allowed |= colon
	}
	for _, b := range name {
		if nameClass[b]&allowed == 0 {
			return false
		}
	}
	return true
}

// validText reports UTF-8; plain ASCII, which nearly all labels are, is seen eight bytes at a time.
func validText(b []byte) bool {
	const high = 0x8080808080808080
	n := len(b)
	if n >= 8 {
		acc := binary.LittleEndian.Uint64(b[n-8:])
		for i := 0; i+8 < n; i += 8 {
			acc |= binary.LittleEndian.Uint64(b[i:])
		}
		return acc&high == 0 || utf8.Valid(b)
	}
	var acc byte
	for _, x := range b {
		acc |= x
	}
	return acc < 0x80 || utf8.Valid(b)
}
