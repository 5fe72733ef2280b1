package auth

import (
	"slices"
	"sync"
)

// class is how much an attempt deserves the next turn.
type class uint8

const (
	remembered class = iota // found valid before, and only due to be hashed again
	unblamed                // its user and its source have no failures
	blamed
	classes
)

// share is how many of the turns, of each share+1, go to what is unblamed while both kinds wait.
const share = 3

// turns gives out the right to compute a hash: to what is remembered first, then, share to one, to what is unblamed and what is
// blamed. Within a class sources take turns, whatever the number of their attempts, and one that comes anew is the next. It is safe for concurrent use.
type turns struct {
	mu      sync.Mutex
	free    int // computations that may begin
	most    int // attempts that may wait
	waiting int
	lines   [classes]line
	given   int // turns in a row to unblamed, with something blamed waiting
}

// line holds the attempts of one class, by source.
type line struct {
	of   map[source]*bench
	ring []*bench // each with someone waiting; the next turn is that of ring[next]
	next int
}

// bench holds the waiting attempts of one source, the oldest first.
type bench struct {
	from source
	held []*turn
}

// turn is one attempt's place. came receives true once when its turn has come, or false if it was sent away for others.
type turn struct {
	class class
	from  source
	came  chan bool
}

func newTurns(atOnce, waiting int) *turns {
	t := &turns{free: atOnce, most: waiting}
	for i := range t.lines {
		t.lines[i].of = map[source]*bench{}
	}
	return t
}

// take lines up an attempt; false: there is no room. Whoever was given a turn must call done.
func (t *turns) take(c class, from source) (*turn, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &turn{class: c, from: from, came: make(chan bool, 1)}
	if t.free > 0 {
		t.free--
		w.came <- true
		return w, true
	}
	if t.waiting >= t.most && !t.makeRoom(w) {
		return nil, false
	}
	t.lines[c].add(w)
	t.waiting++
	return w, true
}

// makeRoom sends one attempt away for w: of the lowest class, the newest of the source that has most of them; unless w itself is
// no better.
func (t *turns) makeRoom(w *turn) bool {
	for c := blamed; ; c-- {
		l := &t.lines[c]
		var most *bench
		for _, b := range l.ring {
			if most == nil || len(b.held) > len(most.held) {
				most = b
			}
		}
		switch {
		case most == nil && c > w.class:
			continue
		case most == nil:
			return false
		case c == w.class:
			if own := l.of[w.from]; own != nil && len(own.held)+1 >= len(most.held) || len(most.held) < 2 {
				return false
			}
		}
		last := most.held[len(most.held)-1]
		t.dropLocked(last)
		last.came <- false
		return true
	}
}

// leave gives up a place. It is false if the turn has come already, or it was sent away.
func (t *turns) leave(w *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropLocked(w)
}

func (t *turns) dropLocked(w *turn) bool {
	found := t.lines[w.class].drop(w)
	if found {
		t.waiting--
	}
	return found
}

// done ends a computation and gives the turn on.
func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.nextLocked()
	if w == nil {
		t.free++
		return
	}
	t.waiting--
	w.came <- true
}

func (t *turns) nextLocked() *turn {
	if w := t.lines[remembered].shift(); w != nil {
		return w
	}
	rivals := len(t.lines[blamed].ring) > 0
	if !rivals || t.given < share {
		if w := t.lines[unblamed].shift(); w != nil {
			if t.given++; !rivals {
				t.given = 0
			}
			return w
		}
	}
	t.given = 0
	if w := t.lines[blamed].shift(); w != nil {
		return w
	}
	return t.lines[unblamed].shift()
}

func (l *line) add(w *turn) {
	b := l.of[w.from]
	if b == nil {
		b = &bench{from: w.from}
		l.of[w.from] = b
		// A source that comes anew is the next: else it would wait behind as many as an attacker has addresses, of which most
		// have given up by then.
		l.next = min(l.next, len(l.ring))
		l.ring = slices.Insert(l.ring, l.next, b)
	}
	b.held = append(b.held, w)
}

// shift takes the next turn off the line, or nil.
func (l *line) shift() *turn {
	if len(l.ring) == 0 {
		return nil
	}
	l.next %= len(l.ring)
	b := l.ring[l.next]
	w := b.held[0]
	l.next++
	l.take(b, 0)
	return w
}

// drop takes w off the line, if it is there.
func (l *line) drop(w *turn) bool {
	b := l.of[w.from]
	if b == nil {
		return false
	}
	for i, other := range b.held {
		if other == w {
			l.take(b, i)
			return true
		}
	}
	return false
}

// take takes attempt i off b, and b off the ring when it is empty.
func (l *line) take(b *bench, i int) {
	copy(b.held[i:], b.held[i+1:])
	b.held[len(b.held)-1] = nil
	b.held = b.held[:len(b.held)-1]
	if len(b.held) > 0 {
		return
	}
	delete(l.of, b.from)
	for at, other := range l.ring {
		if other == b {
			l.ring = append(l.ring[:at], l.ring[at+1:]...)
			if at < l.next {
				l.next--
			}
			return
		}
	}
}
