package limits

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func limited(w WriteConfig) (*Tenants, *Tenant) {
	if w.Refusal == 0 {
		w.Refusal = 429
	}
	if w.ActiveWindow == 0 {
		w.ActiveWindow = 20 * time.Minute
	}
	ts := NewTenants()
	ts.Configure(&Config{Writes: w, Weight: 1}, []string{"a"}, 1, start)
	return ts, ts.Of("a")
}

// outcome is "", or the limit, the status and the time to wait.
func outcome(e *Over) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%s %d %v", e.Key, e.Status, e.Wait.Round(time.Microsecond))
}

// TestRates: each rate under, at and over its limit, and after the time that it told.
func TestRates(t *testing.T) {
	type step struct {
		after time.Duration
		n     int64
		want  string
	}
	one := func(take func(*Tenant, int64, time.Time) *Over) func(*Tenant, int64, time.Time) *Over { return take }
	samples := one(func(a *Tenant, n int64, now time.Time) *Over { return Samples([]*Tenant{a}, []int{int(n)}, now) })
	bytes := one(func(a *Tenant, n int64, now time.Time) *Over { return Bytes([]*Tenant{a}, n, now) })
	requests := one(func(a *Tenant, n int64, now time.Time) *Over {
		for range n {
			if e := Begin([]*Tenant{a}, now); e != nil {
				return e
			}
			End([]*Tenant{a})
		}
		return nil
	})
	for name, tc := range map[string]struct {
		limits WriteConfig
		take   func(*Tenant, int64, time.Time) *Over
		steps  []step
	}{
		"samples": {WriteConfig{SamplesPerSecond: 100, SamplesBurst: 200}, samples, []step{
			{0, 150, ""},
			{0, 50, ""}, // at
			{0, 1, "samples_per_second 429 10ms"},
			{9 * time.Millisecond, 1, "samples_per_second 429 1ms"},
			{time.Millisecond, 1, ""},
			{time.Hour, 201, ""}, // more than ever is there, from a full bucket; it owes one
			{0, 1, "samples_per_second 429 20ms"},
			{time.Second, 200, "samples_per_second 429 1.01s"},
			{1010 * time.Millisecond, 200, ""},
			{0, 0, ""}, // nothing is nothing
		}},
		"far more than the burst": {WriteConfig{SamplesPerSecond: 100, SamplesBurst: 200, Refusal: 503}, samples, []step{
			{0, 10_000, ""},
			{0, 1, "samples_per_second 503 1m38.01s"},
			{98 * time.Second, 1, "samples_per_second 503 10ms"},
			{10 * time.Millisecond, 1, ""},
		}},
		"the default burst": {WriteConfig{SamplesPerSecond: 100}, samples, []step{{0, 1000, ""}, {0, 1, "samples_per_second 429 10ms"}}},
		"bytes": {WriteConfig{BytesPerSecond: 1000, BytesBurst: 1000}, bytes, []step{
			{0, 999, ""}, {0, 1, ""}, {0, 1, "bytes_per_second 429 1ms"}, {time.Millisecond, 1, ""},
		}},
		"requests": {WriteConfig{RequestsPerSecond: 2, RequestsBurst: 3}, requests, []step{
			{0, 2, ""}, {0, 1, ""}, {0, 1, "requests_per_second 429 500ms"}, {500 * time.Millisecond, 1, ""}, {0, 1, "requests_per_second 429 500ms"},
		}},
		"none": {WriteConfig{}, samples, []step{{0, 1 << 40, ""}, {0, 1 << 40, ""}}},
	} {
		_, a := limited(tc.limits)
		now := start
		for i, s := range tc.steps {
			now = now.Add(s.after)
			if got := outcome(tc.take(a, s.n, now)); got != s.want {
				t.Errorf("%s, step %d: %q, want %q", name, i, got, s.want)
			}
		}
	}
}

// The rate of reads under, at and over its limit, and after the wait; what one of several tenants refuses costs none.
func TestReadRate(t *testing.T) {
	ts := NewTenants()
	cfg := Defaults()
	cfg.Reads.RequestsPerSecond, cfg.Reads.RequestsBurst = 2, 3
	ts.Configure(&cfg, []string{"a", "b"}, 1, start)
	a, b := ts.Of("a"), ts.Of("b")
	for i, s := range []struct {
		at   time.Duration
		wait time.Duration
	}{{0, 0}, {0, 0}, {0, 0}, {0, 500 * time.Millisecond}, {499 * time.Millisecond, time.Millisecond}, {500 * time.Millisecond, 0}, {500 * time.Millisecond, 500 * time.Millisecond}} {
		e := BeginRead([]*Tenant{b, a}, start.Add(s.at))
		if (e == nil) != (s.wait == 0) || e != nil && (!e.Busy || e.Wait.Round(time.Microsecond) != s.wait || e.Key != "requests_per_second" || !strings.Contains(e.Error(), "limits.reads.requests_per_second allows 2 a second, and 3 at once")) {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if a.reads.left != b.reads.left {
		t.Errorf("%v and %v left", a.reads.left, b.reads.left)
	}
}

func TestConcurrentWrites(t *testing.T) {
	_, a := limited(WriteConfig{Concurrent: 2})
	all := []*Tenant{a}
	for i, want := range []string{"", "", "concurrent 429 1s"} {
		if got := outcome(Begin(all, start)); got != want {
			t.Errorf("%d: %q", i, got)
		}
	}
	End(all)
	if e := Begin(all, start); e != nil {
		t.Error(e)
	}
}

func TestRequestSizes(t *testing.T) {
	_, a := limited(WriteConfig{SamplesPerRequest: 10, SeriesPerRequest: 5})
	for _, tc := range []struct {
		series, samples int
		want            string
	}{{4, 9, ""}, {5, 10, ""}, {6, 10, "series_per_request 413 0s"}, {5, 11, "samples_per_request 413 0s"}} {
		e := a.Request(tc.series, tc.samples)
		if got := outcome(e); got != tc.want || e != nil && !strings.Contains(e.Error(), "nothing of it is stored") {
			t.Errorf("%+v: %v", tc, e)
		}
	}
}

// A tenant that owes samples is told before its body is read, and for how long as its last request.
func TestToldBeforeTheWork(t *testing.T) {
	_, a := limited(WriteConfig{SamplesPerSecond: 100, SamplesBurst: 100, RequestsPerSecond: 1, RequestsBurst: 5})
	all := []*Tenant{a}
	if e := Samples(all, []int{100}, start); e != nil {
		t.Fatal(e)
	}
	if got := outcome(Samples(all, []int{50}, start)); got != "samples_per_second 429 500ms" {
		t.Error(got)
	}
	e := Begin(all, start)
	if got := outcome(e); got != "samples_per_second 429 500ms" || a.writing != 0 || a.requests.left != 5 {
		t.Errorf("%s; %d under way", got, a.writing)
	}
	if e := Begin(all, start.Add(500*time.Millisecond)); e != nil {
		t.Error(e)
	}
	End(all)
	// What the store did not take does not count.
	if e := Samples(all, []int{50}, start.Add(500*time.Millisecond)); e != nil {
		t.Error(e)
	}
	NotStored(all, []int{50})
	if e := Samples(all, []int{50}, start.Add(500*time.Millisecond)); e != nil {
		t.Error(e)
	}
}

// What one of several tenants refuses is taken from none of them.
func TestAllOrNone(t *testing.T) {
	ts := NewTenants()
	cfg := Config{Weight: 1, Writes: WriteConfig{Refusal: 429, ActiveWindow: time.Minute, SamplesPerSecond: 10, RequestsPerSecond: 1, RequestsBurst: 10, BytesPerSecond: 10, Concurrent: 5}}
	small := TenantConfig{Writes: cfg.Writes, Weight: 1}
	small.Writes.SamplesPerSecond, small.Writes.RequestsBurst, small.Writes.BytesPerSecond = 1, 1, 1
	cfg.Tenants = map[string]TenantConfig{"b": small}
	ts.Configure(&cfg, []string{"a", "b"}, 1, start)
	a, b := ts.Of("a"), ts.Of("b")
	both := []*Tenant{a, b}
	if e := Begin(both, start); e != nil {
		t.Fatal(e)
	}
	before := [3]float64{a.samples.left, a.bytes.left, a.requests.left}
	if Begin(both, start) == nil || Bytes(both, 11, start) != nil && Bytes(both, 1, start) == nil {
		t.Error("let in")
	}
	Bytes(both, 5, start)
	before[1] = a.bytes.left
	if Bytes(both, 8, start) == nil || Samples([]*Tenant{b}, []int{10}, start) != nil || Samples(both, []int{5, 5}, start) == nil {
		t.Error("taken")
	}
	if got := [3]float64{a.samples.left, a.bytes.left, a.requests.left}; got != before || a.writing != 1 || b.writing != 1 {
		t.Errorf("%v, before %v; %d and %d under way", got, before, a.writing, b.writing)
	}
}

// TestReloadIsNoBurst: new limits hold at once, and what was used up stays used up.
func TestReloadIsNoBurst(t *testing.T) {
	ts, a := limited(WriteConfig{SamplesPerSecond: 100, SamplesBurst: 1000})
	all := []*Tenant{a}
	if e := Samples(all, []int{1000}, start); e != nil {
		t.Fatal(e)
	}
	configure := func(rate, burst int64, names ...string) {
		ts.Configure(&Config{Weight: 1, Writes: WriteConfig{Refusal: 429, ActiveWindow: time.Minute, SamplesPerSecond: rate, SamplesBurst: burst}}, names, 1, start)
	}
	for _, size := range []int64{1000, 5000, 10, 1_000_000} {
		configure(100, size, "a", "b")
		if ts.Of("a") != a {
			t.Fatal("another state")
		}
		if got := outcome(Samples(all, []int{1}, start)); got != "samples_per_second 429 10ms" {
			t.Errorf("burst %d: %q", size, got)
		}
	}
	configure(1, 1_000_000, "a")
	if got := outcome(Samples(all, []int{1}, start)); got != "samples_per_second 429 1s" {
		t.Errorf("%q", got)
	}
	// Under load, the whole is what the rates allow, whatever the reloads.
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				if Samples(all, []int{1}, start.Add(time.Second)) == nil {
					mu.Lock()
					taken++
					mu.Unlock()
				}
				if i%100 == 0 {
					configure(100, int64(1000+i), "a")
				}
			}
		})
	}
	wg.Wait()
	if taken > 100 || taken < 1 {
		t.Errorf("%d samples in a second at 100 a second", taken)
	}
}

func TestReplicasShare(t *testing.T) {
	ts, a := limited(WriteConfig{SamplesPerSecond: 100, SamplesBurst: 200, ActiveSeries: 10, Concurrent: 3, SamplesPerRequest: 10})
	ts.Configure(&Config{Weight: 1, Writes: a.Writes(), Reads: ReadConfig{RequestsPerSecond: 10, Concurrent: 10, Queue: 100, Points: 5}}, []string{"a"}, 4, start)
	if r := a.Reads(); r.RequestsPerSecond != 3 || r.RequestsBurst != 25 || r.Concurrent != 3 || r.Queue != 25 || r.Points != 5 {
		t.Errorf("%+v", r)
	}
	w := a.Writes()
	if w.SamplesPerSecond != 25 || w.SamplesBurst != 50 || w.ActiveSeries != 3 || w.Concurrent != 1 || w.SamplesPerRequest != 10 {
		t.Errorf("%+v", w)
	}
}

func TestTogether(t *testing.T) {
	c := Defaults()
	c.Writes.Labels, c.Reads.Range = 30, time.Hour
	narrow := c.Of("x")
	narrow.Writes.Labels, narrow.Writes.RequestBytes, narrow.Reads.Range = 20, 1<<20, 2*time.Hour
	c.Tenants = map[string]TenantConfig{"b": narrow}
	if one := c.Together([]string{"b"}); one != narrow {
		t.Errorf("%+v", one)
	}
	for _, names := range [][]string{{"a", "b"}, {"b", "a"}} {
		got := c.Together(names)
		if got.Writes.Labels != 20 || got.Writes.RequestBytes != 1<<20 || got.Reads.Range != time.Hour || got.Reads.Points != c.Reads.Points {
			t.Errorf("%v: %+v", names, got)
		}
	}
}
