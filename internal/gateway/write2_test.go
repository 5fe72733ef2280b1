package gateway_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"m3gateway/internal/gatewaytest"
)

const (
	media1 = "application/x-protobuf"
	media2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// wrote answers a write as a store of 2.0 that took the given numbers of samples, histograms and exemplars.
func (u *upstream) wrote(status int, counts ...int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		for i, name := range []string{"Samples", "Histograms", "Exemplars"} {
			w.Header().Set("X-Prometheus-Remote-Write-"+name+"-Written", fmt.Sprint(counts[i]))
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, "out of order sample")
	}
}

func protocolGateway(t *testing.T, u *upstream, protocol string) *gatewaytest.Gateway {
	return gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Kind: "prometheus", Upstreams: []string{u.URL}, UpstreamExtra: "  protocol: " + protocol + "\n",
	})
}

// write2 sends two series of 2.0: a sample with an exemplar and metadata, and a native histogram.
func write2(t *testing.T, g *gatewaytest.Gateway) (a gatewaytest.Answer, wrote string) {
	t.Helper()
	now := time.Now().UnixMilli()
	return send2(t, g, &writev2.Request{
		Symbols: []string{"", "__name__", "up", "tenant", "team-b", "trace_id", "x", "help", "native"},
		Timeseries: []writev2.TimeSeries{
			{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: now, StartTimestamp: 5}},
				Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{5, 6}, Value: 1, Timestamp: now}}, Metadata: writev2.Metadata{Type: 2, HelpRef: 7}},
			{LabelsRefs: []uint32{1, 8}, Histograms: []writev2.Histogram{{
				Count: &writev2.Histogram_CountInt{CountInt: 1}, ZeroCount: &writev2.Histogram_ZeroCountInt{ZeroCountInt: 1}, Timestamp: now,
			}}},
		},
	})
}

// send2 is a write of 2.0 by alice; wrote is the three counts that came back, or blanks.
func send2(t *testing.T, g *gatewaytest.Gateway, in *writev2.Request) (a gatewaytest.Answer, wrote string) {
	t.Helper()
	raw, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	req := g.Request("alice", "POST", "/api/v1/write", snappy.Encode(nil, raw))
	req.Header.Set("Content-Type", media2)
	req.Header.Set("Content-Encoding", "snappy")
	a = g.Do(req)
	var counts []string
	for _, name := range []string{"Samples", "Histograms", "Exemplars"} {
		counts = append(counts, a.Header.Get("X-Prometheus-Remote-Write-"+name+"-Written"))
	}
	return a, strings.Join(counts, " ")
}

// batch2 decodes a write of 2.0 that reached the store.
func (s seen) batch2(t *testing.T) writev2.Request {
	t.Helper()
	raw, err := snappy.Decode(nil, s.Body)
	if err != nil {
		t.Fatal(err)
	}
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	return req
}

// labels2 is the labels of a series of 2.0.
func labels2(r *writev2.Request, i int) string {
	var out []string
	for _, ref := range r.Timeseries[i].LabelsRefs {
		out = append(out, r.Symbols[ref])
	}
	return strings.Join(out, " ")
}

// TestWrite2Native is remote write 2.0 to a store of 2.0: all of it travels, and the sender is told the store's own counts.
func TestWrite2Native(t *testing.T) {
	u := newUpstream(t, nil)
	u.wrote(204, 1, 1, 1)
	g := protocolGateway(t, u, "auto")
	if a, counts := write2(t, g); a.Status != 204 || counts != "1 1 1" {
		t.Errorf("%+v, wrote %q", a, counts)
	}
	saw := u.take()
	if len(saw) != 1 {
		t.Fatalf("%+v", saw)
	}
	wantHeader(t, saw[0].Header, map[string]string{
		"Content-Type": media2, "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "2.0.0",
		"User-Agent": "m3gateway", "Content-Length": fmt.Sprint(len(saw[0].Body)),
	})
	b := saw[0].batch2(t)
	if len(b.Timeseries) != 2 || labels2(&b, 0) != "__name__ up tenant team-a" || labels2(&b, 1) != "__name__ native tenant team-a" {
		t.Fatalf("stored %v", b.String())
	}
	if s := b.Timeseries[0]; s.Samples[0].StartTimestamp != 5 || len(s.Exemplars) != 1 || s.Metadata.Type != 2 || b.Symbols[s.Metadata.HelpRef] != "help" || len(b.Timeseries[1].Histograms) != 1 {
		t.Errorf("stored %v", b.String())
	}
	for _, s := range b.Symbols {
		if s == "team-b" {
			t.Error("the forged tenant travels among the symbols")
		}
	}
	// A part that the store refuses.
	u.wrote(400, 0, 1, 1)
	if a, counts := write2(t, g); a.Status != 400 || counts != "0 1 1" || a.Body != "stored 1 of 2 samples, the store refused the others: out of order sample\n" {
		t.Errorf("%+v, wrote %q", a, counts)
	}
	u.wrote(400, 1, 1, 0)
	if a, counts := write2(t, g); a.Status != 400 || counts != "1 1 0" || a.Body != "stored 2 samples, the store refused what came with them: out of order sample\n" {
		t.Errorf("%+v, wrote %q", a, counts)
	}
	u.say(503, "")
	if a, counts := write2(t, g); a.Status != 503 || strings.TrimSpace(counts) != "" {
		t.Errorf("%+v, wrote %q", a, counts)
	}
	// A sender of 1.0 beside it, and its metadata.
	u.say(204, "")
	u.take()
	raw, err := (&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up", Help: "h"}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if a := g.Do(g.Request("alice", "POST", "/api/v1/write", snappy.Encode(nil, raw))); a.Status != 204 {
		t.Errorf("%+v", a)
	}
	if saw := u.take(); len(saw) != 1 || saw[0].Header.Get("Content-Type") != media1 || len(saw[0].batch(t).Metadata) != 1 {
		t.Errorf("%+v", saw)
	}
}

// TestWrite2ToOldStore: a store that does not take 2.0 says 415, or success or 400 without counts, which prove nothing. The
// sender keeps its batch; with protocol auto it is passed on as 1.0 when it comes again.
func TestWrite2ToOldStore(t *testing.T) {
	for _, status := range []int{415, 204, 200, 400} {
		u := newUpstream(t, nil)
		u.say(status, "")
		g := protocolGateway(t, u, "auto")
		if a, counts := write2(t, g); a.Status != 503 || a.Header.Get("Retry-After") == "" || strings.TrimSpace(counts) != "" {
			t.Errorf("%d: %+v, wrote %q", status, a, counts)
		}
		u.say(204, "")
		u.take()
		if a, counts := write2(t, g); a.Status != 204 || counts != "1 1 1" {
			t.Errorf("%d: then %+v, wrote %q", status, a, counts)
		}
		if saw := u.take(); len(saw) != 1 || saw[0].Header.Get("Content-Type") != media1 || len(saw[0].batch(t).Timeseries) != 2 {
			t.Errorf("%d: %+v", status, saw)
		}
		u.say(status, "")
		g = protocolGateway(t, u, "2.0")
		for range 2 {
			a, _ := write2(t, g)
			if status == 400 { // it was told to be a store of 2.0
				if a.Status != 400 || !strings.Contains(a.Body, "may have kept nothing of it") {
					t.Errorf("protocol 2.0: %+v", a)
				}
				continue
			}
			if a.Status != 503 || !strings.Contains(a.Body, "upstream.protocol") {
				t.Errorf("%d: protocol 2.0: %+v", status, a)
			}
		}
	}
}

// TestWrite2LostExemplars: what is lost of a batch by its own fault does not count as written, whether the store has a place for it
// or not.
func TestWrite2LostExemplars(t *testing.T) {
	now := time.Now().UnixMilli()
	sample, old := []writev2.Sample{{Value: 1, Timestamp: now}}, []writev2.Sample{{Value: 1, Timestamp: now - 3_600_000}}
	native := []writev2.Histogram{{Timestamp: now}}
	named, unnamed := []uint32{1, 2}, []uint32{3, 4}
	exemplar := func(value uint32, ts int64) []writev2.Exemplar {
		return []writev2.Exemplar{{LabelsRefs: []uint32{3, value}, Value: 1, Timestamp: ts}}
	}
	good := exemplar(4, now)
	for name, tc := range map[string]struct {
		kind   string
		series writev2.TimeSeries
		status int
		wrote  string
		says   string
		reason string // of the exemplar
	}{
		"good":                         {"prometheus", writev2.TimeSeries{LabelsRefs: named, Samples: sample, Exemplars: good}, 204, "1 0 1", "", ""},
		"an hour old":                  {"prometheus", writev2.TimeSeries{LabelsRefs: named, Samples: sample, Exemplars: exemplar(4, now-3_600_000)}, 204, "1 0 0", "", "invalid_exemplar"},
		"no UTF-8":                     {"prometheus", writev2.TimeSeries{LabelsRefs: named, Samples: sample, Exemplars: exemplar(5, now)}, 204, "1 0 0", "", "invalid_exemplar"},
		"a symbol that is missing":     {"prometheus", writev2.TimeSeries{LabelsRefs: named, Samples: sample, Exemplars: exemplar(99, now)}, 204, "1 0 0", "", "invalid_exemplar"},
		"of a sample that is too old":  {"prometheus", writev2.TimeSeries{LabelsRefs: named, Samples: old, Exemplars: good}, 400, "0 0 0", "stored 0 samples, dropped 1: too_old 1", "invalid_exemplar"},
		"of a series without a name":   {"prometheus", writev2.TimeSeries{LabelsRefs: unnamed, Samples: sample, Histograms: native, Exemplars: good}, 400, "0 0 0", "stored 0 samples, dropped 2: invalid_metric_name 2", "invalid_exemplar"},
		"m3, good":                     {"m3", writev2.TimeSeries{LabelsRefs: named, Samples: sample, Histograms: native, Exemplars: good}, 204, "1 1 1", "", "exemplar"},
		"m3, of a sample too old":      {"m3", writev2.TimeSeries{LabelsRefs: named, Samples: old, Exemplars: good}, 400, "0 0 0", "stored 0 samples, dropped 1: too_old 1", "invalid_exemplar"},
		"m3, of a series without name": {"m3", writev2.TimeSeries{LabelsRefs: unnamed, Samples: sample, Histograms: native, Exemplars: good}, 400, "0 0 0", "stored 0 samples, dropped 2: invalid_metric_name 2", "invalid_exemplar"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, nil)
			u.wrote(204, 1, 0, len(tc.series.Exemplars))
			g := start(t, tc.kind, u)
			a, wrote := send2(t, g, &writev2.Request{Symbols: []string{"", "__name__", "up", "trace_id", "x", "\xff"}, Timeseries: []writev2.TimeSeries{tc.series}})
			if a.Status != tc.status || wrote != tc.wrote || !strings.HasPrefix(a.Body, tc.says) {
				t.Errorf("%+v, wrote %q; want %d, %q", a, wrote, tc.status, tc.wrote)
			}
			if saw := u.take(); len(saw) != map[int]int{204: 1}[tc.status] {
				t.Errorf("%d requests reached the store", len(saw))
			}
			metrics := g.Admin("GET", "/metrics").Body
			for _, reason := range []string{"exemplar", "invalid_exemplar"} {
				want := 0.0
				if reason == tc.reason {
					want = 1
				}
				if got := metricOf(t, metrics, `m3gateway_gateway_dropped_samples_total{reason="`+reason+`",tenant="team-a"}`); got != want {
					t.Errorf("%v counted as %s, want %v", got, reason, want)
				}
			}
		})
	}
}

// TestExemplarsAlone: exemplars in a series of their own, as senders of both protocols put them, reach the store: in the batch if
// that is of 1.0, and behind one of 2.0 in a request of 1.0.
func TestExemplarsAlone(t *testing.T) {
	only := up("job", "x")
	only.Samples, only.Exemplars = nil, []prompb.Exemplar{exemplar()}
	now := time.Now().UnixMilli()
	symbols := []string{"", "__name__", "up", "trace_id", "x"}
	sample := writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: now}}}
	alone := writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 1, Timestamp: now}}}
	for _, protocol := range []string{"1.0", "auto", "2.0"} {
		u := newUpstream(t, nil)
		u.wrote(204, 1, 0, 0)
		g := protocolGateway(t, u, protocol)
		saw := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, saw := range u.take() {
				samples, exemplars, media := 0, 0, "1.0"
				if saw.Header.Get("Content-Type") == media2 {
					media = "2.0"
					for _, ts := range saw.batch2(t).Timeseries {
						samples, exemplars = samples+len(ts.Samples), exemplars+len(ts.Exemplars)
					}
				} else {
					for _, ts := range saw.batch(t).Timeseries {
						samples, exemplars = samples+len(ts.Samples), exemplars+len(ts.Exemplars)
						if n := len(ts.Labels); ts.Labels[n-1].Name != "tenant" || ts.Labels[n-1].Value != "team-a" {
							t.Errorf("%s, %s: labels %v", protocol, what, ts.Labels)
						}
					}
				}
				got = append(got, fmt.Sprint(media, " ", samples, " ", exemplars))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: the store saw %q, want %q", protocol, what, got, want)
			}
		}
		both, behind, one := []string{"1.0 1 1"}, []string{"2.0 1 0", "1.0 0 1"}, []string{"1.0 0 1"}
		from1, from2 := both, both
		if protocol == "2.0" {
			from1 = behind
		}
		if protocol != "1.0" {
			from2 = behind
		}
		if a := g.Write("alice", []prompb.TimeSeries{up(), only}); a.Status != 204 {
			t.Errorf("%s, from 1.0: %+v", protocol, a)
		}
		saw("from 1.0", from1...)
		if a, wrote := send2(t, g, &writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{sample, alone}}); a.Status != 204 || wrote != "1 0 1" {
			t.Errorf("%s, from 2.0: %+v, wrote %q", protocol, a, wrote)
		}
		saw("from 2.0", from2...)
		if a := g.Write("alice", []prompb.TimeSeries{only}); a.Status != 204 {
			t.Errorf("%s, alone: %+v", protocol, a)
		}
		saw("alone from 1.0", one...)
		if a, wrote := send2(t, g, &writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{alone}}); a.Status != 204 || wrote != "0 0 1" {
			t.Errorf("%s, alone from 2.0: %+v, wrote %q", protocol, a, wrote)
		}
		saw("alone from 2.0", one...)
	}
}

// TestExemplarsAloneFail: a batch of 2.0 whose exemplars failed behind it comes again; exemplars that the store refuses do not count
// as written, and trouble nobody.
func TestExemplarsAloneFail(t *testing.T) {
	now := time.Now().UnixMilli()
	two := &writev2.Request{Symbols: []string{"", "__name__", "up", "trace_id", "x"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: now}}},
		{LabelsRefs: []uint32{1, 2}, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 1, Timestamp: now}}},
	}}
	for name, tc := range map[string]struct {
		batch, exemplars int // what the store answers
		status           int
		wrote            string
		requests         int
		left             float64
	}{
		"both":                  {204, 204, 204, "1 0 1", 2, 0},
		"a batch that fails":    {503, 204, 503, "", 1, 0},
		"a batch refused":       {400, 204, 400, "1 0 1", 2, 0},
		"exemplars that fail":   {204, 503, 503, "", 2, 0},
		"exemplars refused":     {204, 400, 204, "1 0 0", 2, 1},
		"no 1.0":                {204, 415, 204, "1 0 0", 2, 1},
		"too many at this time": {204, 429, 503, "", 2, 0},
	} {
		u := newUpstream(t, nil)
		u.answer = func(w http.ResponseWriter, r *http.Request) {
			status := tc.exemplars
			if r.Header.Get("Content-Type") == media2 {
				status = tc.batch
				w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1")
			}
			w.WriteHeader(status)
		}
		g := protocolGateway(t, u, "auto")
		a, wrote := send2(t, g, two)
		if a.Status != tc.status || tc.wrote != "" && wrote != tc.wrote {
			t.Errorf("%s: %+v, wrote %q, want %d and %q", name, a, wrote, tc.status, tc.wrote)
		}
		if saw := u.take(); len(saw) < tc.requests {
			t.Errorf("%s: the store saw %d requests, want %d", name, len(saw), tc.requests)
		}
		if got := metricOf(t, g.Admin("GET", "/metrics").Body, `m3gateway_gateway_dropped_samples_total{reason="exemplar",tenant="team-a"}`); got != tc.left {
			t.Errorf("%s: %v exemplars left out, want %v", name, got, tc.left)
		}
	}
}

// TestStoreSaysLess: a store of 2.0 that says success to less than it was sent has not acknowledged the batch, and what it does
// acknowledge is what is counted, whatever its status.
func TestStoreSaysLess(t *testing.T) {
	const less = "stored %d of %d samples, the store left out the others and gave no reason\n"
	one := []prompb.TimeSeries{up("job", "x")}
	for name, tc := range map[string]struct {
		status int
		counts []int
		one    string // what a sender of 1.0 is told that sent one sample
		two    string // what one of 2.0 is told that sent a sample, a histogram and an exemplar
		wrote  string // and in its headers
		booked float64
	}{
		"nothing":               {204, []int{0, 0, 0}, fmt.Sprintf(less, 0, 1), fmt.Sprintf(less, 0, 2), "0 0 0", 0},
		"no histogram":          {200, []int{1, 0, 1}, "", fmt.Sprintf(less, 1, 2), "1 0 1", 2},
		"no exemplar":           {204, []int{1, 1, 0}, "", "", "1 1 0", 3},
		"more than it was sent": {204, []int{9, 9, 9}, "", "", "1 1 1", 3},
		"fewer than none":       {204, []int{-1, 1, 1}, fmt.Sprintf(less, 0, 1), fmt.Sprintf(less, 1, 2), "0 1 1", 1},
		"refused a part": {400, []int{1, 0, 0}, "stored 1 samples, the store refused what came with them: out of order sample\n",
			"stored 1 of 2 samples, the store refused the others: out of order sample\n", "1 0 0", 2},
		"failed": {500, []int{1, 1, 1}, "the store failed to take the batch: out of order sample\n", "the store failed to take the batch: out of order sample\n", "  ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, nil)
			u.wrote(tc.status, tc.counts...)
			g := protocolGateway(t, u, "2.0")
			status := func(text string) int {
				switch {
				case text == "":
					return 204
				case tc.status == 500:
					return 503
				}
				return 400
			}
			if a := g.Write("alice", one); a.Status != status(tc.one) || a.Body != tc.one || a.Header.Get("X-Prometheus-Remote-Write-Samples-Written") != "" {
				t.Errorf("1.0: %+v, want %q", a, tc.one)
			}
			if a, wrote := write2(t, g); a.Status != status(tc.two) || a.Body != tc.two || wrote != tc.wrote {
				t.Errorf("2.0: %+v, wrote %q; want %q, %q", a, wrote, tc.two, tc.wrote)
			}
			if got := metricOf(t, g.Admin("GET", "/metrics").Body, `m3gateway_gateway_samples_total{tenant="team-a"}`); got != tc.booked {
				t.Errorf("%v samples counted, want %v", got, tc.booked)
			}
		})
	}
	// What a store does not name it has not written; what the gateway dropped is told, too.
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1")
	})
	g := protocolGateway(t, u, "auto")
	if a, wrote := write2(t, g); a.Status != 400 || a.Body != fmt.Sprintf(less, 1, 2) || wrote != "1 0 0" {
		t.Errorf("%+v, wrote %q", a, wrote)
	}
	u.wrote(204, 0, 0, 0)
	g = protocolGateway(t, u, "2.0")
	if a := g.Write("alice", append(one, gatewaytest.Series(time.Unix(0, 0), 1, "__name__", "old"))); a.Status != 400 ||
		!strings.HasPrefix(a.Body, strings.TrimSpace(fmt.Sprintf(less, 0, 1))+"; the gateway dropped 1: too_old 1 (older than") {
		t.Errorf("%+v", a)
	}
}

// TestStoreSaysLessOfSeveral: the part of a batch of several tenants that is stored is booked on them by their shares.
func TestStoreSaysLessOfSeveral(t *testing.T) {
	u := newUpstream(t, nil)
	u.wrote(400, 2, 0, 0)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"both"}, Tenancy: "  client_label: allow\n  users:\n    both: {tenants: [team-a, team-b]}\n", Kind: "prometheus",
		Upstreams: []string{u.URL}, UpstreamExtra: "  protocol: 2.0\n",
	})
	batch := []prompb.TimeSeries{up("tenant", "team-b")}
	for _, job := range []string{"x", "y", "z"} {
		batch = append(batch, up("tenant", "team-a", "job", job))
	}
	if a := g.Write("both", batch); a.Status != 400 || !strings.HasPrefix(a.Body, "stored 2 of 4 samples") {
		t.Errorf("%+v", a)
	}
	metrics := g.Admin("GET", "/metrics").Body
	for tenant, want := range map[string]float64{"team-a": 1.5, "team-b": 0.5} {
		if got := metricOf(t, metrics, `m3gateway_gateway_samples_total{tenant="`+tenant+`"}`); got != want {
			t.Errorf("%v samples counted for %s, want %v", got, tenant, want)
		}
	}
}

// TestWrite1As2: with protocol 2.0 a sender of 1.0 is translated, and answered as 1.0 is.
func TestWrite1As2(t *testing.T) {
	u := newUpstream(t, nil)
	u.wrote(204, 1, 0, 0)
	g := protocolGateway(t, u, "2.0")
	a := g.Write("alice", []prompb.TimeSeries{up("tenant", "team-b", "job", "x")})
	if a.Status != 204 || a.Header.Get("X-Prometheus-Remote-Write-Samples-Written") != "" {
		t.Errorf("%+v", a)
	}
	saw := u.take()
	if len(saw) != 1 || saw[0].Header.Get("Content-Type") != media2 {
		t.Fatalf("%+v", saw)
	}
	if b := saw[0].batch2(t); len(b.Timeseries) != 1 || labels2(&b, 0) != "__name__ up job x tenant team-a" || len(b.Timeseries[0].Samples) != 1 {
		t.Errorf("stored %v", b.String())
	}
}
