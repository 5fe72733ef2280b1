package audit

import "bytes"

// ring holds whole lines, in order, in a buffer of fixed size.
type ring struct {
	b    []byte
	from int // of the oldest byte
	used int
}

// push takes a line that has room.
func (r *ring) push(line []byte) {
	at := (r.from + r.used) % len(r.b)
	n := copy(r.b[at:], line)
	copy(r.b, line[n:])
	r.used += len(line)
}

// peek copies the oldest lines to dst, as many as fit, and returns them.
func (r *ring) peek(dst []byte) []byte {
	dst = dst[:min(len(dst), r.used)]
	n := copy(dst, r.b[r.from:])
	copy(dst[n:], r.b)
	return dst[:bytes.LastIndexByte(dst, '\n')+1]
}

// drop forgets the oldest n bytes.
func (r *ring) drop(n int) {
	r.used -= n
	if r.from += n; r.from >= len(r.b) {
		r.from -= len(r.b)
	}
	if r.used == 0 {
		r.from = 0 // so that little traffic touches little memory
	}
}

// count is how many lines there are.
func (r *ring) count() int {
	newline := []byte{'\n'}
	first := r.b[r.from:min(len(r.b), r.from+r.used)]
	return bytes.Count(first, newline) + bytes.Count(r.b[:r.used-len(first)], newline)
}
