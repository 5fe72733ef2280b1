package limits

import (
	"fmt"
	"time"
)

// WriteConfig is `limits.writes`: what each tenant may send. 0 is no limit. A batch that names several tenants counts for each of
// them, its samples for those whose they are.
type WriteConfig struct {
	// Refusal is the status code of what is over a rate, 429 (default) or 503, for senders that drop their data on 429.
	Refusal int `yaml:"refusal"`
	// SamplesPerSecond is the rate of samples and native histograms, and SamplesBurst how many may come at once; 0: those of 10 s.
	// A batch larger than that passes when none has come for long enough, and those behind it wait for longer.
	SamplesPerSecond int64 `yaml:"samples_per_second"`
	SamplesBurst     int64 `yaml:"samples_burst"`
	// RequestsPerSecond is the rate of requests, and RequestsBurst how many may come at once; 0: those of 10 s.
	RequestsPerSecond int64 `yaml:"requests_per_second"`
	RequestsBurst     int64 `yaml:"requests_burst"`
	// BytesPerSecond is the rate of compressed bytes, and BytesBurst how many may come at once; 0: those of 10 s.
	BytesPerSecond int64 `yaml:"bytes_per_second" unit:"bytes"`
	BytesBurst     int64 `yaml:"bytes_burst" unit:"bytes"`
	// Concurrent is the most requests under way.
	Concurrent int64 `yaml:"concurrent"`
	// RequestBytes and DecodedBytes are the largest request, below those of all tenants.
	RequestBytes int64 `yaml:"request_bytes" unit:"bytes"`
	DecodedBytes int64 `yaml:"decoded_bytes" unit:"bytes"`
	// SamplesPerRequest and SeriesPerRequest are the most of one request.
	SamplesPerRequest int64 `yaml:"samples_per_request"`
	SeriesPerRequest  int64 `yaml:"series_per_request"`
	// Labels, NameBytes and ValueBytes are the most of one series, below what the store can hold.
	Labels     int64 `yaml:"labels"`
	NameBytes  int64 `yaml:"name_bytes" unit:"bytes"`
	ValueBytes int64 `yaml:"value_bytes" unit:"bytes"`
	// ActiveSeries is the most series that have had samples within ActiveWindow, which is told in eighths. Default window 20m.
	ActiveSeries int64         `yaml:"active_series"`
	ActiveWindow time.Duration `yaml:"active_window"`
	// NewSeriesPerMinute is the rate of series that were not active, with a burst of one minute; needs ActiveSeries. It does not hold
	// for the first ActiveWindow of a tenant in a process, which has all to learn.
	NewSeriesPerMinute int64 `yaml:"new_series_per_minute"`
}

// TenantConfig is one entry of `limits.tenants`. What is not set there is as for all.
type TenantConfig struct {
	Writes WriteConfig `yaml:"writes"`
	Reads  ReadConfig  `yaml:"reads"`
	// Weight is the tenant's share of what all share, beside others'. Default 1.
	Weight int64 `yaml:"weight"`
}

// maxActiveSeries bounds what a tenant's series may take: 21 bytes each, 43 while the table grows.
const maxActiveSeries = 20_000_000

func writeDefaults() WriteConfig {
	return WriteConfig{Refusal: 429, ActiveWindow: 20 * time.Minute}
}

// Of is what holds for tenant.
func (c *Config) Of(tenant string) TenantConfig {
	if t, ok := c.Tenants[tenant]; ok {
		return t
	}
	return TenantConfig{Writes: c.Writes, Reads: c.Reads, Weight: c.Weight}
}

func (c *WriteConfig) check(all *Config, bad func(field, problem string)) {
	if c.Refusal != 429 && c.Refusal != 503 {
		bad("writes.refusal", "must be 429, or 503 for senders that drop their data on 429")
	}
	for field, n := range map[string]int64{
		"samples_per_second": c.SamplesPerSecond, "samples_burst": c.SamplesBurst, "requests_per_second": c.RequestsPerSecond, "requests_burst": c.RequestsBurst,
		"bytes_per_second": c.BytesPerSecond, "bytes_burst": c.BytesBurst, "concurrent": c.Concurrent, "samples_per_request": c.SamplesPerRequest,
		"series_per_request": c.SeriesPerRequest, "labels": c.Labels, "name_bytes": c.NameBytes, "value_bytes": c.ValueBytes,
		"active_series": c.ActiveSeries, "new_series_per_minute": c.NewSeriesPerMinute,
	} {
		if n < 0 || n > 1<<40 {
			bad("writes."+field, fmt.Sprintf("%d cannot be a limit; use a number above 0, or 0 for none", n))
		}
	}
	for field, n := range map[string][2]int64{
		"samples_burst": {c.SamplesBurst, c.SamplesPerSecond}, "requests_burst": {c.RequestsBurst, c.RequestsPerSecond}, "bytes_burst": {c.BytesBurst, c.BytesPerSecond},
	} {
		if n[0] > 0 && n[1] == 0 {
			bad("writes."+field, "is of use only beside the rate; set that, or remove this")
		}
	}
	for field, n := range map[string][2]int64{"request_bytes": {c.RequestBytes, all.RequestBytes}, "decoded_bytes": {c.DecodedBytes, all.DecodedBytes}} {
		if n[0] != 0 && (n[0] < 1<<10 || n[0] > n[1]) {
			bad("writes."+field, fmt.Sprintf("must be from 1KiB to limits.%s, which is %d bytes; or 0 for that", field, n[1]))
		}
	}
	if c.ActiveSeries > maxActiveSeries {
		bad("writes.active_series", fmt.Sprintf("a gateway keeps up to %d series of a tenant in view; lower it, or use 0 for no limit", maxActiveSeries))
	}
	if c.ActiveWindow < time.Minute || c.ActiveWindow > 24*time.Hour {
		bad("writes.active_window", "must be 1m to 24h; leave it out for 20m")
	}
	if c.NewSeriesPerMinute > 0 && c.ActiveSeries == 0 {
		bad("writes.new_series_per_minute", "needs active_series, which bounds the series kept in view; set that, too")
	}
}

// part is c for one of n replicas: rates and what is counted are divided, what a single request may be is not.
func (c WriteConfig) part(n int64) WriteConfig {
	for _, v := range []*int64{&c.SamplesPerSecond, &c.SamplesBurst, &c.RequestsPerSecond, &c.RequestsBurst, &c.BytesPerSecond, &c.BytesBurst, &c.Concurrent, &c.ActiveSeries, &c.NewSeriesPerMinute} {
		*v = share(*v, n)
	}
	return c
}

// share is v divided by n and rounded up; 0, which is no limit, stays.
func share(v, n int64) int64 { return (v + n - 1) / n }

// burst is what may come at once at a rate.
func burst(set, rate int64) int64 {
	if set > 0 {
		return set
	}
	return 10 * rate
}

// Together is what holds for a request in the name of all the tenants: of each limit that is not for a rate, the tightest.
func (c *Config) Together(tenants []string) TenantConfig {
	if len(tenants) == 0 {
		return c.Of("")
	}
	out := c.Of(tenants[0])
	for _, name := range tenants[1:] {
		t := c.Of(name)
		w, r := &out.Writes, &out.Reads
		tighten(&w.RequestBytes, t.Writes.RequestBytes)
		tighten(&w.DecodedBytes, t.Writes.DecodedBytes)
		tighten(&w.Labels, t.Writes.Labels)
		tighten(&w.NameBytes, t.Writes.NameBytes)
		tighten(&w.ValueBytes, t.Writes.ValueBytes)
		tighten(&r.Range, t.Reads.Range)
		tighten(&r.Lookback, t.Reads.Lookback)
		tighten(&r.Points, t.Reads.Points)
		tighten(&r.SubqueryPoints, t.Reads.SubqueryPoints)
		tighten(&r.Timeout, t.Reads.Timeout)
		tighten(&r.AnswerBytes, t.Reads.AnswerBytes)
	}
	return out
}

// tighten makes limit the tighter one of both; 0 is none.
func tighten[T int | int64 | time.Duration](limit *T, other T) {
	if other > 0 && (*limit == 0 || other < *limit) {
		*limit = other
	}
}
