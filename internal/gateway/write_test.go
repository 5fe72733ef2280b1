package gateway_test

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"m3gateway/internal/gatewaytest"
)

const twoTenants = `  users:
    alice: {tenants: [team-a]}
    bob: {tenants: [team-b]}
    both: {tenants: [team-a, team-b]}
    reader: {tenants: [team-a], rights: [read]}
    writer: {tenants: [team-a], rights: [write]}
    ops: {tenants: ["*"], rights: [read]}
  tenants:
    team-b: {labels: {env: prod}}
`

var twoTenantUsers = []string{"alice", "bob", "both", "reader", "writer", "ops"}

func start(t *testing.T, kind string, u *upstream, more ...string) *gatewaytest.Gateway {
	t.Helper()
	return gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants + strings.Join(more, "\n"), Kind: kind, Upstreams: []string{u.URL},
	})
}

func up(labels ...string) prompb.TimeSeries {
	return gatewaytest.Series(time.Now(), 1, append([]string{"__name__", "up"}, labels...)...)
}

// TestWriteUpstreamRequest shows exactly what a store sees of a write, whatever else the client sent.
func TestWriteUpstreamRequest(t *testing.T) {
	for kind, path := range map[string]string{"m3": "/api/v1/prom/remote/write", "prometheus": "/api/v1/write"} {
		u := newUpstream(t, ok)
		g := start(t, kind, u)
		for _, clientPath := range []string{"/api/v1/prom/remote/write", "/api/v1/write", "/api/v1/push"} {
			req := g.Request("bob", http.MethodPost, clientPath+"?timeout=1h", gatewaytest.Encode(t, []prompb.TimeSeries{up("tenant", "team-a", "env", "dev")}))
			for name, v := range map[string]string{
				"M3-Map-Tags-JSON": `{"tagMappers":[{"write":{"tag":"tenant","value":"team-a"}}]}`, "m3-metrics-type": "aggregated", "M3-Storage-Policy": "10s:30d",
				"Prometheus-Metric-Type": "counter", "timeout": "1h", "Cluster-Environment-Name": "x", "X-Scope-OrgID": "team-a", "X-Forwarded-For": "1.1.1.1",
				"Forwarded": "for=1.1.1.1", "Cookie": "a=b", "User-Agent": "evil/1", "X-Prometheus-Remote-Write-Version": "9", "M3-Source": "x", "TE": "trailers",
			} {
				req.Header.Set(name, v)
			}
			if a := g.Do(req); a.Status != 204 || a.Body != "" {
				t.Fatalf("%s %s: %+v", kind, clientPath, a)
			}
			got := u.take()
			if len(got) != 1 || got[0].Method != http.MethodPost || got[0].URI != path {
				t.Fatalf("%s %s: upstream saw %+v", kind, clientPath, got)
			}
			wantHeader(t, got[0].Header, map[string]string{
				"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0",
				"User-Agent": "m3gateway", "Content-Length": fmt.Sprint(len(got[0].Body)),
			})
			batch := got[0].batch(t)
			if text := fmt.Sprint(batch.Timeseries[0].Labels); text != `[{__name__ up {} [] 0} {env prod {} [] 0} {tenant team-b {} [] 0}]` {
				t.Fatalf("stored %s", text)
			}
		}
	}
}

// wantHeader compares a whole header: nothing but want may have travelled.
func wantHeader(t *testing.T, got http.Header, want map[string]string) {
	t.Helper()
	for name, v := range got {
		if w, ok := want[name]; !ok || len(v) != 1 || v[0] != w {
			t.Errorf("upstream header %s: %q, want %q", name, v, w)
		}
	}
	for name := range want {
		if len(got[name]) == 0 {
			t.Errorf("upstream header %s is missing", name)
		}
	}
}

// TestWriteRefusals: what is refused before the store, with which status, and that the store saw nothing.
func TestWriteRefusals(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "m3", u)
	good := gatewaytest.Encode(t, []prompb.TimeSeries{up()})
	proto := "application/x-protobuf"
	for name, tc := range map[string]struct {
		user, method, path, ctype, cenc, tenant string
		body                                    []byte
		status                                  int
		says                                    string
	}{
		"no password":             {"", "POST", "/api/v1/write", proto, "snappy", "", good, 401, "unknown user"},
		"unknown user":            {"mallory", "POST", "/api/v1/write", proto, "snappy", "", good, 401, "unknown user"},
		"no right to write":       {"reader", "POST", "/api/v1/write", proto, "snappy", "", good, 403, "may not write"},
		"operators do not write":  {"ops", "POST", "/api/v1/write", proto, "snappy", "", good, 403, "may not write"},
		"operator names a tenant": {"ops", "POST", "/api/v1/write", proto, "snappy", "team-a", good, 403, "may not write"},
		"two tenants, none named": {"both", "POST", "/api/v1/write", proto, "snappy", "", good, 400, "X-Tenant"},
		"someone else's tenant":   {"alice", "POST", "/api/v1/write", proto, "snappy", "team-b", good, 403, "X-Tenant"},
		"GET":                     {"alice", "GET", "/api/v1/write", "", "", "", nil, 405, "POST"},
		"trailing slash":          {"alice", "POST", "/api/v1/write/", proto, "snappy", "", good, 404, "no such route"},
		"doubled slash":           {"alice", "POST", "/api/v1//write", proto, "snappy", "", good, 404, "no such route"},
		"encoded letter":          {"alice", "POST", "/api/v1/%77rite", proto, "snappy", "", good, 404, "no such route"},
		"JSON":                    {"alice", "POST", "/api/v1/write", "application/json", "snappy", "", good, 415, "application/x-protobuf"},
		"an unknown message":      {"alice", "POST", "/api/v1/write", proto + ";proto=io.prometheus.write.v3.Request", "snappy", "", good, 415, "io.prometheus.write.v2.Request"},
		"an unknown parameter":    {"alice", "POST", "/api/v1/write", proto + ";charset=x", "snappy", "", good, 415, "io.prometheus.write.v2.Request"},
		"gzip":                    {"alice", "POST", "/api/v1/write", proto, "gzip", "", good, 415, "snappy"},
		"zstd":                    {"alice", "POST", "/api/v1/write", proto, "zstd", "", good, 415, "snappy"},
		"empty body":              {"alice", "POST", "/api/v1/write", proto, "snappy", "", nil, 400, "snappy"},
		"garbage":                 {"alice", "POST", "/api/v1/write", proto, "snappy", "", []byte("garbage"), 400, "snappy"},
		"plain protobuf":          {"alice", "POST", "/api/v1/write", proto, "snappy", "", []byte{0x0a, 2, 0x0a, 0}, 400, ""},
		"snappy of garbage":       {"alice", "POST", "/api/v1/write", proto, "snappy", "", snappy.Encode(nil, []byte{0x0a, 9, 1}), 400, "byte 1"},
		"4 GiB claimed":           {"alice", "POST", "/api/v1/write", proto, "snappy", "", []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}, 413, "limits.decoded_bytes"},
		"more than 4 GiB claimed": {"alice", "POST", "/api/v1/write", proto, "snappy", "", bytes.Repeat([]byte{0xff}, 9), 400, "snappy"},
		"a bomb":                  {"alice", "POST", "/api/v1/write", proto, "snappy", "", snappy.Encode(nil, make([]byte, 65<<20)), 413, "limits.decoded_bytes"},
		"too large a body":        {"alice", "POST", "/api/v1/write", proto, "snappy", "", make([]byte, 16<<20+1), 413, "limits.request_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			req := g.Request(tc.user, tc.method, tc.path, tc.body)
			for name, v := range map[string]string{"Content-Type": tc.ctype, "Content-Encoding": tc.cenc, "X-Tenant": tc.tenant} {
				if v != "" {
					req.Header.Set(name, v)
				}
			}
			a := g.Do(req)
			if a.Status != tc.status || !strings.Contains(a.Body, tc.says) || len(a.Body) > 1024 || strings.Count(a.Body, "\n") > 1 {
				t.Errorf("%d %q, want %d with %q", a.Status, a.Body, tc.status, tc.says)
			}
			if (a.Status == 401) != (a.Header.Get("WWW-Authenticate") == `Basic realm="m3gateway", charset="UTF-8"`) {
				t.Errorf("challenge %q", a.Header.Get("WWW-Authenticate"))
			}
			if saw := u.take(); len(saw) > 0 {
				t.Errorf("the store saw %+v", saw)
			}
		})
	}
	for _, head := range []string{"Authorization", "X-Tenant", "Content-Type", "Content-Encoding"} {
		req := g.Request("alice", "POST", "/api/v1/write", good)
		req.Header.Set("Content-Type", proto)
		req.Header.Set("Content-Encoding", "snappy")
		req.Header.Set("X-Tenant", "team-a")
		req.Header.Add(head, req.Header.Get(head))
		if a := g.Do(req); a.Status/100 != 4 {
			t.Errorf("%s twice: %+v", head, a)
		}
	}
	if saw := u.take(); len(saw) > 0 {
		t.Errorf("the store saw %+v", saw)
	}
}

// TestWriteVerdicts is the status table: what the store answers, and what the sender is told.
func TestWriteVerdicts(t *testing.T) {
	const aggregation = `datapoint for aggregation too far in past: off_by=45.001890911s, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:38:20Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307900054890911`
	for name, tc := range map[string]struct {
		kind   string
		status int
		text   string
		want   int
		says   string
	}{
		"M3 accepts":             {"m3", 200, "", 204, ""},
		"Prometheus accepts":     {"prometheus", 204, "", 204, ""},
		"M3 refuses the data":    {"m3", 400, `{"status":"error","error":"bad_request_errors: count=1, last=tags duplicate"}`, 400, "the store refused a part of the batch, the rest is stored: a series has the same label twice"},
		"unknown refusal":        {"m3", 400, `{"status":"error","error":"node m3db-0.m3db:9000 said no"}`, 400, "the store answered with an error"},
		"raw stored":             {"m3", 400, `{"status":"error","error":"bad_request_errors: count=1, last=` + aggregation + `"}`, 204, ""},
		"Prometheus refuses":     {"prometheus", 400, "out of order sample\n", 400, "the store refused the batch and may have kept nothing of it: out of order sample"},
		"too large for store":    {"prometheus", 413, "", 413, "smaller batches"},
		"overload":               {"prometheus", 429, "", 503, ""},
		"wrong store":            {"prometheus", 404, "404 page not found", 503, "upstream.kind"},
		"redirect":               {"m3", 301, "", 503, "upstream.kind"},
		"password of the store":  {"prometheus", 401, "", 503, "upstream.kind"},
		"internal error":         {"m3", 500, `{"status":"error","error":"unaggregated namespace is not yet initialized"}`, 503, "the store is starting"},
		"gateway error":          {"m3", 502, "", 503, ""},
		"unavailable":            {"prometheus", 503, "", 503, ""},
		"gateway time-out":       {"m3", 504, "", 503, ""},
		"request time-out":       {"m3", 408, "", 503, ""},
		"a store that says 100+": {"prometheus", 304, "", 503, "upstream.kind"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, ok)
			u.say(tc.status, tc.text)
			g := start(t, tc.kind, u)
			a := g.Write("alice", []prompb.TimeSeries{up()})
			if a.Status != tc.want || !strings.Contains(a.Body, tc.says) || strings.Contains(a.Body, "m3db") || len(a.Body) > 1024 {
				t.Errorf("%d %q, want %d with %q", a.Status, a.Body, tc.want, tc.says)
			}
			if retry := a.Header.Get("Retry-After"); (retry != "") != (tc.want == 503) {
				t.Errorf("Retry-After %q", retry)
			}
		})
	}
}

// TestWriteRawQuestion: when the downsampler's refusal hides how the raw store fared, the raw store is asked alone.
func TestWriteRawQuestion(t *testing.T) {
	const hidden = `{"status":"error","error":"bad_request_errors: count=2, last=datapoint for aggregation too far in past: off_by=45.001890911s, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:38:20Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307900054890911"}`
	for rawStatus, want := range map[int]int{200: 204, 400: 400, 500: 503} {
		u := newUpstream(t, ok)
		u.answer = func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("M3-Metrics-Type") == "unaggregated" {
				w.WriteHeader(rawStatus)
				return
			}
			w.WriteHeader(400)
			fmt.Fprint(w, hidden)
		}
		g := start(t, "m3", u)
		if a := g.Write("alice", []prompb.TimeSeries{up()}); a.Status != want {
			t.Errorf("raw store says %d: %+v, want %d", rawStatus, a, want)
		}
		saw := u.take()
		if len(saw) < 2 || !bytes.Equal(saw[0].Body, saw[1].Body) {
			t.Errorf("%d requests", len(saw))
		}
	}
}

// TestStoredNotAggregatedCanBeRefused: the operator may want senders to be told.
func TestStoredNotAggregatedCanBeRefused(t *testing.T) {
	u := newUpstream(t, ok)
	u.say(400, `{"status":"error","error":"bad_request_errors: count=1, last=datapoint for aggregation too far in past: off_by=45.001890911s, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:38:20Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307900054890911"}`)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Kind: "m3", Upstreams: []string{u.URL}, UpstreamExtra: "  stored_not_aggregated: refuse"})
	if a := g.Write("alice", []prompb.TimeSeries{up()}); a.Status != 400 || !strings.Contains(a.Body, "aggregated copies") {
		t.Errorf("%+v", a)
	}
	if saw := u.take(); len(saw) != 1 {
		t.Errorf("%d requests", len(saw))
	}
}

// TestCompressionNone: what is forwarded is still a snappy block.
func TestCompressionNone(t *testing.T) {
	u := newUpstream(t, ok)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Kind: "m3", Upstreams: []string{u.URL}, UpstreamExtra: "  compression: none"})
	if a := g.Write("alice", []prompb.TimeSeries{up()}); a.Status != 204 {
		t.Errorf("%+v", a)
	}
	batch := u.take()[0].batch(t)
	if text := fmt.Sprint(batch.Timeseries[0].Labels); text != `[{__name__ up {} [] 0} {tenant alice {} [] 0}]` {
		t.Errorf("stored %s", text)
	}
}

func TestWriteStoreAway(t *testing.T) {
	u := newUpstream(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	g := start(t, "m3", u)
	if a := g.Write("alice", []prompb.TimeSeries{up()}); a.Status != 503 || a.Header.Get("Retry-After") == "" || !strings.Contains(a.Body, "cannot be reached") {
		t.Errorf("%+v", a)
	}
}

// TestWritePartialDrop: the good samples are stored first, then the sender is told what was not and why.
func TestWritePartialDrop(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "m3", u)
	old := gatewaytest.Series(time.Now().Add(-20*time.Minute), 1, "__name__", "old_metric", "job", "x")
	bad := up("a", "\xff")
	a := g.Write("alice", []prompb.TimeSeries{old, up(), bad, up("job", "y")})
	if a.Status != 400 || len(a.Body) > 1024 {
		t.Fatalf("%+v", a)
	}
	for _, s := range []string{"stored 2 samples, dropped 2:", "too_old 1 (older than 10m0s, example {__name__=\"old_metric\", job=\"x\"} at 20", "invalid_utf8 1"} {
		if !strings.Contains(a.Body, s) {
			t.Errorf("%q lacks %q", a.Body, s)
		}
	}
	saw := u.take()
	if len(saw) != 1 || len(saw[0].batch(t).Timeseries) != 2 {
		t.Fatalf("the store saw %d requests", len(saw))
	}
	u.say(500, "")
	if a := g.Write("alice", []prompb.TimeSeries{old, up()}); a.Status != 503 {
		t.Errorf("a failed store beside a drop: %+v; the kept sample would be lost", a)
	}
}

// TestWriteBothRefuse: where the store refuses a part of a batch and the gateway another, the sender is told both.
func TestWriteBothRefuse(t *testing.T) {
	old := gatewaytest.Series(time.Now().Add(-20*time.Minute), 1, "__name__", "old_metric")
	for kind, says := range map[string]string{
		"m3":         "the store refused a part of the batch, the rest is stored: a series has the same label twice; the gateway dropped 1: too_old 1 (older than 10m0s, example {__name__=\"old_metric\"} at 20",
		"prometheus": `the store refused the batch and may have kept nothing of it: bad_request_errors: count=1, last=tags duplicate; the gateway dropped 1: too_old 1 (older than 10m0s, example {__name__="old_metric"} at 20`,
	} {
		u := newUpstream(t, ok)
		u.say(400, `{"status":"error","error":"bad_request_errors: count=1, last=tags duplicate"}`)
		g := start(t, kind, u)
		if a := g.Write("alice", []prompb.TimeSeries{old, up()}); a.Status != 400 || !strings.HasPrefix(a.Body, says) {
			t.Errorf("%s: %+v", kind, a)
		}
		u.say(500, "")
		if a := g.Write("alice", []prompb.TimeSeries{old, up()}); a.Status != 503 || strings.Contains(a.Body, "dropped") {
			t.Errorf("%s: it will come again: %+v", kind, a)
		}
	}
}

// TestWriteRefusalsAreShort: a line under 1 KiB has every count, whatever the store says and however long the examples are.
func TestWriteRefusalsAreShort(t *testing.T) {
	u := newUpstream(t, ok)
	u.say(400, strings.Repeat("out of order sample\nü", 1000))
	g := start(t, "prometheus", u)
	long := strings.Repeat("ü", 500)
	now := time.Now()
	batch := []prompb.TimeSeries{
		gatewaytest.Series(now.Add(-time.Hour), 1, "__name__", "up", "a", long), gatewaytest.Series(now.Add(time.Hour), 1, "__name__", "up", "a", long),
		up("a", long, "b", "\xff"), up("a", long, "", "x"), gatewaytest.Series(now, 1, "a", long), up("a", long, "a", "x"), up("a", strings.Repeat(long, 100)),
	}
	crowded := up()
	for i := range 600 {
		crowded.Labels = append(crowded.Labels, prompb.Label{Name: fmt.Sprintf("l%04d", i), Value: "v"})
	}
	batch = append(batch, crowded)
	for _, more := range [][]prompb.TimeSeries{nil, {up()}} { // the second batch reaches the store
		a := g.Write("alice", append(batch, more...))
		if a.Status != 400 || len(a.Body) > 1024 || strings.Count(a.Body, "\n") != 1 || !utf8.ValidString(a.Body) {
			t.Errorf("%d bytes: %+v", len(a.Body), a)
		}
		for _, reason := range []string{"too_old", "too_new", "invalid_utf8", "invalid_label_name", "invalid_metric_name", "duplicate_label", "label_too_long", "too_many_labels"} {
			if !strings.Contains(a.Body, reason+" 1") {
				t.Errorf("%q lacks %s", a.Body, reason)
			}
		}
		if !strings.Contains(a.Body, "dropped 8: too_old 1 (older than 10m0s, example ") {
			t.Errorf("no example in %q", a.Body)
		}
	}
}

func TestWriteNothingLeftIsNotForwarded(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "m3", u)
	if a := g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(time.Unix(0, 0), 1, "__name__", "up")}); a.Status != 400 || !strings.Contains(a.Body, "stored 0 samples") {
		t.Errorf("%+v", a)
	}
	if a := g.Write("alice", nil); a.Status != 204 {
		t.Errorf("an empty batch: %+v", a)
	}
	onlyExemplar := up()
	onlyExemplar.Samples = nil
	onlyExemplar.Exemplars = []prompb.Exemplar{{Value: 1, Timestamp: time.Now().UnixMilli()}}
	if a := g.Write("alice", []prompb.TimeSeries{onlyExemplar}); a.Status != 204 {
		t.Errorf("exemplars only: %+v", a)
	}
	if saw := u.take(); len(saw) > 0 {
		t.Errorf("the store saw %d requests", len(saw))
	}
}

func TestClientLabelPolicies(t *testing.T) {
	for name, tc := range map[string]struct {
		policy, user, sent, header string
		status                     int
		stored                     string
	}{
		"override":                  {"override", "alice", "team-b", "", 204, "team-a"},
		"reject":                    {"reject", "alice", "team-a", "", 400, ""},
		"reject, none sent":         {"reject", "alice", "", "", 204, "team-a"},
		"allow own":                 {"allow", "both", "team-b", "", 204, "team-b"},
		"allow, foreign":            {"allow", "alice", "team-b", "", 400, ""},
		"allow, none of several":    {"allow", "both", "", "", 400, ""},
		"allow, one and none sent":  {"allow", "alice", "", "", 204, "team-a"},
		"allow, named by header":    {"allow", "both", "", "team-b", 204, "team-b"},
		"header narrows allow":      {"allow", "both", "team-a", "team-b", 400, ""},
		"override, named by header": {"override", "both", "team-a", "team-b", 204, "team-b"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, ok)
			g := start(t, "m3", u, "  client_label: "+tc.policy)
			series := up()
			if tc.sent != "" {
				series = up("tenant", tc.sent)
			}
			var headers []string
			if tc.header != "" {
				headers = []string{"X-Tenant", tc.header}
			}
			a := g.Write(tc.user, []prompb.TimeSeries{series}, headers...)
			if a.Status != tc.status {
				t.Fatalf("%+v, want %d", a, tc.status)
			}
			saw := u.take()
			if (tc.stored == "") != (len(saw) == 0) {
				t.Fatalf("the store saw %d requests", len(saw))
			}
			if tc.stored != "" {
				labels := map[string]string{}
				for _, l := range saw[0].batch(t).Timeseries[0].Labels {
					labels[l.Name] = l.Value
				}
				if labels["tenant"] != tc.stored || labels["env"] != map[string]string{"team-b": "prod"}[tc.stored] {
					t.Errorf("stored %v", labels)
				}
			}
		})
	}
}

// TestBudgetIsGivenBack: no path through a request keeps bytes of the budget.
func TestBudgetIsGivenBack(t *testing.T) {
	u := newUpstream(t, ok)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Kind: "m3", Upstreams: []string{u.URL},
		Extra: "limits: {request_bytes: 1MiB, decoded_bytes: 1MiB, inflight_bytes: 3MiB}",
	})
	nan := up()
	nan.Samples[0].Value = math.NaN()
	bodies := [][]byte{
		gatewaytest.Encode(t, []prompb.TimeSeries{nan}), nil, []byte("garbage"), snappy.Encode(nil, []byte{0x0a, 9, 1}), make([]byte, 1<<20+1),
		{0xff, 0xff, 0xff, 0xff, 0x0f}, snappy.Encode(nil, make([]byte, 1<<20)),
	}
	// Series too small to matter each, but whose labels would make them many times as large.
	var tiny []prompb.TimeSeries
	for range 60_000 {
		tiny = append(tiny, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "u"}}})
	}
	bodies = append(bodies, gatewaytest.Encode(t, tiny))
	for range 5 {
		for _, b := range bodies {
			req := g.Request("bob", "POST", "/api/v1/write", b)
			if a := g.Do(req); a.Status == 500 {
				t.Fatalf("%+v", a)
			}
			g.Get("alice", "/api/v1/query?query=up")
			g.Get("alice", "/api/v1/labels")
			g.Post("alice", "/api/v1/series", "match[]=up")
		}
	}
	if a := g.Admin("GET", "/metrics"); !strings.Contains(a.Body, "m3gateway_gateway_inflight_bytes_left 3.145728e+06\n") {
		t.Error("bytes of the budget were not given back")
	}
	// A small 2.0 request that refers to long symbols again and again comes to more than a batch may.
	v2 := writev2.Request{Symbols: []string{"", "__name__", "up", "a", strings.Repeat("v", 30_000)}}
	for range 200 {
		v2.Timeseries = append(v2.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: time.Now().UnixMilli()}}})
	}
	raw, err := v2.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	req := g.Request("bob", "POST", "/api/v1/write", snappy.Encode(nil, raw))
	req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	if a := g.Do(req); a.Status != 413 || !strings.Contains(a.Body, "limits.decoded_bytes") {
		t.Errorf("over the limit when written out: %+v", a)
	}
}

// TestWrite2 is remote write 2.0 to a store of 1.0: translated, and answered with what was written.
func TestWrite2(t *testing.T) {
	for kind, carried := range map[string]bool{"m3": false, "prometheus": true} {
		u := newUpstream(t, ok)
		g := gatewaytest.Start(t, gatewaytest.Setup{
			Users: twoTenantUsers, Tenancy: twoTenants, Kind: kind, Upstreams: []string{u.URL}, UpstreamExtra: "  protocol: 1.0\n",
		})
		now := time.Now().UnixMilli()
		table := writev2.NewSymbolTable()
		refs := func(pairs ...string) (out []uint32) {
			for _, s := range pairs {
				out = append(out, table.Symbolize(s))
			}
			return out
		}
		in := writev2.Request{Timeseries: []writev2.TimeSeries{
			{LabelsRefs: refs("__name__", "up", "tenant", "team-b"), Samples: []writev2.Sample{{Value: 1, Timestamp: now, StartTimestamp: 5}, {Value: 2, Timestamp: 5}},
				Exemplars: []writev2.Exemplar{{LabelsRefs: refs("trace_id", "x"), Value: 1, Timestamp: now}}, Metadata: writev2.Metadata{HelpRef: table.Symbolize("help")}},
			{LabelsRefs: refs("__name__", "native"), Histograms: []writev2.Histogram{{Count: &writev2.Histogram_CountInt{CountInt: 1}, Timestamp: now}}},
		}}
		send := func() gatewaytest.Answer {
			in.Symbols = table.Symbols()
			raw, err := in.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			req := g.Request("alice", "POST", "/api/v1/write", snappy.Encode(nil, raw))
			req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
			req.Header.Set("Content-Encoding", "snappy")
			return g.Do(req)
		}
		wrote := func(a gatewaytest.Answer) string {
			return a.Header.Get("X-Prometheus-Remote-Write-Samples-Written") + " " + a.Header.Get("X-Prometheus-Remote-Write-Histograms-Written") + " " + a.Header.Get("X-Prometheus-Remote-Write-Exemplars-Written")
		}
		if a := send(); a.Status != 400 || !strings.Contains(a.Body, "too_old 1") || wrote(a) != "1 1 1" {
			t.Errorf("%s: %+v", kind, a)
		}
		in.Timeseries[0].Samples = in.Timeseries[0].Samples[:1]
		if a := send(); a.Status != 204 || wrote(a) != "1 1 1" {
			t.Errorf("%s: %+v", kind, a)
		}
		saw := u.take()
		if len(saw) != 2 || saw[1].Header.Get("Content-Type") != "application/x-protobuf" || saw[1].Header.Get("X-Prometheus-Remote-Write-Version") != "0.1.0" {
			t.Fatalf("%s: the store saw %+v", kind, saw)
		}
		batch := saw[1].batch(t)
		if n := len(batch.Timeseries); (n == 2) != carried || fmt.Sprint(batch.Timeseries[0].Labels) != `[{__name__ up {} [] 0} {tenant team-a {} [] 0}]` || (len(batch.Timeseries[0].Exemplars) == 1) != carried {
			t.Errorf("%s: stored %v", kind, batch.String())
		}
		u.say(503, "")
		if a := send(); a.Status != 503 || strings.TrimSpace(wrote(a)) != "" {
			t.Errorf("%s: %+v", kind, a)
		}
		if a := g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(time.Unix(1, 0), 1, "__name__", "up")}); strings.TrimSpace(wrote(a)) != "" {
			t.Errorf("1.0 has no such headers: %+v", a)
		}
	}
}
