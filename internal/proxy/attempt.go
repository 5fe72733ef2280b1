package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	errAttemptTime = errors.New("no answer in time")
	errSuperseded  = errors.New("another attempt was answered")
)

// attempt is one sending of a request to one member.
type attempt struct {
	x      *exchange
	m      *member
	ctx    context.Context
	cancel context.CancelCauseFunc
	req    *http.Request
	began  time.Time
	hedge  bool
	// elsewhere: marked with Request.Elsewhere
	elsewhere bool
	// How far it came. The transport may use several connections, if an idle one turns out to be dead.
	dialing, connected, reused atomic.Bool
}

// result is how an attempt ended. Either resp or fail is nil; the response's Body is an *answerBody.
type result struct {
	*attempt
	resp *http.Response
	fail *Error
}

// attempt prepares an attempt on m. The body is opened here: later its owner may be gone.
func (x *exchange) attempt(m *member, hedge bool) (*attempt, *Error) {
	a := &attempt{x: x, m: m, began: x.p.now(), hedge: hedge}
	a.ctx, a.cancel = context.WithCancelCause(x.inner)
	header := x.header
	if len(x.r.Elsewhere) > 0 && !x.owned(m) {
		a.elsewhere = true
		header = header.Clone()
		for name, v := range x.r.Elsewhere {
			header[name] = v
		}
	}
	var err error
	a.req, err = x.p.request(httptrace.WithClientTrace(a.ctx, &httptrace.ClientTrace{
		GetConn: func(string) { a.dialing.Store(true); a.connected.Store(false); a.reused.Store(false) },
		GotConn: func(i httptrace.GotConnInfo) { a.connected.Store(true); a.reused.Store(i.Reused) },
	}), m, x.r, header)
	if err != nil {
		a.cancel(nil)
		return nil, &Error{Kind: Invalid, Member: m.url, Err: err}
	}
	m.inFlight.Add(1)
	x.p.underWay[x.r.op()].Add(1)
	if hedge {
		x.p.doubled[x.r.op()].Add(1)
	}
	return a, nil
}

// owned says that m is the one that the request belongs to.
func (x *exchange) owned(m *member) bool {
	if x.r.part != nil {
		return m == x.r.part
	}
	return x.r.Key == "" || x.p.Split().owner(hash(x.r.Key), x.p.now().UnixMilli()) == m
}

// end gives back what the attempt holds.
func (a *attempt) end() {
	a.cancel(nil)
	a.m.inFlight.Add(-1)
	a.x.p.underWay[a.x.r.op()].Add(-1)
	if a.hedge {
		a.x.p.doubled[a.x.r.op()].Add(-1)
	}
}

// do sends the request and learns from what comes of it.
func (a *attempt) do() result {
	p, o := a.x.p, a.x.r.op()
	resp, err := a.m.roundTrip(a.req)
	now := p.now()
	took := now.Sub(a.began)
	if err != nil {
		f := a.failure(err)
		a.end()
		p.learn(a, f, took)
		return result{attempt: a, fail: f}
	}
	a.m.heard.Store(now.UnixNano())
	a.m.count.add(statusClass(resp.StatusCode))
	p.met(a.m, o, failing(resp.StatusCode), fmt.Sprintf("it answered %d to %ss", resp.StatusCode, o))
	if failing(resp.StatusCode) {
		took = max(took, failureCost)
	} else {
		a.x.tail.add(took)
	}
	a.m.sides[o].pace.add(now, took)
	p.usual[o].add(now, took)
	body := &answerBody{ReadCloser: resp.Body, cancel: a.cancel, fail: a.failure, max: a.x.r.MaxAnswer, done: a.end}
	if !a.x.r.Write {
		if body.max == 0 {
			body.max = p.cfg.AnswerBytes
		}
		body.now, body.patience = p.now, p.cfg.ReadTimeout
	}
	resp.Body = body
	return result{attempt: a, resp: resp}
}

// failureCost is the least that a failure counts as, so that a member which fails quickly is not the most wanted.
const failureCost = time.Second

// failure names an error of the attempt, or of its answer.
func (a *attempt) failure(err error) *Error {
	f := &Error{Kind: Reset, Member: a.m.url, Err: err}
	outer := a.x.ctx.Err()
	switch cause := context.Cause(a.ctx); {
	case errors.Is(outer, context.DeadlineExceeded):
		f.Kind, f.Err = Timeout, outer
	case outer != nil:
		f.Kind, f.Err = Canceled, outer
	case errors.Is(cause, errSuperseded):
		f.Kind, f.Err = Canceled, cause
	case errors.Is(cause, errAttemptTime):
		f.Kind, f.Err, f.ours = Timeout, cause, true
	case !a.dialing.Load():
		f.Kind = Invalid
	case !a.connected.Load():
		f.Kind = Connect
	default:
		f.stale = a.reused.Load()
	}
	return f
}

// learn counts a failed attempt and draws conclusions on its member's health. A member that cannot be connected to is out. One
// that breaks a connection, or does not answer, is asked at once: a request that makes a member hang up must not take it from
// everyone else. A client that went away says nothing of a member.
func (p *Pool) learn(a *attempt, f *Error, took time.Duration) {
	m, o := a.m, a.x.r.op()
	m.count.add(string(f.Kind))
	switch {
	case f.Kind == Connect && ours(f.Err):
		p.log.Error("the gateway cannot make connections", "err", f.Err)
		return
	case f.Kind == Connect:
		var dns *net.DNSError
		if !errors.As(f.Err, &dns) { // a name server that fails says nothing of a member, and connections may be left
			p.refused(m, f.Err.Error())
		}
		p.moved()
	case f.Kind == Reset && f.stale: // it closed an idle connection
		m.askNow()
		return
	case f.Kind == Reset:
	case f.Kind == Timeout && f.ours && 2*took >= p.limit(o):
	case errors.Is(f.Err, errSuperseded):
		m.sides[o].pace.add(p.now(), took) // as long as that, at least
		return
	default:
		return
	}
	m.askNow()
	m.sides[o].pace.add(p.now(), max(took, failureCost))
	p.met(m, o, true, f.Err.Error())
}

// ours says that a connection did not come about for want of something here.
func ours(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
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
