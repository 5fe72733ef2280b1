package remotewrite

import "encoding/binary"

// elements is a block under way. The elements of snappy's block format that it writes are:
//
//	literal   n-1<<2 (n bytes, up to 60)  |  60<<2 n-1 (up to 256)  |  61<<2 n-1 in two bytes (up to 65,536)
//	copy 1    dist>>8<<5 | n-4<<2 | 1, dist           n from 4 to 11, dist below 2,048
//	copy 2    n-1<<2 | 2, dist in two bytes           n from 1 to 64, dist below 65,536
//
// Neighbouring copies of one distance become one, and so do neighbouring literals: the last element is held back, as a copy
// by its length and distance, as a literal by the place of its tag, which is left free.
type elements struct {
	out     []byte // up to its capacity, which is the caller's
	n       int    // of out that is written
	literal int    // the place of the tag of the literal under way; 0: none is
	size    int    // of the copy under way; 0: none is
	dist    int    // of that copy
}

const (
	shortestCopy = 4 // a shorter one costs as much as its bytes
	longestCopy  = 64
	maxDist      = 1<<16 - 1
)

// room reports that n more bytes fit, with what is held back and the longer tag that a literal may need.
func (w *elements) room(n int) bool {
	return len(w.out)-w.n >= n+3*(w.size/(longestCopy-shortestCopy)+2)+2
}

// byte writes b as a literal.
func (w *elements) byte(b byte) {
	if w.literal == 0 {
		w.beginLiteral()
	}
	w.out[w.n] = b
	w.n++
}

// beginLiteral begins a literal behind the copy under way.
func (w *elements) beginLiteral() {
	if w.size > 0 {
		w.endCopy()
	}
	w.literal = w.n
	w.n++
}

// copied writes n bytes, at least shortestCopy, that stand dist bytes earlier in what comes out, too.
func (w *elements) copied(n, dist int) {
	if w.size > 0 {
		if w.dist == dist {
			w.size += n
			return
		}
		w.endCopy()
	} else if w.literal > 0 {
		w.endLiteral()
	}
	w.size, w.dist = n, dist
}

// freshen writes the n bytes of the request at at as a literal.
func (c *Confiner) freshen(at, n int) {
	if n <= 0 {
		return
	}
	w := &c.elements
	if w.literal == 0 {
		w.beginLiteral()
	}
	if n <= 16 && at+16 <= len(c.src) && w.n+16 <= len(w.out) {
		s, o := c.src[at:at+16], w.out[w.n:w.n+16]
		binary.LittleEndian.PutUint64(o, binary.LittleEndian.Uint64(s))
		binary.LittleEndian.PutUint64(o[8:], binary.LittleEndian.Uint64(s[8:]))
		w.n += n
		return
	}
	w.n += copy(w.out[w.n:], c.src[at:at+n])
	if w.n-w.literal > blockSize-maxElements {
		w.endLiteral()
	}
}

// copyOrFresh writes the n bytes of the request at at, which stand dist bytes earlier in what comes out, too. n may count
// more bytes if at least shortestCopy.
func (c *Confiner) copyOrFresh(at, n, dist int) {
	if n >= shortestCopy || c.elements.size > 0 && c.dist == dist {
		c.copied(n, dist)
		return
	}
	c.freshen(at, n)
}

// close writes what is held back.
func (w *elements) close() {
	if w.size > 0 {
		w.endCopy()
	} else if w.literal > 0 {
		w.endLiteral()
	}
}

// ready writes elements as they are.
func (w *elements) ready(b []byte) {
	w.close()
	w.n += copy(w.out[w.n:], b)
}

// literal3 writes b, at most 65,536 bytes, as a literal of its own.
func (w *elements) literal3(b []byte) {
	w.close()
	n := len(b) - 1
	w.out[w.n], w.out[w.n+1], w.out[w.n+2] = literal2, byte(n), byte(n>>8)
	w.n += 3 + copy(w.out[w.n+3:], b)
}

// endCopy writes the copy under way.
func (w *elements) endCopy() {
	n, dist := w.size, w.dist
	w.size = 0
	o := w.out[w.n:]
	k := 0
	for ; n >= longestCopy+shortestCopy; n -= longestCopy {
		o[k], o[k+1], o[k+2] = (longestCopy-1)<<2|2, byte(dist), byte(dist>>8)
		k += 3
	}
	if n > longestCopy { // the rest must not be too short for the shorter form
		const first = longestCopy - shortestCopy
		o[k], o[k+1], o[k+2] = (first-1)<<2|2, byte(dist), byte(dist>>8)
		k += 3
		n -= first
	}
	if n <= 11 && dist < 2048 {
		o[k], o[k+1] = byte(dist>>8)<<5|byte(n-4)<<2|1, byte(dist)
		w.n += k + 2
		return
	}
	o[k], o[k+1], o[k+2] = byte(n-1)<<2|2, byte(dist), byte(dist>>8)
	w.n += k + 3
}

// endLiteral gives the literal under way its length.
func (w *elements) endLiteral() {
	at := w.literal
	w.literal = 0
	n := w.n - at - 2 // one less than its length
	switch {
	case n < 60:
		w.out[at] = byte(n) << 2
	case n < 1<<8:
		copy(w.out[at+2:], w.out[at+1:w.n])
		w.out[at], w.out[at+1] = 60<<2, byte(n)
		w.n++
	default:
		copy(w.out[at+3:], w.out[at+1:w.n])
		w.out[at], w.out[at+1], w.out[at+2] = literal2, byte(n), byte(n>>8)
		w.n += 2
	}
}
