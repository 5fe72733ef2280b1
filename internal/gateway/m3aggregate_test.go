package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// aggregated are the namespaces that TestRealM3Aggregates reads, by the header value that picks one.
var aggregated = map[string]time.Duration{"10s:30d": 10 * time.Second, "1m:365d": time.Minute}

const (
	// aggregatedFor is how long samples are sent, one a second to each series.
	aggregatedFor = 2 * time.Minute
	// aggregatedLate is how long after the end of a window of 1m its value may take to be seen; measured were 62 s to 121 s. The
	// value of another coordinator overwrites it up to 16 s later.
	aggregatedLate = 3 * time.Minute
	overwritten    = 25 * time.Second
)

// TestRealM3Aggregates: of each series, half of the samples come through one gateway and half through another, by turns, and
// both stand before both coordinators. A coordinator aggregates what it gets by itself and writes the last value of a window
// under the window's end, over what another has written. With routing: series all values are right, in both namespaces; with
// routing: any, sent the same, some are not, which shows that the check sees it. M3_COORDINATOR_URLS must name two coordinators
// that aggregate into 10s:30d and 1m:365d.
func TestRealM3Aggregates(t *testing.T) {
	urls := strings.Split(os.Getenv("M3_COORDINATOR_URLS"), ",")
	if urls[0] == "" {
		t.Skip("M3_COORDINATOR_URLS is not set")
	}
	if len(urls) < 2 {
		t.Fatal("M3_COORDINATOR_URLS names one coordinator; a series can only be spread over two")
	}
	run := fmt.Sprintf("run%d", time.Now().UnixNano())
	bySeries, byLoad := startSpread(t, urls, run, "series"), startSpread(t, urls, run, "any")
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; time.Since(began) < aggregatedFor; n++ {
		bySeries.write(t, n)
		byLoad.write(t, n)
		<-tick.C
	}
	ended := time.Now()
	for deadline := ended.Add(aggregatedLate); ; time.Sleep(time.Second) {
		missing := 0
		for _, s := range []*spread{bySeries, byLoad} {
			for policy := range aggregated {
				c := s.compare(t, urls[0], policy, ended)
				missing += c.missing
			}
		}
		if missing == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d aggregated values are missing %v after the last window", missing, aggregatedLate)
		}
	}
	t.Logf("all windows are there %.0f s after the last sample", time.Since(ended).Seconds())
	time.Sleep(overwritten)
	for policy := range aggregated {
		right, wrong := bySeries.compare(t, urls[1], policy, ended), byLoad.compare(t, urls[1], policy, ended)
		t.Logf("%s: routing series: %v; routing any: %v", policy, right, wrong)
		if right.wrong+right.missing > 0 || right.right == 0 {
			t.Errorf("%s: with routing: series %v", policy, right)
		}
		if wrong.wrong == 0 {
			t.Errorf("%s: with routing: any every value is right, so that the check shows nothing: %v", policy, wrong)
		}
	}
	for _, s := range []*spread{bySeries, byLoad} {
		s.raw(t)
	}
}

// spread is series of one tenant whose samples come through two gateways by turns.
type spread struct {
	metric   string
	gateways [2]*gatewaytest.Gateway
	sent     []map[int64]float64 // by series: value by time in ms
}

func startSpread(t *testing.T, coordinators []string, run, routing string) *spread {
	t.Helper()
	s := &spread{metric: run + "_" + routing, sent: make([]map[int64]float64, 24)}
	for i := range s.sent {
		s.sent[i] = map[int64]float64{}
	}
	for i := range s.gateways {
		s.gateways[i] = gatewaytest.Start(t, gatewaytest.Setup{
			Users: []string{"alice"}, Kind: "m3", Upstreams: coordinators,
			Tenancy: "  users:\n    alice: {tenants: [" + run + "-" + routing + "]}\n", UpstreamExtra: "  routing: " + routing + "\n",
		})
		gatewaytest.Until(t, "the coordinators are ready", func() bool { return s.gateways[i].Admin("GET", "/readyz").Status == 200 })
	}
	return s
}

// write sends the nth sample of each series: of the even ones through one gateway, of the odd ones through the other, and the
// other way round next time.
func (s *spread) write(t *testing.T, n int) {
	t.Helper()
	now := time.Now()
	var batches [2][]prompb.TimeSeries
	for i := range s.sent {
		value := float64(n*100 + i)
		s.sent[i][now.UnixMilli()] = value
		b := &batches[(i+n)%2]
		*b = append(*b, gatewaytest.Series(now, value, "__name__", s.metric, "id", strconv.Itoa(i)))
	}
	for i, g := range s.gateways {
		if a := g.Write("alice", batches[i]); a.Status != 204 {
			t.Fatalf("%s: %+v", s.metric, a)
		}
	}
}

// compared is what has become of the windows.
type compared struct{ right, wrong, missing int }

func (c compared) String() string {
	return fmt.Sprintf("%d right, %d wrong, %d missing", c.right, c.wrong, c.missing)
}

// compare looks at every window that was over at ended: its value must be the last that was sent in it.
func (s *spread) compare(t *testing.T, coordinator, policy string, ended time.Time) (c compared) {
	t.Helper()
	stored := askAggregated(t, coordinator, policy, s.metric)
	resolution := aggregated[policy].Milliseconds()
	for i, sent := range s.sent {
		last := map[int64]int64{} // time of the last sample by the window's end
		for ms := range sent {
			if end := ms - ms%resolution + resolution; end <= ended.UnixMilli() {
				last[end] = max(last[end], ms)
			}
		}
		for end, ms := range last {
			value, ok := stored[strconv.Itoa(i)][end]
			switch {
			case !ok:
				c.missing++
			case value == sent[ms]:
				c.right++
			default:
				c.wrong++
			}
		}
	}
	return c
}

// raw holds the raw namespace, read through a gateway, to what was sent.
func (s *spread) raw(t *testing.T) {
	t.Helper()
	a := s.gateways[0].Get("alice", "/api/v1/query?query="+url.QueryEscape(s.metric+"[15m]"))
	if a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	stored := matrix(t, []byte(a.Body))
	for i, sent := range s.sent {
		got := stored[strconv.Itoa(i)]
		if len(got) != len(sent) {
			t.Errorf("%s: series %d has %d raw samples of %d", s.metric, i, len(got), len(sent))
		}
		for ms, value := range sent {
			if got[ms] != value {
				t.Errorf("%s: series %d is %v at %d, sent was %v", s.metric, i, got[ms], ms, value)
			}
		}
	}
}

// askAggregated reads a metric from the namespace of a storage policy, past the gateways: value by time in ms by id.
func askAggregated(t *testing.T, coordinator, policy, metric string) map[string]map[int64]float64 {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, coordinator+"/api/v1/query?query="+url.QueryEscape(metric+"[15m]"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("M3-Metrics-Type", "aggregated")
	req.Header.Set("M3-Storage-Policy", policy)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", policy, resp.Status, body, err)
	}
	return matrix(t, body)
}

// matrix is the answer of a range selector: value by time in ms by the label id.
func matrix(t *testing.T, body []byte) map[string]map[int64]float64 {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	out := map[string]map[int64]float64{}
	for _, r := range answer.Data.Result {
		points := map[int64]float64{}
		for _, v := range r.Values {
			seconds, _ := v[0].(float64)
			text, _ := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			points[int64(seconds*1000+.5)] = value
		}
		if out[r.Metric["id"]] != nil {
			t.Fatalf("two series have id %s", r.Metric["id"])
		}
		out[r.Metric["id"]] = points
	}
	return out
}
