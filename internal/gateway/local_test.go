package gateway_test

import (
	"net/url"
	"strings"
	"testing"
)

// TestLocalRoutes: what Grafana asks for beside data, on both kinds of store, and what the store sees of it.
func TestLocalRoutes(t *testing.T) {
	const (
		m3Info = `{"data":{"branch":"","buildDate":"","buildUser":"","goVersion":"","revision":"","version":"2.31.0"},"status":"success"}`
		empty  = `{"data":[],"status":"success"}`
	)
	for kind, cases := range map[string]map[string][2]string{ // route -> answer, and what the store is asked
		"m3": {
			"/api/v1/status/buildinfo":                        {m3Info, ""},
			"/prometheus/api/v1/status/buildinfo":             {m3Info, ""},
			"/api/v1/rules":                                   {`{"data":{"groups":[]},"status":"success"}`, ""},
			"/api/v1/rules?type=alert":                        {`{"data":{"groups":[]},"status":"success"}`, ""},
			"/api/v1/alerts":                                  {`{"data":{"alerts":[]},"status":"success"}`, ""},
			"/api/v1/query_exemplars?query=up&start=1&end=2":  {empty, ""},
			"/api/v1/format_query?query=sum(up)by(job)/1":     {`{"data":"sum by (job) (up) / 1","status":"success"}`, ""},
			"/api/v1/format_query?query=sum(":                 {`bad_data`, ""},
			"/api/v1/query_exemplars?query=up&start=tomorrow": {`bad_data`, ""},
			"/api/v1/alerts?x=1":                              {`unknown parameter`, ""},
		},
		"prometheus": {
			"/api/v1/status/buildinfo": {noData, "GET /api/v1/status/buildinfo "},
			"/api/v1/rules":            {`{"data":{"groups":[]},"status":"success"}`, ""},
			"/api/v1/alerts":           {`{"data":{"alerts":[]},"status":"success"}`, ""},
			"/api/v1/query_exemplars?query=up&start=1&end=2":  {noData, `POST /api/v1/query_exemplars end=2&query=up{tenant="team-a"}&start=1`},
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
			if !strings.Contains(a.Body, want[0]) || (a.Status == 200) != strings.HasPrefix(want[0], "{") {
				t.Errorf("%s %s: %+v", kind, route, a)
			}
			saw := ""
			for _, s := range u.take() {
				body, err := url.QueryUnescape(string(s.Body))
				if err != nil {
					t.Fatal(err)
				}
				saw += s.Method + " " + s.URI + " " + body
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
