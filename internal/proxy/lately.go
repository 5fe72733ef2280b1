package proxy

import (
	"sync"
	"time"
)

// lateSlots is the length of what lately remembers, in seconds.
const lateSlots = 10

// lately counts two kinds of events over the last ten seconds.
type lately struct {
	mu    sync.Mutex
	slots [lateSlots]slot // guarded by mu; by second modulo lateSlots
}

type slot struct {
	second int64
	a, b   int
}

// add counts events at now.
func (l *lately) add(now time.Time, a, b int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(now, a, b)
}

func (l *lately) addLocked(now time.Time, a, b int) {
	second := now.Unix()
	s := &l.slots[uint64(second)%lateSlots]
	if s.second != second {
		*s = slot{second: second}
	}
	s.a += a
	s.b += b
}

// sums are the counts of the ten seconds up to now.
func (l *lately) sums(now time.Time) (a, b int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sumsLocked(now)
}

func (l *lately) sumsLocked(now time.Time) (a, b int) {
	second := now.Unix()
	for _, s := range l.slots {
		if s.second > second-lateSlots && s.second <= second {
			a += s.a
			b += s.b
		}
	}
	return a, b
}

// forget begins anew.
func (l *lately) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.slots[:])
}

// budgetFloor is how many attempts may be added in ten seconds however few requests there are: a share of little is nothing,
// and a single failover must always be possible.
const budgetFloor = 10

// budget bounds the attempts that are added to requests, by whatever cause, to a share of the requests of the last ten seconds:
// what a failing store is asked grows by that share and no more, however many requests fail.
type budget struct {
	lately  // a: requests, b: attempts added to them
	percent int
}

// take adds an attempt, if there is room.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	requests, added := b.sumsLocked(now)
	if added >= b.allowed(requests) {
		return false
	}
	b.addLocked(now, 0, 1)
	return true
}

func (b *budget) allowed(requests int) int {
	if b.percent == 0 {
		return 0
	}
	return max(budgetFloor, requests*b.percent/100)
}
