package limits

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// windowParts is how finely the window of active series is told.
const windowParts = 8

// SeriesVerdict is what becomes of a series.
type SeriesVerdict uint8

const (
	SeriesTaken  SeriesVerdict = iota
	TooManyTotal               // the tenant has as many active series as it may
	TooManyNew                 // too many of them are new
)

// Series are the active series of one tenant: those seen within the window, exactly, up to a limit. Series that are active are taken
// however many there are; new ones only below the limits. Who was turned away is counted by a sketch.
//
// What is known of a series is one word: 56 bits of its hash, and in the low byte when it was last seen, as one of windowParts+1
// parts of the window. To find an active series takes no lock. A table takes 8 bytes a slot and is at most three quarters full, so
// that a series takes 11 to 21 bytes. Two series of one tenant whose hashes agree in 56 bits are one: of a million, with a
// probability of 1 in 100,000.
type Series struct {
	table atomic.Pointer[seriesTable]
	part  atomic.Int64 // the part of the window that it is, counted since 1970

	mu     sync.Mutex
	n      int
	limit  int64
	window time.Duration
	fresh  bucket    // of new series
	since  time.Time // when the first series was seen
	away   sketch    // series turned away
}

type seriesTable struct {
	slots []uint64 // as many as a power of two; 0 is free
	shift uint
}

const leastSlots = 64

func newSeriesTable(slots int) *seriesTable {
	return &seriesTable{slots: make([]uint64, slots), shift: uint(64 - bits.TrailingZeros(uint(slots)))}
}

// find is the slot of the series with hash h, and true; or the slot that is free for it.
func (t *seriesTable) find(h uint64) (int, bool) {
	i := int(h >> 8 * 0x9e3779b97f4a7c15 >> t.shift)
	for ; ; i = (i + 1) & (len(t.slots) - 1) {
		switch v := atomic.LoadUint64(&t.slots[i]); {
		case v == 0:
			return i, false
		case v>>8 == h>>8:
			return i, true
		}
	}
}

// configure changes the limits. What is known stays; with another window, that is as old as it was in parts of the old one.
func (s *Series) configure(limit, perMinute int64, window time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window != window { // all that is known has been seen within the old window
		s.window = window
		s.restart(now)
	}
	s.limit = limit
	s.fresh.rate, s.fresh.size = float64(perMinute)/60, float64(perMinute)
	if !s.fresh.set {
		s.fresh.left, s.fresh.set = s.fresh.size, true
	}
	s.fresh.left = min(s.fresh.left, s.fresh.size)
	if limit == 0 {
		s.table.Store(nil)
		s.n, s.since, s.away = 0, time.Time{}, sketch{}
	}
}

// restart makes all series that are known seen now.
func (s *Series) restart(now time.Time) {
	part := s.partOf(now)
	s.part.Store(part)
	if t := s.table.Load(); t != nil {
		for i, v := range t.slots {
			if v != 0 {
				atomic.StoreUint64(&t.slots[i], v&^0xff|mark(part))
			}
		}
	}
}

func (s *Series) partOf(now time.Time) int64 {
	return now.UnixNano() / int64(s.window/windowParts)
}

// mark is the low byte of what was seen in part: 1 to 255.
func mark(part int64) uint64 { return uint64(part%255) + 1 }

// At makes ready for the series of one batch at now. The result is valid for that batch.
func (s *Series) At(now time.Time) SeriesBatch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = now
	}
	s.turnLocked(now)
	return SeriesBatch{s: s, mark: mark(s.part.Load()), now: now}
}

// turnLocked begins a new part of the window if it is time.
func (s *Series) turnLocked(now time.Time) {
	if part := s.partOf(now); part > s.part.Load() {
		s.sweep(part)
		s.away.turn(part / windowParts)
	}
}

// sweep begins a new part of the window, and lets go of what was seen before the window.
func (s *Series) sweep(part int64) {
	passed := part - s.part.Swap(part)
	t := s.table.Load()
	if t == nil {
		return
	}
	if passed > windowParts {
		s.n = 0
		s.table.Store(nil)
		return
	}
	keep, n := make([]uint64, 0, s.n), 0
	for i := range t.slots {
		if v := atomic.LoadUint64(&t.slots[i]); v != 0 && (part%255-int64(v&0xff-1)+255)%255 <= windowParts {
			keep = append(keep, v)
			n++
		}
	}
	next := newSeriesTable(slotsFor(n))
	for _, v := range keep {
		i, _ := next.find(v)
		next.slots[i] = v
	}
	s.n = n
	s.table.Store(next)
}

// slotsFor is the least table that n series fill by at most three quarters.
func slotsFor(n int) int {
	slots := leastSlots
	for n > slots/4*3 {
		slots *= 2
	}
	return slots
}

// SeriesBatch judges the series of one batch.
type SeriesBatch struct {
	s    *Series
	mark uint64
	now  time.Time
}

// Take judges the series with hash h, and counts it if it is taken. The zero SeriesBatch takes all.
func (b *SeriesBatch) Take(h uint64) SeriesVerdict {
	if b.s == nil {
		return SeriesTaken
	}
	if h>>8 == 0 {
		h |= 1 << 8
	}
	if t := b.s.table.Load(); t != nil {
		if i, ok := t.find(h); ok {
			// Stored only where it changes: else all CPUs would write the same words. In a table that has just been replaced
			// the mark is lost, and the series is marked when it is next seen.
			if v := atomic.LoadUint64(&t.slots[i]); v&0xff != b.mark {
				atomic.StoreUint64(&t.slots[i], v&^0xff|b.mark)
			}
			return SeriesTaken
		}
	}
	return b.s.add(h, b.mark, b.now)
}

// add judges a series that was not found, and adds it if it is taken.
func (s *Series) add(h, mark uint64, now time.Time) SeriesVerdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if t == nil {
		t = newSeriesTable(leastSlots)
		s.table.Store(t)
	}
	i, ok := t.find(h)
	if ok { // another batch was faster
		return SeriesTaken
	}
	if s.limit > 0 && int64(s.n) >= s.limit {
		s.away.add(h)
		return TooManyTotal
	}
	if now.Sub(s.since) >= s.window && s.fresh.wait(1, now) > 0 {
		s.away.add(h)
		return TooManyNew
	}
	s.fresh.fill(now)
	if now.Sub(s.since) >= s.window {
		s.fresh.take(1)
	}
	if s.n+1 > len(t.slots)/4*3 {
		next := newSeriesTable(2 * len(t.slots))
		for k := range t.slots {
			if v := atomic.LoadUint64(&t.slots[k]); v != 0 {
				j, _ := next.find(v)
				next.slots[j] = v
			}
		}
		t = next
		i, _ = t.find(h)
		t.slots[i] = h&^0xff | mark
		s.table.Store(t)
	} else {
		atomic.StoreUint64(&t.slots[i], h&^0xff|mark)
	}
	s.n++
	return SeriesTaken
}

// Active is the number of active series, and about how many were turned away within one or two windows.
func (s *Series) Active(now time.Time) (n, away int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.since.IsZero() {
		s.turnLocked(now)
	}
	return int64(s.n), s.away.count()
}

// Bytes is what the series take in memory.
func (s *Series) Bytes() int64 {
	n := int64(s.away.bytes())
	if t := s.table.Load(); t != nil {
		n += 8 * int64(len(t.slots))
	}
	return n
}
