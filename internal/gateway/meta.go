package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
)

const (
	// metaRange is how far back series, labels and label values look on M3 when the client does not say: without a start, M3
	// begins at 1970 and so answers from an aggregated namespace, where new series are missing for minutes.
	metaRange = 24 * time.Hour
	// maxQuestions is the most upstream requests that one of series or labels becomes.
	maxQuestions = 64
	// atOnce is how many of them are under way.
	atOnce = 4
)

func (h *Handler) series(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return h.meta(w, r, x, x.state.paths.Series, query.Sets)
}

func (h *Handler) labels(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return h.meta(w, r, x, x.state.paths.Labels, query.Names)
}

func (h *Handler) labelValues(w http.ResponseWriter, r *http.Request, x *exchange) error {
	name := chi.URLParam(r, "name")
	if !query.ValidLabelName(dialect(x.state.Store.Kind), name) {
		return badRequest("invalid label name %q", oneLine(name, 60))
	}
	x.asked = append(x.asked, name)
	x.values = name
	return h.meta(w, r, x, x.state.paths.LabelValues(name), query.Names)
}

// meta confines the selectors of series, labels and label values.
func (h *Handler) meta(w http.ResponseWriter, r *http.Request, x *exchange, path string, shape query.Shape) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, "match[]", "start", "end", "limit")
	if err != nil {
		return err
	}
	if shape == query.Sets && len(in["match[]"]) == 0 {
		return badRequest("no match[] parameter provided")
	}
	x.asked = append(x.asked, in["match[]"]...)
	selectors, err := x.state.confiner.Selectors(x.lane.scope, in["match[]"])
	if err != nil {
		return err
	}
	x.confined = slices.Clone(selectors) // those are sorted where the store is asked one by one
	out := url.Values{}
	if err := x.span(in, out); err != nil {
		return err
	}
	limit, err := x.limit(in, out)
	if err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindM3 {
		return h.merged(w, r, x, path, shape, out, selectors, limit)
	}
	out["match[]"] = selectors
	req, err := h.metaRequest(x, path, out)
	if err != nil {
		return err
	}
	return h.pass(w, r, x, req, h.jsonPassing(x, shape, 0))
}

// span takes the optional start and end of a read of metadata. Where the client names no start, the limits of the tenant do,
// and the store's kind.
func (x *exchange) span(in, out url.Values) error {
	now := x.now.UnixMilli()
	end, _, err := moment(in, out, "end", now)
	if err != nil {
		return err
	}
	start, named, err := moment(in, out, "start", end)
	if err != nil {
		return err
	}
	if !named {
		from, limited := x.lane.reads.Earliest(x.now, end)
		if most := min(end, now) - metaRange.Milliseconds(); x.state.Store.Kind == m3.KindM3 && (!limited || from < most) {
			from, limited = most, true
		}
		if !limited {
			return nil
		}
		start = from
		out.Set("start", time.UnixMilli(start).UTC().Format(time.RFC3339))
	}
	return x.judge(limits.Read{Start: start, End: end, Oldest: start})
}

// metaRequest asks by POST where the store takes it, and by GET for label values.
func (h *Handler) metaRequest(x *exchange, path string, out url.Values) (*proxy.Request, error) {
	if path == x.state.paths.Series || path == x.state.paths.Labels {
		return h.formRequest(x, path, out), nil
	}
	return h.urlRequest(x, path, out)
}

// merged asks M3 once for each selector, since it takes one at a time on labels and values and repeats series on several,
// and answers what all of them found, once each, sorted and cut to limit.
func (h *Handler) merged(w http.ResponseWriter, r *http.Request, x *exchange, path string, shape query.Shape, out url.Values, selectors []string, limit int) error {
	slices.Sort(selectors)
	if selectors = slices.Compact(selectors); len(selectors) > maxQuestions {
		return badRequest("request has more than %d different match[] parameters, which this store takes one by one", maxQuestions)
	}
	leave, err := h.enter(r.Context(), x)
	if err != nil {
		return err
	}
	defer leave()
	found, err := h.gather(r.Context(), x, path, shape, out, selectors)
	if err != nil {
		return err
	}
	cut := limit > 0 && len(found) > limit
	if cut {
		found = found[:limit]
	}
	b := query.EncodeStrings(found)
	if shape == query.Sets {
		b = query.EncodeSeries(found)
	}
	if cut {
		b = append(b[:len(b)-1], `,"warnings":["results truncated due to limit"]}`...)
	}
	return h.send200(w, r, x, b)
}

// gather asks for each selector, some at once, and merges what is found. The first failure ends all.
func (h *Handler) gather(ctx context.Context, x *exchange, path string, shape query.Shape, out url.Values, selectors []string) ([]string, error) {
	reads := x.lane.reads
	allowed := min(reads.Timeout, x.state.ReadTimeout)
	ctx, stop := context.WithTimeoutCause(ctx, allowed, errSilent) // for all of them together
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		t     = tally{x: x, base: x.loan.held}
		parts = make([][]string, len(selectors))
		free  = make(chan struct{}, atOnce)
		work  sync.WaitGroup
	)
	for i, s := range selectors {
		own := url.Values{"match[]": {s}}
		for name, v := range out {
			own[name] = v
		}
		req, err := h.metaRequest(x, path, own)
		if err != nil {
			cancel(err)
			break
		}
		free <- struct{}{}
		if ctx.Err() != nil {
			req.Body.Drop()
			break
		}
		work.Go(func() {
			defer func() { <-free }()
			var err error
			if parts[i], err = h.question(ctx, &t, shape, req); err != nil {
				cancel(err)
			}
		})
	}
	work.Wait()
	switch err := context.Cause(ctx); err {
	case nil:
		return query.MergeValues(parts...), nil
	case errSilent:
		return nil, reads.TooSlow(allowed)
	default:
		return nil, err
	}
}

// question is one request of gather.
func (h *Handler) question(ctx context.Context, t *tally, shape query.Shape, req *proxy.Request) (found []string, err error) {
	x := t.x
	ans, err := h.ask(ctx, x, req)
	if err != nil {
		return nil, err
	}
	defer ans.Body.Close()
	t.answered(ans)
	keep := func(s string) error {
		// A string's bytes and header, in a list and in the merged list, and the encoded answer.
		if err := t.add(int64(2*len(s) + 48)); err != nil {
			return err
		}
		found = append(found, s)
		return nil
	}
	body := &failure{r: ans.Body, count: t.read}
	const unlimited = 1 << 62 // t.read and the pool hold the limit
	if shape == query.Sets {
		err = query.EachSeries(body, unlimited, x.lane.strip, keep)
	} else {
		strip := x.stripped()
		err = query.EachString(body, unlimited, func(s string) error {
			if strip != "" && s == strip {
				return nil
			}
			return keep(s)
		})
	}
	if body.err != nil {
		return nil, body.err
	}
	return found, err
}

// failure notes what broke a body off, so that it is not taken for a fault of its content.
type failure struct {
	r     io.Reader
	count func(n int) error // may be nil
	err   error
}

func (f *failure) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if f.count != nil {
		if over := f.count(n); over != nil {
			err = over
		}
	}
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// tally is what the questions of one request share.
type tally struct {
	x    *exchange
	base int64 // of the loan

	mu    sync.Mutex // guards x's loan, too
	held  int64
	lent  int64
	bytes int64 // of the store's answers
}

// read counts n more bytes of answers.
func (t *tally) read(n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	reads := t.x.lane.reads
	if t.bytes += int64(n); reads.AnswerBytes > 0 && t.bytes > reads.AnswerBytes {
		return reads.TooLong(t.bytes)
	}
	return nil
}

// add counts n more bytes of memory into the loan.
func (t *tally) add(n int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held += n
	if t.held <= t.lent {
		return nil
	}
	const piece = 256 << 10 // at a time, since the budget is shared by all
	if err := t.x.loan.resize(t.base + t.held + piece); err != nil {
		return err
	}
	t.lent = t.held + piece
	return nil
}

// answered notes who answered, for the access log.
func (t *tally) answered(ans *proxy.Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.x.note(ans)
}

// enter counts a read in that the store is going to be asked for, which may have to wait for its turn; leave counts it out.
func (h *Handler) enter(ctx context.Context, x *exchange) (leave func(), err error) {
	if e := limits.BeginRead(x.lane.counted, x.now); e != nil {
		return nil, e
	}
	if err := h.tenants.EnterRead(ctx, x.user, x.lane.counted); err != nil {
		limits.NotRead(x.lane.counted)
		return nil, err
	}
	return func() { h.tenants.LeaveRead(x.user, x.lane.counted) }, nil
}

// note remembers who answered, for the access log.
func (x *exchange) note(ans *proxy.Answer) {
	x.upstream, x.attempts = ans.Member, x.attempts+ans.Attempts
}

// stripped is the string that is left out of a list of names or values; "": none.
func (x *exchange) stripped() string {
	switch x.values {
	case "":
		return x.lane.strip.Name
	case x.lane.strip.Name:
		return x.lane.strip.Value
	}
	return ""
}

var errSilent = errors.New("the store is silent for too long")
