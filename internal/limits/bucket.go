package limits

import (
	"math"
	"time"
)

// bucket holds what may come at once, and fills at a rate. More than it ever holds may be taken when it is full: it owes the rest then,
// so that the rate is kept and nothing is impossible for ever. The zero value is not configured and full.
type bucket struct {
	rate, size float64 // a second; rate 0: no limit
	left       float64 // below 0: it owes
	at         time.Time
	set        bool
}

// configure changes rate and size. What is left stays, up to the new size: a change gives nothing.
func (b *bucket) configure(rate, size int64, now time.Time) {
	b.fill(now)
	limited := b.rate > 0
	b.rate, b.size = float64(rate), float64(size)
	if !b.set || !limited {
		b.left, b.at, b.set = b.size, now, true
	}
	b.left = min(b.left, b.size)
}

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.left = min(b.size, b.left+d.Seconds()*b.rate)
		b.at = now
	}
}

// wait is how long until n can be taken; 0: now.
func (b *bucket) wait(n int64, now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.fill(now)
	missing := min(float64(n), b.size) - b.left
	if missing <= 1e-6 { // what is counted are whole things, and times are whole nanoseconds
		return 0
	}
	return time.Duration(min(math.Ceil(missing/b.rate*1e9), float64(24*time.Hour)))
}

// take takes n, whether they are there or not.
func (b *bucket) take(n int64) {
	if b.rate > 0 {
		b.left = min(b.size, b.left-float64(n))
	}
}

// used is how much of its size is taken, at most all of it.
func (b *bucket) used(now time.Time) float64 {
	b.fill(now)
	return min(b.size, b.size-b.left)
}
