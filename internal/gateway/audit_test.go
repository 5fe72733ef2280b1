package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// TestOperatorReadsAreAudited: each read of a user that may read every tenant leaves one line, narrowed or not, answered or not,
// whatever the log's level; nobody else's does.
func TestOperatorReadsAreAudited(t *testing.T) {
	u := newUpstream(t, ok)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Upstreams: []string{u.URL}, Extra: "log: {level: error, access: false}\nlimits: {reads: {range: 1h}}",
	})
	type line struct {
		Msg, User, Client, Listener, Route string
		Tenants, Asked                     []string
		Status                             int
	}
	seen := 0
	lines := func() (out []line) {
		all := strings.Split(strings.TrimSpace(g.Log.String()), "\n")
		for _, text := range all[seen:] {
			var l line
			if strings.Contains(text, `"operator read"`) {
				if err := json.Unmarshal([]byte(text), &l); err != nil {
					t.Fatal(err)
				}
				out = append(out, l)
			}
		}
		seen = len(all)
		return out
	}
	for _, tc := range []struct {
		user, tenant, path, route, asked string
		status                           int
	}{
		{"ops", "", "/api/v1/query?query=up", "query", "up", 200},
		{"ops", "team-a", "/api/v1/query?query=up", "query", "up", 200},
		{"ops", "", "/api/v1/query?query=sum(", "query", "sum(", 400},
		{"ops", "", "/api/v1/query_range?query=up&start=1&end=9999&step=1", "query_range", "up", 422},
		{"ops", "", "/api/v1/labels", "labels", "", 200},
		{"ops", "", "/api/v1/series?match[]=up&match[]=down", "series", "up down", 200},
		{"ops", "", "/api/v1/label/job/values?match[]=up", "label_values", "job up", 200},
		{"ops", "", "/api/v1/query_exemplars?query=up", "query_exemplars", "up", 200},
		{"ops", "", "/api/v1/metadata?metric=up", "metadata", "up", 200},
		{"ops", "", "/federate?match[]=up", "federate", "up", 200},
		{"ops", "", "/api/v1/query?query=" + strings.Repeat("x", 5000), "query", strings.Repeat("x", 4096) + "…", 200},
		{"alice", "", "/api/v1/query?query=up", "", "", 200},
		{"both", "team-b", "/api/v1/labels", "", "", 200},
		{"ops", "", "/api/v1/nothing", "", "", 404},
		{"ops", "*", "/api/v1/labels", "", "", 403},
	} {
		req := g.Request(tc.user, "GET", tc.path, nil)
		if tc.tenant != "" {
			req.Header.Set("X-Tenant", tc.tenant)
		}
		if a := g.Do(req); a.Status != tc.status {
			t.Errorf("%.80s: %d %.300s", tc.path, a.Status, a.Body)
		}
		got := lines()
		if tc.route == "" {
			if len(got) > 0 {
				t.Errorf("%s %.80s: audited as %+v", tc.user, tc.path, got)
			}
			continue
		}
		want := tc.tenant
		if want == "" {
			want = "*"
		}
		if len(got) != 1 || got[0].User != "ops" || got[0].Route != tc.route || strings.Join(got[0].Asked, " ") != tc.asked || got[0].Status != tc.status ||
			len(got[0].Tenants) != 1 || got[0].Tenants[0] != want || got[0].Client != "127.0.0.1" || got[0].Listener != "https" {
			t.Errorf("%.80s: audited as %+v", tc.path, got)
		}
	}
	remoteSelector := &prompb.ReadRequest{Queries: []*prompb.Query{{Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}, {Type: prompb.LabelMatcher_NRE, Name: "job", Value: `a"b`}}}, {}}}
	u.say(200, "\x00") // an empty block
	_ = remoteRead(t, g, "ops", remoteSelector)
	if got := lines(); len(got) != 1 || strings.Join(got[0].Asked, " ") != `{__name__="up",job!~"a\"b"} {}` {
		t.Errorf("remote read: audited as %+v", got)
	}
}
