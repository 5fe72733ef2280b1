package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
)

// passing says how a store's answer becomes the client's.
type passing struct {
	// media gives the media type that the client is told for the store's.
	media func(string) string
	// coded: the answer has a coding of its own, snappy, or needs none; it is not compressed.
	coded bool
	// edit, unless it is nil, copies the body of an answer of that media type, changed.
	edit func(media string, dst io.Writer, src io.Reader) error
}

func jsonMedia(string) string { return "application/json" }

// jsonPassing passes on an answer of that shape with at most limit series; 0: all.
func (h *Handler) jsonPassing(x *exchange, shape query.Shape, limit int) passing {
	p := passing{media: jsonMedia}
	strip := x.lane.strip
	if shape == query.Names {
		strip.Name = x.stripped()
	}
	if strip.Name == "" && limit == 0 {
		return p
	}
	p.edit = func(_ string, dst io.Writer, src io.Reader) error {
		e := h.editors.Get().(*query.Editor)
		defer h.editors.Put(e)
		return e.Edit(dst, src, query.Edit{Shape: shape, Strip: strip, Limit: limit})
	}
	return p
}

// The media types of remote read.
const (
	samplesMedia = "application/x-protobuf"
	chunksMedia  = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
)

// remotePassing passes on an answer to remote read.
func (h *Handler) remotePassing(x *exchange) passing {
	p := passing{coded: true, media: func(v string) string {
		if v == chunksMedia {
			return v
		}
		return samplesMedia
	}}
	if x.lane.strip.Name == "" {
		return p
	}
	p.edit = func(media string, dst io.Writer, src io.Reader) error {
		base := x.loan.held
		if media == chunksMedia {
			return query.StripChunks(dst, src, x.lane.strip, func(n int64) error { return x.loan.resize(base + n) })
		}
		return h.stripSamples(x, dst, src)
	}
	return p
}

// stripSamples is an edit. The answer is one block, which can only be changed whole.
func (h *Handler) stripSamples(x *exchange, dst io.Writer, src io.Reader) error {
	base := x.loan.held
	var body []byte
	for {
		if len(body) == cap(body) {
			size := max(2*cap(body), 64<<10)
			if err := x.loan.resize(base + int64(cap(body)+size)); err != nil {
				return err
			}
			body = append(make([]byte, 0, size), body...)
		}
		n, err := src.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	n, err := query.ReadAnswerLen(body)
	if err != nil {
		return err
	}
	if limit := x.lane.reads.AnswerBytes; limit > 0 && int64(n) > limit {
		return x.lane.reads.TooLong(int64(n))
	}
	if err := x.loan.resize(base + int64(cap(body)) + 7*int64(n)/2 + 64); err != nil {
		return err
	}
	out, err := query.StripSamples(body, x.lane.strip)
	if err != nil {
		return err
	}
	_, err = dst.Write(out)
	return err
}

// expositionMedia is the media type of /federate: the text format, with the parameters of it that are known.
func expositionMedia(v string) string {
	media, params, err := mime.ParseMediaType(v)
	known := map[string]string{"version": "0.0.4", "charset": "utf-8"}
	if err == nil && media == "text/plain" {
		for name, values := range map[string][]string{"version": {"1.0.0"}, "escaping": {"allow-utf-8", "underscores", "dots", "values"}} {
			if slices.Contains(values, params[name]) {
				known[name] = params[name]
			}
		}
	}
	return mime.FormatMediaType("text/plain", known)
}

// passBytes is what an answer takes while it passes: the buffers of its copying or editing, and of both connections.
const passBytes = 128 << 10

// pass asks the store and answers with what it says, as it comes.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request, x *exchange, req *proxy.Request, p passing) error {
	leave, err := h.enter(r.Context(), x)
	if err != nil {
		req.Body.Drop()
		return err
	}
	defer leave()
	if err := x.loan.resize(x.loan.held + passBytes); err != nil {
		req.Body.Drop()
		return err
	}
	takes := codingsOf(r.Header)
	if takes.gzip >= takes.zstd && takes.gzip > 0 && p.edit == nil && !p.coded { // the store's own gzip is passed on
		req.Header.Set("Accept-Encoding", "gzip")
	}
	ans, err := h.ask(r.Context(), x, req)
	if err != nil {
		return err
	}
	defer ans.Body.Close()
	x.note(ans)
	head := w.Header()
	media := p.media(ans.Header.Get("Content-Type"))
	coding := ans.Header.Get("Content-Encoding")
	switch {
	case coding == "", coding == "gzip" && req.Header.Get("Accept-Encoding") == "gzip", coding == "snappy" && p.coded:
	default:
		return unavailable("the store answered in an encoding that was not asked for")
	}
	head.Set("Content-Type", media)
	head.Set("X-Content-Type-Options", "nosniff")
	if coding != "" {
		head.Set("Content-Encoding", coding)
	}
	if coding == "gzip" {
		head.Set("Vary", "Accept-Encoding")
	}
	out := &outlet{h: h, w: w, x: x}
	if coding == "" && !p.coded {
		out.coding = takes.best()
	}
	if p.edit == nil {
		if out.coding == "" && ans.ContentLength >= 0 {
			head.Set("Content-Length", strconv.FormatInt(ans.ContentLength, 10))
		}
		err = h.copy(out, ans.Body)
	} else {
		body := &failure{r: ans.Body}
		if err = p.edit(media, out, body); body.err != nil {
			err = body.err
		}
	}
	return out.end(err)
}

// copy copies src to dst in pieces of 32 KiB.
func (h *Handler) copy(dst io.Writer, src io.Reader) error {
	b := h.bufs.Get(32 << 10)
	defer b.Release()
	for {
		n, err := src.Read(b.B[:cap(b.B)])
		if n > 0 {
			if _, err := dst.Write(b.B[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ask makes an upstream read and returns its answer, which the caller closes, if it is a success within the tenant's limits.
func (h *Handler) ask(ctx context.Context, x *exchange, req *proxy.Request) (*proxy.Answer, error) {
	reads := x.lane.reads
	p := &patience{allowed: min(reads.Timeout, x.state.ReadTimeout), reads: reads}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	p.timer = time.AfterFunc(p.allowed, func() { p.cancel(errSilent) })
	req.MaxAnswer = reads.AnswerBytes
	ans, err := x.state.Pool.Do(p.ctx, req)
	p.timer.Stop()
	if err != nil {
		err = p.judge(err)
		p.cancel(nil)
		return nil, err
	}
	p.ReadCloser, ans.Body = ans.Body, p
	if ans.StatusCode == http.StatusNoContent && req.Path == m3.ExemplarsPath {
		_ = ans.Body.Close()
		return nil, errNoSelector
	}
	if ans.StatusCode != http.StatusOK {
		text := errorBody(ans)
		discard(ans.Body)
		_ = ans.Body.Close()
		return nil, readVerdict(x.state.Store.Kind, ans.StatusCode, text)
	}
	if reads.AnswerBytes > 0 && ans.ContentLength > reads.AnswerBytes {
		_ = ans.Body.Close()
		return nil, reads.TooLong(ans.ContentLength)
	}
	return ans, nil
}

// errNoSelector is Prometheus' answer, 204 without a body, to a request for the exemplars of an expression that selects nothing.
var errNoSelector = errors.New("the expression has no selector")

// patience is the body of a store's answer, which may not be silent for longer than allowed. The time that the client takes
// does not count.
type patience struct {
	io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	allowed time.Duration
	reads   *limits.ReadConfig
}

func (p *patience) Read(b []byte) (int, error) {
	p.timer.Reset(p.allowed)
	n, err := p.ReadCloser.Read(b)
	p.timer.Stop()
	if err != nil && err != io.EOF {
		err = p.judge(err)
	}
	return n, err
}

func (p *patience) Close() error {
	err := p.ReadCloser.Close()
	p.timer.Stop()
	p.cancel(nil)
	return err
}

// judge says what broke the exchange off, if that was a limit of the tenant.
func (p *patience) judge(err error) error {
	var away *proxy.Error
	switch {
	case context.Cause(p.ctx) == errSilent, p.allowed == p.reads.Timeout && errors.As(err, &away) && away.Kind == proxy.Timeout:
		return p.reads.TooSlow(p.allowed)
	case errors.Is(err, proxy.ErrAnswerTooLarge):
		return p.reads.TooLong(p.reads.AnswerBytes + 1)
	}
	return err
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
