package limits

import (
	"sync"
	"testing"
	"time"
)

func TestBudgetNeverLendsMoreThanItHas(t *testing.T) {
	b, a := NewBudget(InBytes), NewTenants().Of("a")
	b.Resize(100)
	if !b.Acquire(a, 0, 100) || b.Acquire(a, 0, 1) {
		t.Fatal("lent beyond the total")
	}
	b.Release(a, 100)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 1000 {
				if b.Acquire(a, 0, 60) {
					if b.Left() > 40 {
						t.Error("lent twice")
					}
					b.Release(a, 60)
				}
			}
		})
	}
	wg.Wait()
	if b.Left() != 100 {
		t.Fatalf("left %d", b.Left())
	}
}

func TestResizeKeepsLoans(t *testing.T) {
	b, a := NewBudget(InBytes), NewTenants().Of("a")
	b.Resize(100)
	b.Acquire(a, 0, 80)
	b.Resize(50)
	if b.Left() != -30 || b.Acquire(a, 0, 1) {
		t.Fatalf("left %d", b.Left())
	}
	b.Release(a, 80)
	if b.Left() != 50 {
		t.Fatalf("left %d", b.Left())
	}
}

func TestCheck(t *testing.T) {
	for field, edit := range map[string]func(*Config){
		"window.past":   func(c *Config) { c.Window.Past = Side{} },
		"window.future": func(c *Config) { c.Window.Future = Side{Fixed: -time.Second} },
		"window.downsampler_past": func(c *Config) {
			c.Window.Past, c.Window.DownsamplerPast = Side{Auto: true}, -time.Second
		},
		"window.downsampler_future":    func(c *Config) { c.Window.DownsamplerFuture = time.Minute }, // beside a fixed limit
		"request_bytes":                func(c *Config) { c.RequestBytes = 0 },
		"inflight_bytes":               func(c *Config) { c.InflightBytes = 1 << 20 },
		"inflight_requests":            func(c *Config) { c.InflightRequests = 10 },
		"decoded_bytes":                func(c *Config) { c.DecodedBytes, c.InflightBytes = 2<<30, 1<<40 },
		"reads.queue":                  func(c *Config) { c.Reads.Queue = -1 },
		"reads.queue_wait":             func(c *Config) { c.Reads.QueueWait = 0 },
		"writes.refusal":               func(c *Config) { c.Writes.Refusal = 400 },
		"writes.samples_burst":         func(c *Config) { c.Writes.SamplesBurst = 1 },
		"writes.request_bytes":         func(c *Config) { c.Writes.RequestBytes = 100 },
		"writes.active_series":         func(c *Config) { c.Writes.ActiveSeries = maxActiveSeries + 1 },
		"writes.active_window":         func(c *Config) { c.Writes.ActiveWindow = time.Second },
		"writes.labels":                func(c *Config) { c.Writes.Labels = -1 },
		"weight":                       func(c *Config) { c.Weight = 0 },
		"replicas.count":               func(c *Config) { c.Replicas.Count = 0 },
		"replicas.interval":            func(c *Config) { c.Replicas.Interval = 0 },
		"tenants.a.weight":             func(c *Config) { c.Tenants = map[string]TenantConfig{"a": {Writes: c.Writes, Reads: c.Reads}} },
		"writes.new_series_per_minute": func(c *Config) { c.Writes.NewSeriesPerMinute = 1 },
		"reads.requests_burst":         func(c *Config) { c.Reads.RequestsBurst = 1 },
		"reads.range":                  func(c *Config) { c.Reads.Range = -time.Second },
		"reads.lookback":               func(c *Config) { c.Reads.Lookback = 1 << 62 },
		"reads.points":                 func(c *Config) { c.Reads.Points = -1 },
		"reads.subquery_points":        func(c *Config) { c.Reads.SubqueryPoints = -1 },
		"reads.concurrent":             func(c *Config) { c.Reads.Concurrent = -1 },
		"reads.timeout":                func(c *Config) { c.Reads.Timeout = 0 },
		"reads.answer_bytes":           func(c *Config) { c.Reads.AnswerBytes = 1000 },
	} {
		c := Defaults()
		c.Check(func(f, p string) { t.Errorf("defaults: %s: %s", f, p) })
		edit(&c)
		var got []string
		c.Check(func(f, _ string) { got = append(got, f) })
		if len(got) != 1 || got[0] != field {
			t.Errorf("%v, want %s", got, field)
		}
	}
}

// TestSharesOfTheBudget: one tenant alone may have all but an eighth; beside others no more than its share, by weight, once half is
// lent; a tenant's only request passes as long as there are bytes at all.
func TestSharesOfTheBudget(t *testing.T) {
	ts := NewTenants()
	cfg := Defaults()
	heavy := cfg.Of("")
	heavy.Weight = 3
	cfg.Tenants = map[string]TenantConfig{"c": heavy}
	ts.Configure(&cfg, []string{"a", "b", "c"}, 1, start)
	a, b, c := ts.Of("a"), ts.Of("b"), ts.Of("c")
	budget := NewBudget(InRequests)
	budget.Resize(800)
	fill := func(t *Tenant) (n int64) {
		for budget.Acquire(t, 0, 10) {
			n += 10
		}
		return n
	}
	if n := fill(a); n != 700 {
		t.Errorf("alone: %d of 800", n)
	}
	if n := fill(b); n != 100 { // what was left for it; its share is 350
		t.Errorf("beside one that has most: %d", n)
	}
	budget.Release(a, 400)
	if n := fill(a); n != 50 {
		t.Errorf("the one that is over its half again: %d", n)
	}
	if n := fill(b); n != 250 {
		t.Errorf("up to its half: %d", n)
	}
	if budget.Acquire(a, 0, 10) || budget.Acquire(b, 0, 10) {
		t.Error("beyond the shares")
	}
	if !budget.Acquire(c, 0, 10) || !budget.Acquire(c, 10, 90) || budget.Acquire(c, 100, 1) {
		t.Error("the only request of a tenant")
	}
	budget.Release(a, 350)
	budget.Release(b, 350)
	budget.Release(c, 100)
	if budget.Left() != 800 || budget.weights != 0 {
		t.Errorf("%d left, weights %d", budget.Left(), budget.weights)
	}
	budget.Acquire(a, 0, 100)
	budget.Acquire(b, 0, 100)
	if n := fill(c); n != 420 { // three fifths of 700
		t.Errorf("by weight: %d", n)
	}
}
