package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A request that waits for a member which turns out not to answer anything is sent to another, long before its own time ends.
func TestRescue(t *testing.T) {
	a, b := &host{serve: takes(time.Millisecond)}, &host{serve: takes(time.Millisecond)}
	simulated(t, func(c *Config) { c.Hedge = 0 }, map[string]*host{"a:1": a, "b:1": b}, func(t *testing.T, p *Pool) {
		key := keyOf(t, p, "http://a:1")
		a.set(func() { a.silent = true })
		var asked sync.WaitGroup
		for range 8 { // within the floor of the budget
			asked.Go(func() {
				began := time.Now()
				if status, member, err := ask(p, post("x", key)); status != 200 || member != "b:1" {
					t.Errorf("%d from %s, %v", status, member, err)
				}
				if took := time.Since(began); took < p.suspicion() || took > p.suspicion()+2*p.cfg.HealthTimeout+2*time.Second {
					t.Errorf("took %v", took)
				}
			})
		}
		asked.Wait()
		if n := testutil.ToFloat64(p.metrics.extra.WithLabelValues("write", "rescue")); n != 8 {
			t.Errorf("counted %v", n)
		}
		synctest.Wait() // for those that nobody waits for any more
		for _, m := range p.Members() {
			if m.InFlight != 0 {
				t.Errorf("%+v", m)
			}
		}
		if s := sideOf(p, "a:1", writing); s.State != "out" || s.Why != "no answer to the probe within 2s" {
			t.Errorf("%+v", s)
		}
	})
}

// Where a connection leads nowhere, but a new one to the same member does, the request goes over a new one.
func TestRenewal(t *testing.T) {
	a, b := &host{serve: takes(time.Millisecond)}, &host{serve: takes(time.Millisecond)}
	simulated(t, nil, map[string]*host{"a:1": a, "b:1": b}, func(t *testing.T, p *Pool) {
		key := keyOf(t, p, "http://a:1")
		a.set(func() { a.deaf = 4 }) // three writes, and the probe that they cause
		var asked sync.WaitGroup
		for range 3 {
			asked.Go(func() {
				began := time.Now()
				if status, member, err := ask(p, post("x", key)); status != 200 || member != "a:1" {
					t.Errorf("%d from %s, %v", status, member, err)
				}
				if took := time.Since(began); took > 3*p.suspicion()+p.cfg.HealthTimeout+p.cfg.HealthInterval/5 {
					t.Errorf("took %v", took)
				}
			})
		}
		asked.Wait()
		if s := sideOf(p, "a:1", writing); s.State != "in" || s.Ejections > 0 || a.served.Load() != 3 {
			t.Errorf("%+v, %d served", s, a.served.Load())
		}
	})
}

// A member that works long at one request, but answers others, is not out; nobody else gets the request.
func TestSlowIsNotSilent(t *testing.T) {
	a := &host{serve: func(r *http.Request) (time.Duration, int) {
		if r.Method == "POST" {
			return 25 * time.Second, 200
		}
		return time.Millisecond, 200
	}}
	simulated(t, nil, map[string]*host{"a:1": a, "b:1": {serve: takes(time.Millisecond)}}, func(t *testing.T, p *Pool) {
		if status, member, err := ask(p, post("x", keyOf(t, p, "http://a:1"))); status != 200 || member != "a:1" {
			t.Errorf("%d from %s, %v", status, member, err)
		}
		if a.served.Load() > 2 || a.probes.Load() > 40 {
			t.Errorf("%d requests, %d probes", a.served.Load(), a.probes.Load())
		}
	})
}

// A read that takes longer than 95% of its like is sent once more, elsewhere; a write is not: one that hangs comes to the same
// member again, over another connection.
func TestHedge(t *testing.T) {
	var stuck atomic.Bool // every fiftieth request takes ten seconds
	var n atomic.Int64
	serve := func(*http.Request) (time.Duration, int) {
		if stuck.Load() && n.Add(1)%50 == 0 {
			return 10 * time.Second, 200
		}
		return time.Duration(1+rand.IntN(100)) * time.Millisecond, 200
	}
	hosts := map[string]*host{"a:1": {serve: serve}, "b:1": {serve: serve}, "c:1": {serve: serve}}
	simulated(t, nil, hosts, func(t *testing.T, p *Pool) {
		reads := func(number int) (longest []time.Duration) {
			var mu sync.Mutex
			var asked sync.WaitGroup
			for range number {
				asked.Go(func() {
					began := time.Now()
					if status, _, err := ask(p, get()); status != 200 {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					longest = append(longest, time.Since(began))
				})
				time.Sleep(5 * time.Millisecond)
			}
			asked.Wait()
			slices.Sort(longest)
			return longest
		}
		reads(tailLeast)
		if after, known := p.tails.of("r").after(); !known || after < 70*time.Millisecond || after > 130*time.Millisecond {
			t.Errorf("95%% of reads within %v, %v", after, known)
		}
		stuck.Store(true)
		took := reads(2000)
		if most := took[len(took)*995/1000]; most > 500*time.Millisecond {
			t.Errorf("99.5%% of reads within %v", most)
		}
		wins := testutil.ToFloat64(p.metrics.hedgeWins)
		hedges := testutil.ToFloat64(p.metrics.extra.WithLabelValues("read", "hedge"))
		if wins < 20 || hedges > 2050*0.1 {
			t.Errorf("%v hedges, %v won", hedges, wins)
		}
		before := n.Load()
		owner := strings.TrimPrefix(p.Split().owner(hash("k"), time.Now().UnixMilli()).url, "http://")
		for range 100 {
			if status, member, err := ask(p, post("x", "k")); status != 200 || member != owner {
				t.Errorf("a write came to %s, not to its owner %s: %v", member, owner, err)
			}
		}
		renewals, hung := int64(testutil.ToFloat64(p.metrics.extra.WithLabelValues("write", "renewal"))), n.Load()/50-before/50
		if got := n.Load() - before; got != 100+renewals || renewals != hung {
			t.Errorf("100 writes came as %d, %d of them over another connection, when %d hung", got, renewals, hung)
		}
		for _, m := range p.Members() {
			if m.InFlight != 0 {
				t.Errorf("%+v", m)
			}
		}
		if p.doubled[reading].Load() != 0 || p.underWay[reading].Load() != 0 {
			t.Errorf("%d hedges, %d reads under way", p.doubled[reading].Load(), p.underWay[reading].Load())
		}
	})
}

// The first reads of their kind that hang do not wait for their time limit, though nobody knows yet how long such reads take; nor
// does one that had to wait for another's hedge.
func TestHedgeOfTheFirst(t *testing.T) {
	var n atomic.Int64
	serve := func(*http.Request) (time.Duration, int) {
		if n.Add(1) <= 2 {
			return time.Hour, 200
		}
		return time.Millisecond, 200
	}
	simulated(t, nil, map[string]*host{"a:1": {serve: serve}, "b:1": {serve: serve}}, func(t *testing.T, p *Pool) {
		var asked sync.WaitGroup
		for range 2 {
			asked.Go(func() {
				began := time.Now()
				if status, _, err := ask(p, get()); status != 200 || time.Since(began) > 4*p.cfg.HealthTimeout+time.Second {
					t.Errorf("%d after %v, %v", status, time.Since(began), err)
				}
			})
		}
		asked.Wait()
		if hedges := testutil.ToFloat64(p.metrics.extra.WithLabelValues("read", "hedge")); hedges != 2 {
			t.Errorf("%v hedges", hedges)
		}
	})
}

// However long queries take, hedges are a small part of the work: as many are under way as Config.Hedge allows.
func TestHedgesUnderWay(t *testing.T) {
	var heavy atomic.Bool
	var most, now atomic.Int64
	serve := func(*http.Request) (time.Duration, int) {
		if heavy.Load() {
			return time.Minute, 200
		}
		return 10 * time.Millisecond, 200
	}
	simulated(t, func(c *Config) { c.RetryBudget = 100 }, map[string]*host{"a:1": {serve: serve}, "b:1": {serve: serve}}, func(t *testing.T, p *Pool) {
		for range 100 {
			_, _, _ = ask(p, get())
		}
		heavy.Store(true)
		var asked sync.WaitGroup
		for range 200 {
			asked.Go(func() { _, _, _ = ask(p, get()) })
			time.Sleep(time.Millisecond)
			now.Store(p.doubled[reading].Load())
			most.Store(max(most.Load(), now.Load()))
		}
		for range 20 {
			time.Sleep(time.Second)
			most.Store(max(most.Load(), p.doubled[reading].Load()))
		}
		asked.Wait()
		if most.Load() < 5 || most.Load() > 1+210*5/100 {
			t.Errorf("%d hedges under way at once", most.Load())
		}
	})
}

// A member that takes longer is given less.
func TestSlowMemberGetsLess(t *testing.T) {
	hosts := map[string]*host{"slow:1": {serve: takes(100 * time.Millisecond)}, "a:1": {serve: takes(10 * time.Millisecond)}, "b:1": {serve: takes(10 * time.Millisecond)}}
	simulated(t, func(c *Config) { c.Hedge = 0 }, hosts, func(t *testing.T, p *Pool) {
		share := func(number int) float64 {
			before := hosts["slow:1"].served.Load()
			var asked sync.WaitGroup
			for range number {
				asked.Go(func() { _, _, _ = ask(p, get()) })
				time.Sleep(2 * time.Millisecond)
			}
			asked.Wait()
			return float64(hosts["slow:1"].served.Load()-before) / float64(number)
		}
		share(500)
		if s := share(2000); s > 0.12 {
			t.Errorf("the slow one of three has %.3f of the reads", s)
		}
		hosts["slow:1"].set(func() { hosts["slow:1"].serve = takes(10 * time.Millisecond) })
		time.Sleep(20 * time.Second)
		share(500)
		if s := share(2000); s < 0.25 {
			t.Errorf("well again, it has %.3f", s)
		}
	})
}

// All attempts together end with the request's time: a pause or a further attempt never outlasts it.
func TestRetriesEndWithTheRequest(t *testing.T) {
	fails := func(*http.Request) (time.Duration, int) { return 900 * time.Millisecond, 503 }
	hosts := map[string]*host{"a:1": {serve: fails}, "b:1": {serve: fails}, "c:1": {serve: fails}}
	simulated(t, func(c *Config) { c.WriteTimeout, c.MaxAttempts = 2*time.Second, 5 }, hosts, func(t *testing.T, p *Pool) {
		began := time.Now()
		_, _, err := ask(p, post("x", "k"))
		if took := time.Since(began); kindOf(err) != Timeout || took != 2*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A pause before a further attempt is random, so that what failed at the same time does not come again at the same time.
func TestRetriesAreSpread(t *testing.T) {
	var mu sync.Mutex
	var came []time.Time
	b := &host{serve: func(*http.Request) (time.Duration, int) {
		mu.Lock()
		defer mu.Unlock()
		came = append(came, time.Now())
		return time.Millisecond, 200
	}}
	simulated(t, nil, map[string]*host{"a:1": {serve: answers(100*time.Millisecond, 500)}, "b:1": b}, func(t *testing.T, p *Pool) {
		key := keyOf(t, p, "http://a:1")
		var asked sync.WaitGroup
		for range budgetFloor {
			asked.Go(func() { _, _, _ = ask(p, post("x", key)) })
		}
		asked.Wait()
		first, last := slices.MinFunc(came, time.Time.Compare), slices.MaxFunc(came, time.Time.Compare)
		if len(came) != budgetFloor || last.Sub(first) < maxPause/5 {
			t.Errorf("%d came within %v", len(came), last.Sub(first))
		}
	})
}

// What is added to requests is a share of them, and what a small number of them needs.
func TestBudget(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	b := budget{percent: 10}
	took := func(now time.Time) (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	if n := took(at(0)); n != budgetFloor {
		t.Errorf("without requests: %d", n)
	}
	b.add(at(1), 1000, 0)
	if n := took(at(1)); n != 100-budgetFloor {
		t.Errorf("of 1000 requests: %d more", n)
	}
	b.add(at(5), 500, 0)
	if n := took(at(9.9)); n != 50 {
		t.Errorf("of 500 more: %d", n)
	}
	if n := took(at(11.5)); n != 0 { // 1000 requests and 90 added ones are forgotten, 500 and 50 are not
		t.Errorf("later: %d", n)
	}
	if n := took(at(100)); n != budgetFloor {
		t.Errorf("much later: %d", n)
	}
	if b := (&budget{}); b.take(at(0)) {
		t.Error("0% of nothing")
	}
}

// With an empty budget a request is tried once, and its own answer is what counts.
func TestBudgetIsKept(t *testing.T) {
	fails := answers(time.Millisecond, 500)
	a, b := &host{serve: fails}, &host{serve: fails}
	simulated(t, func(c *Config) { c.RetryBudget = 0 }, map[string]*host{"a:1": a, "b:1": b}, func(t *testing.T, p *Pool) {
		for range 50 {
			if status, _, err := ask(p, post("x", "k")); status != 500 || err != nil {
				t.Fatalf("%d %v", status, err)
			}
		}
		if n := a.served.Load() + b.served.Load(); n != 50 {
			t.Errorf("%d attempts at 50 requests", n)
		}
		if n := testutil.ToFloat64(p.metrics.denied.WithLabelValues("write")); n < 1 { // while both were in
			t.Errorf("counted %v", n)
		}
	})
}

// A member that does not own what it is sent is told so by the headers of Request.Elsewhere; the owner is not.
func TestElsewhere(t *testing.T) {
	a, b := &host{serve: answers(time.Millisecond, 500)}, &host{serve: takes(time.Millisecond)}
	simulated(t, nil, map[string]*host{"a:1": a, "b:1": b}, func(t *testing.T, p *Pool) {
		for _, key := range []string{keyOf(t, p, "http://a:1"), keyOf(t, p, "http://b:1")} {
			r := post("x", key)
			r.Header, r.Elsewhere = http.Header{"Common": {"1"}}, http.Header{"Raw": {"1"}}
			if status, _, err := ask(p, r); status != 200 {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var got []string
		for _, h := range []*host{a, b} {
			for _, r := range h.seen {
				got = append(got, r.Header.Get("Common")+r.Header.Get("Raw"))
			}
		}
		if !slices.Equal(got, []string{"1", "11", "1"}) {
			t.Errorf("%q", got)
		}
	})
}

// A clock that is given, and what one kind of read is known by.
func TestTails(t *testing.T) {
	for d := time.Duration(0); d < 2*time.Hour; d = d*9/8 + 1 {
		i := tailBucket(d)
		if bound := tailBound(i); bound <= d || i > 0 && tailBound(i-1) > d {
			t.Fatalf("%v is in bucket %d, up to %v", d, i, bound)
		}
	}
	var all tails
	first := all.of("query")
	for i := range 100 {
		all.of(fmt.Sprint(i)).add(time.Second)
	}
	if all.of("query") != first || all.of("new") != &all.rest || len(all.kind) != maxKinds {
		t.Errorf("%d kinds", len(all.kind))
	}
}

// The body of an answer may come as slowly as its reader takes it, but not as slowly as the member likes.
func TestPatienceWithBodies(t *testing.T) {
	for each, whole := range map[time.Duration]bool{0: true, 20 * time.Millisecond: true, 21 * time.Millisecond: false} {
		h := &host{serve: takes(time.Millisecond), body: func(ctx context.Context) io.Reader { return &drip{ctx, each, "0123456789"} }}
		simulated(t, func(c *Config) { c.ReadTimeout = 200 * time.Millisecond }, map[string]*host{"a:1": h}, func(t *testing.T, p *Pool) {
			a, err := p.Do(t.Context(), get())
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			var got []byte
			for err == nil {
				one := make([]byte, 1)
				if _, err = io.ReadFull(a.Body, one); err == nil {
					got = append(got, one[0])
				}
				time.Sleep(time.Second) // the reader's
			}
			if whole && (err != io.EOF || string(got) != "0123456789") || !whole && (kindOf(err) != Timeout || string(got) != "012345678") {
				t.Errorf("a byte every %v: %q, %v", each, got, err)
			}
		})
	}
}

// drip is a body whose bytes come one by one, each so long after it was asked for.
type drip struct {
	ctx  context.Context // of the request
	each time.Duration
	rest string
}

func (d *drip) Read(b []byte) (int, error) {
	if d.rest == "" {
		return 0, io.EOF
	}
	if !sleep(d.ctx, d.each, nil) {
		return 0, d.ctx.Err()
	}
	b[0], d.rest = d.rest[0], d.rest[1:]
	return 1, nil
}

// What net/http would repeat by itself, uncounted, comes once.
func TestNothingIsRepeatedUnseen(t *testing.T) {
	var n atomic.Int64
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n.Add(1)%2 == 0 {
			panic(http.ErrAbortHandler)
		}
	})
	p := start(t, func(c *Config) { c.RetryBudget = 0; c.MaxAttempts = 5 }, s.URL)
	attempts := int64(0)
	for range 10 {
		a, err := p.Do(t.Context(), post("x", "k"))
		if err == nil {
			read(t, a)
		}
	}
	for _, o := range []string{"2xx", string(Reset)} {
		attempts += int64(testutil.ToFloat64(p.metrics.attempts.WithLabelValues(s.URL, o)))
	}
	if n.Load() != attempts {
		t.Errorf("%d requests came, %d attempts were counted", n.Load(), attempts)
	}
}
