package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"m3gateway/internal/gatewaytest"
)

// vector is an answer to a query with n series of team-a.
func vector(n int) string {
	var b strings.Builder
	b.WriteString(`{"status":"success","data":{"resultType":"vector","result":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"metric":{"__name__":"up","i":"%d","tenant":"team-a"},"value":[1700000000,"%d"]}`, i, i*i)
	}
	b.WriteString(`]}}`)
	return b.String()
}

func withoutTenant(s string) string { return strings.ReplaceAll(s, `,"tenant":"team-a"`, "") }

// zippable is a store that compresses its answer, text, as M3 and Prometheus do: by gzip if the request takes it.
func zippable(text *atomic.Pointer[string]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			_, _ = io.WriteString(w, *text.Load())
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, *text.Load())
		_ = z.Close()
	}
}

// decoded undoes the content coding of an answer.
func decoded(t *testing.T, a gatewaytest.Answer) string {
	t.Helper()
	var r io.Reader = strings.NewReader(a.Body)
	switch c := a.Header.Get("Content-Encoding"); c {
	case "":
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	default:
		t.Fatalf("coding %q", c)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", a.Header.Get("Content-Encoding"), err)
	}
	return string(b)
}

const stripping = "  strip_tenant_label: true\n"

// TestCodings: an answer comes in the coding that the client asks for. The store is asked for gzip where its bytes can be passed
// on, and for none where the gateway has to read or write them itself.
func TestCodings(t *testing.T) {
	var text atomic.Pointer[string]
	u := newUpstream(t, zippable(&text))
	plain, strip := start(t, "prometheus", u), start(t, "prometheus", u, stripping)
	long, short := vector(500), vector(1)
	for _, tc := range []struct {
		accept, asked, coding string
		stripped              string // the coding where the gateway edits the answer
	}{
		{"", "", "", ""},
		{"identity", "", "", ""},
		{"gzip", "gzip", "gzip", "gzip"},
		{"gzip, deflate, br", "gzip", "gzip", "gzip"},
		{"GZIP;q=0.5", "gzip", "gzip", "gzip"},
		{"gzip, zstd", "gzip", "gzip", "zstd"}, // as good to the client, and compressed already
		{"zstd, gzip;q=0.9", "", "zstd", "zstd"},
		{"zstd", "", "zstd", "zstd"},
		{"zstd;q=0.2, gzip;q=0.8", "gzip", "gzip", "gzip"},
		{"gzip;q=0, zstd;q=0.000", "", "", ""},
		{"gzip;q=2, zstd;q=x", "", "", ""},
		{"deflate, br, snappy, *", "", "", ""},
	} {
		for _, edited := range []bool{false, true} {
			g, want, coding, asked := plain, long, tc.coding, tc.asked
			if edited {
				g, want, coding, asked = strip, withoutTenant(long), tc.stripped, ""
			}
			text.Store(&long)
			req := g.Request("alice", "GET", "/api/v1/query?query=up", nil)
			req.Header.Set("Accept-Encoding", tc.accept)
			a := g.Do(req)
			if a.Status != 200 || a.Header.Get("Content-Encoding") != coding || decoded(t, a) != want {
				t.Errorf("%q, edited %v: %d, coding %q, want %q; %d bytes", tc.accept, edited, a.Status, a.Header.Get("Content-Encoding"), coding, len(a.Body))
			}
			if vary := a.Header.Get("Vary"); (vary == "Accept-Encoding") != (coding != "") {
				t.Errorf("%q, edited %v: Vary %q", tc.accept, edited, vary)
			}
			if saw := u.take(); len(saw) != 1 || saw[0].Header.Get("Accept-Encoding") != asked {
				t.Errorf("%q, edited %v: the store was asked for %q", tc.accept, edited, saw[0].Header.Get("Accept-Encoding"))
			}
			if asked == "gzip" {
				continue // the store's choice
			}
			text.Store(&short)
			a = g.Do(req)
			if want := map[bool]string{false: short, true: withoutTenant(short)}[edited]; a.Body != want || a.Header.Get("Content-Encoding") != "" || a.Header.Get("Content-Length") != fmt.Sprint(len(want)) && !(edited && coding == "") {
				t.Errorf("%q, edited %v: a short answer: %v %s", tc.accept, edited, a.Header, a.Body)
			}
			u.take()
		}
	}
	m3 := start(t, "m3", u) // what the gateway gathers itself
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("name_%04d", i)
	}
	b, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	list := `{"status":"success","data":` + string(b) + `}`
	text.Store(&list)
	for _, coding := range []string{"gzip", "zstd"} {
		req := m3.Request("alice", "GET", "/api/v1/labels", nil)
		req.Header.Set("Accept-Encoding", coding)
		if a := m3.Do(req); a.Header.Get("Content-Encoding") != coding || decoded(t, a) != list || len(a.Body) > len(list)/2 {
			t.Errorf("%s: %v, %d bytes", coding, a.Header, len(a.Body))
		}
	}
}

// TestUnaskedCoding: a coding that was not asked for is not passed on.
func TestUnaskedCoding(t *testing.T) {
	for _, coding := range []string{"gzip", "snappy", "br"} {
		u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			_, _ = io.WriteString(w, "x")
		})
		g := start(t, "prometheus", u)
		req := g.Request("alice", "GET", "/api/v1/query?query=up", nil)
		req.Header.Set("Accept-Encoding", "zstd")
		if a := g.Do(req); a.Status != 503 || !strings.Contains(a.Body, "not asked for") {
			t.Errorf("%s: %+v", coding, a)
		}
	}
}

// TestNoCodingWithoutMemory: where the budget has no room for an encoder, the answer comes as it is.
func TestNoCodingWithoutMemory(t *testing.T) {
	var text atomic.Pointer[string]
	long := vector(500)
	text.Store(&long)
	u := newUpstream(t, zippable(&text))
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Upstreams: []string{u.URL}, Extra: "limits: {request_bytes: 64KiB, decoded_bytes: 64KiB, inflight_bytes: 1MiB}"})
	req := g.Request("alice", "GET", "/api/v1/query?query=up", nil)
	req.Header.Set("Accept-Encoding", "zstd")
	if a := g.Do(req); a.Status != 200 || a.Body != long || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("%d, %v, %d bytes", a.Status, a.Header, len(a.Body))
	}
}

// TestLimitOnM3: the gateway cuts what M3 would not, and says so as Prometheus does.
func TestLimitOnM3(t *testing.T) {
	whole, three := vector(10), strings.TrimSuffix(vector(3), "}")+`,"warnings":["results truncated due to limit"]}`
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, whole) })
	g := start(t, "m3", u)
	for limit, want := range map[string]string{"": whole, "&limit=0": whole, "&limit=10": whole, "&limit=3": three, "&limit=1000000": whole} {
		for _, path := range []string{"/api/v1/query?query=up", "/api/v1/query_range?query=up&start=1&end=2&step=1"} {
			if a := g.Get("alice", path+limit); a.Status != 200 || a.Body != want {
				t.Errorf("%s%s: %s", path, limit, a.Body)
			}
			if saw := u.take(); strings.Contains(string(saw[0].Body), "limit") {
				t.Errorf("the store saw %s", saw[0].Body)
			}
		}
	}
	p := start(t, "prometheus", u)
	if a := p.Get("alice", "/api/v1/query?query=up&limit=3"); a.Body != whole || !strings.Contains(string(u.take()[0].Body), "limit=3") {
		t.Errorf("%+v", a)
	}
}

// TestStripTenantLabel: users of one tenant do not see the label on any route, over a real store; all others do.
func TestStripTenantLabel(t *testing.T) {
	now := time.Now()
	store := gatewaytest.Store(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants + stripping, Upstreams: []string{store}})
	exemplary := up("job", "x")
	exemplary.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "t1"}}, Value: 1, Timestamp: now.UnixMilli()}}
	for _, user := range []string{"alice", "bob"} {
		if a := g.Write(user, []prompb.TimeSeries{exemplary, up("job", "y", "tenant", "elsewhere")}); a.Status != 204 {
			t.Fatal(a)
		}
	}
	span := fmt.Sprintf("&start=%d&end=%d", now.Unix()-60, now.Unix()+60)
	at := fmt.Sprintf("&time=%d", now.Unix()+60)
	for path, want := range map[string]string{
		"/api/v1/query?query=up" + at:                                                                    `"metric":{"__name__":"up","job":"x"}`,
		"/api/v1/query?query=" + url.QueryEscape(`count by (tenant) (up)`) + at:                          `"metric":{}`,
		"/api/v1/query?query=" + url.QueryEscape(`label_replace(up, "tenant", "else", "job", "x")`) + at: `"tenant":"else"`, // not the enforced one
		"/api/v1/query_range?query=up&step=15" + span:                                                    `"metric":{"__name__":"up","job":"x"}`,
		"/api/v1/series?match[]=up":                                                                      `{"__name__":"up","job":"x"}`,
		"/api/v1/labels":                                                                                 `["__name__","job"]`,
		"/api/v1/label/tenant/values":                                                                    `[]`,
		"/api/v1/label/job/values":                                                                       `["x","y"]`,
		"/api/v1/query_exemplars?query=up" + span:                                                        `"seriesLabels":{"__name__":"up","job":"x"}`,
		"/api/v1/query?query=" + url.QueryEscape(`up{tenant="team-a"}`) + at:                             `"metric":{"__name__":"up","job":"x"}`,
		"/api/v1/query?query=" + url.QueryEscape(`absent(up{job="z"})`) + at:                             `"metric":{"job":"z"}`,
		"/api/v1/query?query=1%2B1" + at:                                                                 `"result":[`,
		"/prometheus/api/v1/query?query=" + url.QueryEscape(`max by (tenant, job) (up) == on (tenant, job) up{job="x"}`) + at: `"metric":{"job":"x"}`,
	} {
		for user, sees := range map[string]bool{"alice": false, "reader": false, "both": true, "ops": true} {
			a := g.Get(user, path)
			has := strings.Contains(a.Body, `"team-a"`) || strings.Contains(a.Body, `"tenant"]`)
			if a.Status != 200 || !sees && (has || !strings.Contains(a.Body, want)) {
				t.Errorf("%s: %s: %d %s", user, path, a.Status, a.Body)
			}
			if sees && strings.Contains(path, "query=up"+at) && !has {
				t.Errorf("%s should see its tenants: %s", user, a.Body)
			}
		}
	}
	req := g.Request("both", "GET", "/api/v1/query?query=up"+at, nil)
	req.Header.Set("X-Tenant", "team-a")
	if a := g.Do(req); !strings.Contains(a.Body, `"tenant":"team-a"`) {
		t.Errorf("a user of several tenants that names one: %s", a.Body)
	}
	for user, want := range map[string]string{
		"alice": `{__name__="up", job="x"} {__name__="up", job="y"}`,
		"both":  `{__name__="up", env="prod", job="x", tenant="team-b"} {__name__="up", env="prod", job="y", tenant="team-b"} {__name__="up", job="x", tenant="team-a"} {__name__="up", job="y", tenant="team-a"}`,
	} {
		for _, typ := range []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES, prompb.ReadRequest_STREAMED_XOR_CHUNKS} {
			if got := remoteSets(t, g, user, typ, now); got != want {
				t.Errorf("%s, remote read %v:\n%s\nwant %s", user, typ, got, want)
			}
		}
	}
}

// remoteSets reads up back by remote read and returns its label sets, each checked to have its sample.
func remoteSets(t *testing.T, g *gatewaytest.Gateway, user string, typ prompb.ReadRequest_ResponseType, now time.Time) string {
	t.Helper()
	raw, err := (&prompb.ReadRequest{
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{typ},
		Queries:               []*prompb.Query{{StartTimestampMs: now.UnixMilli() - 60_000, EndTimestampMs: now.UnixMilli() + 60_000, Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}}}},
	}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	req := g.Request(user, "POST", "/api/v1/read", snappy.Encode(nil, raw))
	req.Header.Set("Content-Type", "application/x-protobuf")
	a := g.Do(req)
	if a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	var sets []string
	add := func(ls []prompb.Label, samples int) {
		b := labels.NewScratchBuilder(4)
		for _, l := range ls {
			b.Add(l.Name, l.Value)
		}
		b.Sort()
		sets = append(sets, b.Labels().String())
		if samples != 1 {
			t.Errorf("%s has %d samples", b.Labels(), samples)
		}
	}
	if typ == prompb.ReadRequest_SAMPLES {
		msg, err := snappy.Decode(nil, []byte(a.Body))
		var resp prompb.ReadResponse
		if err == nil {
			err = resp.Unmarshal(msg)
		}
		if err != nil || len(resp.Results) != 1 {
			t.Fatal(err, len(resp.Results))
		}
		for _, ts := range resp.Results[0].Timeseries {
			add(ts.Labels, len(ts.Samples))
		}
	} else {
		if !strings.HasPrefix(a.Header.Get("Content-Type"), "application/x-streamed-protobuf") {
			t.Fatalf("%v", a.Header)
		}
		r := remote.NewChunkedReader(strings.NewReader(a.Body), 1<<20, nil)
		for {
			var resp prompb.ChunkedReadResponse
			if err := r.NextProto(&resp); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			for _, s := range resp.ChunkedSeries {
				n := 0
				for _, c := range s.Chunks {
					chunk, err := chunkenc.FromData(chunkenc.EncXOR, c.Data)
					if err != nil {
						t.Fatal(err)
					}
					n += chunk.NumSamples()
				}
				add(s.Labels, n)
			}
		}
	}
	slices.Sort(sets)
	return strings.Join(sets, " ")
}

// TestStripOnM3: the same over the routes that the gateway gathers itself, and M3's SAMPLES.
func TestStripOnM3(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		data := `["__name__","tenant","job"]`
		switch {
		case strings.Contains(r.URL.Path, "/label/tenant/"):
			data = `["team-a"]`
		case strings.Contains(r.URL.Path, "/label/"):
			data = `["team-a","x"]` // of another label: a value like any other
		case strings.HasSuffix(r.URL.Path, "/series"):
			data = `[{"tenant":"team-a","__name__":"up"},{"tenant":"team-a","__name__":"up","job":"x"}]`
		}
		fmt.Fprintf(w, `{"status":"success","data":%s}`, data)
	})
	g := start(t, "m3", u, stripping)
	for path, want := range map[string]string{
		"/api/v1/labels": `["__name__","job"]`, "/api/v1/label/tenant/values": `[]`, "/api/v1/label/job/values": `["team-a","x"]`,
		"/api/v1/series?match[]=up": `[{"__name__":"up","job":"x"},{"__name__":"up"}]`, "/api/v1/labels?limit=2": `["__name__","job"]`,
	} {
		if a := g.Get("alice", path); a.Body != `{"status":"success","data":`+want+`}` {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
	if a := g.Get("both", "/api/v1/label/tenant/values"); !strings.Contains(a.Body, "team-a") {
		t.Errorf("%s", a.Body)
	}
}

// TestStripRefusesNoise: what is no answer of the API is an error before a byte of it is sent.
func TestStripRefusesNoise(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	g := start(t, "prometheus", u, stripping)
	for _, path := range []string{"/api/v1/query?query=up", "/api/v1/series?match[]=up", "/api/v1/labels"} {
		if a := g.Get("alice", path); a.Status != 503 || !strings.Contains(a.Body, `"errorType":"unavailable"`) || strings.Contains(a.Body, "html") {
			t.Errorf("%s: %+v", path, a)
		}
	}
	req := g.Request("alice", "POST", "/api/v1/read", snappy.Encode(nil, []byte{0x0a, 0}))
	req.Header.Set("Content-Type", "application/x-protobuf")
	if a := g.Do(req); a.Status != 503 {
		t.Errorf("remote read: %+v", a)
	}
}

// endless is a store whose answers to queries go on for size bytes, as a matrix of long series; it says when its request has
// ended before that.
type endless struct {
	URL  string
	size atomic.Int64
	gone chan error
	sent atomic.Int64
}

func newEndless(t *testing.T) *endless {
	e := &endless{gone: make(chan error, 10)}
	var values bytes.Buffer
	for i := range 2000 {
		fmt.Fprintf(&values, `,[%d.123,"%d.456789"]`, 1_700_000_000+i*15, i*7919)
	}
	series := []byte(`,{"metric":{"__name__":"up","job":"x","tenant":"team-a"},"values":[[1,"2"]` + values.String() + `]}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "ready") {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[]}`)
		for n := int64(0); n < e.size.Load(); n += int64(len(series)) {
			if _, err := w.Write(series); err != nil {
				<-r.Context().Done()
				e.gone <- r.Context().Err()
				return
			}
			e.sent.Add(int64(len(series)))
		}
		_, _ = io.WriteString(w, `]}}`)
	}))
	t.Cleanup(srv.Close)
	e.URL = srv.URL
	return e
}

// TestLongAnswers: memory does not grow with an answer's length, whatever is done to it on the way.
func TestLongAnswers(t *testing.T) {
	const size, mostMB = 200 << 20, 120
	e := newEndless(t)
	e.size.Store(size)
	g := startChild(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants + stripping, Upstreams: []string{e.URL}, Extra: "limits: {reads: {answer_bytes: 1GiB}}"})
	for _, tc := range []struct{ user, accept string }{
		{"both", "identity"}, {"both", "zstd"}, {"alice", "identity"}, {"alice", "zstd"}, {"alice", "gzip"},
	} {
		req := g.Request(tc.user, "GET", "/api/v1/query_range?query=up&start=1&end=2&step=1", nil)
		req.Header.Set("Accept-Encoding", tc.accept)
		began := time.Now()
		resp, err := g.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || tc.accept == "identity" && n < size*9/10 || n < size/1000 {
			t.Errorf("%+v: %d bytes, %v", tc, n, err)
		}
		t.Logf("%+v: %d MB for %d MB of the store, in %v", tc, n>>20, size>>20, time.Since(began).Round(time.Millisecond))
	}
	g.wantPeak(t, mostMB)
	if left := g.left(t); left != 512<<20 {
		t.Errorf("%d bytes of the budget are left", left)
	}
}

// TestClientGoes: when a client goes away, the store's work for it ends: while the store thinks, and in the middle of an answer.
func TestClientGoes(t *testing.T) {
	leave := func(g *gatewaytest.Gateway, user, method, path string, when func(*http.Response)) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var body []byte
		if method == "POST" {
			path, _, _ = strings.Cut(path, "?")
			body = []byte("query=up&start=1&end=2&step=1&match[]=up")
			if strings.HasSuffix(path, "query_range") {
				body = body[:len(body)-len("&match[]=up")]
			} else {
				body = []byte("match[]=up&match[]=down")
			}
		}
		req := g.Request(user, method, path, body).WithContext(ctx)
		if method == "POST" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			resp, err := g.Client.Do(req)
			if err == nil {
				when(resp)
				cancel()
				resp.Body.Close()
			}
		}()
		when(nil)
		cancel()
		<-done
	}
	for _, kind := range []string{"m3", "prometheus"} {
		h := newHeld(t, false)
		h.mu.Lock()
		h.left = true
		h.mu.Unlock()
		g := start(t, kind, h.upstream)
		for _, route := range []string{"GET /api/v1/query_range?query=up&start=1&end=2&step=1", "POST /api/v1/query_range", "POST /api/v1/labels", "GET /api/v1/label/job/values", "POST /api/v1/series"} {
			method, path, _ := strings.Cut(route, " ")
			began := time.Now()
			leave(g, "alice", method, path, func(resp *http.Response) {
				if resp == nil {
					<-h.entered
					began = time.Now()
				}
			})
			<-h.gone // without a limit of time: a failure hangs until the test's own
			t.Logf("%s %s: the store knew after %v", kind, route, time.Since(began).Round(time.Millisecond))
			for drained := false; !drained; { // several questions of one request
				select {
				case <-h.entered:
				case <-h.gone:
				default:
					drained = true
				}
			}
		}
	}
	e := newEndless(t)
	e.size.Store(1 << 40)
	for _, tenancy := range []string{twoTenants, twoTenants + stripping} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: tenancy, Upstreams: []string{e.URL}, Extra: "limits: {reads: {answer_bytes: 0}}"})
		began := make(chan time.Time, 1)
		leave(g, "alice", "GET", "/api/v1/query_range?query=up&start=1&end=2&step=1", func(resp *http.Response) {
			if resp != nil {
				if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
					t.Error(err)
				}
				began <- time.Now()
			} else {
				at := <-began
				began <- at
			}
		})
		<-e.gone
		t.Logf("in the middle of an answer: the store knew after %v", time.Since(<-began).Round(time.Millisecond))
	}
}
