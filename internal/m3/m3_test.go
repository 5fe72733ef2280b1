package m3

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Recorded answers of an m3coordinator (M3 2e397f7f).
const (
	readyAll = `{"readyReads":[{"id":"default","attributes":{"metricsType":"unaggregated","retention":"48h0m0s","resolution":"0s"}},{"id":"agg_10s_30d","attributes":{"metricsType":"aggregated","retention":"720h0m0s","resolution":"10s"}},{"id":"agg_1m_1y","attributes":{"metricsType":"aggregated","retention":"8760h0m0s","resolution":"1m0s"}}],"readyWrites":[{"id":"default","attributes":{"metricsType":"unaggregated","retention":"48h0m0s","resolution":"0s"}},{"id":"agg_10s_30d","attributes":{"metricsType":"aggregated","retention":"720h0m0s","resolution":"10s"}},{"id":"agg_1m_1y","attributes":{"metricsType":"aggregated","retention":"8760h0m0s","resolution":"1m0s"}}]}`
	readyRaw = `{"readyReads":[{"id":"default","attributes":{"metricsType":"unaggregated","retention":"48h0m0s","resolution":"0s"}}],"readyWrites":[{"id":"default","attributes":{"metricsType":"unaggregated","retention":"48h0m0s","resolution":"0s"}}]}`
	notReady = `{"notReadyReads":[{"id":"default","attributes":{"metricsType":"unaggregated","retention":"48h0m0s","resolution":"0s"}}],"notReadyWrites":[{"id":"default","attributes":{"metricsType":"unaggregated","retention":"48h0m0s","resolution":"0s"}}]}`

	pastLine   = `datapoint for aggregation too far in past: off_by=45.001890911s, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:38:20Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307900054890911`
	pastLine2  = `datapoint for aggregation too far in past: off_by=1.8962ms, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:37:35Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307855054896200`
	epochLine  = `datapoint for aggregation too far in past: off_by=498696h42m38.009185115s, timestamp=1969-12-31T23:59:59Z, past_limit=2026-11-22T00:42:38Z, timestamp_unix_nanos=-1000000, past_limit_unix_nanos=1795308158008185115`
	futureLine = `datapoint for aggregation too far in future: off_by=9m59.992451795s, timestamp=2026-11-22T00:49:35Z, future_limit=2026-11-22T00:39:35Z, timestamp_unix_nanos=1795308575039000000, future_limit_unix_nanos=1795307975046548205`
	rawTooOld  = `failed to meet consistency level majority with 0/1 success, 1 nodes responded, errors: [error writing to host m3db_node1: Error({Type:BAD_REQUEST Message:datapoint too far in past: id={__name__="lab12_1795308055",s="x"}, off_by=49m59.32s, timestamp=21 Nov 26 23:40 +0000, past_limit=22 Nov 26 00:30 +0000, timestamp_unix_nanos=1795304455680000000, past_limit_unix_nanos=1795307455000000000 Flags:0})]`
	nodeDown   = `failed to meet consistency level majority with 0/1 success, 1 nodes responded, errors: [error writing to host m3db_node1: connection pool has no connections]`
)

// answer is the body of an error answer.
func answer(text string) []byte {
	b, err := json.Marshal(map[string]string{"status": "error", "error": text})
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}

func TestReady(t *testing.T) {
	m3, prom := Defaults(), Config{Kind: KindPrometheus}
	other := Config{Kind: KindM3, Namespace: "raw"}
	for _, c := range []struct {
		name   string
		config Config
		status int
		body   string
		w, r   bool
	}{
		{"all namespaces", m3, 200, readyAll, true, true},
		{"the raw namespace alone", m3, 200, readyRaw, true, true},
		{"no namespace yet", m3, 200, `{}`, false, false},
		{"database gone", m3, 500, notReady, false, false},
		{"not ready with a wrong status", m3, 200, notReady, false, false},
		{"another raw namespace", other, 200, readyAll, false, false},
		{"reads only", m3, 200, `{"readyReads":[{"id":"default"}]}`, false, true},
		{"writes only", m3, 200, `{"readyWrites":[{"id":"default"}]}`, true, false},
		{"aggregated namespaces only", m3, 200, `{"readyReads":[{"id":"agg_1m_1y"}],"readyWrites":[{"id":"agg_1m_1y"}]}`, false, false},
		{"not M3", m3, 200, "Prometheus Server is Ready.\n", false, false},
		{"empty", m3, 200, "", false, false},
		{"500 with a good body", m3, 500, readyAll, false, false},
		{"prometheus", prom, 200, "Prometheus Server is Ready.\n", true, true},
		{"prometheus starting", prom, 503, "Service Unavailable", false, false},
	} {
		writes, reads := c.config.Ready(c.status, []byte(c.body))
		if (writes == nil) != c.w || (reads == nil) != c.r {
			t.Errorf("%s: writes %v, reads %v", c.name, writes, reads)
		}
	}
}

func TestProbeQuery(t *testing.T) {
	if path, params := ProbeQuery(KindM3); path != "/api/v1/query" || params != "query=m3gateway_probe&timeout=1s" {
		t.Errorf("%s?%s", path, params)
	}
	if path, _ := ProbeQuery(KindPrometheus); path != "" {
		t.Error(path)
	}
	for status, want := range map[int]string{
		200: "<nil>", 400: "<nil>", 429: "<nil>",
		500: "a query answered status 500: the store is starting", 504: "a query answered status 504: the store is starting",
	} {
		err := ProbeError(status, answer(`error fetching tagged from host m3db_node1: Error({Type:INTERNAL_ERROR Message:index is not yet bootstrapped to read Flags:0})]`))
		if fmt.Sprint(err) != want {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestStoredNotAggregated(t *testing.T) {
	const one, two, three = "bad_request_errors: count=1, last=", "bad_request_errors: count=2, last=", "bad_request_errors: count=3, last="
	for _, c := range []struct {
		name        string
		status      int
		body        []byte
		stored, ask bool
	}{
		{"one sample, two rules", 400, answer(one + pastLine + "\n" + pastLine2), true, false},
		{"one sample, one rule", 400, answer(one + pastLine), true, false},
		{"negative timestamp", 400, answer(one + epochLine), true, false},
		{"future", 400, answer(one + futureLine + "\n" + futureLine), true, false},
		{"two errors, one shown", 400, answer(two + pastLine + "\n" + pastLine2), false, true},
		{"three errors, one shown", 400, answer(three + futureLine), false, true},
		{"610080 errors", 400, answer("bad_request_errors: count=610080, last=" + pastLine), false, true},
		{"raw namespace refused", 400, answer(one + rawTooOld), false, false},
		{"raw namespace refused among others", 400, answer(three + rawTooOld), false, false},
		{"duplicate label", 400, answer(two + "tags duplicate: 'a' appears more than once in '__name__: m, a: 1, a: 2'"), false, false},
		{"forged line in a label value", 400, answer(one + "tags duplicate: 'a' appears more than once in '__name__: m, a: 1, a: \n" + pastLine), false, false},
		{"another rule's other error", 400, answer(one + pastLine + "\nwrite value rate limit is exceeded"), false, false},
		{"text after the line", 400, answer(one + pastLine + ", " + nodeDown), false, false},
		{"count=0", 400, answer("bad_request_errors: count=0, last=" + pastLine), false, false},
		{"count=10", 400, answer("bad_request_errors: count=10, last=" + pastLine), false, true},
		{"retryable and bad requests", 500, answer("retryable_errors: count=500, last=" + nodeDown + ", bad_request_errors: count=500, last=" + pastLine), false, false},
		{"the same as 400", 400, answer("retryable_errors: count=500, last=" + nodeDown + ", bad_request_errors: count=500, last=" + pastLine), false, false},
		{"status 429", 429, answer(one + pastLine), false, false},
		{"status 500", 500, answer(one + pastLine), false, false},
		{"status 200", 200, nil, false, false},
		{"no text", 400, answer(""), false, false},
		{"not JSON", 400, []byte(one + pastLine), false, false},
		{"cut off", 400, answer(one + pastLine)[:200], false, false},
		{"success with an error", 400, []byte(`{"status":"success","error":"` + one + pastLine + `"}`), false, false},
	} {
		if got := StoredNotAggregated(c.status, c.body); got != c.stored {
			t.Errorf("%s: stored %v", c.name, got)
		}
		if got := RawAnswerNeeded(c.status, c.body); got != c.ask {
			t.Errorf("%s: ask %v", c.name, got)
		}
	}
}

func TestCleanError(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`1:5: parse error: unclosed left parenthesis`, `parse error: unclosed left parenthesis`},
		{`1:1: parse error: unknown function with name "nosuch"`, `parse error: unknown function with name "nosuch"`},
		{`invalid parameter "query": 1:5: parse error: unclosed left parenthesis`, `parse error: unclosed left parenthesis`},
		{"1:5: parse error: a\nhost m3db_node1", "the store answered with an error"},
		{"1:5: parse error: " + strings.Repeat("x", 400), "the store answered with an error"},
		{"m3db_node1: 1:5: parse error: x", "the store answered with an error"},
		{`error parsing param: query, error: no query found`, "invalid parameter: query"},
		{`error parsing param: time, error: invalid timestamp for xx`, "invalid parameter: time"},
		{`could not parse timeout: err=invalid 'timeout': 20m0s greater than max 10m0s`, "invalid parameter: timeout"},
		{`invalid parameter "match[]": x`, "the store answered with an error"},
		{`query timed out in expression evaluation`, "the query timed out in the store"},
		{`unable to satisfy consistency requirements, shards=16: failed to meet consistency level unstrict_majority with 0/1 success, 1 nodes responded, errors: [error fetching tagged from host m3db_node1: connection pool has no connections]`, "the store could not reach enough of its nodes"},
		{`unable to satisfy consistency requirements, shards=16: failed to meet consistency level unstrict_majority with 0/1 success, 1 nodes responded, errors: [error fetching tagged from host m3db_node1: dial tcp 127.0.0.1:19000: connect: connection refused]`, "the store could not reach enough of its nodes"},
		{`unable to satisfy consistency requirements, shards=16: failed to meet consistency level unstrict_majority with 0/1 success, 1 nodes responded, errors: [error fetching tagged from host m3db_node1: Error({Type:BAD_REQUEST Message:query exceeded limit: require_exhaustive=true, series_limit=4, series_matched=4, docs_limit=0, docs_matched=6 Flags:1})]`, "the query reads more than the store's limits allow; select fewer series or a shorter range"},
		{`error fetching tagged from host m3db_node1: Error({Type:INTERNAL_ERROR Message:index is not yet bootstrapped to read Flags:0})]`, "the store is starting"},
		{`unaggregated namespace is not yet initialized`, "the store is starting"},
		{"bad_request_errors: count=1, last=" + rawTooOld, "a sample is older than the store accepts"},
		{"bad_request_errors: count=2, last=" + pastLine, "a sample is too old for the store's aggregated copies"},
		{"retryable_errors: count=500, last=" + nodeDown, "the store could not reach enough of its nodes"},
		{"bad_request_errors: count=2, last=tags duplicate: 'tenant' appears more than once in '__name__: lab20, tenant: victim, tenant: mine'", "a series has the same label twice"},
		{"error parsing regexp: missing closing ): `^(?:()$`", "invalid regular expression"},
		{"expanding series: invalid label name: bad.label", "a series has a label name that the store cannot query"},
		{`found duplicate series for the match group {tenant="a"} on the right hand-side of the operation: [{x="secret"}, {x="y"}];many-to-many matching not allowed: matching labels must be unique on one side`, "many-to-many matching not allowed: matching labels must be unique on one side"},
		{"dfa contains more than 10000 states", regexpTooLarge},
		{"too many instructions", regexpTooLarge},
		{`snappy: corrupt input`, "the store could not decode the request"},
		{`no etcd cluster found for zone: other`, "the store answered with an error"},
		{``, "the store answered with an error"},
	} {
		got := CleanError(answer(c.text))
		if got != c.want {
			t.Errorf("%q\n got %q\nwant %q", c.text, got, c.want)
		}
	}
	for _, body := range []string{"", "404 page not found\n", "{", `{"status":"success"}`, `["m3db_node1"]`} {
		if got := CleanError([]byte(body)); got != "the store answered with an error" {
			t.Errorf("%q: %q", body, got)
		}
	}
}

func FuzzCleanError(f *testing.F) {
	seeds := []string{`1:5: parse error: unclosed`, "bad_request_errors: count=1, last=" + rawTooOld, nodeDown}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := CleanError(answer(text))
		if got == "" || !presentable(got) {
			t.Fatalf("%q", got)
		}
		if !strings.HasPrefix(got, "parse error: ") && strings.Contains(got, "m3db_node1") {
			t.Fatalf("%q", got)
		}
		if StoredNotAggregated(http.StatusBadRequest, answer(text)) && !strings.Contains(text, "datapoint for aggregation") {
			t.Fatalf("%q", text)
		}
	})
}

func TestRestrictHeader(t *testing.T) {
	for _, c := range []struct {
		label   string
		tenants []string
		want    string
	}{
		{"tenant", []string{"alpha"}, `{"match":[{"name":"tenant","type":"EQUAL","value":"alpha"}],"strip":[]}`},
		{"tenant", []string{"a.b"}, `{"match":[{"name":"tenant","type":"EQUAL","value":"a.b"}],"strip":[]}`},
		{"t", []string{"alpha", "b.e|t*a"}, `{"match":[{"name":"t","type":"REGEXP","value":"alpha|b\\.e\\|t\\*a"}],"strip":[]}`},
		{"tenant", []string{"", "alpha"}, `{"match":[{"name":"tenant","type":"EQUAL","value":"alpha"}],"strip":[]}`},
		{"tenant", []string{`a"}],"strip`}, `{"match":[{"name":"tenant","type":"EQUAL","value":"a\"}],\"strip"}],"strip":[]}`},
		{"tenant", nil, `{"match":[{"name":"tenant","type":"EXISTS","value":""},{"name":"tenant","type":"NOTEXISTS","value":""}],"strip":[]}`},
		{"tenant", []string{""}, `{"match":[{"name":"tenant","type":"EXISTS","value":""},{"name":"tenant","type":"NOTEXISTS","value":""}],"strip":[]}`},
	} {
		name, value := RestrictHeader(c.label, c.tenants)
		if name != "M3-Restrict-By-Tags-JSON" || value != c.want {
			t.Errorf("%q: %s: %s", c.tenants, name, value)
		}
	}
}

func TestRestrictHeaderMatchesNothingElse(t *testing.T) {
	tenants := []string{"a", "b.c", ".*", "a|d", "[x]"}
	_, value := RestrictHeader("tenant", tenants)
	var header struct{ Match []struct{ Value string } }
	if err := json.Unmarshal([]byte(value), &header); err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile("^(?:" + header.Match[0].Value + ")$") // how an m3coordinator compiles it
	for _, name := range tenants {
		if !re.MatchString(name) {
			t.Errorf("%q is shut out", name)
		}
	}
	for _, name := range []string{"", "aa", "bxc", "d", "x", "other", "a\n", "\na"} {
		if re.MatchString(name) {
			t.Errorf("%q is let in", name)
		}
	}
}

func TestPaths(t *testing.T) {
	m, p := PathsOf(KindM3), PathsOf(KindPrometheus)
	if m.Write != "/api/v1/prom/remote/write" || m.RemoteRead != "/api/v1/prom/remote/read" ||
		p.Write != "/api/v1/write" || p.RemoteRead != "/api/v1/read" || m.Query != p.Query {
		t.Errorf("%+v %+v", m, p)
	}
	if got := m.LabelValues("__name__"); got != "/api/v1/label/__name__/values" {
		t.Error(got)
	}
	if got := m.LabelValues("../../x?y"); got != "/api/v1/label/..%2F..%2Fx%3Fy/values" {
		t.Error(got)
	}
	if ReadyPath(KindM3) != "/ready" || ReadyPath(KindPrometheus) != "/-/ready" {
		t.Error("ready path")
	}
}

func TestTimeoutParam(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1s", -time.Hour: "1s", time.Millisecond: "1s", 5 * time.Second: "5s", 5900 * time.Millisecond: "5s",
		90 * time.Second: "90s", time.Hour: "600s",
	} {
		if got := TimeoutParam(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for field, edit := range map[string]func(*Config){
		"":                      func(c *Config) {},
		"kind":                  func(c *Config) { c.Kind = "mimir" },
		"namespace":             func(c *Config) { c.Namespace = "" },
		"stored_not_aggregated": func(c *Config) { c.StoredNotAggregated = "maybe" },
		"compression":           func(c *Config) { c.Compression = "gzip" },
		"protocol":              func(c *Config) { c.Protocol = "3.0" },
		"utf8_names":            func(c *Config) { c.UTF8Names = "allow" },
		"native_histograms":     func(c *Config) { c.NativeHistograms = "keep" },
	} {
		c := Defaults()
		edit(&c)
		var got string
		c.Check(func(field, _ string) { got = field })
		if got != field {
			t.Errorf("%+v: %q, want %q", c, got, field)
		}
	}
	c := Defaults()
	c.Protocol = Protocol2
	refused := false
	c.Check(func(field, _ string) { refused = field == "protocol" })
	if !refused {
		t.Error("2.0 to an m3")
	}
	c.Kind, c.Namespace = KindPrometheus, ""
	c.Check(func(field, problem string) { t.Errorf("a Prometheus needs no namespace: %s: %s", field, problem) })
}

func TestQueryAtFault(t *testing.T) {
	for text, want := range map[string]bool{"dfa contains more than 10000 states": true, "too many instructions": true, "query timed out": false, "": false} {
		if QueryAtFault(answer(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestLookbackParam(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Minute: "60s", 1500 * time.Millisecond: "1500ms", time.Microsecond: "1ms", 24 * time.Hour: "86400s"} {
		if name, v := LookbackParam(d); name != "lookback" || v != want {
			t.Errorf("%v: %s=%s", d, name, v)
		}
	}
}
