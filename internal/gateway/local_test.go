package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// TestLocalRoutes: what Grafana asks for beside data, on both kinds of store, and what the store sees of it.
func TestLocalRoutes(t *testing.T) {
	const (
		m3Info = `{"data":{"branch":"","buildDate":"","buildUser":"","goVersion":"","revision":"","version":"2.31.0"},"status":"success"}`
		empty  = `{"data":[],"status":"success"}`
	)
	for kind, cases := range map[string]map[string][2]string{ // route -> answer, and what the store is asked
		"m3": {
			"/api/v1/status/buildinfo":                                         {m3Info, ""},
			"/prometheus/api/v1/status/buildinfo":                              {m3Info, ""},
			"/api/v1/rules":                                                    {`{"data":{"groups":[]},"status":"success"}`, ""},
			"/api/v1/rules?type=alert":                                         {`{"data":{"groups":[]},"status":"success"}`, ""},
			"/api/v1/alerts":                                                   {`{"data":{"alerts":[]},"status":"success"}`, ""},
			"/api/v1/query_exemplars?query=up&start=1&end=2":                   {empty, ""},
			"/api/v1/format_query?query=sum(up)by(job)/1":                      {`{"data":"sum by (job) (up) / 1","status":"success"}`, ""},
			"/api/v1/format_query?query=sum(":                                  {`bad_data`, ""},
			"/api/v1/query_exemplars?query=up&start=tomorrow":                  {`bad_data`, ""},
			"/api/v1/alerts?x=1":                                               {`unknown parameter`, ""},
			"/api/v1/parse_query?query=1":                                      {`{"data":{"type":"numberLiteral","val":"1"},"status":"success"}`, ""},
			"/api/v1/parse_query?query=holt_winters(a[1m],1,1)":                {`"func":{"argTypes":["matrix","scalar","scalar"],"name":"holt_winters"`, ""},
			"/api/v1/parse_query?query=sum(":                                   {`bad_data`, ""},
			"/api/v1/parse_query":                                              {`bad_data`, ""},
			"/api/v1/metadata":                                                 {`{"data":{},"status":"success"}`, ""},
			"/prometheus/api/v1/metadata?limit=5&limit_per_metric=1&metric=up": {`{"data":{},"status":"success"}`, ""},
			"/api/v1/metadata?limit=x":                                         {`bad_data`, ""},
			"/federate?match[]=up":                                             {`this store has no federation`, ""},
			"/api/v1/query_exemplars?start=1":                                  {`bad_data`, ""},
		},
		"prometheus": {
			"/api/v1/status/buildinfo": {noData, "GET /api/v1/status/buildinfo "},
			"/api/v1/rules":            {`{"data":{"groups":[]},"status":"success"}`, ""},
			"/api/v1/alerts":           {`{"data":{"alerts":[]},"status":"success"}`, ""},
			"/api/v1/query_exemplars?query=up&start=1&end=2": {noData, `POST /api/v1/query_exemplars end=2&query=up{tenant="team-a"}&start=1`},
			"/api/v1/metadata":                                {`{"data":{},"status":"success"}`, ""},
			"/federate?match[]=up":                            {noData, `GET /federate?match[]={__name__="up",tenant="team-a"} `},
			"/prometheus/federate?match[]=up&match[]={}":      {noData, `GET /federate?match[]={__name__="up",tenant="team-a"}&match[]={tenant="team-a"} `},
			"/federate":                                       {"no match[] parameter", ""},
			"/federate?match[]=up&limit=1":                    {"unknown parameter", ""},
			`/api/v1/query_exemplars?query={tenant="team-b"}`: {noData, `POST /api/v1/query_exemplars query={tenant="team-b",tenant="team-a"}`},
		},
	} {
		u := newUpstream(t, ok)
		g := start(t, kind, u)
		for route, want := range cases {
			path, query, _ := strings.Cut(route, "?")
			values, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			a := g.Get("alice", path+"?"+values.Encode())
			if good := strings.ContainsAny(want[0], "{"); !strings.Contains(a.Body, want[0]) || (a.Status == 200) != good {
				t.Errorf("%s %s: %+v", kind, route, a)
			}
			saw := ""
			for _, s := range u.take() {
				body, err := url.QueryUnescape(string(s.Body))
				if err != nil {
					t.Fatal(err)
				}
				uri, err := url.QueryUnescape(s.URI)
				if err != nil {
					t.Fatal(err)
				}
				saw += s.Method + " " + uri + " " + body
			}
			if saw != want[1] {
				t.Errorf("%s %s: the store saw %q, want %q", kind, route, saw, want[1])
			}
			if a := g.Get("writer", path+"?"+values.Encode()); a.Status != 403 {
				t.Errorf("%s %s: without the right to read: %+v", kind, route, a)
			}
		}
		if saw := u.take(); len(saw) > 0 {
			t.Errorf("%s: the store saw %+v", kind, saw)
		}
	}
}

// TestFederate: the exposition passes in its media type, cleaned of what is not known, and without the label where that is asked
// for.
func TestFederate(t *testing.T) {
	text := "# TYPE up untyped\nup{job=\"x\",tenant=\"team-a\",instance=\"\"} 1 1700000000000\n"
	media := `text/plain; version=0.0.4; charset=utf-8; escaping=underscores; evil="x"`
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		_, _ = io.WriteString(w, text)
	})
	plain, strip := start(t, "prometheus", u), start(t, "prometheus", u, stripping)
	for accept, asked := range map[string]string{
		"": "text/plain;version=0.0.4",
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4": "text/plain;version=1.0.0;escaping=allow-utf-8,text/plain;version=0.0.4;q=0.5",
		"application/vnd.google.protobuf": "text/plain;version=0.0.4",
	} {
		req := plain.Request("alice", "GET", "/federate?match[]=up", nil)
		req.Header.Set("Accept", accept)
		a := plain.Do(req)
		if saw := u.take(); a.Status != 200 || a.Body != text || saw[0].Header.Get("Accept") != asked {
			t.Errorf("%s: %+v, the store was asked for %s", accept, a, saw[0].Header.Get("Accept"))
		}
		if got := a.Header.Get("Content-Type"); got != "text/plain; charset=utf-8; escaping=underscores; version=0.0.4" {
			t.Errorf("media type %s", got)
		}
	}
	if a := strip.Get("alice", "/federate?match[]=up"); a.Body != strings.Replace(text, `tenant="team-a",`, "", 1) {
		t.Errorf("%s", a.Body)
	}
	if a := strip.Get("both", "/federate?match[]=up"); a.Body != text {
		t.Errorf("%s", a.Body)
	}
	for _, odd := range []string{"", "text/html", "application/json", "text/plain; version=9"} {
		media = odd
		if a := plain.Get("alice", "/federate?match[]=up"); a.Header.Get("Content-Type") != "text/plain; charset=utf-8; version=0.0.4" {
			t.Errorf("%q became %q", odd, a.Header.Get("Content-Type"))
		}
	}
}

// TestUpstreamURL: a GET whose tenant matchers make a URL that no store takes is refused.
func TestUpstreamURL(t *testing.T) {
	var tenants []string
	for i := range 100 {
		tenants = append(tenants, fmt.Sprintf("%q", strings.Repeat(".", 200)+fmt.Sprint(i)))
	}
	u := newUpstream(t, ok)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: "  users: {alice: {tenants: [" + strings.Join(tenants, ", ") + "]}}", Upstreams: []string{u.URL}})
	match := strings.Repeat("match[]=up&", 8)
	for _, path := range []string{"/federate?", "/api/v1/label/job/values?"} {
		if a := g.Get("alice", path+match); a.Status != 400 || !strings.Contains(a.Body, "over the limit of 786432") {
			t.Errorf("%s: %d %.300s", path, a.Status, a.Body)
		}
		if a := g.Get("alice", path+"match[]=up"); a.Status != 200 {
			t.Errorf("%s: %d %.300s", path, a.Status, a.Body)
		}
	}
	if a := g.Get("alice", "/api/v1/series?"+match); a.Status != 200 { // by POST
		t.Errorf("%d %.300s", a.Status, a.Body)
	}
}

// TestTreeIsPrometheus: parse_query and format_query say what Prometheus says of the same expression.
func TestTreeIsPrometheus(t *testing.T) {
	store := gatewaytest.Store(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{store}})
	for _, expr := range []string{
		`1`, `"x"`, `up`, `-up`, `(up)`, `up{job="x",env!="y",a=~"b",c!~"d"}`, `up offset 5m`, `up @ 5 offset -1m`, `up @ start()`, `rate(up[5m] @ end())`,
		`sum(up)`, `sum by (a, b) (up)`, `sum without () (up)`, `topk(5, up)`, `count_values("v", up)`, `a + b`, `a == bool 3`, `a * on (x) group_left (y) b`, `a and ignoring (z) b`,
		`max_over_time(rate(up[1m])[1h:5m] offset 2m)`, `max_over_time(up[1h:])`, `time()`, `label_replace(up, "a", "$1", "b", "(.*)")`, `histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))`,
		`1.5e300`, `NaN`, `Inf`, `{"a.b", "c d"="e"}`, `sum by ("a.b") (up)`, `)`, ``, `up[5m`, `nofunc(up)`, `sum(up, up)`, `rate(up)`,
	} {
		for _, path := range []string{"/api/v1/parse_query?query=", "/api/v1/format_query?query="} {
			resp, err := http.Get(store + path + url.QueryEscape(expr))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			a := g.Get("alice", path+url.QueryEscape(expr))
			var got, want map[string]any
			if err := errors.Join(json.Unmarshal([]byte(a.Body), &got), json.Unmarshal(b, &want)); err != nil {
				t.Fatal(err)
			}
			if a.Status != resp.StatusCode || !reflect.DeepEqual(got, want) {
				t.Errorf("%s%s: %d %s\nPrometheus says %d %s", path, expr, a.Status, a.Body, resp.StatusCode, b)
			}
		}
	}
}

// TestMetadataOfWrites: what a tenant's writes said of its metrics, in either protocol, is what it and nobody else is told.
func TestMetadataOfWrites(t *testing.T) {
	for _, kind := range []string{"m3", "prometheus"} {
		u := newUpstream(t, ok)
		g := start(t, kind, u)
		send := func(user string, metadata ...prompb.MetricMetadata) {
			t.Helper()
			raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{up()}, Metadata: metadata}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			req := g.Request(user, "POST", "/api/v1/write", snappy.Encode(nil, raw))
			req.Header.Set("Content-Type", "application/x-protobuf")
			if a := g.Do(req); a.Status != 204 {
				t.Fatalf("%+v", a)
			}
		}
		send("alice", prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "a_total", Help: "Of alice <b>", Unit: "x"}, prompb.MetricMetadata{MetricFamilyName: "shared", Help: "alice's"})
		send("bob", prompb.MetricMetadata{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "shared", Help: "bob's"}, prompb.MetricMetadata{MetricFamilyName: "b_total"})
		send("writer", prompb.MetricMetadata{Type: prompb.MetricMetadata_SUMMARY, MetricFamilyName: "of_writer"}) // of team-a, too
		const own = `"a_total":[{"type":"counter","help":"Of alice \u003cb\u003e","unit":"x"}],"of_writer":[{"type":"summary","help":"","unit":""}],"shared":[{"type":"unknown","help":"alice's","unit":""}]`
		for who, want := range map[string]string{
			"alice /api/v1/metadata":                                 own,
			"reader /api/v1/metadata":                                own,
			"alice /api/v1/metadata?metric=a_total":                  `"a_total":[{"type":"counter","help":"Of alice \u003cb\u003e","unit":"x"}]`,
			"alice /api/v1/metadata?metric=b_total":                  ``,
			"alice /api/v1/metadata?limit=1":                         `"a_total":[{"type":"counter","help":"Of alice \u003cb\u003e","unit":"x"}]`,
			"bob /api/v1/metadata":                                   `"b_total":[{"type":"unknown","help":"","unit":""}],"shared":[{"type":"gauge","help":"bob's","unit":""}]`,
			"both /api/v1/metadata?metric=shared":                    `"shared":[{"type":"unknown","help":"alice's","unit":""},{"type":"gauge","help":"bob's","unit":""}]`,
			"both /api/v1/metadata?metric=shared&limit_per_metric=1": `"shared":[{"type":"unknown","help":"alice's","unit":""}]`,
			"ops /api/v1/metadata?metric=b_total":                    `"b_total":[{"type":"unknown","help":"","unit":""}]`,
		} {
			user, path, _ := strings.Cut(who, " ")
			if a := g.Get(user, path); a.Status != 200 || a.Body != `{"data":{`+want+`},"status":"success"}` {
				t.Errorf("%s, %s: %d %s", kind, who, a.Status, a.Body)
			}
		}
		if a, _ := write2(t, g); a.Status/100 != 2 && kind == "m3" {
			t.Fatalf("%+v", a)
		}
	}
}

// TestExemplarsOfNothing: Prometheus answers 204 where an expression has no selector; clients get a list all the same.
func TestExemplarsOfNothing(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}})
	for _, expr := range []string{"time()", "up"} {
		if a := g.Get("alice", "/api/v1/query_exemplars?start=1&end=2&query="+url.QueryEscape(expr)); a.Status != 200 || !strings.Contains(a.Body, `"data":[]`) {
			t.Errorf("%s: %+v", expr, a)
		}
	}
}
