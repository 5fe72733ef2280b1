package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/devstore"
	"m3gateway/internal/gateway"
	"m3gateway/internal/gatewaytest"
)

// home is a gateway of each kind before a store that has data: kind m3 real coordinators where M3_COORDINATOR_URLS names some,
// and else an embedded store with their routes and their restriction of reads.
type home struct {
	*gatewaytest.Gateway
	kind string
	run  string // what the names of its metrics begin with
	now  time.Time
}

func homes(t *testing.T) (out []home) {
	run := fmt.Sprintf("run%d_", time.Now().UnixNano())
	for _, kind := range []string{"prometheus", "m3"} {
		s := gatewaytest.Setup{
			Users: []string{"alice", "bob"}, Kind: kind,
			Tenancy: fmt.Sprintf("  users:\n    alice: {tenants: [%sa]}\n    bob: {tenants: [%sb]}\n", run, run),
		}
		if kind == "m3" {
			if s.Upstreams = strings.Split(os.Getenv("M3_COORDINATOR_URLS"), ","); s.Upstreams[0] == "" {
				store, err := devstore.Open(devstore.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				srv := httptest.NewServer(gateway.Restricting(t, store.Handler()))
				t.Cleanup(func() {
					srv.Close()
					if err := store.Close(); err != nil {
						t.Error(err)
					}
				})
				s.Upstreams = []string{srv.URL}
			}
		}
		h := home{gatewaytest.Start(t, s), kind, run, time.Now()}
		gatewaytest.Until(t, "a store is ready", func() bool { return h.Admin("GET", "/readyz").Status == 200 })
		for user, job := range map[string]string{"alice": "api", "bob": "secret"} {
			var series []prompb.TimeSeries
			for i := range 4 {
				ts := gatewaytest.Series(h.now, float64(10*i), "__name__", run+"requests_total", "job", job, "instance", fmt.Sprint("i", i%2), "code", []string{"200", "500"}[i/2])
				ts.Samples = []prompb.Sample{{Value: float64(i), Timestamp: h.now.Add(-10 * time.Second).UnixMilli()}, {Value: float64(10 * i), Timestamp: h.now.UnixMilli()}}
				ts.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: job}}, Value: 1, Timestamp: h.now.UnixMilli()}}
				series = append(series, ts)
				series = append(series, gatewaytest.Series(h.now, float64(i+1), "__name__", run+"seconds_bucket", "job", job, "le", []string{"0.1", "1", "10", "+Inf"}[i]))
			}
			if a := h.Write(user, series); a.Status != 204 {
				t.Fatalf("%s: %+v", kind, a)
			}
		}
		gatewaytest.Until(t, "the data can be read", func() bool {
			return strings.Contains(h.Get("bob", fmt.Sprintf("/api/v1/query?query=%srequests_total&time=%d", run, h.now.Unix()+1)).Body, "secret")
		})
		out = append(out, h)
	}
	return out
}

// TestGrafana makes the requests that Grafana's Prometheus data source makes of a dashboard, its variables, its explorer, its
// exemplars and its alert list, in its way: POST of a form, GET where it has to, with its headers.
func TestGrafana(t *testing.T) {
	for _, h := range homes(t) {
		start, end := h.now.Unix()-300, h.now.Unix()+30
		span := fmt.Sprintf("start=%d&end=%d", start, end)
		metric := h.run + "requests_total"
		q := func(expr string) string { return "query=" + url.QueryEscape(strings.ReplaceAll(expr, "M_", h.run)) }
		panel := func(expr string) string { return "/api/v1/query_range?" + q(expr) + "&" + span + "&step=15" }
		for _, tc := range []struct{ name, request, want string }{
			{"health check of the data source", "POST /api/v1/query?query=1%2B1&time=4", `"resultType":"scalar","result":[4,"2"]`},
			{"its type and version", "GET /api/v1/status/buildinfo", `"version":"`},
			{"a rate", "POST " + panel(`sum(rate(M_requests_total{job=~"api|web"}[1m0s])) by (instance)`), `"status":"success"`},
			{"a panel", "POST " + panel(`M_requests_total{code="200"}`), `"__name__":"` + metric + `"`},
			{"a panel by GET", "GET " + panel(`M_requests_total`), `"__name__":"` + metric + `"`},
			{"a ratio", "POST " + panel(`sum by (instance) (M_requests_total{code!~"2.."}) / on (instance) group_left sum by (instance) (M_requests_total)`), `"instance":"i0"`},
			{"a quantile", "POST " + panel(`histogram_quantile(0.9, sum by (le, job) (M_seconds_bucket))`), `"job":"api"`},
			{"the top", "POST " + panel(`topk(2, M_requests_total) or vector(0)`), `"values"`},
			{"a subquery", "POST " + panel(`max_over_time(sum(M_requests_total)[5m:15s])`), `"values"`},
			{"an offset", "POST " + panel(`M_requests_total - (M_requests_total offset 1m)`), `"status":"success"`},
			{"a table", "POST /api/v1/query?" + q(`sort_desc(sum by (job) (M_requests_total))`) + fmt.Sprintf("&time=%d.123", h.now.Unix()+1), `"job":"api"`},
			{"a table with a time-out", "POST /api/v1/query?" + q(`M_requests_total`) + fmt.Sprintf("&timeout=60s&time=%d", h.now.Unix()+1), `"job":"api"`},
			{"a rendered label", "POST /api/v1/query?" + q(`label_replace(M_requests_total, "x", "$1-$2", "instance", "(.)(.)")`) + fmt.Sprintf("&time=%d", h.now.Unix()+1), `"x":"i-0"`},
			{"exemplars", "POST /api/v1/query_exemplars?" + q(`rate(M_requests_total[1m])`) + "&" + span, map[string]string{"prometheus": `"trace_id":"api"`, "m3": `"data":[]`}[h.kind]},
			{"names of metrics", "GET /api/v1/label/__name__/values?" + span, metric},
			{"a variable", "GET /api/v1/label/job/values?match%5B%5D=" + metric + "&" + span, `["api"]`},
			{"a variable of two selectors", "GET /api/v1/label/instance/values?match%5B%5D=" + metric + "&match%5B%5D=%7Bcode%3D%22500%22%7D&" + span, `["i0","i1"]`},
			{"a variable by query_result", "POST /api/v1/query?" + q(`count by (code) (M_requests_total)`) + fmt.Sprintf("&time=%d", h.now.Unix()+1), `"code":"500"`},
			{"labels of a metric", "POST /api/v1/labels?match%5B%5D=" + metric + "&" + span + "&limit=40000", `"instance"`},
			{"all labels", "GET /api/v1/labels?" + span, `"instance"`},
			{"series", "POST /api/v1/series?match%5B%5D=" + metric + "&" + span + "&limit=40000", `"code":"500"`},
			{"metadata for the explorer", "GET /api/v1/metadata?limit=40000", `"data":{`},
			{"rules", "GET /api/v1/rules", `"groups":[]`},
			{"alerts", "GET /api/v1/alerts", `"alerts":[]`},
			{"the formatter", "POST /api/v1/format_query?query=sum(up)by(job)", `sum by (job) (up)`},
			{"the explainer", "POST /api/v1/parse_query?query=up", `"type":"vectorSelector"`},
		} {
			method, target, _ := strings.Cut(tc.request, " ")
			path, form, _ := strings.Cut(target, "?")
			req := h.Request("alice", method, target, nil)
			if method == "POST" {
				req = h.Request("alice", method, path, []byte(form))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			for name, v := range map[string]string{
				"User-Agent": "Grafana/12.1.0", "Accept-Encoding": "gzip", "X-Grafana-Org-Id": "1", "X-Dashboard-Uid": "abc", "X-Datasource-Uid": "def", "X-Panel-Id": "2",
				"X-Grafana-From-Expr": "true", "X-Cache-Skip": "true", "X-Forwarded-For": "10.0.0.1", "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Accept": "application/json, text/plain, */*",
			} {
				req.Header.Set(name, v)
			}
			a := h.Do(req)
			if body := decoded(t, a); a.Status != 200 || !strings.Contains(body, tc.want) || strings.Contains(body, "secret") || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
				t.Errorf("%s, %s: %d %.500s\nwant %s", h.kind, tc.name, a.Status, body, tc.want)
			}
		}
	}
}

// basic adds a credential to a client's requests.
type basic struct {
	user string
	next http.RoundTripper
}

func (b basic) RoundTrip(r *http.Request) (*http.Response, error) {
	r.SetBasicAuth(b.user, gatewaytest.Password(b.user))
	return b.next.RoundTrip(r)
}

// TestClientLibrary drives the gateway by the API client of the Prometheus Go library.
func TestClientLibrary(t *testing.T) {
	for _, h := range homes(t) {
		client, err := api.NewClient(api.Config{Address: h.URL, RoundTripper: basic{"alice", h.Client.Transport}})
		if err != nil {
			t.Fatal(err)
		}
		a, ctx := v1.NewAPI(client), context.Background()
		metric, at := h.run+"requests_total", h.now.Add(time.Second).Truncate(time.Second)
		start, end := h.now.Add(-5*time.Minute), h.now.Add(10*time.Second)
		check := func(what string, got, want any, err error) {
			t.Helper()
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %v, %v, want %v", h.kind, what, got, err, want)
			}
		}
		value, warnings, err := a.Query(ctx, "count("+metric+")", at, v1.WithTimeout(time.Minute))
		check("query", value.String(), fmt.Sprintf("{} => 4 @[%s]", model.TimeFromUnixNano(at.UnixNano())), err)
		check("warnings", len(warnings), 0, nil)
		value, warnings, err = a.Query(ctx, metric, at, v1.WithLimit(2))
		check("limit", len(value.(model.Vector)), 2, err)
		check("warning of limit", warnings, v1.Warnings{"results truncated due to limit"}, nil)
		value, _, err = a.QueryRange(ctx, "sum("+metric+")", v1.Range{Start: h.now, End: end, Step: 5 * time.Second})
		check("query_range", len(value.(model.Matrix)), 1, err)
		names, _, err := a.LabelNames(ctx, []string{metric}, start, end)
		check("labels", names, model.LabelNames{"__name__", "code", "instance", "job", "tenant"}, err)
		values, _, err := a.LabelValues(ctx, "job", nil, start, end)
		check("values", values, model.LabelValues{"api"}, err)
		values, _, err = a.LabelValues(ctx, "instance", []string{metric, `{code="200"}`}, start, end, v1.WithLimit(1))
		check("values of two selectors", values, model.LabelValues{"i0"}, err)
		sets, _, err := a.Series(ctx, []string{metric, metric + `{code="200"}`}, start, end)
		check("series", len(sets), 4, err)
		if !slices.ContainsFunc(sets, func(s model.LabelSet) bool { return s["tenant"] == model.LabelValue(h.run+"a") }) {
			t.Errorf("%s: %v", h.kind, sets)
		}
		exemplars, err := a.QueryExemplars(ctx, metric, start, end)
		check("exemplars", len(exemplars), map[string]int{"prometheus": 4}[h.kind], err)
		build, err := a.Buildinfo(ctx)
		check("buildinfo", strings.Count(build.Version, "."), 2, err)
		rules, err := a.Rules(ctx, nil)
		check("rules", len(rules.Groups), 0, err)
		alerts, err := a.Alerts(ctx)
		check("alerts", len(alerts.Alerts), 0, err)
		metadata, err := a.Metadata(ctx, "", "")
		check("metadata", len(metadata), 0, err)
		for expr, kind := range map[string]v1.ErrorType{"sum(": v1.ErrBadData, "up[5m]": v1.ErrBadData, metric + " * on (job) " + metric: v1.ErrExec, "nofunc(up)": v1.ErrBadData} {
			path := "query"
			if expr == "up[5m]" { // a range query of a matrix
				_, _, err = a.QueryRange(ctx, expr, v1.Range{Start: start, End: end, Step: time.Second})
				path = "query_range"
			} else {
				_, _, err = a.Query(ctx, expr, at)
			}
			if e, ok := err.(*v1.Error); !ok || e.Type != kind {
				t.Errorf("%s, %s of %s: %#v, want %s", h.kind, path, expr, err, kind)
			}
		}
	}
}
