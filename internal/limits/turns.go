package limits

import (
	"container/heap"
	"context"
	"slices"
	"sync"
)

// Turns lends a few places for work to tenants by turns, so that one with a thousand requests waiting holds up the first of another
// for as long as one piece of its work. Each has its share of the work that is done, by weight, as long as it has some that
// waits; among its own requests the first to come is the first (weighted fair queueing, by the virtual time at which a turn begins).
// It is safe for concurrent use.
type Turns struct {
	mu    sync.Mutex
	free  int
	clock float64 // virtual: that of the last turn
	begun uint64  // turns so far
	queue turnQueue
}

// turnState is what Turns knows of a tenant; guarded by its lock.
type turnState struct {
	clock   float64 // the virtual time at which its next turn begins
	last    uint64  // the number of its last turn: of two at the same time, the one that has waited longer is the first
	waiting []*turn
	place   int // in the queue
}

// turn is work that waits.
type turn struct {
	cost  float64
	taken chan struct{} // closed once it has its place
}

// NewTurns has so many places.
func NewTurns(places int) *Turns { return &Turns{free: places} }

// Take waits for the turn of a request of t whose work is cost, in any unit that is the same for all, or returns the error of ctx. What
// was taken is given back by Done.
func (q *Turns) Take(ctx context.Context, t *Tenant, cost int64) error {
	weight := float64(max(1, t.weight.Load()))
	q.mu.Lock()
	if q.free > 0 { // then nobody waits
		q.free--
		q.advance(t, float64(cost)/weight)
		q.mu.Unlock()
		return nil
	}
	w := &turn{cost: float64(cost) / weight, taken: make(chan struct{})}
	t.turn.waiting = append(t.turn.waiting, w)
	if len(t.turn.waiting) == 1 {
		t.turn.clock = max(t.turn.clock, q.clock)
		heap.Push(&q.queue, t)
	}
	q.mu.Unlock()
	select {
	case <-w.taken:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	select {
	case <-w.taken: // at the same moment
		q.mu.Unlock()
		q.Done()
		return ctx.Err()
	default:
	}
	defer q.mu.Unlock()
	t.turn.waiting = slices.DeleteFunc(t.turn.waiting, func(other *turn) bool { return other == w })
	if len(t.turn.waiting) == 0 {
		heap.Remove(&q.queue, t.turn.place)
	}
	return ctx.Err()
}

// Done gives a place back, to whoever is next.
func (q *Turns) Done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.free++
		return
	}
	t := q.queue[0]
	w := t.turn.waiting[0]
	t.turn.waiting[0] = nil
	t.turn.waiting = t.turn.waiting[1:]
	q.advance(t, w.cost)
	if len(t.turn.waiting) == 0 {
		heap.Pop(&q.queue)
	} else {
		heap.Fix(&q.queue, 0)
	}
	close(w.taken)
}

// advance begins a turn of t.
func (q *Turns) advance(t *Tenant, cost float64) {
	begins := max(t.turn.clock, q.clock)
	q.begun++
	q.clock, t.turn.clock, t.turn.last = begins, begins+cost, q.begun
}

// turnQueue is a heap of the tenants with work that waits, by the beginning of their next turn.
type turnQueue []*Tenant

// Len implements heap.Interface.
func (h turnQueue) Len() int { return len(h) }

// Less implements heap.Interface.
func (h turnQueue) Less(i, j int) bool {
	a, b := &h[i].turn, &h[j].turn
	return a.clock < b.clock || a.clock == b.clock && a.last < b.last
}

// Swap implements heap.Interface.
func (h turnQueue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].turn.place, h[j].turn.place = i, j
}

// Push implements heap.Interface.
func (h *turnQueue) Push(t any) {
	t.(*Tenant).turn.place = len(*h)
	*h = append(*h, t.(*Tenant))
}

// Pop implements heap.Interface.
func (h *turnQueue) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
