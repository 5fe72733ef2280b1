package buf

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	minShift = 12 // 4 KiB: below that a class is not worth its own list
	maxShift = 26 // 64 MiB: larger buffers are left to the garbage collector, so that one huge request does not stay resident
)

// Buffer is a byte slice on loan. Its one owner may append to B, hand the Buffer on, and releases it once.
type Buffer struct {
	B    []byte
	pool *Pool
	free atomic.Bool
}

// Pool lends Buffers by size class (powers of two). The zero value is ready; it is safe for concurrent use.
type Pool struct {
	classes [maxShift - minShift + 1]sync.Pool
}

// Get returns an empty Buffer with capacity for n bytes at least. The caller owns it until Release.
func (p *Pool) Get(n int) *Buffer {
	c := class(n)
	if c >= len(p.classes) {
		return &Buffer{B: make([]byte, 0, n), pool: p}
	}
	if b, ok := p.classes[c].Get().(*Buffer); ok {
		b.free.Store(false)
		b.B = b.B[:0]
		return b
	}
	return &Buffer{B: make([]byte, 0, 1<<(c+minShift)), pool: p}
}

// Release ends the loan; B must not be touched afterwards. A second Release of the same loan panics.
func (b *Buffer) Release() {
	if b.free.Swap(true) {
		panic("buf: released twice")
	}
	if mangle && cap(b.B) > 0 {
		s := b.B[:cap(b.B)]
		s[0] = 0xCC
		for n := 1; n < len(s); n *= 2 { // by copying: the detector would look at every single byte of a loop
			copy(s[n:], s[:n])
		}
	}
	// The class whose every member has at least this capacity: a grown slice moves up, never into a class it is too small for.
	c := bits.Len(uint(cap(b.B))) - 1 - minShift
	if c >= 0 && c < len(b.pool.classes) {
		b.pool.classes[c].Put(b)
	}
}

// class is the smallest class that holds n bytes.
func class(n int) int {
	if n <= 1<<minShift {
		return 0
	}
	return bits.Len(uint(n-1)) - minShift
}
