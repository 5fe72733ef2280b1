package isolation

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// request is one that the asker sends, byte for byte.
type request struct {
	what   string // its route, or what it only looks like
	user   string
	tenant []string // X-Tenant
	method string
	target string // path and query
	header http.Header
	body   []byte
	// chunked sends the body without its length, older over HTTP/1.1.
	chunked, older bool
}

func (r *request) String() string {
	return fmt.Sprintf("%s %s as %s X-Tenant %q, header %v, body %q, chunked %t, HTTP/1.1 %t", r.method, r.target, r.user, r.tenant, r.header, r.body, r.chunked, r.older)
}

// form are parameters in the order in which they are sent.
type form [][2]string

func (f *form) add(name, value string) { *f = append(*f, [2]string{name, value}) }

// The users that ask: the first has the one tenant, the second two, the others more than they may see in this test, so that
// they always narrow themselves to the asker's tenant.
const (
	userOne, userTwo, userMore, userAll = "asker", "duo", "trio", "ops"
)

// who puts the user into r, and the tenant that it names.
func (w *writer) who(r *request) {
	a, ab := w.prefix+asker, w.prefix+second
	switch n := w.IntN(20); {
	case n < 10:
		r.user = userOne
		if w.chance(20) {
			r.tenant = []string{a}
		}
	case n < 15:
		r.user = userTwo
		if w.chance(40) {
			r.tenant = []string{w.pick(a, ab)}
		}
	case n < 18:
		r.user, r.tenant = userMore, []string{a}
	default:
		r.user, r.tenant = userAll, []string{w.pick(a, ab)}
	}
	if w.chance(1) { // what it does not have, or twice: never more than a refusal
		r.user, r.tenant = userOne, []string{w.prefix + w.pick(crowd()...)}
		if w.chance(30) {
			r.tenant = []string{a, a}
		}
	}
}

// at is a time in the reach of the samples, in any notation.
func (w *writer) at(ago time.Duration) string {
	t := w.base.Add(-ago)
	switch w.IntN(4) {
	case 0:
		return t.UTC().Format(time.RFC3339)
	case 1:
		return fmt.Sprintf("%d.%03d", t.Unix(), w.IntN(1000))
	case 2:
		return strconv.FormatFloat(float64(t.Unix()), 'e', -1, 64)
	}
	return fmt.Sprint(t.Unix())
}

func (w *writer) ago(most time.Duration) time.Duration {
	return time.Duration(w.Int64N(int64(most/time.Second))) * time.Second
}

// span puts start and end into f, if the route may go without.
func (w *writer) span(f *form, must bool) {
	from := time.Minute + w.ago(6*time.Minute)
	if must || w.chance(50) {
		f.add("start", w.at(from))
	}
	if must || w.chance(50) {
		f.add("end", w.at(w.ago(from)))
	}
}

// request makes one.
func (w *writer) request() request {
	r := request{method: http.MethodGet, header: http.Header{}, older: w.chance(30)}
	w.who(&r)
	var f form
	path := "/api/v1/"
	switch n := w.IntN(100); {
	case n < 30:
		r.what = "query"
		f.add("query", w.query())
		if w.timed || w.chance(80) {
			f.add("time", w.at(w.ago(7*time.Minute)))
		}
		w.extras(&f)
	case n < 54:
		r.what = "query_range"
		f.add("query", w.rangeQuery())
		w.span(&f, true)
		f.add("step", w.pick("15", "15s", "30", "1m", "7.5", "45s"))
		w.extras(&f)
	case n < 66:
		r.what = "series"
		for range 1 + w.IntN(3) {
			f.add("match[]", w.match())
		}
		w.span(&f, false)
		w.cut(&f)
	case n < 74:
		r.what = "labels"
		w.matches(&f)
	case n < 84:
		r.what = "label_values"
		path += "label/" + w.label() + "/values"
		w.matches(&f)
	case n < 90:
		w.remoteRead(&r)
		return r
	case n < 93:
		r.what = "query_exemplars"
		f.add("query", w.pick("http_requests_total", `latency_seconds_bucket{le!=""}`, `{__name__=~".+"}`, "sum(rate(http_requests_total[5m])) + up", w.query()))
		w.span(&f, w.chance(70))
	case n < 95:
		r.what = "format_query"
		f.add("query", w.query())
	case n < 97:
		r.what = w.pick("status/buildinfo", "rules", "alerts")
		if r.what == "rules" && w.chance(50) {
			f.add("match[]", w.match())
		}
	default:
		w.nowhere(&r, f)
		return r
	}
	if r.what != "label_values" {
		path += r.what
	}
	w.send(&r, w.pick("", "", "/prometheus")+path, f)
	return r
}

// extras are what a query may carry beside.
func (w *writer) extras(f *form) {
	if w.chance(10) {
		f.add("timeout", w.pick("10", "30s", "1m", "2h", "0", "soon"))
	}
	if w.chance(6) {
		f.add("lookback_delta", w.pick("30s", "1m", "0.5", "1h"))
	}
	if w.chance(4) {
		f.add("stats", w.pick("all", "true", "no"))
	}
	w.cut(f)
}

func (w *writer) cut(f *form) {
	if w.chance(12) {
		f.add("limit", w.pick("1", "2", "3", "0", "5", "1000", "-1", "x"))
	}
}

// label is a name in the path of label values.
func (w *writer) label() string {
	if w.chance(5) {
		return w.pick("a.b", "%00", "tenant%2Fvalues", "..", "%2e%2e", "tenant/values?match[]={}&x=")
	}
	return w.pick("tenant", "tenant", "__name__", "__name__", "job", "job", "instance", "code", "le", "value", "Tenant", "secret", "nothing", "U__service_2e_name")
}

// matches are the parameters of labels and label values.
func (w *writer) matches(f *form) {
	for range w.IntN(3) {
		f.add("match[]", w.match())
	}
	w.span(f, false)
	w.cut(f)
}

// send spells the parameters and puts them where they may be, or where they may not.
func (w *writer) send(r *request, path string, f form) {
	if w.chance(8) {
		w.mischief(r, &f)
	}
	w.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
	inURL, inBody := f, form(nil)
	if r.what != "label_values" && !strings.Contains(r.what, "/") && r.what != "rules" && r.what != "alerts" && w.chance(45) {
		r.method = http.MethodPost
		cut := 0
		if w.chance(30) {
			cut = w.IntN(len(f) + 1)
		}
		inURL, inBody = f[:cut], f[cut:]
		r.header.Set("Content-Type", w.pick("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=UTF-8", "Application/X-WWW-Form-Urlencoded"))
		r.body, r.chunked = []byte(w.spell(inBody)), w.chance(20)
	}
	if r.target = w.twisted(r, path); len(inURL) > 0 || w.chance(5) {
		r.target += "?" + w.spell(inURL)
	}
	if len(r.target) > 20_000 { // what is too long for a header is another test's
		r.target = path + "?query=up"
	}
	switch {
	case w.chance(15):
		r.header.Set("Accept-Encoding", w.pick("gzip", "gzip, zstd", "zstd", "gzip;q=0", "identity", "*", "br"))
	case w.chance(5):
		for _, name := range []string{"M3-Restrict-By-Tags-JSON", "M3-Engine", "X-Scope-OrgID", "timeout", "Accept", "Range", "Cookie"} {
			r.header.Set(name, w.pick("{}", "a", w.prefix+"aa", "0", "bytes=0-1"))
		}
	}
}

// spell writes parameters in one of the ways that all mean the same.
func (w *writer) spell(f form) string {
	style := w.IntN(8)
	one := func(s string) string {
		switch style {
		case 0: // every byte
			var b strings.Builder
			for i := range len(s) {
				fmt.Fprintf(&b, w.pick("%%%02x", "%%%02X"), s[i])
			}
			return b.String()
		case 1:
			return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
		case 2: // only what must be
			var b strings.Builder
			for i := range len(s) {
				if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("%&+#;=", c) >= 0 {
					fmt.Fprintf(&b, "%%%02X", c)
				} else {
					b.WriteByte(c)
				}
			}
			return b.String()
		}
		return url.QueryEscape(s)
	}
	var parts []string
	for _, p := range f {
		parts = append(parts, one(p[0])+"="+one(p[1]))
	}
	return strings.Join(parts, w.pick("&", "&", "&", "&&"))
}

// mischief spoils a request in one way.
func (w *writer) mischief(r *request, f *form) {
	if len(*f) == 0 {
		f.add("query", "up")
	}
	n := w.IntN(len(*f))
	if w.timed && (*f)[n][0] == "time" {
		n = 0 // the query
	}
	switch w.IntN(9) {
	case 0:
		f.add((*f)[n][0], (*f)[n][1])
	case 1:
		f.add(w.pick("engine", "format", "lookback", "docsLimit", "tenant", "X-Tenant", "Query", "match", "query[]", "match[0]"), w.pick("m3query", "json", "a", `{tenant="aa"}`, "up"))
	case 2:
		(*f)[n][1] = ""
	case 3:
		*f = slices.Delete(*f, n, n+1)
	case 4:
		(*f)[n][0] = strings.ToUpper((*f)[n][0])
	case 5:
		(*f)[n][1] += w.pick("\x00", "\xff", ";x=1", "&match[]={}", "\r\nX-Tenant: aa")
	case 6:
		(*f)[n][1] = strings.Repeat((*f)[n][1]+" ", 2+w.IntN(100))
	case 7:
		r.body = []byte("query=up") // a GET takes none; a POST writes over it
		r.header.Set("Content-Type", w.pick("multipart/form-data; boundary=x", "application/json", "text/plain"))
	case 8:
		r.tenant = []string{w.prefix + w.pick(crowd()...), ""}[w.IntN(2):]
	}
}

// twisted is path, seldom in a spelling that is no route.
func (w *writer) twisted(r *request, path string) string {
	if !w.chance(3) {
		return path
	}
	r.what = "nowhere"
	return w.pick(path+"/", "/"+path, strings.Replace(path, "/v1/", "/v1//", 1), strings.Replace(path, "/v1/", "/v1/x/../", 1), strings.Replace(path, "/api", "/%61pi", 1),
		strings.Replace(path, "/v1/", "/v1/%2e%2e/v1/", 1), strings.ToUpper(path), path+"%3F", "/m3query"+path)
}

// nowhere asks for what no tenant may see.
func (w *writer) nowhere(r *request, f form) {
	r.what = "nowhere"
	f.add(w.pick("query", "match[]", "target"), w.pick("up", "{}", "*", ".*"))
	w.send(r, w.pick("/federate", "/api/v1/search", "/search", "/api/v1/graphite/render", "/api/v1/status/tsdb", "/api/v1/targets", "/api/v1/admin/tsdb/snapshot", "/metrics", "/debug/pprof/heap", "/api/v1/kvstore", "/", "/api/v1/metadata", "/api/v1/labels/x", "/api/v1/write/x"), f)
}

// remoteRead makes a remote read, with matchers of the client's own or none.
func (w *writer) remoteRead(r *request) {
	r.what, r.method = "remote_read", http.MethodPost
	r.target = w.pick("/api/v1/read", "/api/v1/prom/remote/read", "/prometheus/api/v1/read")
	if w.chance(4) {
		r.target += "?" + w.pick("format=json", "query=up", "match[]={}")
	}
	var req prompb.ReadRequest
	for range 1 + w.IntN(3) {
		from := 30*time.Second + w.ago(8*time.Minute)
		q := &prompb.Query{StartTimestampMs: w.base.Add(-from).UnixMilli(), EndTimestampMs: w.base.Add(-w.ago(from)).UnixMilli()}
		for range w.IntN(3) {
			q.Matchers = append(q.Matchers, w.readMatcher())
		}
		if w.chance(30) {
			q.Hints = &prompb.ReadHints{StartMs: q.StartTimestampMs, EndMs: q.EndTimestampMs, StepMs: 15000, Func: w.pick("rate", "series", ""), Grouping: []string{"job", "tenant"}, By: w.chance(50)}
		}
		req.Queries = append(req.Queries, q)
	}
	switch w.IntN(4) {
	case 0:
		req.AcceptedResponseTypes = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS, prompb.ReadRequest_SAMPLES}
	case 1:
		req.AcceptedResponseTypes = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_ResponseType(w.IntN(3))}
	}
	raw, err := req.Marshal()
	if err != nil {
		panic(err) // what is built here always marshals
	}
	if w.chance(3) {
		raw = append(raw, w.pick("\x0a\x00", "\x0a", "\xff", "\x12\x05query")...)
	}
	r.body, r.chunked = snappy.Encode(nil, raw), w.chance(10)
	r.header.Set("Content-Type", "application/x-protobuf")
	r.header.Set("Content-Encoding", "snappy")
	r.header.Set("X-Prometheus-Remote-Read-Version", "0.1.0")
}

func (w *writer) readMatcher() *prompb.LabelMatcher {
	m := &prompb.LabelMatcher{Type: prompb.LabelMatcher_Type(w.IntN(4)), Name: w.pick("__name__", "__name__", "job", "tenant", "secret"), Value: w.pick("up", "api", ".*", ".+", w.tenantName(), "only_theirs", "")}
	if w.chance(3) {
		m.Value, m.Type = w.pick("(", "a{1001}", "x"), prompb.LabelMatcher_Type(2+w.IntN(4))
	}
	return m
}
