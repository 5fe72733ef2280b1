package main

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/bench/measure"
)

func decode(t *testing.T, body []byte) prompb.WriteRequest {
	t.Helper()
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	return req
}

// stamps are the oldest and the newest timestamp of req.
func stamps(req prompb.WriteRequest) (oldest, newest int64) {
	var all []int64
	for _, ts := range req.Timeseries {
		for _, s := range ts.Samples {
			all = append(all, s.Timestamp)
		}
	}
	return slices.Min(all), slices.Max(all)
}

func TestBatchIsWhatItSays(t *testing.T) {
	now := time.Now()
	b, err := newBatch(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	req := decode(t, b.body)
	if len(req.Timeseries) != samples || len(req.Metadata) > 0 {
		t.Fatalf("%d series and %d metadata", len(req.Timeseries), len(req.Metadata))
	}
	labels, seen, jobs := 0, map[string]bool{}, map[string]int{}
	for _, ts := range req.Timeseries {
		labels += len(ts.Labels)
		var id, names []string
		for _, l := range ts.Labels {
			id, names = append(id, l.Name, l.Value), append(names, l.Name)
			if l.Name == "job" {
				jobs[l.Value]++
			}
		}
		if len(ts.Samples) != 1 || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || !slices.Contains(names, "__name__") {
			t.Fatalf("%v is not as a Prometheus server sends it", ts)
		}
		seen[strings.Join(id, "\x00")] = true
	}
	if len(seen) != samples {
		t.Errorf("%d series are distinct", len(seen))
	}
	if mean := float64(labels) / samples; mean < 10 || mean > 12 || labels != b.labels {
		t.Errorf("%.2f labels a series", mean)
	}
	if jobs["m3gateway"] < samples/6 || jobs["prometheus"] < samples/6 {
		t.Errorf("the jobs are %v", jobs)
	}
	if oldest, newest := stamps(req); oldest < now.Add(-15*time.Second).UnixMilli() || newest > now.UnixMilli() {
		t.Errorf("timestamps from %d to %d at %d", oldest, newest, now.UnixMilli())
	}

	l, err := newLocal(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.agree(); err != nil {
		t.Error(err)
	}
	if err := l.floor(); err != nil || !bytes.Equal(l.block, b.body) {
		t.Errorf("the floor made another block: %v", err)
	}
	some, whole := content{Samples: 100}, content{Samples: mostSamples}
	later, err := stamped(b.large, time.Hour, []content{some, whole})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(decode(t, later[some]).Timeseries); n != some.Samples {
		t.Errorf("%d series of %d", n, some.Samples)
	}
	was, is := req, decode(t, later[whole])
	if len(is.Timeseries) != mostSamples {
		t.Fatalf("the largest request has %d series", len(is.Timeseries))
	}
	is.Timeseries = is.Timeseries[:samples]
	from, _ := stamps(was)
	to, _ := stamps(is)
	if to-from != time.Hour.Milliseconds() {
		t.Errorf("stamped anew, the batch moved by %dms", to-from)
	}
}

// TestSender: a refusal is never counted as a request.
func TestSender(t *testing.T) {
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Samples: []prompb.Sample{{Value: 1, Timestamp: 1}}}}}
	large, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu     sync.Mutex
		status = http.StatusNoContent
		users  = map[string]int{}
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		if pass != measure.Password {
			t.Errorf("the password %q", pass)
		}
		mu.Lock()
		defer mu.Unlock()
		users[user]++
		w.WriteHeader(status)
	}))
	defer server.Close()
	one := content{Samples: 1}
	c := &client{job: &job{Large: large, Made: time.Now(), Contents: []content{one}}, pools: map[string]*http.Client{}}
	o := order{URL: server.URL, Content: one, Connections: 2}
	if d, err := c.send(o); err != nil || d.Requests != 2 || users[measure.User] != 2 {
		t.Errorf("%+v, %v, of %v", d, err, users)
	}
	o.Users, o.Least = 3, 9
	if d, err := c.send(o); err != nil || d.Requests < 9 || len(users) != 4 || users[measure.CrowdName(1)] < 3 {
		t.Errorf("%+v, %v, of %v", d, err, users)
	}
	paced := order{URL: server.URL, Content: one, Rate: 1000, Time: 20 * time.Millisecond}
	if d, err := c.send(paced); err != nil || d.Requests != 20 || len(d.Latencies) != 20 || slices.Min(d.Latencies) <= 0 {
		t.Errorf("%+v, %v", d, err)
	}
	status = http.StatusBadRequest
	o.Time, paced.Time = time.Hour, 20*time.Millisecond
	for _, o := range []order{o, paced} {
		if d, err := c.send(o); err == nil || d.Requests != 0 {
			t.Errorf("%d requests of refused ones: %v", d.Requests, err)
		}
	}
}

func TestReport(t *testing.T) {
	rows := []row{
		{name: floorName, cost: []float64{.001, .002, .001}},
		{name: prompbName, cost: []float64{.020, .040, .030}},
		{name: wireName, cost: []float64{.001, .002, .0015}},
		{name: wholeName + ", 2 connections", cost: []float64{.002, .004, .002}},
		{name: wholeName + ", 4 connections", cost: []float64{.003, .006, .002}},
		{name: tlsName, cost: []float64{.009, .009, .009}},
		{name: nginxName, cost: []float64{.060, .060, .060}},
	}
	even := axis{name: "senders", points: []point{{value: 1, cost: []float64{1e-6, 2e-6}}, {value: 10, cost: []float64{1e-6, 2e-6}}}}
	steep := axis{name: "samples", points: []point{{value: 1, cost: []float64{3e-6, 6e-6}}, {value: 10, cost: []float64{1e-6, 2e-6}}, {value: 100, cost: []float64{1e-6, 2e-6}}}}
	l := &latency{saturation: 100, direct: [][]float64{{.001, .001}, {.001, .002}}, through: [][]float64{{.002, .006}, {.007, .006}}}
	out := targets(rows, []axis{even, steep}, l)
	for _, want := range []string{
		"MISSED  whole gateway, TLS off, over the floor .* 3.00, at most 1.6\n", "met     prompb over internal/remotewrite.* 20.00, at least 15\n", "MISSED  prompb over the whole gateway, TLS off .* 6.67, at least 15\n",
		"met     nginx .* 20.00, at least 5\n", "MISSED  p99 .* 5.00, at most 3\n", "met     CPU per sample over senders.* 0.00, at most 10\n",
		"MISSED  CPU per sample over samples.* 200.00, at most 10\n", "\nfloor_ratio=3.00\n$",
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if err := xml.Unmarshal([]byte(plot([]axis{even, steep})), new(any)); err != nil {
		t.Errorf("the plot is no XML: %v", err)
	}
	if rowsTable(rows, 0, 0) == "" || table([]axis{even, steep}) == "" || l.describe(.001) == "" {
		t.Error("a part of the report is empty")
	}
	if c, err := measure.CPU(0); err != nil || c <= 0 {
		t.Errorf("CPU time %v, %v", c, err)
	}
}
