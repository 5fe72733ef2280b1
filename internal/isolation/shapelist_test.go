package isolation

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

const (
	// up and upSeries are how the store is asked for up of the asker.
	up       = `POST /api/v1/query query=up{tenant="a"}`
	upSeries = `POST /api/v1/series match[]={__name__="up",tenant="a"}`
)

var sawUp = []string{up}

func shapes() []shape {
	var out []shape
	for _, part := range []func() []shape{parameters, bodies, paths, targets, smuggled, framed, credentials, tenants, messages, oversized} {
		out = append(out, part()...)
	}
	return out
}

// parameters of reads: one value each, known names, no second way to say it.
func parameters() []shape {
	const q = "/api/v1/query"
	good := func(name, target string, saw ...string) shape {
		return shape{name: name, raw: get(target), status: 200, saw: saw}
	}
	bad := func(name, target string) shape { return shape{name: name, raw: get(target), status: 400} }
	return []shape{
		good("as it should be", q+"?query=up", up),
		good("an encoded name is the name", q+"?%71uery=up", up),
		good("everything encoded", q+"?%71%75%65%72%79=%75%70", up),
		good("plus and %20", q+"?query=up+%2B%20up", `POST /api/v1/query query=up{tenant="a"} + up{tenant="a"}`),
		good("an empty pair", q+"?&&query=up&&", up),
		good("a comment", q+"?query=up%23{tenant=%22b%22}", up),
		good("a raw # is part of the query", q+"?query=up#or{tenant=%22b%22}", up),
		good("an empty time is none", q+"?query=up&time=", up),
		good("time", q+"?query=up&time=12.5", up+" time=12.5"),
		good("a time with an exponent", q+"?query=up&time=1e3", up+" time=1000"),
		good("timeout without a unit", q+"?query=up&timeout=7", up+" timeout=7s"),
		good("a timeout of years", q+"?query=up&timeout=1y", up+" timeout=120s"),
		good("a timeout of nothing", q+"?query=up&timeout=1ms", up+" timeout=1s"),
		{name: "limit", raw: get(q + "?query=up&limit=7"), status: 200, saw: []string{`POST /api/v1/query limit=7 query=up{tenant="a"}`}, m3: &outcome{200, sawUp}},
		{name: "stats", raw: get(q + "?query=up&stats=all"), status: 200, saw: []string{up + " stats=all"}, m3: &outcome{200, sawUp}},
		{name: "lookback_delta", raw: get(q + "?query=up&lookback_delta=1m"), status: 200, saw: []string{`POST /api/v1/query lookback_delta=1m query=up{tenant="a"}`},
			m3: &outcome{200, []string{`POST /api/v1/query lookback=60s query=up{tenant="a"}`}}},
		good("the prefix of Mimir", "/prometheus/api/v1/query?query=up", up),

		bad("no query", q),
		bad("an empty query", q+"?query="),
		bad("a name without a value", q+"?query"),
		bad("query twice", q+"?query=up&query=up"),
		bad("query twice, once encoded", q+"?query=up&%71uery=up"),
		bad("time twice", q+"?query=up&time=1&time=1"),
		bad("another case", q+"?Query=up"),
		bad("another case beside", q+"?query=up&QUERY=up"),
		bad("a space in the name", q+"?+query=up"),
		bad("a NUL in the name", q+"?query%00=up"),
		bad("brackets in the name", q+"?query[]=up"),
		bad("a NUL in the query", q+"?query=up%00"),
		bad("a bare 0xff in the query", q+"?query=up%ff"),
		bad("an overlong encoding", q+"?query=%c1%b5p"),
		bad("semicolons", q+"?query=up;time=1"),
		bad("a semicolon at the end", q+"?query=up;"),
		bad("a bad escape", q+"?query=%zz"),
		bad("half an escape", q+"?query=up%"),
		bad("a bad escape in another parameter", q+"?query=up&time=%"),
		bad("a Unicode escape", q+"?query=%u0075p"),
		bad("the store's engine", q+"?query=up&engine=m3query"),
		bad("the store's format", q+"?query=up&format=json"),
		bad("the store's lookback", q+"?query=up&lookback=1h"),
		bad("the store's docsLimit", q+"?query=up&docsLimit=1000000"),
		bad("the store's requireExhaustive", q+"?query=up&requireExhaustive=false"),
		bad("the store's returnedSeriesLimit", q+"?query=up&returnedSeriesLimit=1"),
		bad("the store's readConsistencyLevel", q+"?query=up&readConsistencyLevel=one"),
		bad("a tenant as a parameter", q+"?query=up&tenant=b"),
		bad("X-Tenant as a parameter", q+"?query=up&X-Tenant=b"),
		bad("match[] of another route", q+"?query=up&match[]={}"),
		bad("dedup of another store", q+"?query=up&dedup=false"),
		bad("a time of words", q+"?query=up&time=now"),
		bad("a time with a line break", q+"?query=up&time=1%0a2"),
		bad("a time and more", q+"?query=up&time=1%26tenant=b"),
		bad("a long time", q+"?query=up&time="+strings.Repeat("1", 65)),
		bad("timeout 0", q+"?query=up&timeout=0"),
		bad("a negative timeout", q+"?query=up&timeout=-5s"),
		bad("a timeout of words", q+"?query=up&timeout=soon"),
		bad("a negative limit", q+"?query=up&limit=-1"),
		bad("a limit with an exponent", q+"?query=up&limit=1e3"),
		bad("a limit beyond 31 bits", q+"?query=up&limit=4294967296"),
		bad("step without a range", "/api/v1/query_range?query=up&start=1&end=2"),
		bad("a step of 0", "/api/v1/query_range?query=up&start=1&end=2&step=0"),
		bad("start twice", "/api/v1/query_range?query=up&start=1&start=1&end=2&step=1"),
		bad("exemplars without a query", "/api/v1/query_exemplars"),
		bad("parameters of buildinfo", "/api/v1/status/buildinfo?x=1"),
		bad("parameters of alerts", "/api/v1/alerts?x=1"),

		good("match[] encoded", "/api/v1/series?match%5B%5D=up", upSeries),
		{name: "match[] twice", raw: get("/api/v1/series?match[]=up&match[]={tenant=%22b%22}"), status: 200, saw: []string{upSeries + ` match[]={tenant="b",tenant="a"}`},
			m3: &outcome{200, []string{upSeries, `POST /api/v1/series match[]={tenant="b",tenant="a"}`}}},
		good("match[] of everything", "/api/v1/series?match[]={}", `POST /api/v1/series match[]={tenant="a"}`),
		good("no match[]", "/api/v1/labels", `POST /api/v1/labels match[]={tenant="a"}`),
		good("the values of the tenant label", "/api/v1/label/tenant/values", `GET /api/v1/label/tenant/values match[]={tenant="a"}`),
		good("the values of the tenant label of another", "/api/v1/label/tenant/values?match[]={tenant=%22b%22}", `GET /api/v1/label/tenant/values match[]={tenant="b",tenant="a"}`),
		bad("series without match[]", "/api/v1/series"),
		bad("match without brackets", "/api/v1/series?match=up"),
		bad("match with a number", "/api/v1/series?match[0]=up"),
		bad("match[] in another case", "/api/v1/series?Match[]=up"),
		bad("match[] and a query", "/api/v1/series?match[]=up&query=up"),
		bad("an empty match[]", "/api/v1/series?match[]="),
		bad("one bad match[] of two", "/api/v1/series?match[]=up&match[]=up{"),
		bad("match[] that is a query", "/api/v1/series?match[]=sum(up)"),
		bad("match[] with or", `/api/v1/series?match[]={tenant="a"%20or%20tenant="b"}`),
		bad("a query with or in its braces", q+`?query=up{tenant="a"%20or%20tenant="b"}`),
		bad("a function that reads what it is not given", q+"?query=info(up)"),
		bad("an unclosed string", q+`?query=up{tenant="a`),
	}
}

// bodies of reads: a form, of a POST, in one place.
func bodies() []shape {
	const q = "/api/v1/query"
	with := func(name, ctype, body string, status int, saw ...string) shape {
		return shape{name: name, raw: "POST " + q + " HTTP/1.1\nHost: gateway\n{auth}\n" + ctype + fmt.Sprintf("Content-Length: %d\n\n", len(body)) + body, status: status, saw: saw}
	}
	const form = "Content-Type: application/x-www-form-urlencoded\n"
	multipart := "--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nup\r\n--x--\r\n"
	chunked := func(name, more, body string, status int, saw ...string) shape {
		return shape{name: name, raw: "POST " + q + " HTTP/1.1\nHost: gateway\n{auth}\n" + form + "Transfer-Encoding: chunked\n" + more + "\n" + body, status: status, saw: saw}
	}
	return []shape{
		with("a form", form, "query=up", 200, up),
		with("a form with a charset", "Content-Type: application/x-www-form-urlencoded; charset=utf-8\n", "query=up", 200, up),
		with("a form in capitals", "CONTENT-TYPE: APPLICATION/X-WWW-FORM-URLENCODED\n", "query=up", 200, up),
		with("query twice in the body", form, "query=up&query=up", 400),
		with("a JSON body", "Content-Type: application/json\n", `{"query":"up"}`, 415),
		with("a body of no type", "", "query=up", 415),
		with("two types", form+"Content-Type: text/plain\n", "query=up", 415),
		with("two types in one", "Content-Type: application/x-www-form-urlencoded, multipart/form-data; boundary=x\n", "query=up", 415),
		with("a type with a bad parameter", "Content-Type: application/x-www-form-urlencoded; =\n", "query=up", 415),
		with("a type that only begins so", "Content-Type: application/x-www-form-urlencoded2\n", "query=up", 415),
		with("multipart", "Content-Type: multipart/form-data; boundary=x\n", multipart, 415),
		with("multipart said to be a form", form, multipart, 400),
		with("a compressed form", form+"Content-Encoding: gzip\n", "query=up", 415),
		with("an identity encoding", form+"Content-Encoding: identity\n", "query=up", 415),
		with("semicolons in the body", form, "query=up;time=1", 400),
		with("a bad escape in the body", form, "query=%zz", 400),
		with("a body of binary", form, "\x00\xff\x00", 400),
		{name: "query in the URL and in the body", raw: post(q+"?query=up", "query=up"), status: 400},
		{name: "one parameter in the URL, one in the body", raw: post(q+"?time=1", "query=up"), status: 200, saw: []string{up + " time=1"}},
		{name: "all parameters of a POST in the URL", raw: post(q+"?query=up", ""), status: 200, saw: sawUp},
		{name: "a POST with nothing", raw: "POST " + q + "?query=up HTTP/1.1\nHost: gateway\n{auth}\nContent-Length: 0\n\n", status: 200, saw: sawUp},
		{name: "match[] in the URL and in the body", raw: post("/api/v1/series?match[]=up", "match[]={}"), status: 200, saw: []string{upSeries + ` match[]={tenant="a"}`},
			m3: &outcome{200, []string{upSeries, `POST /api/v1/series match[]={tenant="a"}`}}},
		{name: "a GET with a form", raw: strings.Replace(post(q+"?query=up", "query=up"), "POST", "GET", 1), status: 400},
		{name: "a GET with an empty body", raw: get(q+"?query=up", "Content-Length: 0"), status: 200, saw: sawUp},
		{name: "a GET with an empty chunked body", raw: get(q+"?query=up", "Transfer-Encoding: chunked") + "0\r\n\r\n", status: 400},
		chunked("chunked", "", "8\r\nquery=up\r\n0\r\n\r\n", 200, up),
		chunked("chunked in small pieces", "", "3\r\nque\r\n5\r\nry=up\r\n0\r\n\r\n", 200, up),
		chunked("chunked with an extension", "", "8;query=x\r\nquery=up\r\n0\r\n\r\n", 200, up),
		chunked("chunked with a trailer", "Trailer: M3-Engine\n", "8\r\nquery=up\r\n0\r\nM3-Engine: m3query\r\nX-Tenant: b\r\n\r\n", 200, up),
		chunked("chunked with a bad size", "", "-8\r\nquery=up\r\n0\r\n\r\n", 0),
		chunked("chunked with a size beyond 64 bits", "", "fffffffffffffffff\r\nquery=up\r\n0\r\n\r\n", 0),
		chunked("Content-Length beside chunked", "Content-Length: 3\n", "8\r\nquery=up\r\n0\r\n\r\n", 200, up),
		{name: "a form that breaks off", raw: strings.Replace(post(q, "query=up"), "Content-Length: 8", "Content-Length: 80", 1), half: true},
		{name: "a chunked form that breaks off", raw: "POST " + q + " HTTP/1.1\nHost: gateway\n{auth}\n" + form + "Transfer-Encoding: chunked\n\n8\r\nquery=up\r\n", half: true},
		{name: "two lengths", raw: post(q, "query=up", "Content-Length: 3"), status: 400},
		{name: "the same length twice", raw: post(q, "query=up", "Content-Length: 8"), status: 200, saw: sawUp},
		{name: "a list of lengths", raw: strings.Replace(post(q, "query=up"), "Content-Length: 8", "Content-Length: 8, 8", 1), status: 400},
		{name: "a signed length", raw: strings.Replace(post(q, "query=up"), "Content-Length: 8", "Content-Length: +8", 1), status: 400},
		{name: "a negative length", raw: strings.Replace(post(q, "query=up"), "Content-Length: 8", "Content-Length: -8", 1), status: 400},
		{name: "a transfer encoding of another name", raw: post(q, "query=up", "Transfer-Encoding: xchunked"), status: 501},
		{name: "two transfer encodings", raw: post(q, "query=up", "Transfer-Encoding: gzip, chunked"), status: 501},
		{name: "a transfer encoding twice", raw: post(q, "query=up", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"), status: 501},
		{name: "a space before the colon of a transfer encoding", raw: post(q, "query=up", "Transfer-Encoding : chunked"), status: 400},
	}
}

// paths: a route is one text, decoded once.
func paths() []shape {
	var out []shape
	for status, list := range map[int][]string{
		404: {
			"//api/v1/query", "/api//v1/query", "/api/v1//query", "/api/v1/query/", "/api/v1/query//", "/api/v1/./query", "/api/v1/x/../query", "/../api/v1/query", "/api/v1/%2e/query", "/api/v1/%2e%2e/v1/query",
			"/api/v1/%71uery", "/%61pi/v1/query", "/api%2fv1%2fquery", "/api%2Fv1/query", "/api/v1/%2571uery", "/API/v1/query", "/api/v1/QUERY", "/api/v1/query%20", "/api/v1/query%00", "/api/v1/query%0a", "/api/v1/query%09",
			"/api/v1/query;x=1", "/api/v1/query%3Bx=1", "/api/v1/query%3Fquery=up", "/api/v1/query.json", `/api/v1\query`, "/api/v1/%5cquery", "/api/v1/qu\xc3\xa9ry", "/api/v1/%EF%BD%91uery", "/api/v1/query%2f", "/api/v2/query", "/v1/query", "/query", "/",
			"/prometheus//api/v1/query", "/prometheus/prometheus/api/v1/query", "/prometheus/../api/v1/query", "/m3query/api/v1/query", "/api/prom/api/v1/query", "/select/0/prometheus/api/v1/query",
			"/api/v1/label/tenant/values/", "/api/v1/label/values", "/api/v1/label/a/b/values", "/api/v1/label/../query/values", "/api/v1/label/a/../b/values", "/api/v1/label/tenant",
			"/api/v1/search", "/search", "/api/v1/graphite/render", "/api/v1/graphite/metrics/find", "/api/v1/json/write", "/api/v1/influxdb/write", "/api/v1/kvstore", "/api/v1/database/create", "/api/v1/services/m3db/namespace",
			"/api/v1/services/m3db/placement", "/api/v1/topic", "/api/v1/parse", "/api/v1/threshold", "/api/v1/openapi", "/routes", "/health", "/ready", "/-/ready", "/-/reload", "/metrics", "/debug/pprof/", "/debug/dump", "/debug/vars",
			"/api/v1/status/tsdb", "/api/v1/status/config", "/api/v1/status/flags", "/api/v1/targets", "/api/v1/admin/tsdb/delete_series", "/api/v1/admin/tsdb/snapshot", "/api/v1/notifications", "/api/v1/otlp/v1/metrics", "/api/v1/write/x", "/.well-known/acme-challenge/x",
		},
		400: {
			"/api/v1/label/a%2Fvalues/values", "/api/v1/label/%2e%2e/values", "/api/v1/label/../values", "/api/v1/label/a.b/values", "/api/v1/label/%00/values", "/api/v1/label/tenant%00/values", "/api/v1/label/%74enant/values", "/api/v1/label/tenant%20/values",
			"/api/v1/label/1a/values", "/api/v1/label//values", "/api/v1/label/tenant%3Fmatch[]=up/values", "/api/v1/label/tenant%2Fvalues%3F/values", "/api/v1/query%", "/api/v1/query%zz", "/api/v1/%2",
		},
	} {
		for _, p := range list {
			target := p
			if !strings.Contains(p, "?") && !strings.Contains(p, "/label/") && status == 404 {
				target += "?query=up"
			}
			out = append(out, shape{name: "path " + p, raw: get(target), status: status})
		}
	}
	return append(out,
		shape{name: "a name as Prometheus escapes it", raw: get("/api/v1/label/U__service_2e_name/values"), status: 200, saw: []string{`GET /api/v1/label/U__service_2e_name/values match[]={tenant="a"}`}},
	)
}

// targets and methods: what stands in a request's first line.
func targets() []shape {
	line := func(name, first string, status int, saw ...string) shape {
		return shape{name: name, raw: first + "\nHost: gateway\n{auth}\n\n", status: status, saw: saw}
	}
	out := []shape{
		line("an absolute target", "GET https://gateway/api/v1/query?query=up HTTP/1.1", 200, up),
		line("an absolute target at another host", "GET http://evil.example/api/v1/query?query=up HTTP/1.1", 200, up),
		line("an absolute target at the store", "GET http://127.0.0.1:7201/api/v1/search?query=.* HTTP/1.1", 404),
		line("an absolute target with a doubled slash", "GET https://gateway//api/v1/query?query=up HTTP/1.1", 404),
		line("an absolute target with a user", "GET https://root:x@gateway/api/v1/query?query=up HTTP/1.1", 200, up),
		line("a target without a slash", "GET api/v1/query?query=up HTTP/1.1", 400),
		line("a target of a host", "CONNECT gateway:443 HTTP/1.1", 404),
		line("CONNECT to a path", "CONNECT /api/v1/query?query=up HTTP/1.1", 405),
		line("an asterisk", "GET * HTTP/1.1", 404),
		line("OPTIONS of everything", "OPTIONS * HTTP/1.1", 404),
		line("no target", "GET  HTTP/1.1", 400),
		line("two spaces", "GET  /api/v1/query?query=up HTTP/1.1", 400),
		line("a tab", "GET\t/api/v1/query?query=up HTTP/1.1", 400),
		line("a bare space in the query", "GET /api/v1/query?query=up or up HTTP/1.1", 400),
		line("a lower-case method", "get /api/v1/query?query=up HTTP/1.1", 405),
		line("an invented method", "QUERY /api/v1/query?query=up HTTP/1.1", 405),
		line("a method with a bad character", "GE(T /api/v1/query?query=up HTTP/1.1", 400),
		line("HTTP/1.0", "GET /api/v1/query?query=up HTTP/1.0", 200, up),
		line("HTTP/0.9", "GET /api/v1/query?query=up", 400),
		line("HTTP/3.0", "GET /api/v1/query?query=up HTTP/3.0", 505),
		line("a version of words", "GET /api/v1/query?query=up HTTP/one", 400),
		line("the preface of HTTP/2", "PRI * HTTP/2.0", 405),
		{name: "no Host", raw: "GET /api/v1/query?query=up HTTP/1.1\n{auth}\n\n", status: 400},
		{name: "two Hosts", raw: get("/api/v1/query?query=up", "Host: evil"), status: 400},
		{name: "a bad Host", raw: "GET /api/v1/query?query=up HTTP/1.1\nHost: a b\n{auth}\n\n", status: 400},
		{name: "an empty Host", raw: "GET /api/v1/query?query=up HTTP/1.1\nHost:\n{auth}\n\n", status: 200, saw: sawUp},
		{name: "another Host", raw: "GET /api/v1/query?query=up HTTP/1.1\nHost: m3coordinator:7201\n{auth}\n\n", status: 200, saw: sawUp},
	}
	for _, method := range []string{"HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		out = append(out, line(method, method+" /api/v1/query?query=up HTTP/1.1", 405))
	}
	for _, p := range []string{"/api/v1/label/tenant/values", "/api/v1/rules", "/api/v1/alerts", "/api/v1/status/buildinfo"} {
		out = append(out, shape{name: "POST " + p, raw: post(p, ""), status: 405})
	}
	for _, p := range []string{"/api/v1/read?query=up&format=json", "/api/v1/prom/remote/read?query=up", "/api/v1/write", "/api/v1/push", "/api/v1/prom/remote/write"} {
		out = append(out, shape{name: "GET " + p, raw: get(p), status: 405})
	}
	return out
}

// forbidden are headers that mean something to a store, to a proxy or to HTTP.
func forbidden() []string {
	return []string{
		`M3-Map-Tags-JSON: {"tagMappers":[{"write":{"tag":"tenant","value":"b"}}]}`, `M3-Restrict-By-Tags-JSON: {"match":[{"name":"tenant","type":"EQUAL","value":"b"}],"strip":[]}`, "M3-Restrict-By-Tags-JSON: {}",
		"M3-Metrics-Type: aggregated", "M3-Storage-Policy: 10s:30d", "M3-Restrict-By-Storage-Policies: 1m:1y", "M3-Related-Queries: 1:2", "M3-Write-Type: aggregate", "M3-Engine: m3query", "M3-Limit-Max-Series: 1", "M3-Limit-Max-Docs: 1",
		"M3-Limit-Max-Range: 1s", "M3-Limit-Require-Exhaustive: false", "M3-Read-Consistency-Level: one", "M3-Timeout: 10m", "M3-Source: x", "M3-Render-Format: m3ql", "M3-Custom-Response-Metrics-Type: x", "M3-Anything-New: x",
		"Prometheus-Metric-Type: counter", "timeout: 10m", "Timeout: 1ms", "Cluster-Environment-Name: other", "Cluster-Zone-Name: other", "Dry-Run: true", "Force: true", "topic-name: x", "X-Scope-OrgID: b", "THANOS-TENANT: b", "AccountID: 1",
		"Forwarded: for=1.2.3.4;host=evil", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: http", "X-Forwarded-Prefix: /m3query", "X-Forwarded-User: root", "X-Forwarded-Uri: /api/v1/search", "X-Real-IP: 1.2.3.4", "Via: 1.1 evil",
		"X-Original-URL: /api/v1/search", "X-Rewrite-URL: /api/v1/search", "X-HTTP-Method-Override: DELETE", "X-Method-Override: PUT", "Range: bytes=0-0", "If-None-Match: *", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "Cookie: tenant=b",
		"Referer: http://evil/", "Origin: http://evil", "TE: trailers", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Proxy-Authorization: Basic cm9vdDpyb290", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=1", "Cache-Control: no-cache", "Pragma: no-cache",
		"Accept: application/vnd.evil", "Accept-Language: x", "Accept-Encoding: zstd", "User-Agent: evil", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Uber-Trace-Id: x", "Content-Language: x", "Trailer: M3-Engine",
		"X_Tenant: b", "M3_Map_Tags_JSON: {}", "Tenant: b", "X-Tenant-ID: b", "X-Tenants: b", "Grafana-User: root", "X-Dashboard-Uid: x",
	}
}

// spelled is a header line in another case.
func spelled(line string, upper bool) string {
	name, value, _ := strings.Cut(line, ":")
	if upper {
		return strings.ToUpper(name) + ":" + value
	}
	return strings.ToLower(name) + ":\t" + strings.TrimSpace(value) + " "
}

// smuggled are headers that must not travel, in any spelling, nor work on the gateway.
func smuggled() []shape {
	const q = "/api/v1/query?query=up"
	var out []shape
	for i, line := range forbidden() {
		for way, l := range []string{line, spelled(line, true), spelled(line, false)} {
			out = append(out, shape{name: fmt.Sprintf("header %d.%d %s", i, way, line), raw: get(q, l), status: 200, saw: sawUp})
		}
	}
	all := strings.Join(forbidden(), "\n")
	return append(out,
		shape{name: "all headers at once", raw: get(q, all), status: 200, saw: sawUp},
		shape{name: "all headers on series", raw: get("/api/v1/series?match[]=up", all), status: 200, saw: []string{upSeries}},
		shape{name: "all headers on label values", raw: get("/api/v1/label/job/values", all), status: 200, saw: []string{`GET /api/v1/label/job/values match[]={tenant="a"}`}},
		shape{name: "Connection names the password", raw: get(q, "Connection: authorization"), status: 200, saw: sawUp},
		shape{name: "Connection names what the gateway sets", raw: get(q, "Connection: close, M3-Restrict-By-Tags-JSON, Content-Type, Content-Length, Accept, User-Agent, Host"), status: 200, saw: sawUp},
		shape{name: "Connection names X-Tenant", raw: get(q, "Connection: X-Tenant", "X-Tenant: a"), status: 200, saw: sawUp},
		shape{name: "an upgrade to a websocket", raw: get(q, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"), status: 200, saw: sawUp},
		shape{name: "Expect: 100-continue of a GET", raw: get(q, "Expect: 100-continue"), status: 200, saw: sawUp},
		shape{name: "another expectation", raw: get(q, "Expect: 200-ok"), status: 417},
		shape{name: "gzip is asked for", raw: get(q, "Accept-Encoding: gzip"), status: 200, saw: sawUp},
	)
}

// framed are heads that two readers could take apart differently.
func framed() []shape {
	const q = "/api/v1/query?query=up"
	return []shape{
		{name: "a folded header", raw: get(q, "X-Scope-OrgID: a\r\n b"), status: 400},
		{name: "a folded X-Tenant", raw: get(q, "X-Tenant: a\r\n  |b"), status: 400},
		{name: "a header without a colon", raw: get(q, "X-Tenant"), status: 400},
		{name: "a header without a name", raw: get(q, ": b"), status: 400},
		{name: "a space before the colon", raw: get(q, "X-Tenant : a"), status: 400},
		{name: "a space before the name", raw: "GET " + q + " HTTP/1.1\n Host: gateway\n{auth}\n\n", status: 400},
		{name: "a NUL in a value", raw: get(q, "X-Scope-OrgID: a\x00b"), status: 400},
		{name: "a NUL in a name", raw: get(q, "X-Ten\x00ant: b"), status: 400},
		{name: "a carriage return in a value", raw: get(q, "X-Scope-OrgID: a\rX-Tenant: b"), status: 400},
		{name: "a name in UTF-8", raw: get(q, "X-Tenänt: b"), status: 400},
		{name: "a second request behind a GET without a length", raw: get(q) + "GET /api/v1/query?query=second HTTP/1.1\r\nHost: gateway\r\n\r\n", status: 200, saw: sawUp},
		{name: "a second request in a body", raw: post("/api/v1/query", "query=up%0d%0a%0d%0aGET /api/v1/query?query=second HTTP/1.1\r\nHost: gateway\r\n\r\n"), status: 400},
		{name: "a second request behind a chunked body with a length", raw: "POST /api/v1/query HTTP/1.1\nHost: gateway\n{auth}\nContent-Type: application/x-www-form-urlencoded\nContent-Length: 60\nTransfer-Encoding: chunked\n\n8\r\nquery=up\r\n0\r\n\r\nGET /api/v1/query?query=second HTTP/1.1\r\nHost: gateway\r\n\r\n", status: 200, saw: sawUp},
	}
}

// credentials: one, of one scheme.
func credentials() []shape {
	basic := func(user, password string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	own := gatewaytest.Password(userOne)
	row := func(name string, status int, lines ...string) shape {
		s := shape{name: name, raw: "GET /api/v1/query?query=up HTTP/1.1\nHost: gateway\n" + strings.Join(append(lines, ""), "\n") + "\n", status: status}
		if status == 200 {
			s.saw = sawUp
		}
		return s
	}
	return []shape{
		row("no password", 401),
		row("a wrong password", 401, basic(userOne, own+"x")),
		row("a password and a NUL", 401, basic(userOne, own+"\x00")),
		row("no such user", 401, basic("nobody", own)),
		row("a user in another case", 401, basic(strings.ToUpper(userOne), own)),
		row("an empty password", 401, basic(userOne, "")),
		row("an empty user", 401, basic("", own)),
		row("two passwords", 401, "{auth}", basic(userTwo, gatewaytest.Password(userTwo))),
		row("the same password twice", 401, "{auth}", "{auth}"),
		row("two in one header", 401, basic(userOne, own)+", "+strings.TrimPrefix(basic(userTwo, own), "Authorization: ")),
		row("a bearer token", 401, "Authorization: Bearer x"),
		row("only the scheme", 401, "Authorization: Basic"),
		row("no base64", 401, "Authorization: Basic !!!"),
		row("another name of the header", 401, strings.Replace(basic(userOne, own), "Authorization", "X-Authorization", 1)),
		row("the password of a proxy", 401, strings.Replace(basic(userOne, own), "Authorization", "Proxy-Authorization", 1)),
		row("the scheme in lower case", 200, strings.Replace(basic(userOne, own), "Basic", "basic", 1)),
		{name: "a password in the target", raw: "GET https://" + userOne + ":" + own + "@gateway/api/v1/query?query=up HTTP/1.1\nHost: gateway\n\n", status: 401},
	}
}

// tenants: X-Tenant can only narrow.
func tenants() []shape {
	const q = "/api/v1/query?query=up"
	return []shape{
		{name: "its own tenant", raw: get(q, "X-Tenant: a"), status: 200, saw: sawUp},
		{name: "its own tenant in another spelling of the name", raw: get(q, "x-tenant:a"), status: 200, saw: sawUp},
		{name: "another's tenant", raw: get(q, "X-Tenant: b"), status: 403},
		{name: "a tenant that begins so", raw: get(q, "X-Tenant: aa"), status: 403},
		{name: "a tenant in capitals", raw: get(q, "X-Tenant: A"), status: 403},
		{name: "all tenants", raw: get(q, "X-Tenant: *"), status: 403},
		{name: "a pattern", raw: get(q, "X-Tenant: .*"), status: 403},
		{name: "a list of tenants", raw: get(q, "X-Tenant: a, b"), status: 403},
		{name: "a list with a bar", raw: get(q, "X-Tenant: a|b"), status: 403},
		{name: "an empty tenant", raw: get(q, "X-Tenant:"), status: 403},
		{name: "X-Tenant twice", raw: get(q, "X-Tenant: a", "X-Tenant: b"), status: 400},
		{name: "the same X-Tenant twice", raw: get(q, "X-Tenant: a", "X-Tenant: a"), status: 400},
		{name: "a quoted tenant", raw: get(q, `X-Tenant: "a"`), status: 403},
		{name: "a tenant with a matcher", raw: get(q, `X-Tenant: a",tenant=~".*`), status: 403},
	}
}

// messages are remote writes and reads.
func messages() []shape {
	now := time.Now().UnixMilli()
	write := func(name, target string, labels []prompb.Label, status int, saw []string, lines ...string) shape {
		body := string(encode([]prompb.TimeSeries{{Labels: labels, Samples: []prompb.Sample{{Value: 1, Timestamp: now}}}}))
		return shape{name: name, raw: protobuf(target, body, lines...), status: status, saw: saw}
	}
	upLabel := prompb.Label{Name: "__name__", Value: "up"}
	read := func(name string, req *prompb.ReadRequest, more string, status int, saw ...string) shape {
		raw, err := req.Marshal()
		if err != nil {
			panic(err) // what is built here always marshals
		}
		return confinedRead(shape{name: name, raw: protobuf("/api/v1/read", string(snappy.Encode(nil, append(raw, more...)))), status: status, saw: saw})
	}
	queries := func(list ...*prompb.Query) *prompb.ReadRequest { return &prompb.ReadRequest{Queries: list} }
	theirs := &prompb.Query{Matchers: []*prompb.LabelMatcher{{Name: "tenant", Value: "b"}}}
	wrote := []string{`POST /api/v1/write {__name__=up,tenant=a,}x1`}
	out := []shape{
		write("a write", "/api/v1/write", []prompb.Label{upLabel}, 204, wrote),
		write("a write to M3's path", "/api/v1/prom/remote/write", []prompb.Label{upLabel}, 204, wrote),
		write("a write of another's tenant", "/api/v1/write", []prompb.Label{upLabel, {Name: "tenant", Value: "b"}}, 204, wrote),
		write("a write of two tenants", "/api/v1/write", []prompb.Label{upLabel, {Name: "tenant", Value: "b"}, {Name: "tenant", Value: "a"}}, 400, nil),
		write("all headers on a write", "/api/v1/push", []prompb.Label{upLabel}, 204, wrote, forbidden()...),
		write("a write for another tenant", "/api/v1/write", []prompb.Label{upLabel}, 403, nil, "X-Tenant: b"),

		read("a read without matchers", queries(&prompb.Query{}), "", 200, `POST /api/v1/read {tenant=a,} SAMPLES`),
		read("a read of another's tenant", queries(theirs), "", 200, `POST /api/v1/read {tenant=b,tenant=a,} SAMPLES`),
		read("two reads", queries(&prompb.Query{}, theirs), "", 200, `POST /api/v1/read {tenant=a,} {tenant=b,tenant=a,} SAMPLES`),
		read("no read", queries(), "", 400),
		read("unknown fields", queries(&prompb.Query{}), "\xfa\x7f\x01x", 200, `POST /api/v1/read {tenant=a,} SAMPLES`),
		read("half a read", queries(&prompb.Query{}), "\x0a\x7f", 400),
		read("a matcher of an unknown type", queries(&prompb.Query{Matchers: []*prompb.LabelMatcher{{Type: 4, Name: "a", Value: "b"}}}), "", 400),
		read("a matcher without a name", queries(&prompb.Query{Matchers: []*prompb.LabelMatcher{{Value: "b"}}}), "", 400),
		read("a bad regular expression", queries(&prompb.Query{Matchers: []*prompb.LabelMatcher{{Type: 2, Name: "a", Value: "("}}}), "", 400),
		read("a value that is not UTF-8", queries(&prompb.Query{Matchers: []*prompb.LabelMatcher{{Name: "a", Value: "\xff"}}}), "", 400),
		read("a way to answer that nobody knows", &prompb.ReadRequest{Queries: []*prompb.Query{{}}, AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{7}}, "", 400),
	}
	chunks := read("streamed chunks", &prompb.ReadRequest{Queries: []*prompb.Query{{}}, AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS}}, "", 200, `POST /api/v1/read {tenant=a,} STREAMED_XOR_CHUNKS`)
	chunks.m3 = &outcome{400, nil}
	wholeWrite := string(encode([]prompb.TimeSeries{{Labels: []prompb.Label{upLabel}, Samples: []prompb.Sample{{Value: 1, Timestamp: now}}}}))
	empty := string(snappy.Encode(nil, []byte("\x0a\x00")))
	return append(out, chunks,
		// A 200 would be an acknowledgement of what nobody has.
		shape{name: "a write that breaks off", raw: strings.Replace(protobuf("/api/v1/write", wholeWrite[:20]), "Content-Length: 20", fmt.Sprintf("Content-Length: %d", len(wholeWrite)), 1), half: true},
		shape{name: "a chunked write that breaks off", raw: strings.Replace(protobuf("/api/v1/write", fmt.Sprintf("%x\r\n%s\r\n", len(wholeWrite), wholeWrite)), "Content-Length", "Transfer-Encoding: chunked\nX", 1), half: true},
		shape{name: "a chunked write with a bad size", raw: strings.Replace(protobuf("/api/v1/write", fmt.Sprintf("%x\r\n%s\r\n-1\r\n\r\n", len(wholeWrite), wholeWrite)), "Content-Length", "Transfer-Encoding: chunked\nX", 1)},
		confinedRead(shape{name: "all headers on a read", raw: protobuf("/api/v1/read", empty, forbidden()...), status: 200, saw: []string{`POST /api/v1/read {tenant=a,} SAMPLES`}}),
		shape{name: "a read with parameters", raw: protobuf("/api/v1/read?format=json", empty), status: 400},
		shape{name: "a read with a query in the URL", raw: protobuf("/prometheus/api/v1/read?query=up&start=0&end=1", empty), status: 400},
		shape{name: "a read that is a form", raw: post("/api/v1/read", "query=up"), status: 415},
		shape{name: "a read that is gzip", raw: strings.Replace(protobuf("/api/v1/read", empty), "snappy", "gzip", 1), status: 415},
		shape{name: "a read of two encodings", raw: protobuf("/api/v1/read", empty, "Content-Encoding: gzip"), status: 415},
		shape{name: "a read of text", raw: protobuf("/api/v1/read", "up"), status: 400},
		shape{name: "a read of nothing", raw: protobuf("/api/v1/read", ""), status: 400},
	)
}

// protobuf is a POST of a message in a snappy block.
func protobuf(target, body string, lines ...string) string {
	return "POST " + target + " HTTP/1.1\nHost: gateway\n{auth}\nContent-Type: application/x-protobuf\nContent-Encoding: snappy\n" + fmt.Sprintf("Content-Length: %d\n", len(body)) + strings.Join(append(lines, ""), "\n") + "\n" + body
}

// oversized is too much of anything.
func oversized() []shape {
	const q = "/api/v1/query"
	sum := func(n int) string { return "up" + strings.Repeat("%2Bup", n-1) }
	many := &prompb.ReadRequest{}
	for range 501 {
		many.Queries = append(many.Queries, &prompb.Query{})
	}
	manyRaw, err := many.Marshal()
	if err != nil {
		panic(err) // what is built here always marshals
	}
	form := func(name, body string, status int) shape {
		return shape{name: name, raw: post(q, body), status: status}
	}
	return []shape{
		{name: "a long URL", raw: get(q + "?query=up&time=" + strings.Repeat("1", 100_000)), status: 431},
		{name: "a long path", raw: get("/" + strings.Repeat("a", 100_000)), status: 431},
		{name: "a long header", raw: get(q+"?query=up", "X-A: "+strings.Repeat("a", 100_000)), status: 431},
		{name: "many headers", raw: get(q+"?query=up", strings.Repeat("X-A: b\r\n", 20_000)+"X-A: b"), status: 400},
		{name: "a long user", raw: "GET " + q + "?query=up HTTP/1.1\nHost: gateway\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 10_000)+":b")) + "\n\n", status: 401},
		{name: "a long tenant", raw: get(q+"?query=up", "X-Tenant: "+strings.Repeat("a", 10_000)), status: 403},
		{name: "a long label", raw: get("/api/v1/label/" + strings.Repeat("a", 20_000) + "/values"), status: 200, saw: []string{"GET /api/v1/label/" + strings.Repeat("a", 20_000) + `/values match[]={tenant="a"}`}},
		form("a form over a megabyte", "query="+strings.Repeat("u", 1<<20), 413),
		{name: "a form said to be over a megabyte", raw: strings.Replace(post(q, "query=up"), "Content-Length: 8", "Content-Length: 9223372036854775807", 1), status: 413},
		{name: "a length beyond 64 bits", raw: strings.Replace(post(q, "query=up"), "Content-Length: 8", "Content-Length: 99999999999999999999", 1), status: 400},
		{name: "a chunked form over a megabyte", raw: "POST " + q + " HTTP/1.1\nHost: gateway\n{auth}\nContent-Type: application/x-www-form-urlencoded\nTransfer-Encoding: chunked\n\n" + strings.Repeat("8000\r\n"+strings.Repeat("a", 0x8000)+"\r\n", 40) + "0\r\n\r\n", status: 413},
		form("many parameters", "query=up"+strings.Repeat("&a=b", 100_000), 400),
		form("the same parameter many times", strings.Repeat("query=up&", 100_000), 400),
		form("a long query", "query="+strings.Repeat("u", 65_537), 400),
		form("many selectors", "query="+sum(501), 400),
		form("a deep query", "query="+strings.Repeat("(", 101)+"up"+strings.Repeat(")", 101), 400),
		form("many signs", "query="+strings.Repeat("-", 5000)+"up", 400),
		form("many matchers", "query=up{"+strings.Repeat(`a="b",`, 2001)+"}", 400),
		form("a long pattern", "query=up{a=~%22"+strings.Repeat("a", 20_000)+"%22}", 400),
		form("a pattern that grows", "query=up{a=~%22((a{1,100}){1,100})%22}", 400),
		form("many patterns", "query=up{"+strings.Repeat(`a=~"[a-z]{1,900}",`, 200)+"}", 400),
		{name: "many match[]", raw: post("/api/v1/series", strings.Repeat("match[]=up&", 501)), status: 400},
		{name: "a long match[]", raw: post("/api/v1/series", "match[]={a=%22"+strings.Repeat("a", 70_000)+"%22}"), status: 400},
		{name: "a read over a megabyte", raw: protobuf("/api/v1/read", strings.Repeat("a", 1<<20+1)), status: 413},
		{name: "a read that claims four gigabytes", raw: protobuf("/api/v1/read", "\xff\xff\xff\xff\x0f\x00"), status: 400},
		{name: "a read that grows to eight megabytes", raw: protobuf("/api/v1/read", string(snappy.Encode(nil, make([]byte, 8<<20)))), status: 400},
		{name: "many reads", raw: protobuf("/api/v1/read", string(snappy.Encode(nil, manyRaw))), status: 400},
		{name: "a write over its limit", raw: strings.Replace(protobuf("/api/v1/write", "x"), "Content-Length: 1", "Content-Length: 99999999", 1), status: 413},
		{name: "a write that claims four gigabytes", raw: protobuf("/api/v1/write", "\xff\xff\xff\xff\x0f\x00"), status: 413},
	}
}

// confinedRead is s, whose store of kind m3 sees what s says; kind prometheus is asked for the tenant by a regular expression.
func confinedRead(s shape) shape {
	s.m3 = &outcome{s.status, s.saw}
	theirs := make([]string, len(s.saw))
	for i, line := range s.saw {
		theirs[i] = strings.ReplaceAll(line, "tenant=a,", "tenant=~a,")
	}
	s.saw = theirs
	return s
}
