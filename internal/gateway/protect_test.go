package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

func startReads(t *testing.T, kind string, u *upstream, reads string) *gatewaytest.Gateway {
	t.Helper()
	return gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Kind: kind, Upstreams: []string{u.URL}, Extra: "limits: {reads: {" + reads + "}}",
	})
}

func isExcess(a gatewaytest.Answer, status int, says string) bool {
	kind := map[int]string{422: "execution", 429: "too_many_requests"}[status]
	return a.Status == status && strings.HasPrefix(a.Body, `{"status":"error","errorType":"`+kind+`","error":"`) && strings.Contains(a.Body, says)
}

// TestReadLimits: what is over a limit is told the number and the limit, on every route that the limit is for, and the store
// hears nothing of it.
func TestReadLimits(t *testing.T) {
	now := time.Now().Unix()
	query := func(expr string, more ...any) string {
		return "/api/v1/query?query=" + url.QueryEscape(expr) + fmt.Sprintf(strings.Repeat("%v", len(more)), more...)
	}
	queryRange := func(expr string, start, end int64, step string) string {
		return fmt.Sprintf("/api/v1/query_range?query=%s&start=%d&end=%d&step=%s", url.QueryEscape(expr), start, end, step)
	}
	for _, tc := range []struct {
		reads string
		ok    []string
		over  map[string]string // to what the answer says
	}{
		{"range: 2h", []string{
			query("up"), query("rate(up[2h])"), queryRange("rate(up[2h])", now-7200, now, "60"), "/api/v1/labels", fmt.Sprintf("/api/v1/labels?start=%d&end=%d", now-7200, now),
		}, map[string]string{
			query("rate(up[3h])"):                                            "spans 3h0m0s; limits.reads.range allows 2h0m0s",
			query("max_over_time(rate(up[1h])[2h:])"):                        "spans 3h0m0s",
			query("up", "&lookback_delta=3h"):                                "spans 3h0m0s",
			queryRange("up", now-7201, now, "60"):                            "spans 2h0m1s",
			"/api/v1/labels?start=0":                                         "limits.reads.range",
			"/api/v1/series?match[]=up&start=0":                              "limits.reads.range",
			fmt.Sprintf("/api/v1/label/job/values?start=%d", now-8000):       "limits.reads.range",
			"/api/v1/query_exemplars?query=up&start=0":                       "limits.reads.range",
			"/api/v1/query_exemplars?query=up&start=2026-01-01T00:00:00Z":    "limits.reads.range",
			fmt.Sprintf("/api/v1/labels?start=%d.5&end=%d", now-7201, now-0): "spans 2h0m0.5s",
		}},
		{"lookback: 2h", []string{
			query("up"), query("rate(up[1h] offset 50m)"), queryRange("up", now-7000, now, "60"), fmt.Sprintf("/api/v1/series?match[]=up&start=%d", now-7000),
			query("up", "&time=", now-7000),
		}, map[string]string{
			query("rate(up[3h])"):                      "looks back 3h0m",
			query("up offset 3h"):                      "limits.reads.lookback allows 2h0m0s",
			query("up", "&lookback_delta=10800"):       "looks back 3h0m",
			query("up", "&time=", now-8000):            "looks back 2h13m",
			query("up", "&time=1970-01-01T00:00:00Z"):  "limits.reads.lookback",
			queryRange("up", now-8000, now-7500, "60"): "limits.reads.lookback",
			"/api/v1/series?match[]=up&start=5":        "limits.reads.lookback",
		}},
		{"points: 60", []string{queryRange("up", now-3600, now, "60"), queryRange("up", now-3600, now, "1m")}, map[string]string{
			queryRange("up", now-3600, now, "59"):    "asks for 61 points per series; limits.reads.points allows 60",
			queryRange("up", now-3600, now, "100ms"): "asks for 36000 points per series",
		}},
		{"", []string{queryRange("up", now-11_000, now, "1")}, map[string]string{
			queryRange("up", now-11_001, now, "1"):     "asks for 11001 points per series; limits.reads.points allows 11000",
			query("max_over_time(up[30h:1s])"):         "a subquery computes 108000 points per series; limits.reads.subquery_points allows 100000",
			queryRange("up", -9_000_000_000, now, "1"): "limits.reads.points",
		}},
		{"points: 0, subquery_points: 0", []string{queryRange("up", now-11_001, now, "1"), query("max_over_time(up[30h:1s])")}, nil},
	} {
		for _, kind := range []string{"m3", "prometheus"} {
			u := newUpstream(t, ok)
			g := startReads(t, kind, u, tc.reads)
			for _, path := range tc.ok {
				if a := g.Get("alice", path); a.Status != 200 {
					t.Errorf("%s, %s: %s: %d %s", kind, tc.reads, path, a.Status, a.Body)
				}
			}
			u.take()
			for path, says := range tc.over {
				if a := g.Get("alice", path); !isExcess(a, 422, says) {
					t.Errorf("%s, %s: %s: %d %s, want 422 %s", kind, tc.reads, path, a.Status, a.Body, says)
				}
				if saw := u.take(); len(saw) > 0 {
					t.Errorf("%s, %s: %s: the store saw %+v", kind, tc.reads, path, saw)
				}
			}
			refused := 0
			for line := range strings.Lines(g.Admin("GET", "/metrics").Body) {
				if _, n, ok := strings.Cut(line, `m3gateway_gateway_limit_refusals_total{limit="reads.`); ok {
					n, err := strconv.Atoi(strings.TrimSpace(n[strings.Index(n, "}")+1:]))
					if err != nil {
						t.Fatal(err)
					}
					refused += n
				}
			}
			if refused != len(tc.over) {
				t.Errorf("%s, %s: %d counted", kind, tc.reads, refused)
			}
		}
	}
}

// TestReadLimitsOfRemoteRead: each query of a remote read is judged.
func TestReadLimitsOfRemoteRead(t *testing.T) {
	u := newUpstream(t, ok)
	g := startReads(t, "prometheus", u, "range: 2h, lookback: 10h")
	now := time.Now().UnixMilli()
	const hour = int64(3_600_000)
	for _, tc := range []struct {
		start, end int64
		says       string
	}{
		{now - 2*hour, now, ""}, {now - 3*hour, now, "spans 3h0m0s"}, {now - 12*hour, now - 11*hour, "looks back 12h0m"},
		{-1 << 63, 1<<63 - 1, "limits.reads.range"}, {1<<63 - 1, -1 << 63, ""},
	} {
		raw, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: now, EndTimestampMs: now}, {StartTimestampMs: tc.start, EndTimestampMs: tc.end}}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		req := g.Request("alice", "POST", "/api/v1/read", snappy.Encode(nil, raw))
		req.Header.Set("Content-Type", "application/x-protobuf")
		a := g.Do(req)
		if tc.says == "" && a.Status != 200 || tc.says != "" && !isExcess(a, 422, tc.says) {
			t.Errorf("%+v: %d %s", tc, a.Status, a.Body)
		}
		if saw := len(u.take()); (saw == 0) != (tc.says != "") {
			t.Errorf("%+v: the store saw %d requests", tc, saw)
		}
	}
}

// TestMetaStartUnderLimits: a read of metadata without a start gets the earliest that the limits allow.
func TestMetaStartUnderLimits(t *testing.T) {
	for _, tc := range []struct {
		kind, reads, query string
		ago                time.Duration // of the start that the store sees; 0: none
	}{
		{"prometheus", "", "", 0}, {"prometheus", "", "?start=" + "-292273086-05-16T16:47:06Z", 0}, {"prometheus", "range: 5h", "", 5 * time.Hour}, {"prometheus", "lookback: 3h", "", 3 * time.Hour},
		{"prometheus", "range: 5h, lookback: 3h", "", 3 * time.Hour}, {"prometheus", "range: 3h, lookback: 5h", "", 3 * time.Hour},
		{"m3", "", "", 24 * time.Hour}, {"m3", "range: 1000h", "", 24 * time.Hour}, {"m3", "range: 2h", "", 2 * time.Hour},
		{"m3", "", fmt.Sprintf("?end=%d", time.Now().Add(-time.Hour).Unix()), 25 * time.Hour}, {"m3", "", "?end=" + "292277025-08-18T07:12:54.999999999Z", 24 * time.Hour},
	} {
		u := newUpstream(t, ok)
		g := startReads(t, tc.kind, u, tc.reads)
		if a := g.Get("alice", "/api/v1/labels"+tc.query); a.Status != 200 {
			t.Fatalf("%+v: %+v", tc, a)
		}
		form, err := url.ParseQuery(string(u.take()[0].Body))
		if err != nil {
			t.Fatal(err)
		}
		start := form.Get("start")
		if tc.ago == 0 {
			if start != "" {
				t.Errorf("%+v: start %s", tc, start)
			}
			continue
		}
		at, err := time.Parse(time.RFC3339, start)
		if off := time.Since(at) - tc.ago; err != nil || off < -time.Minute || off > time.Minute {
			t.Errorf("%+v: start %s", tc, start)
		}
	}
}

// held is a store whose answers wait until they are let go, one by one or all.
type held struct {
	*upstream
	entered chan string // the path of each request that has come
	gone    chan error  // the end of each request's context, while it waits
	goOn    chan struct{}
	begin   bool // the header and half of the answer are sent at once
}

func newHeld(t *testing.T, begin bool) *held {
	h := &held{entered: make(chan string, 100), gone: make(chan error, 100), goOn: make(chan struct{}), begin: begin}
	h.upstream = newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if h.begin {
			_, _ = io.WriteString(w, noData[:10])
			_ = http.NewResponseController(w).Flush()
		}
		h.entered <- r.URL.Path
		select {
		case <-h.goOn:
			if h.begin {
				_, _ = io.WriteString(w, noData[10:])
			} else {
				_, _ = io.WriteString(w, noData)
			}
		case <-r.Context().Done():
			h.gone <- r.Context().Err()
		}
	})
	t.Cleanup(func() {
		select {
		case <-h.goOn:
		default:
			close(h.goOn)
		}
	})
	return h
}

// TestConcurrentReads: a tenant has so many reads under way and no more, whichever of its users asks; others are not touched,
// and the slot is free again when the client has gone.
func TestConcurrentReads(t *testing.T) {
	h := newHeld(t, false)
	g := startReads(t, "prometheus", h.upstream, "concurrent: 2, queue: 0")
	type got struct {
		gatewaytest.Answer
		err error
	}
	answers := make(chan got, 10)
	ask := func(ctx context.Context, user, tenant, path string) {
		req := g.Request(user, "GET", path, nil).WithContext(ctx)
		if tenant != "" {
			req.Header.Set("X-Tenant", tenant)
		}
		resp, err := g.Client.Do(req)
		if err != nil {
			answers <- got{err: err}
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		answers <- got{gatewaytest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(b)}, err}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go ask(ctx, "alice", "", "/api/v1/query?query=up")
	<-h.entered
	go ask(context.Background(), "reader", "", "/api/v1/label/job/values") // of the same tenant
	<-h.entered
	for _, path := range []string{"/api/v1/query?query=up", "/api/v1/query_range?query=up&start=1&end=2&step=1", "/api/v1/series?match[]=up", "/api/v1/labels", "/api/v1/label/job/values", "/api/v1/query_exemplars?query=up", "/federate?match[]=up"} {
		a := g.Get("alice", path)
		if !isExcess(a, 429, "2 reads of this tenant are under way; limits.reads.concurrent allows 2") || a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %+v", path, a)
		}
	}
	if a := g.Get("both", "/api/v1/labels"); !isExcess(a, 429, "limits.reads.concurrent") { // team-a is one of its tenants
		t.Errorf("%+v", a)
	}
	for _, path := range []string{"/api/v1/rules", "/api/v1/format_query?query=up", "/api/v1/metadata"} { // no store is asked
		if a := g.Get("alice", path); a.Status != 200 {
			t.Errorf("%s: %+v", path, a)
		}
	}
	for _, who := range [][2]string{{"bob", ""}, {"both", "team-b"}, {"ops", "team-a"}, {"ops", ""}} { // an operator's reads are its own
		go ask(context.Background(), who[0], who[1], "/api/v1/labels")
		<-h.entered
	}
	cancel() // alice goes away
	if a := <-answers; a.err == nil {
		t.Fatalf("%+v", a)
	}
	<-h.gone
	gatewaytest.Until(t, "the slot is free", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go ask(ctx, "alice", "", "/api/v1/labels")
		select {
		case <-h.entered: // it is held there, until it goes away as well
			cancel()
			<-answers
			return true
		case a := <-answers:
			if a.Status != 429 {
				t.Errorf("%+v", a)
			}
			return false
		}
	})
	close(h.goOn)
	for range 5 {
		if a := <-answers; a.Status != 200 {
			t.Errorf("%+v", a)
		}
	}
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("after all: %+v", a)
	}
}

// TestReadTimeout: a store that does not answer in time, or falls silent in the middle.
func TestReadTimeout(t *testing.T) {
	h := newHeld(t, false)
	g := startReads(t, "prometheus", h.upstream, "timeout: 1s")
	if a := g.Get("alice", "/api/v1/query?query=up"); !isExcess(a, 422, "the query took more than 1s; limits.reads.timeout allows 1s") {
		t.Errorf("%+v", a)
	}
	<-h.gone // the store was told
	if form, _ := url.ParseQuery(string(h.take()[0].Body)); form.Get("timeout") != "1s" {
		t.Errorf("the store was given %q", form.Get("timeout"))
	}
	for range 2 {
		<-h.entered
		if a := g.Get("alice", "/api/v1/labels"); !isExcess(a, 422, "limits.reads.timeout") {
			t.Errorf("%+v", a)
		}
	}
	half := newHeld(t, true)
	g = startReads(t, "prometheus", half.upstream, "timeout: 1s")
	req := g.Request("alice", "GET", "/api/v1/query?query=up", nil)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := g.Client.Do(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looks whole")
	}
	gatewaytest.Until(t, "the log says why", func() bool { return strings.Contains(g.Log.String(), "limits.reads.timeout allows 1s") })
}

// TestTimeoutParam: what the store is told of the client's time-out.
func TestTimeoutParam(t *testing.T) {
	for reads, cases := range map[string]map[string]string{
		"timeout: 5s": {"": "5s", "&timeout=2": "2s", "&timeout=1500ms": "1s", "&timeout=10m": "5s", "&timeout=1ms": "1s"},
		"":            {"": "", "&timeout=1h": "120s", "&timeout=2s": "2s"},
	} {
		u := newUpstream(t, ok)
		g := startReads(t, "m3", u, reads)
		for param, want := range cases {
			g.Get("alice", "/api/v1/query?query=up"+param)
			form, err := url.ParseQuery(string(u.take()[0].Body))
			if err != nil || form.Get("timeout") != want {
				t.Errorf("%s, %s: %q, want %q", reads, param, form.Get("timeout"), want)
			}
		}
	}
}

// TestAnswerBytes: an answer that is too long is refused where that is known in time, and cut where it is not.
func TestAnswerBytes(t *testing.T) {
	var size atomic.Int64
	var chunked atomic.Bool
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		const head, tail = `{"status":"success","data":["`, `"]}`
		body := head + strings.Repeat("x", int(size.Load())-len(head)-len(tail)) + tail
		if chunked.Load() {
			_, _ = io.WriteString(w, body[:10])
			_ = http.NewResponseController(w).Flush()
			body = body[10:]
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		_, _ = io.WriteString(w, body)
	})
	const says = "65536; ask for fewer series"
	for _, kind := range []string{"m3", "prometheus"} {
		g := startReads(t, kind, u, "answer_bytes: 64KiB")
		for _, path := range []string{"/api/v1/query?query=up", "/api/v1/labels"} {
			size.Store(64 << 10)
			chunked.Store(false)
			if a := g.Get("alice", path); a.Status != 200 || len(a.Body) < 60_000 {
				t.Errorf("%s %s, at the limit: %d, %d bytes", kind, path, a.Status, len(a.Body))
			}
			size.Store(64<<10 + 1)
			if a := g.Get("alice", path); !isExcess(a, 422, says) || !strings.Contains(a.Body, "65537 bytes") {
				t.Errorf("%s %s, announced: %d %.300s", kind, path, a.Status, a.Body)
			}
			chunked.Store(true)
			var b []byte
			resp, err := g.Client.Do(g.Request("alice", "GET", path, nil))
			if err == nil {
				b, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if merged := kind == "m3" && path == "/api/v1/labels"; merged {
				if err != nil || resp.StatusCode != 422 || !bytes.Contains(b, []byte(says)) {
					t.Errorf("%s %s, not announced: %v, %.300s", kind, path, err, b)
				}
			} else if err == nil {
				t.Errorf("%s %s, not announced: %d, %d bytes", kind, path, resp.StatusCode, len(b))
			}
		}
		gatewaytest.Until(t, "the log says why", func() bool { return strings.Contains(g.Log.String(), "limits.reads.answer_bytes allows 65536") })
	}
	g := startReads(t, "m3", u, "answer_bytes: 64KiB") // of all answers that one becomes
	size.Store(30 << 10)
	chunked.Store(false)
	if a := g.Get("alice", "/api/v1/labels?match[]=a&match[]=b"); a.Status != 200 {
		t.Errorf("two answers: %d %.300s", a.Status, a.Body)
	}
	if a := g.Get("alice", "/api/v1/labels?match[]=a&match[]=b&match[]=c"); !isExcess(a, 422, says) {
		t.Errorf("three answers: %d %.300s", a.Status, a.Body)
	}
}

// TestGathering: an M3 that is asked for many selectors is asked four at a time, for each once; the first failure ends all, and
// so does the time of one read.
func TestGathering(t *testing.T) {
	h := newHeld(t, false)
	g := startReads(t, "m3", h.upstream, "timeout: 1s")
	path := "/api/v1/series?match[]=m0"
	for i := range 20 {
		path += fmt.Sprintf("&match[]=m%d&match[]=m%d", i, 19-i)
	}
	if a := g.Get("alice", path); !isExcess(a, 422, "the query took more than 1s") {
		t.Errorf("%+v", a)
	}
	if n := len(h.take()); n != 4 {
		t.Errorf("%d questions at once", n)
	}
	var under, most, fail atomic.Int64
	var mu sync.Mutex
	asked := map[string]int{}
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		n := under.Add(1)
		defer under.Add(-1)
		mu.Lock()
		most.Store(max(most.Load(), n))
		mu.Unlock()
		form, _ := url.ParseQuery(r.URL.RawQuery)
		selector := form.Get("match[]")
		mu.Lock()
		asked[selector]++
		mu.Unlock()
		if fail.Load() > 0 && strings.Contains(selector, "m07\"") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"status":"error","error":"query exceeded limit"}`)
			return
		}
		fmt.Fprintf(w, `{"status":"success","data":["%s","all"]}`, selector[11:14])
	})
	g = startReads(t, "m3", u, "")
	path = "/api/v1/label/job/values?"
	for i := range 60 {
		path += fmt.Sprintf("match[]=m%02d&match[]=m%02d&", i, i)
	}
	a := g.Get("alice", path)
	if a.Status != 200 || strings.Count(a.Body, ",") != 61 || !strings.HasPrefix(a.Body, `{"status":"success","data":["all","m00","m01"`) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if len(asked) != 60 || most.Load() > 4 {
		t.Errorf("%d selectors were asked for, %d at once", len(asked), most.Load())
	}
	for s, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked for %d times", s, n)
		}
	}
	fail.Store(1)
	if a := g.Get("alice", "/api/v1/label/job/values?match[]=m01&match[]=m07&match[]=m09"); a.Status != 422 || !strings.Contains(a.Body, "store's limits") {
		t.Errorf("%+v", a)
	}
	many := "/api/v1/labels?"
	for i := range 65 {
		many += fmt.Sprintf("match[]=m%d&", i)
	}
	if a := g.Get("alice", many); a.Status != 400 || !strings.Contains(a.Body, "more than 64") {
		t.Errorf("%+v", a)
	}
}
