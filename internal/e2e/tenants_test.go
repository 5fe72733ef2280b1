//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
)

// Two Prometheus servers write through the gateway into a third, each for its tenant; one of them claims to be the other.
func TestTenants(t *testing.T) {
	alice, bob := users()
	receiver := startReceiver(t)
	g := startGateway(t, receiver.addr, alice, bob)
	asAlice, asBob, direct := g.client(t, alice), g.client(t, bob), receiver.direct()
	known := count(t, asAlice, "known_values")
	knownToo := count(t, asBob, "known_values")
	sender := startSender(t, g, alice, "/api/v1/prom/remote/write", "origin: sender")
	forger := startSender(t, g, bob, "/api/v1/push", fmt.Sprintf("origin: forger, tenant: %s", alice.tenant))

	for _, c := range []client{asAlice, asBob} {
		eventually(t, "waiting for the sender's data of "+c.user, func() error {
			got, err := c.query(`rate(prometheus_http_requests_total{job="self",handler="/metrics"}[1m])`, time.Now())
			if err == nil && len(got) == 0 {
				err = errors.New("no data")
			}
			return err
		})
	}

	t.Run("forged label", func(t *testing.T) {
		for tenant, origin := range map[string]string{alice.tenant: "sender", bob.tenant: "forger"} {
			got, err := direct.query(fmt.Sprintf(`group by (tenant, origin) ({job="self",tenant=%q})`, tenant), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]string{"tenant": tenant, "origin": origin}; len(got) != 1 || !reflect.DeepEqual(got[0].Metric, want) {
				t.Errorf("scraped by %s: %v, want only %v", tenant, got, want)
			}
		}
		if got, err := direct.query(`count by (tenant) ({__name__=~".+",tenant!~"one|two"})`, time.Now()); err != nil || len(got) != 0 {
			t.Errorf("series of no tenant: %v, %v", got, err)
		}
	})
	t.Run("reads", func(t *testing.T) {
		reads(t, asAlice, direct, alice.tenant, bob.tenant)
		reads(t, asBob, direct, bob.tenant, alice.tenant)
	})
	t.Run("remote read", func(t *testing.T) {
		remoteReads(t, asAlice, direct, alice.tenant)
		remoteReads(t, asBob, direct, bob.tenant)
	})
	t.Run("remote read by Prometheus", func(t *testing.T) {
		for _, u := range []user{alice, bob} {
			reader := startReader(t, g, u)
			for _, q := range []string{
				`{__name__=~".+"%s}`,
				`sum by (origin) (rate(prometheus_http_requests_total{job="self"%s}[1m]))`,
				`up{tenant=~".*"%s}`,
			} {
				same(t, time.Now(), direct, "GET", "/api/v1/query", url.Values{"query": {fmt.Sprintf(q, fmt.Sprintf(",tenant=%q", u.tenant))}},
					reader.direct(), "GET", "/api/v1/query", url.Values{"query": {fmt.Sprintf(q, "")}}, true)
			}
		}
	})
	t.Run("refusals", func(t *testing.T) { refusals(t, g, asAlice) })
	t.Run("promtool", func(t *testing.T) { promtoolQuery(t, g, bob) })

	t.Run("upstream restarts", func(t *testing.T) {
		from := time.Now()
		for _, end := range []func(){
			receiver.kill,
			func() { receiver.terminate(t) },
		} {
			known.moreAcknowledged(t, 50)
			end()
			known.moreRefused(t, 10)
			receiver.restart(t)
			known.moreAcknowledged(t, 50)
		}
		for _, s := range []*counter{known, knownToo} {
			s.end()
			for status := range s.statuses {
				if status/100 != 2 && status/100 != 5 {
					t.Errorf("a write was answered %d", status)
				}
			}
			s.verify(t, s.client, "known_values")
		}
		caughtUp(t, sender, asAlice, from)
		caughtUp(t, forger, asBob, from)
	})

	if code := g.terminate(t); code != 0 {
		t.Errorf("the gateway ended with code %d", code)
	}
	noCredentials(t, g, alice, bob)
}

// same asserts that two reads at one time give the same data. The reference is read before and after: while samples of
// that time still arrive, it is tried again.
func same(t *testing.T, at time.Time, reference client, refMethod, refPath string, refParams url.Values, tested client, method, path string, params url.Values, full bool) {
	t.Helper()
	for _, p := range []url.Values{refParams, params} {
		switch {
		case strings.HasSuffix(path, "/query"):
			p.Set("time", seconds(at))
		default:
			p.Set("start", seconds(at.Add(-time.Minute)))
			p.Set("end", seconds(at))
		}
	}
	eventually(t, fmt.Sprintf("%s %s %v", method, path, params), func() error {
		before, err := reference.api(refMethod, refPath, refParams)
		if err != nil {
			return err
		}
		got, err := tested.api(method, path, params)
		if err != nil {
			return err
		}
		after, err := reference.api(refMethod, refPath, refParams)
		if err != nil {
			return err
		}
		if want := canonical(t, before); canonical(t, after) != want {
			return errors.New("the reference keeps changing")
		} else if answer := canonical(t, got); answer != want {
			t.Fatalf("%s %s %v:\n got %.2000s\nwant %.2000s", method, path, params, answer, want)
		} else if full && (want == "[]" || strings.Contains(want, `"result":[]`)) {
			return errors.New("no data")
		}
		return nil
	})
}

// canonical is data with its list in a fixed order.
func canonical(t *testing.T, data json.RawMessage) string {
	t.Helper()
	sorted := func(list []json.RawMessage) []json.RawMessage {
		slices.SortFunc(list, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
		return list
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &list) == nil {
		return string(encode(t, sorted(list)))
	}
	var results struct {
		ResultType string            `json:"resultType"`
		Result     []json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(data, &results); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	sorted(results.Result)
	return string(encode(t, results))
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reads compares each read route with the receiver's own answer to the same question about tenant.
func reads(t *testing.T, c, direct client, tenant, other string) {
	matcher := fmt.Sprintf("tenant=%q", tenant)
	at := time.Now()
	for _, q := range []struct {
		promQL string // M is where the tenant's matcher goes
		full   bool   // the answer must not be empty
	}{
		{`up{M}`, true},
		{`known_values{M}`, true},
		{`{__name__=~".+",M}`, true},
		{`count by (tenant, origin) ({__name__!="",M})`, true},
		{`sum(rate(prometheus_http_requests_total{M}[1m])) / count(up{M})`, true},
		{`max_over_time(up{M}[30s:1s])`, true},
		{`up{M} or known_values{tenant!="",M}`, true},
		{`up{tenant="OTHER",M}`, false},
		{`up{tenant=~"OTHER|.+",M} or {tenant="OTHER",M}`, true},
		{`up{M} unless on (job) up{tenant="OTHER",M}`, true},
		{`label_replace(up{M}, "tenant", "OTHER", "", "")`, true},
		{`absent(up{tenant="OTHER",M})`, true},
		{`topk(1, count by (tenant) ({tenant=~".+",M}))`, true},
	} {
		q.promQL = strings.ReplaceAll(q.promQL, "OTHER", other)
		asked := strings.ReplaceAll(strings.ReplaceAll(q.promQL, ",M", ""), "M", "")
		reference := strings.ReplaceAll(q.promQL, "M", matcher)
		for _, prefix := range []string{"", "/prometheus"} {
			for _, method := range []string{"GET", "POST"} {
				for _, route := range []string{"/api/v1/query", "/api/v1/query_range"} {
					p, refP := url.Values{"query": {asked}}, url.Values{"query": {reference}}
					if strings.HasSuffix(route, "range") {
						p.Set("step", "5")
						refP.Set("step", "5")
					}
					same(t, at, direct, "GET", route, refP, c, method, prefix+route, p, q.full)
				}
			}
		}
	}
	of := url.Values{"match[]": {"{" + matcher + "}"}}
	for _, l := range []struct {
		route       string
		asked, want []string // match[]
		get         bool     // only
		full        bool
	}{
		{"/api/v1/series", []string{`{__name__=~".+"}`}, of["match[]"], false, true},
		{"/api/v1/series", []string{"up", "known_values"}, []string{"up{" + matcher + "}", "known_values{" + matcher + "}"}, false, true},
		{"/api/v1/series", []string{fmt.Sprintf(`up{tenant=%q}`, other)}, []string{fmt.Sprintf(`up{tenant=%q,%s}`, other, matcher)}, false, false},
		{"/api/v1/labels", nil, of["match[]"], false, true},
		{"/api/v1/labels", []string{"up"}, []string{"up{" + matcher + "}"}, false, true},
		{"/api/v1/label/origin/values", nil, of["match[]"], true, true},
		{"/api/v1/label/tenant/values", nil, of["match[]"], true, true},
		{"/api/v1/label/__name__/values", []string{`{job="self"}`}, []string{`{job="self",` + matcher + "}"}, true, true},
		{"/api/v1/label/tenant/values", []string{fmt.Sprintf(`{tenant=%q}`, other)}, []string{fmt.Sprintf(`{tenant=%q,%s}`, other, matcher)}, true, false},
	} {
		for _, prefix := range []string{"", "/prometheus"} {
			for _, method := range []string{"GET", "POST"} {
				if l.get && method == "POST" {
					continue
				}
				p := url.Values{}
				if l.asked != nil {
					p["match[]"] = l.asked
				}
				same(t, at, direct, "GET", l.route, url.Values{"match[]": l.want}, c, method, prefix+l.route, p, l.full)
			}
		}
	}
}

// remoteReads compares what the remote-read protocol gives with what the receiver itself gives for tenant.
func remoteReads(t *testing.T, c, direct client, tenant string) {
	of := &prompb.LabelMatcher{Type: prompb.LabelMatcher_EQ, Name: "tenant", Value: tenant}
	some := &prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "__name__", Value: "up|known_values"}
	at := time.Now()
	for _, path := range []string{"/api/v1/read", "/api/v1/prom/remote/read", "/prometheus/api/v1/read"} {
		for _, matchers := range [][]*prompb.LabelMatcher{nil, {some}} {
			eventually(t, path, func() error {
				before, err := direct.remoteRead("/api/v1/read", at, append([]*prompb.LabelMatcher{of}, matchers...)...)
				if err != nil {
					return err
				}
				got, err := c.remoteRead(path, at, matchers...)
				if err != nil {
					return err
				}
				after, err := direct.remoteRead("/api/v1/read", at, append([]*prompb.LabelMatcher{of}, matchers...)...)
				if err != nil {
					return err
				}
				// Stale markers are NaN, which equal nothing: compare what is printed.
				if fmt.Sprint(before) != fmt.Sprint(after) {
					return errors.New("the reference keeps changing")
				}
				if fmt.Sprint(got) != fmt.Sprint(before) {
					t.Fatalf("%s as %s: %d series, want the %d of the tenant", path, c.user, len(got), len(before))
				}
				if len(got) == 0 {
					return errors.New("no data")
				}
				return nil
			})
		}
	}
}

// refusals are requests that must not reach the receiver.
func refusals(t *testing.T, g *gateway, c client) {
	anonymous, wrong, unknown := c, c, c
	anonymous.user = ""
	wrong.password += "x"
	unknown.user = "mallory"
	for _, tc := range []struct {
		c            client
		method, path string
		want         int
	}{
		{anonymous, "GET", "/api/v1/query?query=up", 401},
		{anonymous, "POST", "/api/v1/write", 401},
		{anonymous, "POST", "/api/v1/read", 401},
		{wrong, "GET", "/api/v1/labels", 401},
		{unknown, "GET", "/api/v1/labels", 401},
		{c, "GET", "/api/v1/status/tsdb", 404},
		{c, "GET", "/api/v1/status/config", 404},
		{c, "GET", "/api/v1/targets", 404},
		{c, "POST", "/api/v1/admin/tsdb/delete_series", 404},
		{anonymous, "GET", "/federate?match[]=up", 401},
		{c, "GET", "/federate", 400},
		{c, "POST", "/federate?match[]=up", 405},
		{c, "GET", "/metrics", 404},
		{c, "GET", "/debug/pprof/", 404},
		{c, "GET", "/api/v1/query?query=up%7B", 400},
	} {
		status, answer, err := tc.c.do(tc.method, tc.path, "", nil)
		if err != nil || status != tc.want {
			t.Errorf("%s %s as %q: status %d (%v), want %d: %s", tc.method, tc.path, tc.c.user, status, err, tc.want, answer)
		}
	}
}

// promtoolQuery asks with Prometheus' own command-line client.
func promtoolQuery(t *testing.T, g *gateway, u user) {
	config := writeFile(t, filepath.Join(t.TempDir(), "http.yml"), fmt.Sprintf(
		"basic_auth: {username: %s, password: %s}\ntls_config: {ca_file: %s}\n", u.name, u.password, g.caFile))
	out, err := exec.Command(binary(t, "promtool"), "query", "instant", "--http.config.file="+config, g.url, "group by (tenant) (up)").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), fmt.Sprintf("{tenant=%q} => 1 @", u.tenant)) || strings.Count(string(out), "\n") != 1 {
		t.Errorf("promtool query instant: %v: %s", err, out)
	}
}

// caughtUp waits until everything that s scraped of some series since from is in the store, and asserts that s dropped
// nothing.
func caughtUp(t *testing.T, s *prometheus, c client, from time.Time) {
	t.Helper()
	at := time.Now()
	for _, selector := range []string{`up{job="self"}`, `process_start_time_seconds{job="self"}`, `prometheus_tsdb_head_series{job="self"}`} {
		eventually(t, "waiting for "+selector, func() error {
			want, err := samples(s.direct(), selector, from, at)
			if err != nil {
				return err
			}
			got, err := samples(c, selector, from, at)
			if err != nil {
				return err
			}
			if len(want) == 0 || !slices.Equal(got, want) {
				return fmt.Errorf("%d samples stored, %d scraped", len(got), len(want))
			}
			return nil
		})
	}
	for _, counter := range []string{"samples_failed", "samples_dropped"} {
		got, err := s.direct().query("sum(prometheus_remote_storage_"+counter+"_total) or vector(0)", time.Now())
		if err != nil || len(got) != 1 || got[0].Value.value != "0" {
			t.Errorf("%s of the sender: %v, %v", counter, got, err)
		}
	}
}

// samples are those that c sees of the one series of selector, from and to included.
func samples(c client, selector string, from, to time.Time) ([]point, error) {
	got, err := c.query(selector+"[30m]", to)
	if err != nil {
		return nil, err
	}
	if len(got) != 1 {
		return nil, fmt.Errorf("%s: %d series, want one", selector, len(got))
	}
	return slices.DeleteFunc(got[0].Values, func(p point) bool { return p.ms < from.UnixMilli() }), nil
}

// noCredentials asserts that no password was logged, in whatever form it came.
func noCredentials(t *testing.T, g *gateway, users ...user) {
	for _, file := range []string{g.stdout, g.stderr} {
		log, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			for _, secret := range []string{u.password, base64.StdEncoding.EncodeToString([]byte(u.name + ":" + u.password))} {
				if bytes.Contains(log, []byte(secret)) {
					t.Errorf("the log has a credential of %s", u.name)
				}
			}
		}
	}
}
