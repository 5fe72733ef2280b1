package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
)

// maxRead bounds a remote-read request, compressed and decoded: matchers, no data.
const maxRead = 1 << 20

// reader begins a read; it refuses users without the right.
func (x *exchange) reader() error {
	if !x.lane.grant.Read {
		return &refusal{status: http.StatusForbidden, kind: "forbidden", text: "this user may not read"}
	}
	x.reading = true
	return nil
}

func (h *Handler) query(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return h.promQL(w, r, x, x.state.paths.Query, "time")
}

func (h *Handler) queryRange(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return h.promQL(w, r, x, x.state.paths.QueryRange, "start", "end")
}

// promQL confines an expression and passes on the answer as it comes.
func (h *Handler) promQL(w http.ResponseWriter, r *http.Request, x *exchange, path string, times ...string) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, append(times, "query", "step", "timeout", "limit", "lookback_delta", "stats")...)
	if err != nil {
		return err
	}
	q, err := x.expression(in)
	if err != nil {
		return err
	}
	out := url.Values{"query": {q.Text}}
	if path == x.state.paths.QueryRange {
		err = x.steps(in, out, &q.Reach)
	} else {
		err = x.instant(in, out, &q.Reach)
	}
	if err != nil {
		return err
	}
	if err := x.options(in, out); err != nil {
		return err
	}
	if err := x.timeout(in, out); err != nil {
		return err
	}
	limit, err := x.limit(in, out)
	if err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindPrometheus {
		limit = 0 // the store's own business
	}
	return h.pass(w, r, x, h.formRequest(x, path, out), h.jsonPassing(x, query.Vectors, limit))
}

// expression confines the parameter query.
func (x *exchange) expression(in url.Values) (query.Query, error) {
	expr := in.Get("query")
	if expr == "" {
		return query.Query{}, badRequest("invalid parameter \"query\": it is missing")
	}
	x.asked = append(x.asked, expr)
	q, err := x.state.confiner.Query(x.lane.scope, expr)
	if err == nil {
		x.confined = []string{q.Text}
	}
	return q, err
}

// instant takes the parameter of a query for one moment.
func (x *exchange) instant(in, out url.Values, reach *query.Reach) error {
	at, _, err := moment(in, out, "time", x.now.UnixMilli())
	if err != nil {
		return err
	}
	more := lookback(in)
	return x.judge(limits.Read{
		Start: at, End: at, Oldest: reach.OldestOf(at) - more, Longest: reach.Longest + more, Subquery: reach.SubqueryPoints(0),
	})
}

// steps takes the parameters of a query over a range.
func (x *exchange) steps(in, out url.Values, reach *query.Reach) error {
	for _, name := range []string{"start", "end", "step"} {
		if in.Get(name) == "" {
			return badRequest("invalid parameter %q: it is missing", name)
		}
	}
	start, _, err := moment(in, out, "start", 0)
	if err != nil {
		return err
	}
	end, _, err := moment(in, out, "end", 0)
	if err != nil {
		return err
	}
	if end < start {
		return badRequest("invalid parameter \"end\": end timestamp must not be before start time")
	}
	if err := take(in, out, isStep, "step"); err != nil {
		return err
	}
	step, _ := duration(out.Get("step"))
	more := lookback(in)
	return x.judge(limits.Read{
		Start: start, End: end, Step: step.Milliseconds(), Subquery: reach.SubqueryPoints(end - start),
		Oldest: reach.OldestOf(start) - more, Longest: reach.Longest + more,
	})
}

// lookback is the client's look-back delta in milliseconds: what every selector may read before its moment. Without one, it is
// the store's, which no limit counts.
func lookback(in url.Values) int64 {
	d, _ := duration(in.Get("lookback_delta"))
	return d.Milliseconds()
}

// options takes the parameters that only some stores know.
func (x *exchange) options(in, out url.Values) error {
	if x.state.Store.Kind == m3.KindPrometheus {
		return errors.Join(take(in, out, isDuration, "lookback_delta"), take(in, out, isStats, "stats"))
	}
	checked := url.Values{} // an answer without statistics is whole, too
	if err := errors.Join(take(in, checked, isDuration, "lookback_delta"), take(in, checked, isStats, "stats")); err != nil {
		return err
	}
	if d, ok := duration(checked.Get("lookback_delta")); ok {
		out.Set(m3.LookbackParam(d))
	}
	return nil
}

// isStats reports the values of `stats` that Prometheus knows.
func isStats(s string) bool { return s == "all" || s == "true" || s == "1" }

// judge refuses a read that is over a limit of the tenant.
func (x *exchange) judge(r limits.Read) error {
	if e := x.lane.reads.Judge(r, x.now); e != nil {
		return e
	}
	return nil
}

// remoteRead confines a remote-read request and passes on the answer as it comes.
func (h *Handler) remoteRead(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	if v := r.Header["Content-Encoding"]; len(v) > 1 || len(v) == 1 && !strings.EqualFold(v[0], "snappy") {
		return unsupportedMedia("Content-Encoding must be snappy")
	}
	if v := r.Header["Content-Type"]; len(v) > 1 || len(v) == 1 && v[0] != "application/x-protobuf" {
		return unsupportedMedia("Content-Type must be application/x-protobuf")
	}
	if r.URL.RawQuery != "" {
		return badRequest("remote read takes no parameters in the URL")
	}
	body, err := h.readBody(r, maxRead, "the body's fixed limit", &x.loan)
	if err != nil {
		return err
	}
	confined, err := x.state.confiner.Read(x.lane.scope, body.B, maxRead)
	body.Release()
	if err != nil {
		return err
	}
	for _, q := range confined.Queries {
		x.asked, x.confined = append(x.asked, q.Selector), append(x.confined, q.Confined)
	}
	for _, q := range confined.Queries {
		const far = 1 << 60 // a difference of two such is no overflow
		start, end := min(max(q.Start, -far), far), min(max(q.End, -far), far)
		if err := x.judge(limits.Read{Start: start, End: end, Oldest: start}); err != nil {
			return err
		}
	}
	b := h.bufs.Get(len(confined.Body))
	b.B = append(b.B, confined.Body...)
	head := x.readHeader()
	head.Set("Content-Type", "application/x-protobuf")
	head.Set("Content-Encoding", "snappy")
	head.Set("X-Prometheus-Remote-Read-Version", "0.1.0")
	req := &proxy.Request{Method: http.MethodPost, Path: x.state.paths.RemoteRead, Header: head, Body: proxy.NewPayload(b)}
	return h.pass(w, r, x, req, h.remotePassing(x))
}

// readHeader is the header of an upstream read: nothing of it is the client's.
func (x *exchange) readHeader() http.Header {
	head := http.Header{"Accept": {"*/*"}}
	if x.lane.restrict[0] != "" {
		head[x.lane.restrict[0]] = []string{x.lane.restrict[1]}
	}
	return head
}

// formRequest is a POST of out to path, since a confined query may be longer than a URL may be.
func (h *Handler) formRequest(x *exchange, path string, out url.Values) *proxy.Request {
	form := encode(out)
	b := h.bufs.Get(len(form))
	b.B = append(b.B, form...)
	head := x.readHeader()
	head.Set("Content-Type", "application/x-www-form-urlencoded")
	return &proxy.Request{Method: http.MethodPost, Path: path, Header: head, Body: proxy.NewPayload(b)}
}

// maxURL is the most bytes of parameters in an upstream URL: stores take a header of 1 MiB.
const maxURL = 768 << 10

// urlRequest is a GET of path with out in its URL, for routes that take no POST.
func (h *Handler) urlRequest(x *exchange, path string, out url.Values) (*proxy.Request, error) {
	raw := encode(out)
	if len(raw) > maxURL {
		return nil, badRequest("match[] with their tenant matchers make a URL of %d bytes, over the limit of %d", len(raw), maxURL)
	}
	return &proxy.Request{Method: http.MethodGet, Path: path, RawQuery: raw, Header: x.readHeader()}, nil
}
