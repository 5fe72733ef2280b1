package proxy

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// paceMemory is the time constant with which a pace forgets.
const paceMemory = 10 * time.Second

// pace is how long answers took of late: a mean that forgets.
type pace struct {
	mu   sync.Mutex
	mean float64   // guarded by mu; seconds
	last time.Time // guarded by mu; of the last answer; zero: none yet
}

// add takes note of an answer that took d.
func (p *pace) add(now time.Time, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := d.Seconds()
	if p.last.IsZero() {
		p.mean = s
	} else {
		// A tenth for each answer, so that the few answers of a slow member count, and more after a silence.
		keep := min(0.9, p.keep(now))
		p.mean = p.mean*keep + s*(1-keep)
	}
	p.last = now
}

// at is the mean in seconds, drawn towards usual the longer no answer has come: a member that was slow is tried again.
func (p *pace) at(now time.Time, usual float64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		return usual
	}
	keep := p.keep(now)
	return p.mean*keep + usual*(1-keep)
}

func (p *pace) keep(now time.Time) float64 {
	return math.Exp(-max(0, now.Sub(p.last).Seconds()) / paceMemory.Seconds())
}

const (
	// tailLeast is how many answers must be known before their tail is.
	tailLeast = 50
	// tailKeep is the number of answers at which the older half of the weight goes.
	tailKeep = 2000
	// tailShare of the answers came sooner than tail.after.
	tailShare = 0.95
)

// tail is the time that 95% of the answers to one kind of request take, to a fifth exactly.
type tail struct {
	mu      sync.Mutex
	buckets [128]uint32 // guarded by mu; four to a doubling, from 64 µs
	total   uint32      // guarded by mu
	known   atomic.Int64
}

// after is the time that 95% of the answers take, or false while too few are known.
func (t *tail) after() (time.Duration, bool) {
	d := t.known.Load()
	return time.Duration(d), d > 0
}

// add takes note of an answer that took d.
func (t *tail) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buckets[tailBucket(d)]++
	t.total++
	if t.total >= tailKeep {
		t.total = 0
		for i := range t.buckets {
			t.buckets[i] /= 2
			t.total += t.buckets[i]
		}
	}
	if t.total < tailLeast || t.total%16 != 0 && t.known.Load() > 0 {
		return
	}
	left := uint32(float64(t.total) * (1 - tailShare))
	i := len(t.buckets) - 1
	for ; i > 0 && t.buckets[i] <= left; i-- {
		left -= t.buckets[i]
	}
	t.known.Store(int64(tailBound(i)))
}

// tailUnit is the width of the first buckets.
const tailUnit = 16 * time.Microsecond

// tailBucket is the bucket of d: the place of its highest bit, and the two bits below that.
func tailBucket(d time.Duration) int {
	n := uint64(max(d, 0) / tailUnit)
	if n < 4 {
		return int(n)
	}
	high := bits.Len64(n) - 1
	return min(4*(high-1)+int(n>>(high-2)&3), 127)
}

// tailBound is the end of bucket i.
func tailBound(i int) time.Duration {
	i++
	if i < 4 {
		return time.Duration(i) * tailUnit
	}
	return time.Duration(uint64(4+i%4)<<(i/4-1)) * tailUnit
}

// tails are the tails of each kind of read. A kind is the last part of the path; what comes after maxKinds are one more.
type tails struct {
	mu   sync.Mutex
	kind map[string]*tail // guarded by mu
	rest tail
}

const maxKinds = 16

func (t *tails) of(kind string) *tail {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.kind[kind]; ok {
		return k
	}
	if len(t.kind) >= maxKinds {
		return &t.rest
	}
	if t.kind == nil {
		t.kind = map[string]*tail{}
	}
	k := new(tail)
	t.kind[kind] = k
	return k
}
