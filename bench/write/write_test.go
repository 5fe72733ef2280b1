package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
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
	later, err := b.restamp(now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	was, is := req, decode(t, later)
	from, _ := stamps(was)
	to, _ := stamps(is)
	if to-from != time.Hour.Milliseconds() || len(is.Timeseries) != samples {
		t.Errorf("stamped anew, the batch has %d series and moved by %dms", len(is.Timeseries), to-from)
	}
}

// TestSender: a refusal is never counted as a request.
func TestSender(t *testing.T) {
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Samples: []prompb.Sample{{Value: 1, Timestamp: 1}}}}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != userName || pass != password {
			t.Errorf("user %q", user)
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	b := &batch{raw: raw, made: time.Now()}
	body, err := b.restamp(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &client{http: server.Client(), url: server.URL}
	c.body.Store(&body)
	if err := c.one(); err != nil {
		t.Error(err)
	}
	status = http.StatusBadRequest
	if n, err := c.send(order{Connections: 2, Time: time.Hour}); err == nil || n != 0 {
		t.Errorf("%d requests of refused ones: %v", n, err)
	}
}

func TestReport(t *testing.T) {
	rows := []row{
		{name: floorName, cost: []float64{.001, .002, .001}},
		{name: prompbName, cost: []float64{.020, .040, .030}},
		{name: wholeName + ", 2 connections", cost: []float64{.002, .004, .002}},
		{name: wholeName + ", 4 connections", cost: []float64{.003, .006, .002}},
	}
	out := report(rows, 0, 0)
	if !strings.HasSuffix(out, "\nprompb over the whole gateway, its costlier row: 6.7\nfloor_ratio=3.00\n") {
		t.Error(out)
	}
	if c, err := cpuTime(0); err != nil || c <= 0 {
		t.Errorf("CPU time %v, %v", c, err)
	}
}
