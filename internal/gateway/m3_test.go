package gateway_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// TestRealM3 runs the main job against real coordinators: M3_COORDINATOR_URLS holds their base URLs, with commas between.
// They need the namespace "default" with bufferPast 10m, and may have aggregated ones.
func TestRealM3(t *testing.T) {
	urls := os.Getenv("M3_COORDINATOR_URLS")
	if urls == "" {
		t.Skip("M3_COORDINATOR_URLS is not set")
	}
	run := fmt.Sprintf("run%d", time.Now().UnixNano())
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice", "bob"}, Kind: "m3", Upstreams: strings.Split(urls, ","),
		Tenancy: fmt.Sprintf("  users:\n    alice: {tenants: [%s-a]}\n    bob: {tenants: [%s-b]}\n", run, run),
	})
	gatewaytest.Until(t, "the coordinators are ready", func() bool { return g.Admin("GET", "/readyz").Status == 200 })
	now := time.Now()
	sample := func(age time.Duration, name, secret string, more ...string) prompb.TimeSeries {
		return gatewaytest.Series(now.Add(-age), 1, append([]string{"__name__", run + name, "secret", secret}, more...)...)
	}
	for user, secret := range map[string]string{"alice": "amber", "bob": "blue"} {
		for _, batch := range [][]prompb.TimeSeries{
			{sample(0, "_fresh", secret), sample(0, "_forged", secret, "tenant", run+"-a")},
			{sample(40*time.Second, "_late1", secret)},                                         // stored raw, refused by the downsampler
			{sample(5*time.Minute, "_late5", secret), sample(9*time.Minute, "_late9", secret)}, // the same, and the answer hides how many
		} {
			if a := g.Write(user, batch); a.Status != 204 {
				t.Fatalf("%s: %+v", user, a)
			}
		}
		// A never-seen series that is too old is answered 200 by M3 and lost: the gateway says so.
		if a := g.Write(user, []prompb.TimeSeries{sample(20*time.Minute, "_old", secret), sample(0, "_beside", secret)}); a.Status != 400 || !strings.Contains(a.Body, "stored 1 samples, dropped 1: too_old 1") {
			t.Errorf("%s: %+v", user, a)
		}
	}
	names := []string{"_beside", "_forged", "_fresh", "_late1", "_late5", "_late9"}
	all := url.QueryEscape(fmt.Sprintf(`{__name__=~"%s.+"}`, run))
	for user, secret := range map[string][2]string{"alice": {"amber", "blue"}, "bob": {"blue", "amber"}} {
		for _, name := range names {
			path := "/api/v1/query?query=" + url.QueryEscape(fmt.Sprintf("count_over_time(%s%s[12m])", run, name))
			gatewaytest.Until(t, user+" finds "+name, func() bool { return strings.Contains(g.Get(user, path).Body, `"1"]`) })
		}
		for _, path := range []string{
			"/api/v1/query?query=" + all,
			fmt.Sprintf("/api/v1/query_range?query=%s&start=%d&end=%d&step=15s", all, now.Unix()-600, now.Unix()+30),
			"/api/v1/series?match[]=" + all, "/api/v1/series?match[]={}&match[]=" + all, "/api/v1/label/secret/values", "/api/v1/label/secret/values?match[]=" + all + "&match[]={}",
			"/api/v1/query?query=" + url.QueryEscape(fmt.Sprintf(`max_over_time(%s_fresh{tenant=~".*"}[5m:1s])`, run)) + fmt.Sprintf("&time=%d", now.Unix()+10),
		} {
			a := g.Get(user, path)
			if a.Status != 200 || !strings.Contains(a.Body, secret[0]) || strings.Contains(a.Body, secret[1]) {
				t.Errorf("%s %s: %+v", user, path, a)
			}
		}
		if a := g.Get(user, "/api/v1/label/tenant/values"); a.Body != fmt.Sprintf(`{"status":"success","data":["%s-%s"]}`, run, map[string]string{"alice": "a", "bob": "b"}[user]) {
			t.Errorf("%s: tenants %s", user, a.Body)
		}
		if a := g.Get(user, "/api/v1/labels?limit=2"); a.Body != `{"status":"success","data":["__name__","secret"],"warnings":["results truncated due to limit"]}` {
			t.Errorf("%s: labels %+v", user, a)
		}
		if got := remoteRead(t, g, user, &prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: now.UnixMilli() - 900_000, EndTimestampMs: now.UnixMilli() + 1000}}}); len(got) != 1 || got[0] != secret[0] {
			t.Errorf("%s: remote read found %v", user, got)
		}
	}
}

// TestRealM3Options: escaped names, and native histograms made classic, stored by and read from real coordinators, from
// senders of both protocols.
func TestRealM3Options(t *testing.T) {
	urls := os.Getenv("M3_COORDINATOR_URLS")
	if urls == "" {
		t.Skip("M3_COORDINATOR_URLS is not set")
	}
	run := fmt.Sprintf("run%d", time.Now().UnixNano())
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice"}, Kind: "m3", Upstreams: strings.Split(urls, ","), Tenancy: "  users:\n    alice: {tenants: [" + run + "]}\n",
		UpstreamExtra: "  utf8_names: escape\n  native_histograms: classic\n",
	})
	gatewaytest.Until(t, "the coordinators are ready", func() bool { return g.Admin("GET", "/readyz").Status == 200 })
	now := time.Now()
	native := gatewaytest.Series(now, 1, "__name__", run+"_seconds")
	native.Samples, native.Histograms = nil, []prompb.Histogram{{
		Count: &prompb.Histogram_CountInt{CountInt: 30}, Sum: 45, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 0},
		PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 2}}, PositiveDeltas: []int64{10, 10}, Timestamp: now.UnixMilli(),
	}}
	exemplary := gatewaytest.Series(now, 1, "__name__", run+".dotted", "http.route", "/a")
	exemplary.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "x"}}, Value: 1, Timestamp: now.UnixMilli()}}
	if a := g.Write("alice", []prompb.TimeSeries{native, exemplary}); a.Status != 204 {
		t.Fatalf("%+v", a)
	}
	if a, counts := write2(t, g); a.Status != 204 || counts != "1 1 1" {
		t.Fatalf("%+v, wrote %q", a, counts)
	}
	for query, want := range map[string]string{
		fmt.Sprintf(`histogram_quantile(0.5, %s_seconds_bucket)`, run): `"1.25"]`, // 10 of 30 up to 1, 20 more up to 2: the 15th is a quarter into these
		run + `_seconds_sum`:                              `"45"]`,
		run + `_seconds_bucket{le="+Inf"}`:                `"30"]`,
		`U__` + run + `_2e_dotted{U__http_2e_route="/a"}`: `"1"]`,
		`native_bucket{le="+Inf"}`:                        `"1"]`,
		`up`:                                              `"1"]`,
	} {
		gatewaytest.Until(t, query, func() bool {
			return strings.Contains(g.Get("alice", "/api/v1/query?query="+url.QueryEscape(query)).Body, want)
		})
	}
}
