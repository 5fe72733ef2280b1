package limits

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Over is a write that is over a limit of its tenant. Its text is for the client.
type Over struct {
	// Key is the limit's under limits.writes.
	Key string
	// Status is 429 or 503 for a rate, and 413 for a request that can never be taken.
	Status int
	// Wait is after what time the same request may be taken; 0 with 413.
	Wait time.Duration
	text string
}

func (e *Over) Error() string { return e.text }

// Tenants has the state of each tenant: what is left of its rates, what is under way, its active series. It outlives reloads. It is
// safe for concurrent use.
type Tenants struct {
	mu    sync.Mutex
	of    map[string]*Tenant
	reads queue
}

// NewTenants has no tenant yet.
func NewTenants() *Tenants { return &Tenants{of: map[string]*Tenant{}} }

// Of is the state of a tenant, which has no limits before Configure.
func (ts *Tenants) Of(name string) *Tenant {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.of[name]
	if t == nil {
		t = &Tenant{name: name}
		t.cfg.Refusal = 429
		ts.of[name] = t
	}
	return t
}

// Configure puts cfg in force for the tenants with these names, which are sorted, as one of so many replicas, and lets go of all others. What is left of
// a rate stays as it is, so that a change is no occasion for a burst.
func (ts *Tenants) Configure(cfg *Config, names []string, replicas int64, now time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for name := range ts.of {
		if _, ok := slices.BinarySearch(names, name); !ok {
			delete(ts.of, name)
		}
	}
	for _, name := range names {
		t := ts.of[name]
		if t == nil {
			t = &Tenant{name: name}
			ts.of[name] = t
		}
		t.configure(cfg.Of(name), replicas, now)
		r := t.Reads()
		ts.reads.mu.Lock()
		t.read.configure(&r)
		t.read.fill()
		ts.reads.mu.Unlock()
	}
}

// All are the tenants by name.
func (ts *Tenants) All() []*Tenant {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	out := make([]*Tenant, 0, len(ts.of))
	for _, t := range ts.of {
		out = append(out, t)
	}
	return out
}

// Tenant is the state of one tenant.
type Tenant struct {
	name   string
	series Series

	mu       sync.Mutex
	cfg      WriteConfig // this replica's part
	readCfg  ReadConfig  // likewise
	weight   atomic.Int64
	samples  bucket
	requests bucket
	bytes    bucket
	reads    bucket
	writing  int64
	asked    int64 // samples of the last request that had to wait

	// held is what the tenant has of the Budgets, guarded by their locks.
	held [units]holding
	read readState // of the queue of reads, guarded by its lock
	turn turnState // of Turns, guarded by its lock
}

// Name is the tenant's.
func (t *Tenant) Name() string { return t.name }

func (t *Tenant) configure(cfg TenantConfig, replicas int64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := cfg.Writes
	w.SamplesBurst, w.RequestsBurst, w.BytesBurst = burst(w.SamplesBurst, w.SamplesPerSecond), burst(w.RequestsBurst, w.RequestsPerSecond), burst(w.BytesBurst, w.BytesPerSecond)
	t.cfg = w.part(max(1, replicas))
	t.weight.Store(cfg.Weight)
	t.samples.configure(t.cfg.SamplesPerSecond, t.cfg.SamplesBurst, now)
	t.requests.configure(t.cfg.RequestsPerSecond, t.cfg.RequestsBurst, now)
	t.bytes.configure(t.cfg.BytesPerSecond, t.cfg.BytesBurst, now)
	r := cfg.Reads
	r.RequestsBurst = burst(r.RequestsBurst, r.RequestsPerSecond)
	t.readCfg = r.part(max(1, replicas))
	t.reads.configure(t.readCfg.RequestsPerSecond, t.readCfg.RequestsBurst, now)
	t.series.configure(t.cfg.ActiveSeries, t.cfg.NewSeriesPerMinute, t.cfg.ActiveWindow, now)
}

// Writes is what holds for the tenant's writes, as far as a single request is concerned.
func (t *Tenant) Writes() WriteConfig {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cfg
}

// Reads is what holds for the tenant's reads.
func (t *Tenant) Reads() ReadConfig {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.readCfg
}

// Series are the tenant's active series; nil: it has no limit of them.
func (t *Tenant) Series() *Series {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cfg.ActiveSeries == 0 {
		return nil
	}
	return &t.series
}

// Begin lets a write of the tenants in, before its body is read, or says for which limit it must wait. What was let in must End.
func Begin(tenants []*Tenant, now time.Time) *Over {
	for i, t := range tenants {
		if e := t.begin(now); e != nil {
			for _, before := range tenants[:i] {
				before.unbegin()
			}
			return e
		}
	}
	return nil
}

// End ends a write that Begin has let in.
func End(tenants []*Tenant) {
	for _, t := range tenants {
		t.mu.Lock()
		t.writing--
		t.mu.Unlock()
	}
}

func (t *Tenant) begin(now time.Time) *Over {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.cfg.Concurrent; n > 0 && t.writing >= n {
		return t.over("concurrent", fmt.Sprintf("%d writes of this tenant are under way", t.writing), fmt.Sprint(n), time.Second)
	}
	// A tenant that owes samples would have to wait after all the work: it is told so before.
	if t.cfg.SamplesPerSecond > 0 {
		if wait := t.samples.wait(1, now); wait > 0 {
			return t.over("samples_per_second", "the samples of before are still to be made up for", t.rate(t.cfg.SamplesPerSecond, t.cfg.SamplesBurst),
				max(wait, t.samples.wait(t.asked, now)))
		}
	}
	if wait := t.requests.wait(1, now); wait > 0 {
		return t.over("requests_per_second", "too many requests", t.rate(t.cfg.RequestsPerSecond, t.cfg.RequestsBurst), wait)
	}
	t.requests.take(1)
	t.writing++
	return nil
}

func (t *Tenant) unbegin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests.take(-1)
	t.writing--
}

// Bytes takes n compressed bytes off each tenant's rate, or off none and says for which it must wait.
func Bytes(tenants []*Tenant, n int64, now time.Time) *Over {
	for i, t := range tenants {
		t.mu.Lock()
		wait := t.bytes.wait(n, now)
		if wait > 0 {
			e := t.over("bytes_per_second", fmt.Sprintf("%d bytes in this request", n), t.rate(t.cfg.BytesPerSecond, t.cfg.BytesBurst), wait)
			t.mu.Unlock()
			for _, before := range tenants[:i] {
				before.mu.Lock()
				before.bytes.take(-n)
				before.mu.Unlock()
			}
			return e
		}
		t.bytes.take(n)
		t.mu.Unlock()
	}
	return nil
}

// Samples takes n[i] samples off the rate of tenants[i], or none at all and says for which it must wait.
func Samples(tenants []*Tenant, n []int, now time.Time) *Over {
	for i, t := range tenants {
		t.mu.Lock()
		if wait := t.samples.wait(int64(n[i]), now); wait > 0 {
			t.asked = int64(n[i])
			e := t.over("samples_per_second", fmt.Sprintf("%d samples in this request", n[i]), t.rate(t.cfg.SamplesPerSecond, t.cfg.SamplesBurst), wait)
			t.mu.Unlock()
			NotStored(tenants[:i], n)
			return e
		}
		t.samples.take(int64(n[i]))
		t.mu.Unlock()
	}
	return nil
}

// NotStored gives samples back that Samples has taken: the store did not take them, and they will come again.
func NotStored(tenants []*Tenant, n []int) {
	for i, t := range tenants {
		t.mu.Lock()
		t.samples.take(-int64(n[i]))
		t.mu.Unlock()
	}
}

// BeginRead counts a read of the tenants against the rate of each, or of none and says for which it must wait.
func BeginRead(tenants []*Tenant, now time.Time) *Excess {
	for i, t := range tenants {
		t.mu.Lock()
		wait := t.reads.wait(1, now)
		limit := fmt.Sprintf("%g a second, and %g at once", t.reads.rate, t.reads.size)
		if wait == 0 {
			t.reads.take(1)
		}
		t.mu.Unlock()
		if wait > 0 {
			NotRead(tenants[:i])
			e := over("too many reads", "requests_per_second", limit, fmt.Sprintf("try again in %.1f s", wait.Seconds()))
			e.Busy, e.Wait = true, wait
			return e
		}
	}
	return nil
}

// NotRead gives back what BeginRead has counted: the store is not asked.
func NotRead(tenants []*Tenant) {
	for _, t := range tenants {
		t.mu.Lock()
		t.reads.take(-1)
		t.mu.Unlock()
	}
}

// Request judges what a single request has: series and samples that would be stored.
func (t *Tenant) Request(series, samples int) *Over {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.cfg.SeriesPerRequest; n > 0 && int64(series) > n {
		return tooMuch("series_per_request", series, "series", n)
	}
	if n := t.cfg.SamplesPerRequest; n > 0 && int64(samples) > n {
		return tooMuch("samples_per_request", samples, "samples", n)
	}
	return nil
}

func tooMuch(key string, has int, of string, limit int64) *Over {
	return &Over{Key: key, Status: 413, text: fmt.Sprintf("the request has %d %s; limits.writes.%s allows %d; nothing of it is stored; send smaller batches (queue_config.max_samples_per_send)", has, of, key, limit)}
}

func (t *Tenant) rate(rate, burst int64) string {
	return fmt.Sprintf("%d, and %d at once", rate, burst)
}

func (t *Tenant) over(key, asked, limit string, wait time.Duration) *Over {
	return &Over{Key: key, Status: t.cfg.Refusal, Wait: wait,
		text: fmt.Sprintf("%s; limits.writes.%s allows %s; nothing of this request is stored; send it again in %.1f s", asked, key, limit, wait.Seconds())}
}

// Usage is one limit of a tenant and how near it is.
type Usage struct {
	Key string
	// Most is the limit; of a rate, its burst.
	Most float64
	// Used is how much of it is used; of a rate, how much of its burst is taken.
	Used float64
}

// Usage lists the limits of the tenant that have a usage, as this replica holds them.
func (ts *Tenants) Usage(t *Tenant, now time.Time) (out []Usage) {
	active, away := t.series.Active(now)
	reading, waiting := ts.underWay(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range []struct {
		key string
		*bucket
	}{{"samples_burst", &t.samples}, {"requests_burst", &t.requests}, {"bytes_burst", &t.bytes}} {
		if b.bucket.rate > 0 {
			out = append(out, Usage{b.key, b.size, b.used(now)})
		}
	}
	if t.reads.rate > 0 {
		out = append(out, Usage{"reads.requests_burst", t.reads.size, t.reads.used(now)})
	}
	if n := t.readCfg.Concurrent; n > 0 {
		out = append(out, Usage{"reads.concurrent", float64(n), float64(reading)}, Usage{"reads.queue", float64(t.readCfg.Queue), float64(waiting)})
	}
	if n := t.cfg.Concurrent; n > 0 {
		out = append(out, Usage{"concurrent", float64(n), float64(t.writing)})
	}
	if n := t.cfg.ActiveSeries; n > 0 {
		out = append(out, Usage{"active_series", float64(n), float64(active)}, Usage{"series_wanted", float64(n), float64(active + away)})
	}
	return out
}
