package query

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
)

// dashboardQuery is of the length and shape that a dashboard panel sends.
const dashboardQuery = `sum by (cluster, service) (rate(http_requests_total{job="api", cluster=~"eu-1|eu-2", code!~"5.."}[5m])) / ` +
	`on (cluster, service) group_left () sum by (cluster, service) (rate(http_requests_total[5m]))`

// reportCPU reports the process' CPU time per operation, which other work on the machine changes less than wall time.
func reportCPU(b *testing.B) func() {
	start := cpuTime(b)
	return func() { b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op") }
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPromQL(b *testing.B) {
	for _, bc := range []struct {
		name    string
		dialect Dialect
		scope   Scope
		query   string
	}{
		{"m3/up", PromQL231, alice, "up"},
		{"m3/dashboard", PromQL231, alice, dashboardQuery},
		{"prometheus/dashboard", PromQL3, alice, dashboardQuery},
		{"m3/dashboard/two-tenants", PromQL231, two, dashboardQuery},
		{"m3/500-selectors", PromQL231, alice, strings.TrimSuffix(strings.Repeat("up or ", 500), " or ")},
		{"m3/deepest", PromQL231, alice, strings.Repeat("-", 890) + strings.Repeat("(", 100) + "up" + strings.Repeat(")", 100)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			c := New(bc.dialect, DefaultLimits())
			b.ReportAllocs()
			defer reportCPU(b)()
			for b.Loop() {
				if err := anew(c, bc.scope, bc.query); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// anew confines a query that the Confiner does not remember.
func anew(c *Confiner, s Scope, expr string) error {
	scope, err := newConfinement(s)
	if err == nil {
		_, err = c.confine(scope, expr)
	}
	return err
}

// BenchmarkRemembered is a query that was asked before.
func BenchmarkRemembered(b *testing.B) {
	for name, s := range map[string]Scope{"one": alice, "two-tenants": two} {
		b.Run(name, func(b *testing.B) {
			c := New(PromQL231, DefaultLimits())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.PromQL(s, dashboardQuery); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSelectors(b *testing.B) {
	c := New(PromQL231, DefaultLimits())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Selectors(alice, []string{`up{job="api"}`}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRemoteRead(b *testing.B) {
	c := New(PromQL231, DefaultLimits())
	body := readBody(b, &prompb.ReadRequest{Queries: []*prompb.Query{{
		StartTimestampMs: 1, EndTimestampMs: 2,
		Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}, {Type: prompb.LabelMatcher_RE, Name: "job", Value: "a.*"}},
	}}})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.RemoteRead(alice, body, 1<<16); err != nil {
			b.Fatal(err)
		}
	}
}

// Two parses by the Prometheus parser take nearly all of the allocations; the budget catches a third.
func TestPromQLAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := New(PromQL231, DefaultLimits())
	for query, budget := range map[string]float64{"up": 22, dashboardQuery: 260} {
		got := testing.AllocsPerRun(200, func() {
			if err := anew(c, alice, query); err != nil {
				t.Fatal(err)
			}
		})
		if got > budget {
			t.Errorf("%.0f allocations for %s, budget %.0f", got, query, budget)
		}
		again := testing.AllocsPerRun(200, func() {
			if _, err := c.PromQL(alice, query); err != nil {
				t.Fatal(err)
			}
		})
		if again > 4 {
			t.Errorf("%.0f allocations for %s when it is remembered, budget 4", again, query)
		}
	}
}
