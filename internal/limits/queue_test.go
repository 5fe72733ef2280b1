package limits

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func readers(r ReadConfig, names ...string) (*Tenants, []*Tenant) {
	ts := NewTenants()
	cfg := Defaults()
	cfg.Reads = r
	ts.Configure(&cfg, names, 1, start)
	var of []*Tenant
	for _, name := range names {
		of = append(of, ts.Of(name))
	}
	return ts, of
}

// queued are reads that are made one after the other, each of which ends when it is told.
type queued struct {
	ts  *Tenants
	mu  sync.Mutex
	log []string // what came of them
}

// read enters and leaves when end is closed; its client goes away with ctx.
func (q *queued) read(ctx context.Context, name, user string, tenants []*Tenant, end <-chan struct{}) {
	began := time.Now()
	go func() {
		err := q.ts.EnterRead(ctx, user, tenants)
		q.mu.Lock()
		what := name + " in"
		if e := (*Excess)(nil); errors.As(err, &e) {
			what = name + " refused: " + e.Error()
		} else if err != nil {
			what = name + " gone"
		}
		q.log = append(q.log, what+" after "+time.Since(began).String())
		q.mu.Unlock()
		if err == nil {
			<-end
			q.ts.LeaveRead(user, tenants)
		}
	}()
	synctest.Wait()
}

// seen is what came of reads since the last look.
func (q *queued) seen() []string {
	synctest.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	defer func() { q.log = nil }()
	return q.log
}

func (q *queued) want(t *testing.T, want ...string) {
	t.Helper()
	got := q.seen()
	slices.Sort(got) // who is let in at once comes in any order
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestConcurrentReads: under, at and over the limit, in the queue, over the queue, and after the wait.
func TestConcurrentReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, of := readers(ReadConfig{Concurrent: 2, Queue: 2, QueueWait: 5 * time.Second}, "a", "b")
		a, b := of[:1], of[1:]
		q := &queued{ts: ts}
		ctx, end := t.Context(), make(chan struct{})
		q.read(ctx, "1", "u", a, end)
		q.read(ctx, "2", "u", a, end)
		q.want(t, "1 in after 0s", "2 in after 0s")
		q.read(ctx, "3", "u", a, end)
		time.Sleep(time.Second)
		q.read(ctx, "4", "u", a, end)
		q.want(t)
		q.read(ctx, "5", "u", a, end)
		q.want(t, "5 refused: 2 reads of this tenant are under way, and 2 wait; limits.reads.concurrent allows 2; try again when one has ended after 0s")
		q.read(ctx, "other", "u", b, end)
		q.want(t, "other in after 0s")
		if reading, waiting := ts.underWay(of[0]); reading != 2 || waiting != 2 {
			t.Errorf("%d under way, %d wait", reading, waiting)
		}
		time.Sleep(4 * time.Second)
		q.want(t, "3 refused: 2 reads of this tenant are under way, and none has ended within 5s that would make room; limits.reads.concurrent allows 2; try again when one has ended after 5s")
		q.read(ctx, "6", "u", a, end)
		time.Sleep(time.Second / 2)
		end <- struct{}{}
		q.want(t, "4 in after 4.5s")
		end <- struct{}{}
		q.want(t, "6 in after 500ms")
		close(end)
		q.want(t)
		for _, x := range of {
			if reading, waiting := ts.underWay(x); reading != 0 || waiting != 0 || len(x.read.users) != 0 {
				t.Errorf("left over: %+v", x.read)
			}
		}
	})
}

// TestWithoutAQueue: what is over the limit is refused at once.
func TestWithoutAQueue(t *testing.T) {
	ts, of := readers(ReadConfig{Concurrent: 2, QueueWait: 5 * time.Second}, "a", "b")
	enter := func(want bool, tenants ...*Tenant) {
		t.Helper()
		err := ts.EnterRead(t.Context(), "u", tenants)
		var e *Excess
		if (err == nil) != want || err != nil && (!errors.As(err, &e) || !e.Busy || !strings.Contains(e.Error(), "2 reads of this tenant are under way; limits.reads.concurrent allows 2; ")) {
			t.Fatal(err)
		}
	}
	a, b := of[0], of[1]
	enter(true, a)
	enter(true, a, b)
	enter(false, a)
	enter(false, b, a) // all or none
	enter(true, b)
	enter(false, b)
	ts.LeaveRead("u", of)
	enter(true, a)
}

// TestReadsOfUsers: among those that wait, the user with the fewest under way is next, whoever came first.
func TestReadsOfUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, a := readers(ReadConfig{Concurrent: 3, Queue: 10, QueueWait: 5 * time.Second}, "a")
		q := &queued{ts: ts}
		end := make(chan struct{})
		for _, name := range []string{"1", "2", "3", "4", "5", "6"} {
			q.read(t.Context(), name, "dashboards", a, end)
		}
		q.read(t.Context(), "7", "carol", a, end)
		q.read(t.Context(), "8", "carol", a, end)
		q.seen()
		end <- struct{}{}
		q.want(t, "7 in after 0s")
		end <- struct{}{} // one of the dashboards', as those have waited for it longest, so that each user has one
		if got := q.seen(); len(got) != 1 {
			t.Errorf("%q", got)
		}
		close(end)
		q.seen()
	})
}

// TestQueueOfTheGone: a client that goes away leaves the queue, and its place if it just got it.
func TestQueueOfTheGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, a := readers(ReadConfig{Concurrent: 1, Queue: 1, QueueWait: 5 * time.Second}, "a")
		q := &queued{ts: ts}
		end := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		q.read(t.Context(), "1", "u", a, end)
		q.read(ctx, "2", "u", a, end)
		q.seen()
		cancel()
		q.want(t, "2 gone after 0s")
		q.read(t.Context(), "3", "u", a, end)
		end <- struct{}{}
		q.want(t, "3 in after 0s")
		close(end)
		q.seen()
		// Both at the same moment: whatever comes first, nothing is left over.
		for range 200 {
			end := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			q.read(t.Context(), "4", "u", a, end)
			q.read(ctx, "5", "u", a, end)
			go cancel()
			go close(end)
			q.seen()
			if reading, waiting := ts.underWay(a[0]); reading != 0 || waiting != 0 {
				t.Fatalf("%d under way, %d wait", reading, waiting)
			}
		}
	})
}

// TestReloadOfConcurrent: a higher limit lets in who waits; a lower one holds for those that come.
func TestReloadOfConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, a := readers(ReadConfig{Concurrent: 1, Queue: 5, QueueWait: 5 * time.Second}, "a")
		set := func(concurrent, replicas int64) {
			cfg := Defaults()
			cfg.Reads = ReadConfig{Concurrent: concurrent, Queue: 5, QueueWait: 5 * time.Second}
			ts.Configure(&cfg, []string{"a"}, replicas, start)
		}
		q := &queued{ts: ts}
		end := make(chan struct{})
		for _, name := range []string{"1", "2", "3", "4"} {
			q.read(t.Context(), name, "u", a, end)
		}
		q.want(t, "1 in after 0s")
		set(6, 2) // this replica's part is 3
		q.want(t, "2 in after 0s", "3 in after 0s")
		set(2, 1)
		end <- struct{}{}
		q.want(t)
		end <- struct{}{}
		q.want(t, "4 in after 0s")
		set(0, 1) // no limit
		q.read(t.Context(), "5", "u", a, end)
		q.want(t, "5 in after 0s")
		close(end)
		q.seen()
	})
}

// TestReadsOfSeveralTenants: a read of several tenants waits for a place in all of them, and holds none meanwhile.
func TestReadsOfSeveralTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, both := readers(ReadConfig{Concurrent: 1, Queue: 5, QueueWait: 5 * time.Second}, "a", "b")
		q := &queued{ts: ts}
		endA, endB, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
		q.read(t.Context(), "a", "u", both[:1], endA)
		q.read(t.Context(), "both", "v", both, end)
		q.read(t.Context(), "b", "u", both[1:], endB)
		q.want(t, "a in after 0s", "b in after 0s")
		close(endA)
		q.want(t)
		q.read(t.Context(), "a again", "u", both[:1], end)
		q.want(t, "a again in after 0s")
		close(endB)
		q.want(t)
		time.Sleep(5 * time.Second)
		q.want(t, "both refused: 1 reads of this tenant are under way, and none has ended within 5s that would make room; limits.reads.concurrent allows 1; try again when one has ended after 5s")
		close(end)
		q.seen()
		for _, x := range both {
			if x.read.used != 0 || len(x.read.waiting) != 0 || len(x.read.users) != 0 {
				t.Errorf("left over: %+v", x.read)
			}
		}
	})
}

// TestReadsTogether: never more under way than allowed, and nothing left over, whatever comes and goes.
func TestReadsTogether(t *testing.T) {
	ts, both := readers(ReadConfig{Concurrent: 4, Queue: 8, QueueWait: time.Second}, "a", "b")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			user := string(rune('a' + i%5))
			for range 300 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(200*time.Microsecond))
				if ts.EnterRead(ctx, user, both[:1+i%2]) == nil {
					if reading, _ := ts.underWay(both[0]); reading > 4 {
						t.Error("more under way than allowed")
					}
					ts.LeaveRead(user, both[:1+i%2])
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for _, x := range both {
		if x.read.used != 0 || len(x.read.waiting) != 0 || len(x.read.users) != 0 {
			t.Errorf("left over: %+v", x.read)
		}
	}
}
