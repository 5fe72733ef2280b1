package gateway

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
)

const (
	// maxRead bounds a remote-read request, compressed and decoded: matchers, no data.
	maxRead = 1 << 20
	// maxMeta bounds an answer of series or labels that the gateway merges in memory.
	maxMeta = 64 << 20
	// metaRange is how far back series, labels and label values look on M3 when the client does not say: without a start, M3
	// begins at 1970 and so answers from an aggregated namespace, where new series are missing for minutes.
	metaRange = 24 * time.Hour
)

// reader refuses users without the right.
func (x *exchange) reader() error {
	if !x.lane.grant.Read {
		return &refusal{status: http.StatusForbidden, kind: "forbidden", text: "this user may not read"}
	}
	return nil
}

// isStats reports the values of `stats` that Prometheus knows.
func isStats(s string) bool { return s == "all" || s == "true" || s == "1" }

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
	expr := in.Get("query")
	if expr == "" {
		return badRequest("invalid parameter \"query\": it is missing")
	}
	out := url.Values{}
	if expr, err = x.state.confiner.PromQL(x.lane.scope, expr); err != nil {
		return err
	}
	out.Set("query", expr)
	if err := take(in, out, isTime, times...); err != nil {
		return err
	}
	if path == x.state.paths.QueryRange {
		for _, name := range append(times, "step") {
			if in.Get(name) == "" {
				return badRequest("invalid parameter %q: it is missing", name)
			}
		}
		if err := take(in, out, isDuration, "step"); err != nil {
			return err
		}
	}
	if x.state.Store.Kind == m3.KindPrometheus {
		if err := errors.Join(take(in, out, isDuration, "lookback_delta"), take(in, out, isStats, "stats")); err != nil {
			return err
		}
	}
	if err := x.timeout(in, out); err != nil {
		return err
	}
	if _, err := x.limit(in, out); err != nil {
		return err
	}
	return h.stream(w, r, x, h.formRequest(x, path, out), "application/json")
}

func (h *Handler) series(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return h.meta(w, r, x, x.state.paths.Series, "match[]")
}

func (h *Handler) labels(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return h.meta(w, r, x, x.state.paths.Labels, "")
}

func (h *Handler) labelValues(w http.ResponseWriter, r *http.Request, x *exchange) error {
	name := chi.URLParam(r, "name")
	if !query.ValidLabelName(dialect(x.state.Store.Kind), name) {
		return badRequest("invalid label name %q", oneLine(name, 60))
	}
	return h.meta(w, r, x, x.state.paths.LabelValues(name), "")
}

// meta confines the selectors of series, labels and label values; required names the parameter that must be there.
func (h *Handler) meta(w http.ResponseWriter, r *http.Request, x *exchange, path, required string) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, "match[]", "start", "end", "limit")
	if err != nil {
		return err
	}
	if required != "" && len(in[required]) == 0 {
		return badRequest("no %s parameter provided", required)
	}
	selectors, err := x.state.confiner.Selectors(x.lane.scope, in["match[]"])
	if err != nil {
		return err
	}
	out := url.Values{}
	if err := take(in, out, isTime, "start", "end"); err != nil {
		return err
	}
	limit, err := x.limit(in, out)
	if err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindM3 {
		if out.Get("start") == "" {
			out.Set("start", x.now.Add(-metaRange).UTC().Format(time.RFC3339))
		}
		return h.merged(w, r, x, path, out, selectors, limit)
	}
	out["match[]"] = selectors
	return h.stream(w, r, x, h.metaRequest(x, path, out), "application/json")
}

// metaRequest asks by POST where the store takes it, and by GET for label values.
func (h *Handler) metaRequest(x *exchange, path string, out url.Values) *proxy.Request {
	if path == x.state.paths.Series || path == x.state.paths.Labels {
		return h.formRequest(x, path, out)
	}
	return &proxy.Request{Method: http.MethodGet, Path: path, RawQuery: encode(out), Header: x.readHeader()}
}

// merged asks M3 once for each selector, since it takes one at a time on labels and values and repeats series on several,
// and answers what all of them found, once each, sorted and cut to limit.
func (h *Handler) merged(w http.ResponseWriter, r *http.Request, x *exchange, path string, out url.Values, selectors []string, limit int) error {
	seriesRoute := path == x.state.paths.Series
	var found []string
	left := int64(maxMeta)
	base := x.loan.held
	for _, s := range selectors {
		out.Set("match[]", s)
		ans, err := h.ask(r, x, h.metaRequest(x, path, out))
		if err != nil {
			return err
		}
		body := &counting{r: ans.Body, grow: func(total int64) error { return x.loan.resize(base + 2*(maxMeta-left+total)) }}
		part, err := decodeMeta(body, left, seriesRoute)
		_ = ans.Body.Close()
		if err != nil {
			return err
		}
		left -= body.n
		found = append(found, part...)
	}
	found = query.MergeValues(found)
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	b := query.EncodeStrings(found)
	if seriesRoute {
		b = query.EncodeSeries(found)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(b)
	return gone(err)
}

func decodeMeta(r io.Reader, limit int64, series bool) ([]string, error) {
	if series {
		return query.DecodeSeries(r, limit)
	}
	return query.DecodeStrings(r, limit)
}

// counting tells grow how much was read before each further read.
type counting struct {
	r    io.Reader
	n    int64
	grow func(total int64) error
}

func (c *counting) Read(b []byte) (int, error) {
	if err := c.grow(c.n + int64(len(b))); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
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
	confined, _, err := x.state.confiner.RemoteRead(x.lane.scope, body.B, maxRead)
	body.Release()
	if err != nil {
		return err
	}
	b := h.bufs.Get(len(confined))
	b.B = append(b.B, confined...)
	head := x.readHeader()
	head.Del("Accept-Encoding") // the answer is snappy by itself
	head.Set("Content-Type", "application/x-protobuf")
	head.Set("Content-Encoding", "snappy")
	head.Set("X-Prometheus-Remote-Read-Version", "0.1.0")
	req := &proxy.Request{Method: http.MethodPost, Path: x.state.paths.RemoteRead, Header: head, Body: proxy.NewPayload(b)}
	return h.stream(w, r, x, req, "application/x-protobuf", `application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse`)
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

// ask makes an upstream read and returns its answer, which the caller closes, if it is a success.
func (h *Handler) ask(r *http.Request, x *exchange, req *proxy.Request) (*proxy.Answer, error) {
	ans, err := x.state.Pool.Do(r.Context(), req)
	if err != nil {
		return nil, err
	}
	x.upstream, x.attempts = ans.Member, x.attempts+ans.Attempts
	if ans.StatusCode != http.StatusOK {
		text := errorBody(ans)
		discard(ans.Body)
		_ = ans.Body.Close()
		return nil, readVerdict(x.state.Store.Kind, ans.StatusCode, text)
	}
	return ans, nil
}

// errorBody is the beginning of an error's text; what cannot be read of it is only a poorer explanation.
func errorBody(ans *proxy.Answer) []byte {
	var r io.Reader = ans.Body
	if ans.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(io.LimitReader(r, maxVerdict))
		if err != nil {
			return nil
		}
		r = z
	}
	text, _ := io.ReadAll(io.LimitReader(r, maxVerdict))
	return text
}

// stream answers with what the store says, as it comes, as one of the media types; the first is assumed of any other.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, x *exchange, req *proxy.Request, types ...string) error {
	if gzipped(r.Header) && req.Header.Get("Content-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	ans, err := h.ask(r, x, req)
	if err != nil {
		return err
	}
	defer ans.Body.Close()
	media := types[0]
	if v := ans.Header.Get("Content-Type"); slices.Contains(types, v) {
		media = v
	}
	head := w.Header()
	head.Set("Content-Type", media)
	head.Set("X-Content-Type-Options", "nosniff")
	switch enc := ans.Header.Get("Content-Encoding"); {
	case enc == "gzip" && req.Header.Get("Accept-Encoding") != "":
		head.Set("Content-Encoding", enc)
		head.Set("Vary", "Accept-Encoding")
	case enc == "snappy" && req.Header.Get("Content-Encoding") == "snappy":
		head.Set("Content-Encoding", enc)
	case enc != "":
		return unavailable("the store answered in an encoding that was not asked for")
	}
	if ans.ContentLength >= 0 {
		head.Set("Content-Length", strconv.FormatInt(ans.ContentLength, 10))
	}
	w.WriteHeader(http.StatusOK)
	b := h.bufs.Get(32 << 10)
	defer b.Release()
	for {
		n, err := ans.Body.Read(b.B[:cap(b.B)])
		if n > 0 {
			if _, err := w.Write(b.B[:n]); err != nil {
				return errGone
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err // the answer has begun: serve cuts the connection
		}
	}
}

// gzipped reports whether the client takes gzip.
func gzipped(head http.Header) bool {
	for _, part := range strings.Split(strings.Join(head["Accept-Encoding"], ","), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		q = strings.ReplaceAll(q, " ", "")
		if strings.EqualFold(name, "gzip") && q != "q=0" && !strings.HasPrefix(q, "q=0.0") {
			return true
		}
	}
	return false
}

// gone turns a failed write to the client into errGone.
func gone(err error) error {
	if err != nil {
		return errGone
	}
	return nil
}
