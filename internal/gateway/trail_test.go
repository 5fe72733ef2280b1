package gateway_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/auth"
	"m3gateway/internal/gatewaytest"
)

// trail reads a gateway's audit log, line by line.
type trail struct {
	g    *gatewaytest.Gateway
	read int // bytes
}

// startTrail runs a gateway with an audit log, and nothing else in the log but warnings.
func startTrail(t *testing.T, s gatewaytest.Setup) *trail {
	t.Helper()
	s.Extra = "audit: {file: audit.log}\nlog: {level: warn, access: false}\n" + s.Extra
	if s.Users == nil {
		s.Users, s.Tenancy = twoTenantUsers, twoTenants
	}
	return &trail{g: gatewaytest.Start(t, s)}
}

// more is what was written since the last call.
func (l *trail) more(t *testing.T) (lines []map[string]any, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.g.Dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	text = string(b[l.read:])
	text = text[:strings.LastIndexByte(text, '\n')+1]
	for s := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(s), &m); err != nil {
			t.Fatalf("%v: %s", err, s)
		}
		lines = append(lines, m)
	}
	l.read += len(text)
	return lines, text
}

// next waits for one line and returns it.
func (l *trail) next(t *testing.T) map[string]any {
	t.Helper()
	var all []map[string]any
	gatewaytest.Until(t, "there is a line", func() bool {
		lines, _ := l.more(t)
		all = append(all, lines...)
		return len(all) > 0
	})
	if len(all) != 1 {
		t.Fatalf("%d lines: %v", len(all), all)
	}
	return all[0]
}

// check sends req and holds the line that it leaves against want, whose time, duration and bytes are what they must be.
func (l *trail) check(t *testing.T, req *http.Request, want string) {
	t.Helper()
	req.Header.Set("Accept-Encoding", "identity") // the bytes that come are those that were sent
	begin := time.Now()
	a := l.g.Do(req)
	took := time.Since(begin)
	got := l.next(t)
	at, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(got["time"]))
	if seconds, _ := got["duration_seconds"].(float64); err != nil || at.Before(begin.Truncate(time.Millisecond)) || at.After(begin.Add(took)) || seconds <= 0 || seconds > took.Seconds() {
		t.Errorf("%s: time %v, duration %v; %v took %v", req.URL, got["time"], got["duration_seconds"], begin, took)
	}
	if got["status"] != float64(a.Status) || got["bytes_out"] != float64(len(a.Body)) {
		t.Errorf("%s: status %v, %v bytes; the answer has %d and %d", req.URL, got["status"], got["bytes_out"], a.Status, len(a.Body))
	}
	var wanted map[string]any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	for _, key := range []string{"time", "duration_seconds", "bytes_out"} {
		delete(got, key)
	}
	if text, _ := wanted["error"].(string); strings.HasSuffix(text, "…") && strings.HasPrefix(fmt.Sprint(got["error"]), strings.TrimSuffix(text, "…")) {
		wanted["error"] = got["error"]
	}
	if !reflect.DeepEqual(got, wanted) {
		b, _ := json.Marshal(got)
		t.Errorf("%s %s:\ngot  %s\nwant %s", req.Method, req.URL, b, want)
	}
}

// TestTrailOfReads: each route for reads leaves one line, with what was asked and what the store was asked in its place.
func TestTrailOfReads(t *testing.T) {
	u := newUpstream(t, ok)
	for _, kind := range []string{"prometheus", "m3"} {
		l := startTrail(t, gatewaytest.Setup{Kind: kind, Upstreams: []string{u.URL}})
		g := l.g
		const head = `{"client": "127.0.0.1", "listener": "https", `
		alice, both := head+`"user": "alice", "tenants": ["team-a"], `, head+`"user": "both", "tenants": ["team-a", "team-b"], `
		upstream := fmt.Sprintf(`, "upstream": %q}`, u.URL)
		for _, tc := range []struct{ user, tenant, path, want string }{
			{"alice", "", "/api/v1/query?query=sum(up)%2Bdown", alice + `"route": "query", "path": "/api/v1/query", "queries": ["sum(up)+down"], "confined": ["sum(up{tenant=\"team-a\"}) + down{tenant=\"team-a\"}"], "status": 200` + upstream},
			{"both", "", "/prometheus/api/v1/query_range?query=up&start=1&end=2&step=1", both + `"route": "query_range", "path": "/prometheus/api/v1/query_range", "queries": ["up"], "confined": ["up{tenant=~\"team-a|team-b\"}"], "status": 200` + upstream},
			{"both", "team-b", "/api/v1/query?query=up", head + `"user": "both", "tenants": ["team-b"], "route": "query", "path": "/api/v1/query", "queries": ["up"], "confined": ["up{tenant=\"team-b\"}"], "status": 200` + upstream},
			{"ops", "", "/api/v1/query?query=up", head + `"user": "ops", "tenants": ["*"], "route": "query", "path": "/api/v1/query", "queries": ["up"], "confined": ["up"], "status": 200` + upstream},
			{"ops", "team-a", "/api/v1/query?query=up", head + `"user": "ops", "tenants": ["team-a"], "route": "query", "path": "/api/v1/query", "queries": ["up"], "confined": ["up{tenant=\"team-a\"}"], "status": 200` + upstream},
			{"alice", "", "/api/v1/series?match[]=up&match[]=down&match[]=a", alice + `"route": "series", "path": "/api/v1/series", "queries": ["up", "down", "a"], "confined": ["{__name__=\"up\",tenant=\"team-a\"}", "{__name__=\"down\",tenant=\"team-a\"}", "{__name__=\"a\",tenant=\"team-a\"}"], "status": 200` + upstream},
			{"alice", "", "/api/v1/labels", alice + `"route": "labels", "path": "/api/v1/labels", "confined": ["{tenant=\"team-a\"}"], "status": 200` + upstream},
			{"alice", "", "/api/v1/label/job/values?match[]=up", alice + `"route": "label_values", "path": "/api/v1/label/{name}/values", "label": "job", "queries": ["up"], "confined": ["{__name__=\"up\",tenant=\"team-a\"}"], "status": 200` + upstream},
			{"alice", "", "/api/v1/label/job/values", alice + `"route": "label_values", "path": "/api/v1/label/{name}/values", "label": "job", "confined": ["{tenant=\"team-a\"}"], "status": 200` + upstream},
			{"alice", "", "/api/v1/query_exemplars?query=up", alice + `"route": "query_exemplars", "path": "/api/v1/query_exemplars", "queries": ["up"], "confined": ["up{tenant=\"team-a\"}"], "status": 200` + map[string]string{"prometheus": upstream, "m3": "}"}[kind]},
			{"alice", "", "/api/v1/format_query?query=1%2B1", alice + `"route": "format_query", "path": "/api/v1/format_query", "queries": ["1+1"], "status": 200}`},
			{"alice", "", "/api/v1/parse_query?query=1%2B1", alice + `"route": "parse_query", "path": "/api/v1/parse_query", "queries": ["1+1"], "status": 200}`},
			{"alice", "", "/api/v1/metadata?metric=up", alice + `"route": "metadata", "path": "/api/v1/metadata", "queries": ["up"], "status": 200}`},
			{"alice", "", "/api/v1/metadata", alice + `"route": "metadata", "path": "/api/v1/metadata", "status": 200}`},
			{"alice", "", "/api/v1/rules", alice + `"route": "rules", "path": "/api/v1/rules", "status": 200}`},
			{"alice", "", "/api/v1/limits", alice + `"route": "limits", "path": "/api/v1/limits", "status": 200}`},
			{"alice", "", "/federate?match[]=up", alice + map[string]string{
				"prometheus": `"route": "federate", "path": "/federate", "queries": ["up"], "confined": ["{__name__=\"up\",tenant=\"team-a\"}"], "status": 200` + upstream,
				"m3":         `"route": "federate", "path": "/federate", "status": 404, "error": "this store has no federation"}`,
			}[kind]},
		} {
			req := g.Request(tc.user, "GET", tc.path, nil)
			if tc.tenant != "" {
				req.Header.Set("X-Tenant", tc.tenant)
			}
			l.check(t, req, tc.want)
		}
		post := g.Request("alice", "POST", "/api/v1/query", []byte("query=up"))
		post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		l.check(t, post, alice+`"route": "query", "path": "/api/v1/query", "queries": ["up"], "confined": ["up{tenant=\"team-a\"}"], "status": 200`+upstream)
		raw, err := (&prompb.ReadRequest{Queries: []*prompb.Query{
			{Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "up"}, {Type: prompb.LabelMatcher_NRE, Name: "job", Value: `a"b`}}}, {},
		}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		read := g.Request("alice", "POST", "/api/v1/read", snappy.Encode(nil, raw))
		lock := map[string]string{"prometheus": `tenant=~\"team-a\"`, "m3": `tenant=\"team-a\"`}[kind]
		l.check(t, read, alice+`"route": "remote_read", "path": "/api/v1/read", "queries": ["{__name__=\"up\",job!~\"a\\\"b\"}", "{}"], "confined": ["{__name__=\"up\",job!~\"a\\\"b\",`+lock+`}", "{`+lock+`}"], "status": 200`+upstream)
		if log := g.Log.String(); strings.Count(log, `"operator read"`) != 2 { // as before
			t.Errorf("the log has\n%s", log)
		}
	}
}

// TestTrailOfRefusals: each refused request leaves one line, with the reason and the limit, and none a credential.
func TestTrailOfRefusals(t *testing.T) {
	u := newUpstream(t, ok)
	_, token, err := auth.NewToken("alice")
	if err != nil {
		t.Fatal(err)
	}
	l := startTrail(t, gatewaytest.Setup{
		Upstreams: []string{u.URL}, Listen: "plain: {address: 127.0.0.1:0}", Auth: "tokens_file: tokens, backoff: {user_failures: 2, address_failures: 0, first: 1h, longest: 1h}",
		Files: map[string]string{"tokens": token + "\n"},
		Extra: `limits:
  reads: {range: 1h, points: 100, concurrent: 1}
  writes: {samples_per_request: 3, labels: 4, request_bytes: 10KiB, decoded_bytes: 20KiB}
  tenants: {team-b: {writes: {requests_per_second: 1, requests_burst: 1}}}
`,
	})
	g := l.g
	const head, plain = `{"client": "127.0.0.1", "listener": "https", `, `{"client": "127.0.0.1", "listener": "plain", `
	const query, write = `"route": "query", "path": "/api/v1/query", `, `"route": "write", "path": "/api/v1/write", `
	alice := head + `"user": "alice", "tenants": ["team-a"], `
	get := func(user, path string, header ...string) *http.Request {
		req := g.Request(user, "GET", path, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Add(header[i], header[i+1])
		}
		return req
	}
	guess := func(user string) *http.Request {
		req := g.Request("", "GET", "/api/v1/query?query=up", nil)
		req.SetBasicAuth(user, "guessed-secret")
		return req
	}
	send := func(user string, series []prompb.TimeSeries) *http.Request {
		req := g.Request(user, "POST", "/api/v1/write", gatewaytest.Encode(t, series))
		req.Header.Set("Content-Type", "application/x-protobuf")
		return req
	}
	asked := func(expr string) string {
		b, _ := json.Marshal(expr)
		return `"queries": [` + string(b) + `], `
	}
	const denied = `"status": 401, "error": "unknown user or wrong password"}`
	l.check(t, get("", "/api/v1/query?query=up"), head+query+denied)
	l.check(t, guess("alice"), head+`"claimed_user": "alice", `+query+denied)
	l.check(t, guess("nobody"), head+`"claimed_user": "nobody", `+query+denied)
	l.check(t, guess(strings.Repeat("x", 3000)), head+query+denied) // no name that a user may have
	l.check(t, get("", "/api/v1/query?query=up", "Authorization", "Bearer a-secret-token"), head+query+denied)
	l.check(t, guess("nobody"), head+`"claimed_user": "nobody", `+query+denied)
	l.check(t, guess("nobody"), head+`"claimed_user": "nobody", `+query+`"limits": ["auth.backoff"], "status": 429, "error": "too many failed attempts of this user or from this address; try again in 3600 s"}`)
	inClear, err := http.NewRequest("GET", g.PlainURL+"/api/v1/labels", nil)
	if err != nil {
		t.Fatal(err)
	}
	l.check(t, inClear, plain+`"route": "labels", "path": "/api/v1/labels", `+denied)

	l.check(t, get("", "/api/v1/admin/tsdb/snapshot?x=y"), head+`"route": "none", "status": 404, "error": "no such route"}`)
	l.check(t, g.Request("alice", "DELETE", "/api/v1/series", nil), head+`"route": "series", "path": "/api/v1/series", "status": 405, "error": "this route takes GET, POST"}`)
	l.check(t, get("writer", "/api/v1/query?query=up"), head+`"user": "writer", "tenants": ["team-a"], `+query+`"status": 403, "error": "this user may not read"}`)
	l.check(t, get("alice", "/api/v1/query?query=up", "X-Tenant", "team-b"), head+`"user": "alice", `+query+`"status": 403, "error": "X-Tenant names a tenant that this user does not have"}`)
	l.check(t, get("alice", "/api/v1/query?query=up&x=y"), alice+query+`"status": 400, "error": "unknown parameter \"x\"; this route takes …"}`)
	l.check(t, get("alice", "/api/v1/query?query=sum("), alice+query+asked("sum(")+`"status": 400, "error": "invalid parameter \"query\": …"}`)
	l.check(t, get("alice", "/api/v1/query?query=up[2h]"), alice+query+asked("up[2h]")+`"confined": ["up{tenant=\"team-a\"}[2h]"], "limits": ["limits.reads.range"], "status": 422, "error": "the query spans 2h0m0s; limits.reads.range allows 1h0m0s; ask for a shorter time"}`)
	l.check(t, get("alice", "/api/v1/query_range?query=up&start=0&end=1000&step=1"), alice+`"route": "query_range", "path": "/api/v1/query_range", `+asked("up")+`"confined": ["up{tenant=\"team-a\"}"], "limits": ["limits.reads.points"], "status": 422, "error": "the query asks for 1000 points per series; …"}`)
	broken := g.Request("alice", "POST", "/api/v1/read", []byte("nothing of the kind"))
	l.check(t, broken, alice+`"route": "remote_read", "path": "/api/v1/read", "status": 400, "error": "body is …"}`)
	u.say(500, `{"status":"error","errorType":"internal","error":"out of order"}`)
	l.check(t, get("alice", "/api/v1/query?query=up"), alice+query+asked("up")+`"confined": ["up{tenant=\"team-a\"}"], "status": 503, "error": "out of order"}`)
	u.say(204, "")

	few, old := numbered(0, 1), up()
	old.Samples[0].Timestamp -= time.Hour.Milliseconds()
	wide := up("a", "1", "b", "2", "c", "3", "d", "4")
	size := func(req *http.Request) string { return fmt.Sprintf(`"bytes_in": %d, `, req.ContentLength) }
	l.check(t, send("reader", few), head+`"user": "reader", "tenants": ["team-a"], `+write+`"status": 403, "error": "this user may not write"}`)
	l.check(t, send("both", few), head+`"user": "both", "tenants": ["team-a", "team-b"], `+write+`"status": 400, "error": "this user has several tenants; name one with the X-Tenant header"}`)
	many := send("alice", numbered(0, 4))
	l.check(t, many, alice+write+size(many)+`"limits": ["limits.writes.samples_per_request"], "status": 413, "error": "the request has 4 samples; …"}`)
	partly := send("alice", []prompb.TimeSeries{up(), old, wide})
	l.check(t, partly, alice+write+size(partly)+fmt.Sprintf(`"upstream": %q, `, u.URL)+`"limits": ["limits.window.past", "limits.writes.labels"], "status": 400, "error": "stored 1 samples, dropped 2: …"}`)
	body := send("alice", []prompb.TimeSeries{up("v", strings.Repeat("v", 30<<10))})
	l.check(t, body, alice+write+size(body)+`"limits": ["limits.writes.decoded_bytes"], "status": 413, "error": "the decoded request is over the limit of 20480 bytes; …"}`)
	huge := g.Request("alice", "POST", "/api/v1/write", make([]byte, 20<<10))
	l.check(t, huge, alice+write+`"limits": ["limits.writes.request_bytes"], "status": 413, "error": "the request body is over the limit of 10240 bytes; …"}`)
	media := send("alice", few)
	media.Header.Set("Content-Type", "text/plain")
	l.check(t, media, alice+write+`"status": 415, "error": "Content-Type must be application/x-protobuf"}`)
	for _, s := range []string{"alice", "bob"} { // a success leaves nothing
		if a := g.Do(send(s, few)); a.Status != 204 {
			t.Fatalf("%s: %+v", s, a)
		}
	}
	l.check(t, send("bob", few), head+`"user": "bob", "tenants": ["team-b"], `+write+`"limits": ["limits.writes.requests_per_second"], "status": 429, "error": "…"}`)

	text, err := os.ReadFile(filepath.Join(g.Dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"guessed-secret", "a-secret-token", gatewaytest.Password("alice"), "Basic", "Bearer"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the audit log holds %q", secret)
		}
	}
}

// TestTrailOfBusyReads: what is under way, the budget, and an answer that is cut name their limits, too.
func TestTrailOfBusyReads(t *testing.T) {
	h := newHeld(t, false)
	l := startTrail(t, gatewaytest.Setup{Upstreams: []string{h.URL}, Extra: "limits: {inflight_bytes: 192KiB, request_bytes: 64KiB, decoded_bytes: 64KiB, reads: {concurrent: 1, queue: 0}}"})
	done := make(chan gatewaytest.Answer)
	go func() { done <- l.g.Get("alice", "/api/v1/query?query=up") }()
	<-h.entered
	l.check(t, l.g.Request("alice", "GET", "/api/v1/labels", nil), `{"client": "127.0.0.1", "listener": "https", "user": "alice", "tenants": ["team-a"], "route": "labels", "path": "/api/v1/labels",
		"confined": ["{tenant=\"team-a\"}"], "limits": ["limits.reads.concurrent"], "status": 429, "error": "1 reads of this tenant are under way; …"}`)
	l.check(t, l.g.Request("bob", "GET", "/api/v1/query?query=up", nil), `{"client": "127.0.0.1", "listener": "https", "user": "bob", "tenants": ["team-b"], "route": "query", "path": "/api/v1/query",
		"queries": ["up"], "confined": ["up{tenant=\"team-b\"}"], "limits": ["limits.inflight_bytes"], "status": 503, "error": "the gateway holds as many bytes as limits.inflight_bytes allows, …"}`)
	close(h.goOn)
	if a := <-done; a.Status != 200 || l.next(t)["status"] != 200.0 {
		t.Errorf("%+v", a)
	}

	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush() // without a length
		for range 100 {
			_, _ = w.Write(make([]byte, 4<<10))
			w.(http.Flusher).Flush()
		}
	})
	l = startTrail(t, gatewaytest.Setup{Upstreams: []string{u.URL}, Extra: "limits: {reads: {answer_bytes: 64KiB}}"})
	if resp, err := l.g.Client.Do(l.g.Request("alice", "GET", "/api/v1/query?query=up", nil)); err == nil {
		_ = resp.Body.Close()
	}
	if got := l.next(t); !reflect.DeepEqual(got["limits"], []any{"limits.reads.answer_bytes"}) || got["error"] == nil || got["confined"] == nil {
		t.Errorf("%v", got)
	}
}

// TestTrailOfBusyRequests: who is over its share of the requests under way is named with its tenants, of a write too.
func TestTrailOfBusyRequests(t *testing.T) {
	h := newHeld(t, false)
	l := startTrail(t, gatewaytest.Setup{Upstreams: []string{h.URL}, Extra: "limits: {inflight_requests: 100, reads: {concurrent: 0}}"})
	const share = 84 // of one tenant: 7 * (100 / 8)
	done := make(chan int, share)
	for range share {
		go func() { done <- l.g.Get("alice", "/api/v1/query?query=up").Status }()
		<-h.entered
	}
	req := l.g.Request("alice", "POST", "/api/v1/write", gatewaytest.Encode(t, numbered(0, 1)))
	l.check(t, req, `{"client": "127.0.0.1", "listener": "https", "user": "alice", "tenants": ["team-a"], "route": "write", "path": "/api/v1/write",
		"limits": ["limits.inflight_requests"], "status": 503, "error": "the gateway works on as many requests as limits.inflight_requests allows, …"}`)
	close(h.goOn)
	for range share {
		if status := <-done; status != 200 {
			t.Errorf("%d", status)
		}
	}
}

// TestTrailIsBounded: a query of any length makes a line of bounded length, which says so.
func TestTrailIsBounded(t *testing.T) {
	u := newUpstream(t, ok)
	l := startTrail(t, gatewaytest.Setup{Upstreams: []string{u.URL}})
	expr := strings.Repeat("up + ", 20_000) + "up"
	if a := l.g.Post("alice", "/api/v1/query", "query="+url.QueryEscape(expr)); a.Status != 200 && a.Status != 400 {
		t.Fatalf("%d %.300s", a.Status, a.Body)
	}
	got := l.next(t)
	queries, _ := got["queries"].([]any)
	if len(queries) != 1 || len(queries[0].(string)) < 4<<10 || len(queries[0].(string)) > 8<<10 || !strings.HasPrefix(expr, queries[0].(string)) || got["truncated"] != true {
		t.Errorf("%v: %.300v", got["truncated"], got)
	}
}

// TestNoTrail: without the section nothing is written, and the counters are there all the same.
func TestNoTrail(t *testing.T) {
	u := newUpstream(t, ok)
	g := start(t, "prometheus", u)
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	metrics := g.Admin("GET", "/metrics").Body
	for name, value := range maps.All(map[string]string{
		"m3gateway_audit_lines_total": "0", `m3gateway_audit_dropped_lines_total{reason="full"}`: "0", `m3gateway_audit_dropped_lines_total{reason="failed"}`: "0", "m3gateway_audit_failing": "0",
	}) {
		if !strings.Contains(metrics, name+" "+value+"\n") {
			t.Errorf("no %s %s", name, value)
		}
	}
}
