package limits

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// queue counts the reads under way of all tenants, and has those that are one too many wait for a short time.
type queue struct{ mu sync.Mutex }

// readState is what the queue knows of a tenant; guarded by its lock.
type readState struct {
	most    int64 // reads under way; 0: no limit
	length  int64 // of the queue
	wait    time.Duration
	used    int64
	users   map[string]int // reads under way by user, without zeros
	waiting []*waitingRead // who came first is first
}

// waitingRead is a read in the queues of all of its tenants.
type waitingRead struct {
	user    string
	tenants []*Tenant
	in      chan struct{} // closed once it is let in
}

func (s *readState) configure(r *ReadConfig) {
	s.most, s.length, s.wait = r.Concurrent, r.Queue, r.QueueWait
}

// free says whether one more may be under way.
func (s *readState) free() bool { return s.most == 0 || s.used < s.most }

// EnterRead counts a read of user in for each of the tenants. Where one of them has limits.reads.concurrent under way already, the
// read waits for a place in all of them, for no longer than limits.reads.queue_wait: of those that wait the user with the fewest
// reads of the tenant under way is next, and of its reads the oldest. An *Excess says that the queue is full, or that the wait was in
// vain; the error of ctx that the client has gone. What has entered must LeaveRead with the same arguments.
func (ts *Tenants) EnterRead(ctx context.Context, user string, tenants []*Tenant) error {
	q := &ts.reads
	q.mu.Lock()
	w := &waitingRead{user: user, tenants: tenants}
	full := w.blocked()
	if full == nil {
		w.enter()
		q.mu.Unlock()
		return nil
	}
	wait := full.read.wait
	for _, t := range tenants {
		wait = min(wait, t.read.wait)
		if n := int64(len(t.read.waiting)); n >= t.read.length {
			more := ""
			if n > 0 {
				more = fmt.Sprintf(", and %d wait", n)
			}
			e := full.busy(more)
			q.mu.Unlock()
			return e
		}
	}
	w.in = make(chan struct{})
	for _, t := range tenants {
		t.read.waiting = append(t.read.waiting, w)
	}
	q.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var gone error
	select {
	case <-w.in:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		gone = ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.in: // at the same moment
		if gone != nil {
			w.leave()
		}
		return gone
	default:
	}
	w.unqueue()
	if gone != nil {
		return gone
	}
	if full = w.blocked(); full == nil { // it was none of its tenants for itself: now one, now the other
		full = tenants[0]
	}
	return full.busy(fmt.Sprintf(", and none has ended within %v that would make room", wait))
}

// LeaveRead counts a read out, and lets in whom that makes room for.
func (ts *Tenants) LeaveRead(user string, tenants []*Tenant) {
	ts.reads.mu.Lock()
	defer ts.reads.mu.Unlock()
	(&waitingRead{user: user, tenants: tenants}).leave()
}

// underWay counts the reads of t that are under way, and those that wait.
func (ts *Tenants) underWay(t *Tenant) (reading, waiting int64) {
	ts.reads.mu.Lock()
	defer ts.reads.mu.Unlock()
	return t.read.used, int64(len(t.read.waiting))
}

// blocked is the first of the read's tenants that has no place for it, or nil.
func (w *waitingRead) blocked() *Tenant {
	for _, t := range w.tenants {
		if !t.read.free() {
			return t
		}
	}
	return nil
}

func (w *waitingRead) enter() {
	for _, t := range w.tenants {
		t.read.used++
		if t.read.users == nil {
			t.read.users = map[string]int{}
		}
		t.read.users[w.user]++
	}
}

func (w *waitingRead) leave() {
	for _, t := range w.tenants {
		t.read.used--
		if t.read.users[w.user]--; t.read.users[w.user] == 0 {
			delete(t.read.users, w.user)
		}
	}
	for _, t := range w.tenants {
		t.read.fill()
	}
}

func (w *waitingRead) unqueue() {
	for _, t := range w.tenants {
		t.read.waiting = slices.DeleteFunc(t.read.waiting, func(other *waitingRead) bool { return other == w })
	}
}

// fill lets in who waits, as far as there is room.
func (s *readState) fill() {
	for s.free() {
		var next *waitingRead
		for _, w := range s.waiting {
			if (next == nil || s.users[w.user] < s.users[next.user]) && w.blocked() == nil {
				next = w
			}
		}
		if next == nil {
			return
		}
		next.unqueue()
		next.enter()
		close(next.in)
	}
}

// busy is the Excess of a read that has no place; more says what it met beside that.
func (t *Tenant) busy(more string) *Excess {
	e := over(fmt.Sprintf("%d reads of this tenant are under way%s", t.read.used, more), "concurrent", strconv.FormatInt(t.read.most, 10), "try again when one has ended")
	e.Busy = true
	return e
}
