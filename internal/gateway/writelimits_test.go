package gateway_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

func startWrites(t *testing.T, u *upstream, limits string) *gatewaytest.Gateway {
	t.Helper()
	return gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Upstreams: []string{u.URL}, Extra: "limits: {" + limits + "}",
	})
}

// numbered are n series named from first on, each with one sample.
func numbered(first, n int) (out []prompb.TimeSeries) {
	for i := range n {
		out = append(out, gatewaytest.Series(time.Now(), 1, "__name__", "up", "n", strconv.Itoa(first+i)))
	}
	return out
}

// TestWriteLimits: what is over a limit is refused whole, with the numbers, before the store hears of it, and without a word of other
// tenants, who are not held up; refusals and usage show in the metrics.
func TestWriteLimits(t *testing.T) {
	for _, tc := range []struct {
		limits string
		ok     []int // series of requests that pass, one after another
		over   int
		status int
		says   string
		key    string
	}{
		{"writes: {samples_per_second: 1, samples_burst: 10}", []int{5, 5}, 1, 429, "limits.writes.samples_per_second allows 1, and 10 at once", "samples_per_second"},
		{"writes: {samples_per_second: 1, samples_burst: 10, refusal: 503}", []int{50}, 1, 503, "the samples of before are still to be made up for", "samples_per_second"},
		{"writes: {requests_per_second: 1, requests_burst: 2}", []int{1, 1}, 1, 429, "limits.writes.requests_per_second allows 1, and 2 at once", "requests_per_second"},
		{"writes: {bytes_per_second: 1, bytes_burst: 60}", []int{1}, 1, 429, "limits.writes.bytes_per_second allows 1, and 60 at once", "bytes_per_second"},
		{"writes: {samples_per_request: 3}", []int{3, 3, 3}, 4, 413, "the request has 4 samples; limits.writes.samples_per_request allows 3", "samples_per_request"},
		{"writes: {series_per_request: 3}", []int{3, 3, 3}, 4, 413, "the request has 4 series; limits.writes.series_per_request allows 3", "series_per_request"},
		{"writes: {decoded_bytes: 1KiB}", []int{3}, 300, 413, "limits.writes.decoded_bytes", "decoded_bytes"},
		{"writes: {request_bytes: 1KiB}", []int{3}, 1000, 413, "limits.writes.request_bytes", "request_bytes"},
		{"tenants: {team-a: {writes: {samples_per_second: 1, samples_burst: 10}}}", []int{10}, 1, 429, "limits.writes.samples_per_second", "samples_per_second"},
	} {
		u := newUpstream(t, ok)
		g := startWrites(t, u, tc.limits)
		for i, n := range tc.ok {
			if a := g.Write("alice", numbered(100*i, n)); a.Status != 204 {
				t.Errorf("%s: %d series: %d %s", tc.limits, n, a.Status, a.Body)
			}
		}
		u.take()
		a := g.Write("alice", numbered(1000, tc.over))
		if a.Status != tc.status || !strings.Contains(a.Body, tc.says) || strings.Contains(a.Body, "team-") || strings.Count(a.Body, "\n") != 1 {
			t.Errorf("%s: %d %s", tc.limits, a.Status, a.Body)
		}
		if retry, err := strconv.Atoi(a.Header.Get("Retry-After")); (err == nil) != (tc.status != 413) || err == nil && (retry < 1 || retry > 3600) {
			t.Errorf("%s: Retry-After %q", tc.limits, a.Header.Get("Retry-After"))
		}
		if saw := u.take(); len(saw) > 0 {
			t.Errorf("%s: the store saw %+v", tc.limits, saw)
		}
		if a := g.Write("both", numbered(0, 1), "X-Tenant", "team-b"); a.Status != 204 {
			t.Errorf("%s: another tenant: %d %s", tc.limits, a.Status, a.Body)
		}
		metrics := g.Admin("GET", "/metrics").Body
		if want := fmt.Sprintf("m3gateway_gateway_limit_refusals_total{limit=%q,tenant=\"team-a\"} 1\n", "writes."+tc.key); tc.key != "" && !strings.Contains(metrics, want) {
			t.Errorf("%s: no %s", tc.limits, want)
		}
		if tc.key == "samples_per_second" && !strings.Contains(metrics, `m3gateway_gateway_tenant_limit{limit="writes.samples_burst",tenant="team-a"} 10`+"\n") {
			t.Errorf("%s: the limit does not show", tc.limits)
		}
		if exception := strings.Contains(tc.limits, "tenants:"); exception != strings.Contains(metrics, `m3gateway_gateway_tenant_limit{limit="writes.samples_per_second",tenant="team-a"} 1`+"\n") {
			t.Errorf("%s: what is set for one tenant shows: %v", tc.limits, !exception)
		}
	}
}

// Labels are bounded per series: what is over is dropped alone.
func TestLabelLimits(t *testing.T) {
	u := newUpstream(t, ok)
	g := startWrites(t, u, "writes: {labels: 3, name_bytes: 10, value_bytes: 20}")
	now := time.Now()
	long := strings.Repeat("x", 21)
	a := g.Write("alice", []prompb.TimeSeries{
		gatewaytest.Series(now, 1, "__name__", "up", "a", "1", "b", "1"), gatewaytest.Series(now, 1, "__name__", "up", "a", "1", "b", "1", "c", "1"),
		gatewaytest.Series(now, 1, "__name__", "up", "a", long[:20]), gatewaytest.Series(now, 1, "__name__", "up", "a", long),
		gatewaytest.Series(now, 1, "__name__", "up", long[:10], "1"), gatewaytest.Series(now, 1, "__name__", "up", long[:11], "1"),
	})
	for _, says := range []string{"stored 3 samples, dropped 3: ", "label_too_long 2 (names up to 10 and values up to 20 bytes", "too_many_labels 1 (up to 3 labels"} {
		if a.Status != 400 || !strings.Contains(a.Body, says) {
			t.Errorf("%d %s, want %s", a.Status, a.Body, says)
		}
	}
}

// TestActiveSeriesLimit: series that are active go on; what is new beyond the limit is dropped alone, with the reason and an example.
func TestActiveSeriesLimit(t *testing.T) {
	u := newUpstream(t, ok)
	g := startWrites(t, u, "writes: {active_series: 10}")
	if a := g.Write("alice", numbered(0, 8)); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	for range 2 {
		a := g.Write("alice", numbered(0, 15))
		if want := `stored 10 samples, dropped 5: active_series 5 (the tenant has as many active series as limits.writes.active_series allows, 10; those go on, example {__name__="up", n="10"})`; a.Status != 400 || strings.TrimSpace(a.Body) != want {
			t.Errorf("%d %s\nwant %s", a.Status, a.Body, want)
		}
		if a := g.Write("alice", numbered(0, 10)); a.Status != 204 {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	// Another user's series of the same tenant are the same series; another tenant's are not.
	if a := g.Write("both", numbered(0, 10), "X-Tenant", "team-a"); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := g.Write("both", numbered(50, 10), "X-Tenant", "team-b"); a.Status != 204 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	metrics := g.Admin("GET", "/metrics").Body
	for _, want := range []string{
		`m3gateway_gateway_tenant_limit{limit="writes.active_series",tenant="team-a"} 10`, `m3gateway_gateway_tenant_usage{limit="writes.active_series",tenant="team-a"} 10`,
		`m3gateway_gateway_tenant_usage{limit="writes.series_wanted",tenant="team-a"} 15`, `m3gateway_gateway_dropped_samples_total{reason="active_series",tenant="team-a"} 10`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	saw := u.take()
	if len(saw) == 0 {
		t.Error("nothing was stored")
	}
}

// A store that fails has taken nothing: what it did not store does not count against the rate.
func TestFailedWritesDoNotCount(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	g := startWrites(t, u, "writes: {samples_per_second: 1, samples_burst: 10}")
	for i := range 5 {
		if a := g.Write("alice", numbered(0, 10)); a.Status != 503 || strings.Contains(a.Body, "limits.") {
			t.Errorf("%d: %d %s", i, a.Status, a.Body)
		}
	}
}

// TestLimitsReload: changed limits hold for the next request, and a reload gives nothing back.
func TestLimitsReload(t *testing.T) {
	u := newUpstream(t, ok)
	g := startWrites(t, u, "writes: {samples_per_second: 1, samples_burst: 10}")
	if a := g.Write("alice", numbered(0, 10)); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	path := filepath.Join(g.Dir, "gateway.yaml")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(old), "samples_burst: 10", "samples_burst: 1000", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := g.Write("alice", numbered(0, 10)); a.Status != 429 || !strings.Contains(a.Body, "1000 at once") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// TestLimitsReloadUnderLoad: while senders go on and limits change all the time, no more is taken than the rate allows for the time, and
// the first burst.
func TestLimitsReloadUnderLoad(t *testing.T) {
	const rate, burst = 100, 200
	u := newUpstream(t, ok)
	g := startWrites(t, u, "writes: {samples_per_second: 100, samples_burst: 200}")
	path := filepath.Join(g.Dir, "gateway.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var taken atomic.Int64
	var all sync.WaitGroup
	end := make(chan struct{})
	for sender := range 4 {
		all.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				switch a := g.Write("alice", numbered(10*sender, 10)); a.Status {
				case 204:
					taken.Add(10)
				case 429:
				default:
					t.Errorf("%d %s", a.Status, a.Body)
					return
				}
			}
		})
	}
	for i := range 20 {
		changed := strings.Replace(string(config), "samples_burst: 200", fmt.Sprintf("samples_burst: %d", burst+i%3*5000), 1)
		if i%2 == 1 {
			changed = strings.Replace(changed, "samples_per_second: 100,", "samples_per_second: 100, concurrent: 50,", 1)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		time.Sleep(50 * time.Millisecond) // senders go on
	}
	close(end)
	all.Wait()
	most := burst + rate*time.Since(began).Seconds()
	if n := float64(taken.Load()); n > most || n < burst {
		t.Errorf("%v samples were taken, at most %.0f may be", n, most)
	}
}

// TestLimitsAnswer: each user is told who it is, what it may and how near it is, of its own tenants and no other.
func TestLimitsAnswer(t *testing.T) {
	u := newUpstream(t, ok)
	g := startWrites(t, u, "writes: {samples_per_second: 5, samples_burst: 1000, active_series: 50}, reads: {range: 2h}, tenants: {team-b: {writes: {labels: 30}}}, replicas: {count: 5}")
	if a := g.Write("alice", numbered(0, 7)); a.Status != 204 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	type answer struct {
		Status string
		Data   struct {
			User       string
			AllTenants bool
			Rights     []string
			Replicas   int
			Window     map[string]string
			Request    map[string]int
			Tenants    []struct {
				Tenant        string
				Writes, Reads map[string]any
				Usage         []struct {
					Limit      string
					Most, Used float64
				}
			}
		}
	}
	ask := func(user string, more ...string) answer {
		t.Helper()
		req := g.Request(user, "GET", "/api/v1/limits", nil)
		for i := 0; i < len(more); i += 2 {
			req.Header.Set(more[i], more[i+1])
		}
		a := g.Do(req)
		var out answer
		if err := json.Unmarshal([]byte(a.Body), &out); err != nil || a.Status != 200 || out.Status != "success" {
			t.Fatalf("%d %s: %v", a.Status, a.Body, err)
		}
		return out
	}
	a := ask("alice").Data
	if a.User != "alice" || a.AllTenants || !slices.Equal(a.Rights, []string{"read", "write"}) || a.Replicas != 5 || a.Window["past"] != "10m0s" || a.Request["labels"] != 512 || len(a.Tenants) != 1 {
		t.Fatalf("%+v", a)
	}
	one := a.Tenants[0]
	if one.Tenant != "team-a" || one.Writes["samples_per_second"] != 1.0 || one.Writes["samples_burst"] != 200.0 || one.Writes["active_window"] != "20m0s" || one.Reads["range"] != "2h0m0s" {
		t.Errorf("%+v", one)
	}
	used := map[string][2]float64{}
	for _, u := range one.Usage {
		used[u.Limit] = [2]float64{u.Most, u.Used}
	}
	if b := used["writes.samples_burst"]; b[0] != 200 || b[1] < 1 || b[1] > 7 {
		t.Errorf("%v", b)
	}
	delete(used, "writes.samples_burst")
	if want := map[string][2]float64{"writes.active_series": {10, 7}, "writes.series_wanted": {10, 7}, "reads.concurrent": {20, 0}, "reads.queue": {20, 0}}; !maps.Equal(used, want) {
		t.Errorf("%v, want %v", used, want)
	}
	if b := ask("both").Data; len(b.Tenants) != 2 || b.Request["labels"] != 30 {
		t.Errorf("%+v", b)
	}
	if b := ask("both", "X-Tenant", "team-b").Data; len(b.Tenants) != 1 || b.Tenants[0].Tenant != "team-b" || b.Tenants[0].Writes["labels"] != 30.0 {
		t.Errorf("%+v", b)
	}
	if b := ask("ops").Data; !b.AllTenants || len(b.Tenants) != 1 || b.Tenants[0].Tenant != "*" || b.Tenants[0].Writes != nil || b.Tenants[0].Reads["concurrent"] != 20.0 || len(b.Tenants[0].Usage) != 2 || !slices.Equal(b.Rights, []string{"read"}) {
		t.Errorf("%+v", b)
	}
	if a := g.Get("", "/api/v1/limits"); a.Status != 401 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := g.Get("alice", "/api/v1/limits?tenant=team-b"); a.Status != 400 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// TestReadRate: reads over the rate are 429 with the time to wait, the store hears nothing of them, and other tenants go on.
func TestReadRate(t *testing.T) {
	u := newUpstream(t, ok)
	g := startWrites(t, u, "reads: {requests_per_second: 1, requests_burst: 2}")
	for _, want := range []int{200, 200, 429} {
		u.take()
		a := g.Get("alice", "/api/v1/query?query=up")
		if a.Status != want || want == 429 && (a.Header.Get("Retry-After") != "1" || !strings.Contains(a.Body, "limits.reads.requests_per_second allows 1 a second, and 2 at once")) {
			t.Errorf("%d %s, want %d", a.Status, a.Body, want)
		}
		if saw := u.take(); (len(saw) > 0) != (want == 200) {
			t.Errorf("the store saw %+v", saw)
		}
	}
	req := g.Request("both", "GET", "/api/v1/query?query=up", nil)
	req.Header.Set("X-Tenant", "team-b")
	if a := g.Do(req); a.Status != 200 {
		t.Errorf("another tenant: %d %s", a.Status, a.Body)
	}
	if a := g.Get("alice", "/api/v1/limits"); a.Status != 200 { // costs the store nothing
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
