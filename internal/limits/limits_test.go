package limits

import (
	"sync"
	"testing"
	"time"
)

func TestBudgetNeverLendsMoreThanItHas(t *testing.T) {
	b := NewBudget(100)
	if !b.Acquire(100) || b.Acquire(1) {
		t.Fatal("lent beyond the total")
	}
	b.Release(100)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 1000 {
				if b.Acquire(60) {
					if b.Left() > 40 {
						t.Error("lent twice")
					}
					b.Release(60)
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
	b := NewBudget(100)
	b.Acquire(80)
	b.Resize(-50)
	if b.Left() != -30 || b.Acquire(1) {
		t.Fatalf("left %d", b.Left())
	}
	b.Release(80)
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
		"decoded_bytes":                func(c *Config) { c.DecodedBytes, c.InflightBytes = 2<<30, 1<<40 },
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
