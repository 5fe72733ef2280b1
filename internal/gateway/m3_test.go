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
		if a := g.Get(user, "/api/v1/labels?limit=2"); a.Body != `{"status":"success","data":["__name__","secret"]}` {
			t.Errorf("%s: labels %+v", user, a)
		}
		if got := remoteRead(t, g, user, &prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: now.UnixMilli() - 900_000, EndTimestampMs: now.UnixMilli() + 1000}}}); len(got) != 1 || got[0] != secret[0] {
			t.Errorf("%s: remote read found %v", user, got)
		}
	}
}
