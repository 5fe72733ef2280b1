package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A member that a probe finds fit for writes alone is given no reads, and the other way round.
func TestReadsAndWritesAreJudgedApart(t *testing.T) {
	a, b := &host{serve: takes(time.Millisecond)}, &host{serve: takes(time.Millisecond)}
	simulated(t, func(c *Config) { c.Handover = 0 }, map[string]*host{"a:1": a, "b:1": b}, func(t *testing.T, p *Pool) {
		where := func(r func() *Request) string {
			seen := map[string]bool{}
			for range 100 {
				_, m, err := ask(p, r())
				if err != nil {
					t.Fatal(err)
				}
				seen[m] = true
			}
			return fmt.Sprint(len(seen), seen["a:1"])
		}
		n := 0
		write := func() *Request { n++; return post("x", fmt.Sprint("k", n)) }
		for name, c := range map[string]struct {
			change        func(*host)
			reads, writes string
		}{
			"well":                      {func(h *host) {}, "2 true", "2 true"},
			"not ready for reads":       {func(h *host) { h.noReads = "no reads" }, "1 false", "2 true"},
			"not ready for writes":      {func(h *host) { h.notReady = "no writes" }, "2 true", "1 false"},
			"ready, but a query fails":  {func(h *host) { h.queryFails = true }, "1 false", "2 true"},
			"ready for nothing":         {func(h *host) { h.notReady, h.noReads = "no", "no" }, "1 false", "1 false"},
			"well again, for all there": {func(h *host) {}, "2 true", "2 true"},
		} {
			a.set(func() { a.notReady, a.noReads, a.queryFails = "", "", false; c.change(a) })
			time.Sleep(time.Minute) // more than a slow start
			if reads, writes := where(get), where(write); reads != c.reads || writes != c.writes {
				t.Errorf("%s: reads %s, writes %s", name, reads, writes)
			}
		}
		// Where no member is fit, all are used, for what none is fit for.
		for _, h := range []*host{a, b} {
			h.set(func() { h.queryFails = true })
		}
		time.Sleep(time.Minute)
		if s := p.State(); !s.Reads.Panic || s.Writes.Panic || !p.Ready() || where(get) != "2 true" {
			t.Errorf("%+v", s)
		}
	})
}

// One probe that is not answered in time takes nobody out; the next comes at once and does.
func TestProbeTimeoutIsConfirmed(t *testing.T) {
	a, b := &host{serve: takes(time.Millisecond)}, &host{serve: takes(time.Millisecond)}
	simulated(t, nil, map[string]*host{"a:1": a, "b:1": b}, func(t *testing.T, p *Pool) {
		fit := func() bool { return sideOf(p, "a:1", writing).Why == "" }
		a.set(func() { a.silent = true })
		time.Sleep(p.cfg.HealthInterval + p.cfg.HealthTimeout - 100*time.Millisecond)
		a.set(func() { a.silent = false })
		time.Sleep(time.Minute)
		if s := sideOf(p, "a:1", writing); s.State != "in" || time.Since(s.Since) < time.Minute {
			t.Errorf("one time-out: %+v", s)
		}
		a.set(func() { a.silent = true })
		began := time.Now()
		for fit() && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if most := p.cfg.HealthInterval*11/10 + 2*p.cfg.HealthTimeout + p.cfg.HealthInterval/5; time.Since(began) > most || fit() {
			t.Errorf("out after %v", time.Since(began))
		}
		a.set(func() { a.silent = false })
		began = time.Now()
		for !fit() && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if time.Since(began) > 5*time.Second {
			t.Errorf("in again after %v", time.Since(began))
		}
	})
}

// What requests meet takes a member out, for a time that doubles, if others fare better; a judgement of the request never does.
func TestEjection(t *testing.T) {
	for name, c := range map[string]struct {
		status  int // 0: a broken connection
		ejected bool
	}{
		"500": {500, true}, "502": {502, true}, "503": {503, true}, "504": {504, true}, "reset": {0, true},
		"400": {400, false}, "404": {404, false}, "422": {422, false}, "429": {429, false}, "501": {501, false}, "301": {301, false},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := &host{serve: answers(time.Millisecond, c.status)}, &host{serve: takes(time.Millisecond)}
			simulated(t, nil, map[string]*host{"bad:1": bad, "good:1": good}, func(t *testing.T, p *Pool) {
				key := keyOf(t, p, "http://bad:1")
				for range 100 {
					if status, _, err := ask(p, post("x", key)); c.ejected && status != 200 {
						t.Errorf("told %d %v", status, err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				s := sideOf(p, "bad:1", writing)
				if (s.State == "ejected") != c.ejected || (s.Ejections == 1) != c.ejected {
					t.Fatalf("%+v", s)
				}
				if r := sideOf(p, "bad:1", reading); r.State != "in" {
					t.Errorf("what writes met took it out for reads: %+v", r)
				}
				if !c.ejected {
					return
				}
				if bad.served.Load() > 20 {
					t.Errorf("%d requests before it was out", bad.served.Load())
				}
			})
		})
	}
}

// Each time that a member comes back and fails again it is out twice as long; a good time makes it a beginner again.
func TestEjectionBacksOff(t *testing.T) {
	bad, good := &host{serve: answers(time.Millisecond, 500)}, &host{serve: takes(time.Millisecond)}
	simulated(t, func(c *Config) { c.Handover = 0 }, map[string]*host{"bad:1": bad, "good:1": good}, func(t *testing.T, p *Pool) {
		key := keyOf(t, p, "http://bad:1")
		var waits []time.Duration
		watch := func(times int) {
			waits = nil
			last, left := "", time.Time{}
			for began := time.Now(); len(waits) < times && time.Since(began) < time.Hour; time.Sleep(20 * time.Millisecond) {
				_, _, _ = ask(p, post("x", key))
				switch s := sideOf(p, "bad:1", writing).State; {
				case s == "ejected" && last != "ejected":
					left = time.Now()
				case s != "ejected" && last == "ejected":
					waits = append(waits, time.Since(left).Round(time.Second))
				}
				last = sideOf(p, "bad:1", writing).State
			}
		}
		watch(6)
		for i, w := range waits {
			if least := ejectFirst << i; w < least || w > least+3*time.Second {
				t.Errorf("ejection %d lasted %v", i+1, w)
			}
		}
		bad.set(func() { bad.serve = takes(time.Millisecond) })
		time.Sleep(3 * time.Minute) // out at most, and in again
		for began := time.Now(); time.Since(began) < ejectForget+time.Minute; time.Sleep(time.Second) {
			_, _, _ = ask(p, post("x", key))
		}
		bad.set(func() { bad.serve = answers(time.Millisecond, 500) })
		if watch(1); len(waits) != 1 || waits[0] > ejectFirst+3*time.Second {
			t.Errorf("after a good time: %v", waits)
		}
	})
}

// Clients that go away, or whose patience ends, say nothing of a member.
func TestCancelsAreNobodysFault(t *testing.T) {
	slow, good := &host{serve: takes(10 * time.Second)}, &host{serve: takes(time.Millisecond)}
	simulated(t, func(c *Config) { c.Hedge = 0 }, map[string]*host{"slow:1": slow, "good:1": good}, func(t *testing.T, p *Pool) {
		key := keyOf(t, p, "http://slow:1")
		for i := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if i%2 == 0 {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(20*time.Millisecond, cancel)
			}
			if _, err := p.Do(ctx, post("x", key)); err == nil {
				t.Error("answered")
			}
			cancel()
		}
		synctest.Wait()
		for _, m := range p.Members() {
			if m.Reads.Ejections+m.Writes.Ejections != 0 || !m.Healthy || m.InFlight != 0 {
				t.Errorf("%+v", m)
			}
		}
		if good.served.Load() != 0 {
			t.Error("tried elsewhere for nobody")
		}
	})
}

// Where all fail alike it is the store behind them: nobody is taken out.
func TestNobodyIsOutWhenAllFail(t *testing.T) {
	hosts := map[string]*host{}
	for _, name := range []string{"a:1", "b:1", "c:1"} {
		hosts[name] = &host{serve: answers(time.Millisecond, 500)}
	}
	simulated(t, nil, hosts, func(t *testing.T, p *Pool) {
		for i := range 3000 {
			_, _, _ = ask(p, post("x", fmt.Sprint(i)))
			_, _, _ = ask(p, get())
			time.Sleep(5 * time.Millisecond)
		}
		for _, m := range p.Members() {
			if m.Reads.Ejections+m.Writes.Ejections != 0 {
				t.Errorf("%+v", m)
			}
		}
	})
}

// At most the configured share is out for what requests met; the others are used, whatever they do.
func TestMaxEjected(t *testing.T) {
	for percent, want := range map[int]int{0: 1, 25: 1, 50: 2, 100: 4} {
		hosts := map[string]*host{}
		for i := range 5 {
			serve := answers(time.Millisecond, 500)
			if i == 0 {
				serve = takes(time.Millisecond)
			}
			hosts[fmt.Sprintf("m%d:1", i)] = &host{serve: serve}
		}
		simulated(t, func(c *Config) { c.MaxEjected = percent }, hosts, func(t *testing.T, p *Pool) {
			most := 0
			for i := range 1000 {
				_, _, _ = ask(p, post("x", fmt.Sprint("k", i%100)))
				out := 0
				for _, m := range p.Members() {
					if m.Writes.State == "ejected" {
						out++
					}
				}
				most = max(most, out)
				time.Sleep(time.Millisecond)
			}
			if most != want {
				t.Errorf("%d%% of 5: %d ejected, want %d", percent, most, want)
			}
		})
	}
}

// A member that comes back gets a tenth of its share of reads at first, and all of it after Config.SlowStart.
func TestSlowStart(t *testing.T) {
	hosts := map[string]*host{}
	for _, name := range []string{"a:1", "b:1", "c:1", "d:1"} {
		hosts[name] = &host{serve: func(*http.Request) (time.Duration, int) { return jitter(20 * time.Millisecond), 200 }}
	}
	simulated(t, func(c *Config) { c.Hedge = 0 }, hosts, func(t *testing.T, p *Pool) {
		back := hosts["a:1"]
		load := func(d time.Duration) float64 {
			before, all := back.served.Load(), 0
			var asked sync.WaitGroup
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				all++
				asked.Go(func() { _, _, _ = ask(p, get()) })
			}
			asked.Wait()
			return float64(back.served.Load()-before) / float64(all)
		}
		time.Sleep(time.Minute)
		if share := load(5 * time.Second); share < 0.2 || share > 0.3 {
			t.Errorf("share of one of four: %.3f", share)
		}
		back.set(func() { back.noReads = "out" })
		time.Sleep(10 * time.Second)
		back.set(func() { back.noReads = "" })
		for sideOf(p, "a:1", reading).State == "out" {
			time.Sleep(10 * time.Millisecond)
		}
		if s := sideOf(p, "a:1", reading); s.State != "warming" {
			t.Errorf("%+v", s)
		}
		first, middle := load(2*time.Second), 0.0
		load(10 * time.Second)
		middle = load(2 * time.Second)
		time.Sleep(20 * time.Second)
		last := load(5 * time.Second)
		if first > 0.1 || middle < first || middle > last || last < 0.2 {
			t.Errorf("shares %.3f %.3f %.3f", first, middle, last)
		}
	})
}

// A connection that does not come about for want of something here says nothing of the member.
func TestOursIsNotTheirs(t *testing.T) {
	for cause, want := range map[error]bool{syscall.EMFILE: true, syscall.EADDRNOTAVAIL: true, syscall.ECONNREFUSED: false, syscall.EHOSTUNREACH: false} {
		if got := ours(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", cause)}); got != want {
			t.Errorf("%v: %v", cause, got)
		}
	}
}
