package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// readRoutes are all read routes, each as a request for everything the caller may see.
func readRoutes() map[string]string {
	out := map[string]string{}
	now := time.Now().Unix()
	for _, prefix := range []string{"", "/prometheus"} {
		for path, form := range map[string]string{
			"/api/v1/query":               `query=count({__name__=~".%2B"})by(__name__,tenant,env,secret)`,
			"/api/v1/query_range":         fmt.Sprintf(`query={__name__=~".%%2B"}&start=%d&end=%d&step=15`, now-120, now+60),
			"/api/v1/series":              `match[]={__name__=~".%2B"}`,
			"/api/v1/labels":              ``,
			"/api/v1/label/tenant/values": ``,
			"/api/v1/label/secret/values": `match[]={__name__=~".%2B"}`,
		} {
			out[prefix+path] = form
		}
	}
	return out
}

// TestTenantsApart: whatever a user sends or asks, on every route, the other tenant's data neither changes nor shows.
func TestTenantsApart(t *testing.T) {
	now := time.Now()
	store := gatewaytest.Store(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Upstreams: []string{store}})
	series := func(secret string) []prompb.TimeSeries {
		return []prompb.TimeSeries{
			gatewaytest.Series(now, 1, "__name__", "shared", "secret", secret),
			gatewaytest.Series(now, 1, "__name__", "only_"+secret, "secret", secret, "tenant", "team-a"), // forged by bob, own by alice
			gatewaytest.Series(now, 1, "__name__", "shared", "secret", secret, "tenant", "team-b"),
		}[:2]
	}
	for user, secret := range map[string]string{"alice": "amber", "bob": "blue"} {
		if a := g.Write(user, series(secret)); a.Status != 204 {
			t.Fatalf("%s: %+v", user, a)
		}
	}
	both := func(user, path, form string) []gatewaytest.Answer {
		sep := "?"
		answers := []gatewaytest.Answer{g.Get(user, path+sep+form)}
		if !strings.Contains(path, "/label/") {
			answers = append(answers, g.Post(user, path, form))
		}
		return answers
	}
	for path, form := range readRoutes() {
		for _, tc := range []struct{ user, own, foreign string }{{"alice", "amber", "blue"}, {"bob", "blue", "amber"}} {
			for _, a := range both(tc.user, path, form) {
				if a.Status != 200 || strings.Contains(a.Body, tc.foreign) {
					t.Errorf("%s %s: %d %s", tc.user, path, a.Status, a.Body)
				}
				if !strings.Contains(a.Body, tc.own) && !strings.Contains(path, "/labels") && !strings.Contains(path, "/tenant/") {
					t.Errorf("%s %s: its own data is missing: %s", tc.user, path, a.Body)
				}
			}
		}
		for _, a := range both("ops", path, form) {
			if a.Status != 200 || strings.Contains(path, "secret") && (!strings.Contains(a.Body, "amber") || !strings.Contains(a.Body, "blue")) {
				t.Errorf("ops %s: %d %s", path, a.Status, a.Body)
			}
		}
		if a := g.Get("writer", path+"?"+form); a.Status != 403 {
			t.Errorf("writer %s: %d", path, a.Status)
		}
		if a := g.Get("", path+"?"+form); a.Status != 401 {
			t.Errorf("nobody %s: %d", path, a.Status)
		}
	}
	if a := g.Get("alice", "/api/v1/label/tenant/values"); a.Body != `{"status":"success","data":["team-a"]}` {
		t.Errorf("tenants of alice: %s", a.Body)
	}
	attack := func(expr string) {
		a := g.Get("bob", "/api/v1/query?query="+url.QueryEscape(expr))
		if strings.Contains(a.Body, "amber") || strings.Contains(a.Body, "team-a") && !strings.Contains(expr, "absent") && !strings.Contains(expr, "label_replace") {
			t.Errorf("%s: %s", expr, a.Body)
		}
	}
	for _, expr := range []string{
		`shared{tenant="team-a"}`, `shared{tenant=~".*"}`, `shared{tenant!="team-b"}`, `{tenant="team-a"}`, `shared or {tenant="team-a"}`, `only_amber`,
		`max_over_time(shared{tenant="team-a"}[5m:1m])`, `sum by (secret) (shared)`, `shared * on() group_left only_amber`, `topk(scalar(only_amber), shared)`,
		`shared @ 0 or shared offset -1m`, `{"shared", tenant="team-a"}`, `{"__name__"="shared","tenant"="team-a"}`, `absent(only_amber{tenant="team-a"})`,
		`label_replace(shared, "tenant", "team-a", "", "")`, `count({__name__=~".+"}) by (secret)`, `info(shared)`,
	} {
		attack(expr)
	}
	for user, want := range map[string]string{"alice": "amber", "bob": "blue"} {
		if got := remoteRead(t, g, user, &prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: 0, EndTimestampMs: now.UnixMilli() + 1000}}}); !slices.Equal(got, []string{want}) {
			t.Errorf("remote read of %s without matchers: %v", user, got)
		}
	}
	forged := &prompb.ReadRequest{Queries: []*prompb.Query{{EndTimestampMs: now.UnixMilli() + 1000, Matchers: []*prompb.LabelMatcher{{Name: "tenant", Value: "team-a"}}}}}
	if got := remoteRead(t, g, "bob", forged); len(got) > 0 {
		t.Errorf("remote read with a forged matcher: %v", got)
	}
}

// remoteRead returns the values of the label secret that a remote read finds.
func remoteRead(t *testing.T, g *gatewaytest.Gateway, user string, q *prompb.ReadRequest) []string {
	t.Helper()
	raw, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	req := g.Request(user, "POST", "/api/v1/read", snappy.Encode(nil, raw))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	a := g.Do(req)
	if a.Status != 200 || a.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Fatalf("%+v", a)
	}
	b, err := snappy.Decode(nil, []byte(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	var resp prompb.ReadResponse
	if err := resp.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, r := range resp.Results {
		for _, ts := range r.Timeseries {
			for _, l := range ts.Labels {
				if l.Name == "secret" {
					found[l.Value] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestAnswersDoNotDependOnOthers: the bytes a tenant gets are the same whether or not another tenant has data.
func TestAnswersDoNotDependOnOthers(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	alone, crowded := gatewaytest.Store(t), gatewaytest.Store(t)
	gates := []*gatewaytest.Gateway{}
	for _, store := range []string{alone, crowded} {
		gates = append(gates, gatewaytest.Start(t, gatewaytest.Setup{
			Users: []string{"a", "a-b", "aa", "a|b"}, Upstreams: []string{store},
		}))
	}
	var own []prompb.TimeSeries
	for i := range 20 {
		own = append(own, gatewaytest.Series(now.Add(-time.Duration(i%4)*time.Second), float64(i), "__name__", fmt.Sprintf("m%d", i%3), "job", fmt.Sprint(i), "le", "+Inf"))
	}
	for _, g := range gates {
		if a := g.Write("a", own); a.Status != 204 {
			t.Fatal(a)
		}
	}
	for _, other := range []string{"a-b", "aa", "a|b"} {
		var theirs []prompb.TimeSeries
		for i := range 30 {
			theirs = append(theirs, gatewaytest.Series(now, 100, "__name__", fmt.Sprintf("m%d", i%5), "job", `x",tenant="a`, "tenant", "a", fmt.Sprintf("l%d", i), ".*"))
		}
		if a := gates[1].Write(other, theirs); a.Status != 204 {
			t.Fatal(a)
		}
	}
	at := "&time=" + fmt.Sprint(now.Unix())
	span := fmt.Sprintf("&start=%d&end=%d", now.Unix()-60, now.Unix()+1)
	var paths []string
	for _, expr := range []string{
		`m0`, `{__name__=~"m.*"}`, `{tenant=~".*"}`, `count({__name__=~".+"})`, `sum by (tenant,job) (m1)`, `m3`, `absent(m4)`, `m0 or m3`, `m0 unless m3`, `topk(3, {job=~".*"})`,
		`count(count_values("v", {__name__=~".+"}))`, `max_over_time({__name__=~"m.+"}[1m:5s])`, `m1 / on(job) m1`, `quantile(scalar(count(m4)), m0)`, `sum({tenant!="a"})`, `group({l1=~".+"})`, `vector(1)`,
		`label_join(m0, "x", ",", "tenant", "job")`, `sort_desc(m2)`, `stddev({__name__!=""})`, `m0{job!~"1.*"} > bool 3`, `)`, `m0{`, `sum(`, `nofunc(m0)`, `m0[5m]`,
	} {
		q := url.QueryEscape(expr)
		paths = append(paths, "/api/v1/query?query="+q+at, "/api/v1/query_range?step=7&query="+q+span, "/api/v1/series?match[]="+q, "/api/v1/labels?match[]="+q, "/prometheus/api/v1/label/job/values?match[]="+q+span)
	}
	for _, form := range []string{"", "?match[]={}", "?match[]=m3&match[]=m0", "?limit=2", "?start=-1", "?match[]={tenant=~%22.*%22}", "?match=x", "?limit=-1"} {
		for _, path := range []string{"/api/v1/series", "/api/v1/labels", "/api/v1/label/tenant/values", "/api/v1/label/__name__/values", "/api/v1/label/l1/values", "/api/v1/label/%00/values", "/api/v1/status/tsdb", "/federate"} {
			paths = append(paths, path+form)
		}
	}
	for _, path := range paths {
		x, y := gates[0].Get("a", path), gates[1].Get("a", path)
		if x.Status != y.Status || x.Body != y.Body {
			t.Errorf("%s depends on other tenants:\n%d %s\n%d %s", path, x.Status, x.Body, y.Status, y.Body)
		}
	}
}

// TestReadUpstreamRequest shows exactly what a store sees of each read.
func TestReadUpstreamRequest(t *testing.T) {
	const restrict = `{"match":[{"name":"tenant","type":"EQUAL","value":"team-a"}],"strip":[]}`
	form := map[string]string{"Accept": "*/*", "Content-Type": "application/x-www-form-urlencoded", "User-Agent": "m3gateway"}
	m3Form := maps.Clone(form)
	m3Form["M3-Restrict-By-Tags-Json"] = restrict
	for name, tc := range map[string]struct {
		kind, path, method, uri, body string
		header                        map[string]string
	}{
		"query": {"m3", "/prometheus/api/v1/query?query=up&timeout=7&time=12&limit=3&stats=all", "POST", "/api/v1/query",
			"query=up%7Btenant%3D%22team-a%22%7D&time=12&timeout=7s", m3Form},
		"query, Prometheus": {"prometheus", "/api/v1/query?query=up&timeout=2h&limit=3&stats=all&lookback_delta=1m", "POST", "/api/v1/query",
			"limit=3&lookback_delta=1m&query=up%7Btenant%3D%22team-a%22%7D&stats=all&timeout=120s", form},
		"query, M3's look-back": {"m3", "/api/v1/query?query=up&lookback_delta=90&time=2026-01-02T03:04:05.6789Z", "POST", "/api/v1/query",
			"lookback=90s&query=up%7Btenant%3D%22team-a%22%7D&time=1767323045.678", m3Form},
		"query, M3's short look-back": {"m3", "/api/v1/query?query=up&lookback_delta=1500ms&time=1e3", "POST", "/api/v1/query",
			"lookback=1500ms&query=up%7Btenant%3D%22team-a%22%7D&time=1000", m3Form},
		"query_range": {"m3", "/api/v1/query_range?query=up&start=1&end=2&step=1m", "POST", "/api/v1/query_range",
			"end=2&query=up%7Btenant%3D%22team-a%22%7D&start=1&step=1m", m3Form},
		"series": {"prometheus", "/api/v1/series?match[]=up&match[]={tenant=%22x%22}&start=5", "POST", "/api/v1/series",
			"match%5B%5D=%7B__name__%3D%22up%22%2Ctenant%3D%22team-a%22%7D&match%5B%5D=%7Btenant%3D%22x%22%2Ctenant%3D%22team-a%22%7D&start=5", form},
		"labels": {"prometheus", "/api/v1/labels", "POST", "/api/v1/labels", "match%5B%5D=%7Btenant%3D%22team-a%22%7D", form},
		"label values": {"prometheus", "/api/v1/label/job/values?limit=5", "GET", "/api/v1/label/job/values?limit=5&match%5B%5D=%7Btenant%3D%22team-a%22%7D", "",
			map[string]string{"Accept": "*/*", "User-Agent": "m3gateway"}},
		"label values, M3": {"m3", "/api/v1/label/job/values?limit=5&start=5", "GET", "/api/v1/label/job/values?match%5B%5D=%7Btenant%3D%22team-a%22%7D&start=5", "",
			map[string]string{"Accept": "*/*", "User-Agent": "m3gateway", "M3-Restrict-By-Tags-Json": restrict}},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, ok)
			g := start(t, tc.kind, u)
			req := g.Request("alice", "GET", tc.path, nil)
			for _, h := range []string{"M3-Restrict-By-Tags-JSON", "M3-Limit-Max-Series", "M3-Engine", "timeout", "Prometheus-Metric-Type", "X-Scope-OrgID", "X-Forwarded-For", "Cookie", "Range", "If-None-Match", "Accept"} {
				req.Header.Set(h, "{}")
			}
			req.Header.Set("Accept-Encoding", "identity")
			if a := g.Do(req); a.Status != 200 {
				t.Fatalf("%+v", a)
			}
			saw := u.take()
			if len(saw) != 1 || saw[0].Method != tc.method || saw[0].URI != tc.uri {
				t.Fatalf("the store saw %+v", saw)
			}
			body := string(saw[0].Body)
			if strings.Contains(tc.body, "__name__") {
				body = strings.ReplaceAll(body, "match%5B%5D=up%7Btenant%3D", "match%5B%5D=%7B__name__%3D%22up%22%2Ctenant%3D") // either spelling
			}
			if body != tc.body {
				t.Errorf("body %s\nwant %s", body, tc.body)
			}
			want := maps.Clone(tc.header)
			if len(saw[0].Body) > 0 {
				want["Content-Length"] = fmt.Sprint(len(saw[0].Body))
			}
			wantHeader(t, saw[0].Header, want)
		})
	}
}

// TestM3MetaDefaults: without a start M3 would answer from an aggregated namespace.
func TestM3MetaDefaults(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "m3", u)
	g.Get("alice", "/api/v1/labels")
	saw := u.take()
	form, err := url.ParseQuery(string(saw[0].Body))
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, form.Get("start"))
	if ago := time.Since(at); err != nil || ago < 23*time.Hour || ago > 25*time.Hour {
		t.Errorf("start %q", form.Get("start"))
	}
}

// TestM3Merges: several selectors become several requests, and their answers one.
func TestM3Merges(t *testing.T) {
	u := newUpstream(t, ok)
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		data := `["b","a"]`
		if strings.HasSuffix(r.URL.Path, "/series") {
			data = `[{"x":"1","__name__":"a"},{"__name__":"b"}]`
		}
		if b, _ := io.ReadAll(r.Body); bytes.Contains(b, []byte("m2")) || strings.Contains(r.URL.RawQuery, "m2") {
			data = strings.ReplaceAll(data, `"b"`, `"c"`)
		}
		fmt.Fprintf(w, `{"status":"success","data":%s}`, data)
	}
	g := start(t, "m3", u)
	for path, want := range map[string]string{
		"/api/v1/label/job/values?match[]=m1&match[]=m2":         `["a","b","c"]`,
		"/api/v1/labels?match[]=m1&match[]=m2":                   `["a","b"]`,
		"/api/v1/labels?match[]=m1&limit=1":                      `["a"],"warnings":["results truncated due to limit"]`,
		"/api/v1/series?match[]=m1":                              `[{"__name__":"a","x":"1"},{"__name__":"b"}]`,
		"/api/v1/label/job/values?match[]=m1&match[]=m2&limit=2": `["a","b"],"warnings":["results truncated due to limit"]`,
		"/api/v1/label/job/values?match[]=m1&match[]=m2&limit=3": `["a","b","c"]`,
	} {
		a := g.Get("alice", path)
		if strings.HasPrefix(path, "/api/v1/label/") || strings.Contains(path, "limit=1") || strings.Contains(path, "series") {
			if a.Body != `{"status":"success","data":`+want+`}` {
				t.Errorf("%s: %s", path, a.Body)
			}
		}
	}
}

// TestReadRefusals: what is refused before the store, and that the store saw nothing.
func TestReadRefusals(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "m3", u)
	for name, tc := range map[string]struct {
		method, path, ctype, body string
		status                    int
		says                      string
	}{
		"no query":                 {"GET", "/api/v1/query", "", "", 400, "query"},
		"bad query":                {"GET", "/api/v1/query?query=sum(", "", "", 400, "parse error"},
		"two queries":              {"GET", "/api/v1/query?query=up&query=up", "", "", 400, "once"},
		"query in URL and body":    {"POST", "/api/v1/query?query=up", "application/x-www-form-urlencoded", "query=up", 400, "once"},
		"unknown parameter":        {"GET", "/api/v1/query?query=up&engine=m3query", "", "", 400, "engine"},
		"odd case":                 {"GET", "/api/v1/query?Query=up", "", "", 400, "Query"},
		"bad escape":               {"GET", "/api/v1/query?query=%zz", "", "", 400, "urlencoded"},
		"semicolon":                {"GET", "/api/v1/query?query=up;x=1", "", "", 400, "urlencoded"},
		"a GET with a body":        {"GET", "/api/v1/query?query=up", "application/x-www-form-urlencoded", "query=up", 400, "body"},
		"multipart":                {"POST", "/api/v1/query", "multipart/form-data; boundary=x", "--x--", 415, "urlencoded"},
		"JSON":                     {"POST", "/api/v1/query", "application/json", "{}", 415, "urlencoded"},
		"bad look-back":            {"GET", "/api/v1/query?query=up&lookback_delta=soon", "", "", 400, "lookback_delta"},
		"bad stats":                {"GET", "/api/v1/query?query=up&stats=please", "", "", 400, "stats"},
		"no number for a time":     {"GET", "/api/v1/query?query=up&time=NaN", "", "", 400, "out of bounds"},
		"infinite time":            {"GET", "/api/v1/query?query=up&time=-Inf", "", "", 400, "out of bounds"},
		"a time too far":           {"GET", "/api/v1/query?query=up&time=1e12", "", "", 400, "out of bounds"},
		"a date too far":           {"GET", "/api/v1/query?query=up&time=9999-01-01T00:00:00Z", "", "", 400, "out of bounds"},
		"a step of microseconds":   {"GET", "/api/v1/query_range?query=up&start=1&end=2&step=0.0001", "", "", 400, "step"},
		"end before start":         {"GET", "/api/v1/query_range?query=up&start=2&end=1&step=1", "", "", 400, "must not be before start"},
		"bad time":                 {"GET", "/api/v1/query?query=up&time=yesterday", "", "", 400, "time"},
		"bad step":                 {"GET", "/api/v1/query_range?query=up&start=1&end=2&step=-1", "", "", 400, "step"},
		"no step":                  {"GET", "/api/v1/query_range?query=up&start=1&end=2", "", "", 400, "step"},
		"bad timeout":              {"GET", "/api/v1/query?query=up&timeout=soon", "", "", 400, "timeout"},
		"what M3 cannot parse":     {"GET", "/api/v1/query?query=up%20@%200", "", "", 400, "@"},
		"series without match":     {"GET", "/api/v1/series", "", "", 400, "match[]"},
		"bad label name":           {"GET", "/api/v1/label/a.b/values", "", "", 400, "label name"},
		"label values by POST":     {"POST", "/api/v1/label/a/values", "application/x-www-form-urlencoded", "", 405, "GET"},
		"remote read by GET":       {"GET", "/api/v1/prom/remote/read?query=up&format=json", "", "", 405, "POST"},
		"remote read, URL":         {"POST", "/api/v1/read?format=json", "application/x-protobuf", "", 400, "URL"},
		"remote read, not snappy":  {"POST", "/api/v1/read", "application/x-protobuf", "x", 400, "snappy"},
		"M3's search":              {"GET", "/api/v1/search?query=.*", "", "", 404, ""},
		"M3's other search":        {"POST", "/search", "application/json", "{}", 404, ""},
		"graphite":                 {"GET", "/api/v1/graphite/render?target=*", "", "", 404, ""},
		"JSON write":               {"POST", "/api/v1/json/write", "application/json", "{}", 404, ""},
		"influx write":             {"POST", "/api/v1/influxdb/write", "", "m,tenant=team-b v=1", 404, ""},
		"kvstore":                  {"POST", "/api/v1/kvstore", "application/json", "{}", 404, ""},
		"namespaces":               {"GET", "/api/v1/services/m3db/namespace", "", "", 404, ""},
		"M3's engine":              {"GET", "/m3query/api/v1/query?query=up", "", "", 404, ""},
		"profiles":                 {"GET", "/debug/pprof/", "", "", 404, ""},
		"metrics":                  {"GET", "/metrics", "", "", 404, ""},
		"delete series":            {"POST", "/api/v1/admin/tsdb/delete_series", "", "", 404, ""},
		"dots":                     {"GET", "/api/v1/x/../query?query=up", "", "", 404, ""},
		"encoded dots":             {"GET", "/api/v1/%2e%2e/v1/query?query=up", "", "", 404, ""},
		"doubled slash":            {"GET", "//api/v1/query?query=up", "", "", 404, ""},
		"trailing slash":           {"GET", "/api/v1/query/?query=up", "", "", 404, ""},
		"encoded letter":           {"GET", "/api/v1/%71uery?query=up", "", "", 404, ""},
		"encoded slash in a label": {"GET", "/api/v1/label/a%2Fvalues/values", "", "", 400, ""},
		"HEAD":                     {"HEAD", "/api/v1/query?query=up", "", "", 405, ""},
		"OPTIONS":                  {"OPTIONS", "/api/v1/query?query=up", "", "", 405, ""},
		"DELETE":                   {"DELETE", "/api/v1/query?query=up", "", "", 405, ""},
		"an invented method":       {"QUERY", "/api/v1/query?query=up", "", "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			req := g.Request("alice", tc.method, tc.path, []byte(tc.body))
			if tc.ctype != "" {
				req.Header.Set("Content-Type", tc.ctype)
			}
			a := g.Do(req)
			if a.Status != tc.status || !strings.Contains(a.Body, tc.says) {
				t.Errorf("%d %s, want %d with %q", a.Status, a.Body, tc.status, tc.says)
			}
			if a.Status/100 == 4 && tc.method != "HEAD" && !strings.HasPrefix(a.Body, `{"status":"error","errorType":"`) {
				t.Errorf("not in the shape of the Prometheus API: %s", a.Body)
			}
			if saw := u.take(); len(saw) > 0 {
				t.Errorf("the store saw %+v", saw)
			}
		})
	}
}

// TestReadVerdicts: a store's error in Prometheus' shape and with its status codes.
func TestReadVerdicts(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   string
		status int
		text   string
		want   int
		etype  string
	}{
		"M3 execution":           {"m3", 400, `{"status":"error","error":"many-to-many matching not allowed"}`, 422, "execution"},
		"M3 time-out":            {"m3", 504, `{"status":"error","error":"query timed out in expression evaluation"}`, 503, "timeout"},
		"M3 regexp":              {"m3", 500, `{"status":"error","error":"dfa contains more than 10000 states"}`, 422, "execution"},
		"M3 starting":            {"m3", 500, `{"status":"error","error":"index is not yet bootstrapped to read on m3db_node1"}`, 503, "unavailable"},
		"Prometheus bad data":    {"prometheus", 400, `{"status":"error","errorType":"bad_data","error":"invalid parameter"}`, 400, "bad_data"},
		"Prometheus execution":   {"prometheus", 422, `{"status":"error","errorType":"execution","error":"found duplicate series"}`, 422, "execution"},
		"Prometheus time-out":    {"prometheus", 503, `{"status":"error","errorType":"timeout","error":"query timed out"}`, 503, "timeout"},
		"Prometheus is stopping": {"prometheus", 503, "Service Unavailable", 503, "unavailable"},
		"not that store":         {"prometheus", 404, "404 page not found", 503, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, ok)
			u.say(tc.status, tc.text)
			g := start(t, tc.kind, u)
			a := g.Get("alice", "/api/v1/query?query=up")
			if a.Status != tc.want || !strings.Contains(a.Body, `"errorType":"`+tc.etype+`"`) || strings.Contains(a.Body, "m3db_node") || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%+v, want %d %s", a, tc.want, tc.etype)
			}
		})
	}
}

// TestStoreHeadersStay: the store's own headers go no farther.
func TestStoreHeadersStay(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range []string{"M3-Namespaces", "M3-Metric-Stats", "Access-Control-Allow-Origin", "Set-Cookie", "Server", "Warning"} {
			w.Header().Set(h, "x")
		}
		_, _ = io.WriteString(w, noData)
	})
	g := start(t, "m3", u)
	a := g.Get("alice", "/api/v1/query?query=up")
	for name := range a.Header {
		if !slices.Contains([]string{"Content-Type", "Content-Length", "X-Content-Type-Options", "Date"}, name) {
			t.Errorf("header %s: %q", name, a.Header[name])
		}
	}
}

// TestHalfAnAnswerIsCut: a store that breaks off in the middle never looks like a whole answer.
func TestHalfAnAnswerIsCut(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
		panic(http.ErrAbortHandler)
	})
	g := start(t, "m3", u)
	resp, err := g.Client.Do(g.Request("alice", "GET", "/api/v1/query?query=up", nil))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer was passed on as whole")
	}
}

func TestXTenantOnReads(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "prometheus", u)
	for _, tc := range []struct{ user, tenant, matcher string }{
		{"both", "", `{tenant=~"team-a|team-b"}`}, {"both", "team-b", `{tenant="team-b"}`}, {"alice", "team-a", `{tenant="team-a"}`},
		{"ops", "team-b", `{tenant="team-b"}`}, {"ops", "never-seen", `{tenant="never-seen"}`}, {"ops", "", `{__name__!=""}`},
		{"alice", "team-b", ""}, {"both", "team-c", ""}, {"ops", "*", ""}, {"both", "", ""},
	} {
		req := g.Request(tc.user, "GET", "/api/v1/labels", nil)
		if tc.tenant != "" {
			req.Header.Set("X-Tenant", tc.tenant)
		} else if tc.matcher == "" {
			req.Header["X-Tenant"] = []string{"team-a", "team-b"}
		}
		a := g.Do(req)
		saw := u.take()
		if tc.matcher == "" {
			if a.Status/100 != 4 || len(saw) > 0 {
				t.Errorf("%+v: %d", tc, a.Status)
			}
			continue
		}
		form, _ := url.ParseQuery(string(saw[0].Body))
		if a.Status != 200 || form.Get("match[]") != tc.matcher {
			t.Errorf("%+v: %d %q", tc, a.Status, form.Get("match[]"))
		}
	}
}
