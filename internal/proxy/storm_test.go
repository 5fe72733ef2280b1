package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// storm is what a brown-out of simulated members did to a thousand senders.
type storm struct {
	requests, attempts int64         // during the brown-out
	failed             int64         // requests of it that senders had to repeat
	most               int64         // requests that one member had at once
	recovered          time.Duration // from its end to the last failure, and to the usual time of an answer
	writes, reads      float64       // seconds that an answer took on average in the last seconds
}

func (s storm) added() float64 { return float64(s.attempts-s.requests) / float64(s.requests) }

const (
	stormSenders = 1000
	stormReaders = 100
	stormBefore  = 5 * time.Second
	stormAfter   = 2 * stormLong
)

// brownOut runs senders that write a batch every two seconds, or again and again with Prometheus' back-off until it is taken, and
// readers, through three members of which each has room for twice the whole load, and that befall what strike does.
func brownOut(t *testing.T, change func(*Config), strike func(hosts []*host), lift func(hosts []*host)) (s storm) {
	hosts := map[string]*host{}
	var list []*host
	for i := range 3 {
		h := &host{serve: func(*http.Request) (time.Duration, int) { return jitter(20 * time.Millisecond), 200 }, room: 20}
		list = append(list, h)
		hosts[fmt.Sprintf("m%d:1", i)] = h
	}
	simulated(t, change, hosts, func(t *testing.T, p *Pool) {
		began := time.Now()
		var struck, ended atomic.Bool
		var requests, failed, lastFailure atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		once := func(r *Request) bool {
			if struck.Load() && !ended.Load() {
				requests.Add(1)
			}
			status, _, err := ask(p, r)
			ok := err == nil && status == 200
			if !ok && struck.Load() {
				failed.Add(1)
				lastFailure.Store(int64(time.Since(began)))
			}
			return ok
		}
		for i := range stormSenders {
			all.Go(func() {
				key := fmt.Sprint("tenant", i%50)
				pause := time.Duration(rand.Int64N(int64(2 * time.Second)))
				for backoff := 30 * time.Millisecond; sleep(ctx, pause, nil); {
					if once(post("batch", key)) {
						pause, backoff = jitter(2*time.Second), 30*time.Millisecond
					} else {
						pause, backoff = backoff, min(2*backoff, 5*time.Second)
					}
				}
			})
		}
		for range stormReaders {
			all.Go(func() {
				for sleep(ctx, jitter(time.Second), nil) {
					once(get())
				}
			})
		}
		attempts := func() (n int64) {
			for _, h := range list {
				n += h.served.Load() + h.refused.Load()
			}
			return n
		}
		time.Sleep(stormBefore)
		before := attempts()
		struck.Store(true)
		strike(list)
		for end := time.Now().Add(stormLong); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			for _, m := range p.Members() {
				s.most = max(s.most, m.InFlight)
			}
		}
		ended.Store(true)
		s.attempts, s.requests = attempts()-before, requests.Load()
		lift(list)
		time.Sleep(stormAfter)
		s.failed = failed.Load()
		if last := time.Duration(lastFailure.Load()); last > stormBefore+stormLong {
			s.recovered = last - stormBefore - stormLong
		}
		st := p.State()
		s.writes, s.reads = st.Writes.LatencySeconds, st.Reads.LatencySeconds
		cancel()
		for _, h := range list { // whoever still waits is let go
			h.set(func() { h.silent = false })
		}
		all.Wait()
	})
	return s
}

// storms are the brown-outs: what befalls the members, and when it is over.
func storms() []struct {
	name   string
	strike func(h *host, i int)
} {
	type one = struct {
		name   string
		strike func(h *host, i int)
	}
	share := func(percent, status int) func(*http.Request) (time.Duration, int) {
		return func(*http.Request) (time.Duration, int) {
			if rand.IntN(100) < percent {
				return jitter(10 * time.Millisecond), status
			}
			return jitter(20 * time.Millisecond), 200
		}
	}
	slow := func(factor int) func(*http.Request) (time.Duration, int) {
		return func(*http.Request) (time.Duration, int) {
			return jitter(time.Duration(factor) * 20 * time.Millisecond), 200
		}
	}
	return []one{
		{"one of three answers 500", func(h *host, i int) {
			if i == 0 {
				h.serve = share(100, 500)
			}
		}},
		{"one of three breaks half of the connections", func(h *host, i int) {
			if i == 0 {
				h.serve = share(50, 0)
			}
		}},
		{"one of three refuses connections", func(h *host, i int) { h.refuses = i == 0 }},
		{"one of three answers nothing", func(h *host, i int) { h.silent = i == 0 }},
		{"one of three is 50 times slower", func(h *host, i int) {
			if i == 0 {
				h.serve = slow(50)
			}
		}},
		{"all answer 503 to every other", func(h *host, i int) { h.serve = share(50, 503) }},
		{"all answer 503 to all", func(h *host, i int) { h.serve = share(100, 503) }},
		{"all break a third of the connections", func(h *host, i int) { h.serve = share(33, 0) }},
		{"all refuse connections", func(h *host, i int) { h.refuses = true }},
		{"all answer nothing", func(h *host, i int) { h.silent = true }},
		{"all are 50 times slower", func(h *host, i int) { h.serve = slow(50) }},
	}
}

// TestNoRetryStorm: whatever befalls the members of a thousand senders, the Pool adds no more than a tenth to what they ask, and
// once it is over, everything is as before within seconds.
func TestNoRetryStorm(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-46s %8s %8s %6s %7s %9s %10s\n", "for "+stormLong.String(), "requests", "attempts", "added", "failed", "at once", "recovered")
	for _, c := range storms() {
		t.Run(c.name, func(t *testing.T) {
			s := brownOut(t, nil,
				func(hosts []*host) {
					for i, h := range hosts {
						h.set(func() { c.strike(h, i) })
					}
				},
				func(hosts []*host) {
					for _, h := range hosts {
						h.set(func() { h.serve, h.refuses, h.silent = takes(20*time.Millisecond), false, false })
					}
				})
			fmt.Fprintf(&table, "%-46s %8d %8d %5.1f%% %7d %9d %10v\n", c.name, s.requests, s.attempts, 100*s.added(), s.failed, s.most, s.recovered.Round(100*time.Millisecond))
			if s.requests < stormSenders {
				t.Errorf("only %d requests", s.requests)
			}
			if s.added() > 0.10 {
				t.Errorf("%d attempts at %d requests", s.attempts, s.requests)
			}
			if s.recovered > stormAfter*3/4 || s.writes > 0.05 || s.reads > 0.05 {
				t.Errorf("failures until %v after the end; then writes took %.3f s, reads %.3f s", s.recovered, s.writes, s.reads)
			}
		})
	}
	t.Log(table.String())
}

// TestStormWithoutBudget: the simulation shows a storm where there is one to be seen: without a budget the same brown-out is
// asked more than half as much again.
func TestStormWithoutBudget(t *testing.T) {
	s := brownOut(t, func(c *Config) { c.RetryBudget, c.MaxAttempts = 100, 5 },
		func(hosts []*host) {
			for _, h := range hosts {
				h.set(func() { h.serve = answers(10*time.Millisecond, 503) })
			}
		},
		func(hosts []*host) {
			for _, h := range hosts {
				h.set(func() { h.serve = takes(20 * time.Millisecond) })
			}
		})
	if s.added() < 0.5 {
		t.Errorf("%d attempts at %d requests", s.attempts, s.requests)
	}
}
