package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// Request is one request to the upstream, written afresh by the caller: nothing a client sent travels by itself. It must be
// safe to repeat, as it may reach more than one member, or one member twice.
type Request struct {
	Method   string
	Path     string // escaped, absolute
	RawQuery string
	// Header is copied. User-Agent and Authorization are the Pool's own and replace what is there.
	Header http.Header
	// Body is nil for an empty one. Do takes over one reference, whatever it returns.
	Body *Payload
	// Key chooses the member: requests with the same key go to the same one, as long as it is healthy. With "" it is the
	// less busy of two at random. Coordinators that aggregate must see all samples of a series, so writes need a key.
	Key string
	// Write selects the time limit (WriteTimeout for the whole exchange, otherwise ReadTimeout to the answer's header) and
	// the metrics' op.
	Write bool
	// MaxAnswer is the most bytes of body that Answer gives; one more is ErrAnswerTooLarge. 0 is no limit.
	MaxAnswer int64
}

func (r *Request) op() string {
	if r.Write {
		return "write"
	}
	return "read"
}

// Answer is the upstream's answer, of any status. The caller must Close its Body; the context given to Do must live until
// then. A Body that breaks off gives an *Error from Read.
type Answer struct {
	*http.Response
	Member   string // the URL of the member that answered
	Attempts int    // how many members were tried, 1 or more
}

var errAttemptTime = errors.New("no answer in time")

// Do sends r to one member, and to the next, up to Config.MaxAttempts, when that is refused, breaks off before an answer,
// or answers 500, 502, 503 or 504; not on any other status, and not when its own time or ctx ends. When every member
// failed, it is the last one's answer that is returned, or else an *Error. Redirects are answers like any other.
func (p *Pool) Do(ctx context.Context, r *Request) (*Answer, error) {
	defer r.Body.Drop()
	op := r.op()
	count := p.metrics.request(op)
	header := p.header(r.Header)
	tried := make([]*member, 0, maxAttempts)
	next := p.pick(r.Key, tried)
	if next == nil {
		count(string(NoMember))
		return nil, &Error{Kind: NoMember, Err: errors.New("no upstream is known; check upstream.dns.name")}
	}
	for {
		m := next
		tried = append(tried, m)
		resp, fail := p.attempt(ctx, m, r, header)
		if fail != nil && fail.stale && ctx.Err() == nil {
			// Most likely the member closed an idle connection as it was picked; going elsewhere would move the key for nothing.
			resp, fail = p.attempt(ctx, m, r, header)
		}
		next = nil
		if len(tried) < p.cfg.MaxAttempts && ctx.Err() == nil && another(resp, fail) {
			next = p.pick(r.Key, tried)
		}
		switch {
		case next == nil && fail != nil:
			count(string(fail.Kind))
			return nil, fail
		case next == nil:
			count(statusClass(resp.StatusCode))
			return &Answer{Response: resp, Member: m.url, Attempts: len(tried)}, nil
		case resp != nil:
			resp.Body.(*answerBody).discard()
		}
		p.metrics.failover(op)
	}
}

// another says that a further member may do better.
func another(resp *http.Response, fail *Error) bool {
	if fail != nil {
		return fail.Kind == Connect || fail.Kind == Reset
	}
	switch resp.StatusCode {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// attempt sends r to m. Either result is nil; the response's Body is an *answerBody.
func (p *Pool) attempt(ctx context.Context, m *member, r *Request, header http.Header) (*http.Response, *Error) {
	limit := p.cfg.ReadTimeout
	if r.Write {
		limit = p.cfg.WriteTimeout
	}
	attempt, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("%w: waited %v", errAttemptTime, limit)) })
	m.inFlight.Add(1)
	done := func() {
		timer.Stop()
		cancel(nil)
		m.inFlight.Add(-1)
	}
	// How far the attempt came. The transport may use several connections, if an idle one turns out to be dead.
	var dialing, connected, reused atomic.Bool
	fail := func(err error) *Error {
		f := &Error{Kind: Reset, Member: m.url, Err: err}
		switch cause := context.Cause(attempt); {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			f.Kind, f.Err = Timeout, ctx.Err()
		case ctx.Err() != nil:
			f.Kind, f.Err = Canceled, ctx.Err()
		case errors.Is(cause, errAttemptTime):
			f.Kind, f.Err = Timeout, cause
		case !dialing.Load():
			f.Kind = Invalid
		case !connected.Load():
			f.Kind = Connect
		default:
			f.stale = reused.Load()
		}
		return f
	}
	failed := func(err error) (*http.Response, *Error) {
		f := fail(err)
		done()
		p.learn(m, f)
		return nil, f
	}
	req, err := p.request(httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{
		GetConn: func(string) { dialing.Store(true); connected.Store(false); reused.Store(false) },
		GotConn: func(i httptrace.GotConnInfo) { connected.Store(true); reused.Store(i.Reused) },
	}), m, r, header)
	if err != nil {
		return failed(err)
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return failed(err)
	}
	if !r.Write && !timer.Stop() {
		_ = resp.Body.Close()
		return failed(errAttemptTime)
	}
	m.count.add(statusClass(resp.StatusCode))
	resp.Body = &answerBody{ReadCloser: resp.Body, cancel: cancel, fail: fail, max: r.MaxAnswer, done: done}
	return resp, nil
}

// learn counts a failed attempt and draws conclusions on m's health. A member that cannot be connected to is out. One that
// breaks a connection is asked at once: a request that makes a member hang up must not take it from everyone else.
func (p *Pool) learn(m *member, f *Error) {
	m.count.add(string(f.Kind))
	switch f.Kind {
	case Connect:
		p.takeOut(m, f.Err.Error())
	case Reset:
		select {
		case m.nudge <- struct{}{}:
		default: // already asked for
		}
	}
}

// header is a copy of h with what every request carries.
func (p *Pool) header(h http.Header) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("User-Agent", "m3gateway")
	h.Del("Authorization")
	if p.auth != "" {
		h.Set("Authorization", p.auth)
	}
	// Present but empty is not sent; it tells net/http that a POST may be sent again when an idle connection was dead.
	h["X-Idempotency-Key"] = nil
	return h
}

// request builds the HTTP request for one attempt. The transport closes its Body.
func (p *Pool) request(ctx context.Context, m *member, r *Request, header http.Header) (*http.Request, error) {
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", r.Path, err)
	}
	reader, err := r.Body.open()
	if err != nil {
		return nil, err
	}
	return (&http.Request{
		Method:        r.Method,
		URL:           &url.URL{Scheme: m.scheme, Host: m.address, Path: path, RawPath: r.Path, RawQuery: r.RawQuery},
		Host:          m.host,
		Header:        header,
		Body:          reader,
		GetBody:       r.Body.open,
		ContentLength: int64(r.Body.size()),
	}).WithContext(ctx), nil
}
