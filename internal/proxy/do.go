package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
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
	// Elsewhere is added to the header of attempts on a member that does not own the request: the one that does may hold a part
	// of the same aggregated windows, and nobody else may aggregate.
	Elsewhere http.Header
	// Body is nil for an empty one. Do takes over one reference, whatever it returns.
	Body *Payload
	// Key chooses the member: requests with the same key go to the same one, as long as it is healthy. With "" it is the
	// less busy of two at random. Coordinators that aggregate must see all samples of a series, so writes need a key.
	Key string
	// Write selects the time limit (WriteTimeout for the whole exchange, otherwise ReadTimeout to the answer's header) and
	// the metrics' op.
	Write bool
	// MaxAnswer is the most bytes of body that Answer gives; one more is ErrAnswerTooLarge. 0 is Config.AnswerBytes.
	MaxAnswer int64

	part *member // whose part of a batch it is; nil: Key chooses
}

func (r *Request) op() op {
	if r.Write {
		return writing
	}
	return reading
}

// Answer is the upstream's answer, of any status. The caller must Close its Body; the context given to Do must live until
// then. A Body that breaks off gives an *Error from Read.
type Answer struct {
	*http.Response
	Member   string // the URL of the member that answered
	Attempts int    // how many members were tried, 1 or more
	// Elsewhere says that the request was marked with Request.Elsewhere.
	Elsewhere bool
}

// maxPause bounds the pause before a further attempt. It is random, so that what failed at once does not come again at once.
const maxPause = 50 * time.Millisecond

// staleTime is within what an idle connection that is no longer one says so: a way to the member and back.
const staleTime = 250 * time.Millisecond

// exchange is a request on its way to an answer. Attempts run beside it; the first good answer is the answer.
type exchange struct {
	p      *Pool
	r      *Request
	ctx    context.Context // the caller's
	inner  context.Context // ends with the time limit
	cancel context.CancelCauseFunc
	limit  *time.Timer
	header http.Header
	began  time.Time
	tail   *tail // of requests of this kind

	results chan result
	pending []*attempt
	tried   []*member
	hedged  bool
	held    time.Duration // since began: no hedge sooner, as too many others were under way
	again   bool          // an attempt on a dead idle connection was repeated
	renewed bool          // one was made over a new connection
	last    result
}

// Do sends r to one member, and to another, up to Config.MaxAttempts, when that is refused, breaks off before an answer, answers
// 500, 502, 503 or 504, or turns out not to answer anything; not on any other status, and not when its time or ctx ends. A read
// that takes longer than most is sent to another member as well. All that is added to requests stays within
// Config.RetryBudget. When every member failed, it is the last one's answer that is returned, or else an *Error. Redirects are
// answers like any other.
func (p *Pool) Do(ctx context.Context, r *Request) (*Answer, error) {
	defer r.Body.Drop()
	count := p.metrics.request(r.op(), p.now)
	now := p.now()
	first := p.pick(r, nil, now)
	if first == nil {
		count(string(NoMember))
		return nil, errNoMember()
	}
	p.budgets[r.op()].add(now, 1, 0)
	x := p.exchange(ctx, r, now)
	res := x.run(first)
	x.abandon(res.attempt)
	if res.fail != nil {
		x.end()
		count(string(res.fail.Kind))
		return nil, res.fail
	}
	body := res.resp.Body.(*answerBody)
	body.done = func() { res.attempt.end(); x.end() }
	if !r.Write && !x.limit.Stop() {
		_ = body.Close()
		count(string(Timeout))
		return nil, &Error{Kind: Timeout, Member: res.m.url, Err: errAttemptTime}
	}
	count(statusClass(res.resp.StatusCode))
	return &Answer{Response: res.resp, Member: res.m.url, Attempts: len(x.tried), Elsewhere: res.attempt.elsewhere}, nil
}

func errNoMember() *Error {
	return &Error{Kind: NoMember, Err: errors.New("no upstream is known; check upstream.dns.name")}
}

func (p *Pool) exchange(ctx context.Context, r *Request, now time.Time) *exchange {
	x := &exchange{p: p, r: r, ctx: ctx, header: p.header(r.Header), began: now}
	x.inner, x.cancel = context.WithCancelCause(ctx)
	limit := p.cfg.ReadTimeout
	if r.Write {
		limit = p.cfg.WriteTimeout
	}
	x.tail = p.tails.of(r.Path[strings.LastIndexByte(r.Path, '/')+1:])
	x.limit = time.AfterFunc(limit, func() { x.cancel(fmt.Errorf("%w: waited %v", errAttemptTime, limit)) })
	x.results = make(chan result, maxAttempts+3)
	x.tried = make([]*member, 0, maxAttempts+1)
	return x
}

// end stops the clock and whatever is still under way.
func (x *exchange) end() {
	x.limit.Stop()
	x.cancel(nil)
}

// run makes attempts until there is an answer, or none to be had.
func (x *exchange) run(first *member) result {
	if res, ok := x.launch(first, false); !ok {
		return res
	}
	timer := time.NewTimer(x.nextLook())
	defer timer.Stop()
	for {
		changed := x.p.table.Load().changed
		select {
		case res := <-x.results:
			x.pending = slices.DeleteFunc(x.pending, func(a *attempt) bool { return a == res.attempt })
			if !another(res.resp, res.fail) && (res.fail == nil || len(x.pending) == 0 || x.inner.Err() != nil) {
				return res
			}
			x.keep(res)
			if len(x.pending) > 0 {
				continue
			}
			if !x.retry() {
				return x.last
			}
		case <-timer.C:
			x.look()
			timer.Reset(x.nextLook())
		case <-changed:
			x.rescue()
		}
	}
}

// launch begins an attempt on m; false: it could not even be begun.
func (x *exchange) launch(m *member, hedge bool) (result, bool) {
	if !slices.Contains(x.tried, m) {
		x.tried = append(x.tried, m)
	}
	a, fail := x.attempt(m, hedge)
	if fail != nil {
		return result{fail: fail}, false
	}
	x.pending = append(x.pending, a)
	go func() { x.results <- a.do() }()
	return result{}, true
}

// keep makes res what is returned if nothing better comes.
func (x *exchange) keep(res result) {
	if x.last.resp != nil {
		x.last.resp.Body.(*answerBody).discard()
	}
	x.last = res
}

// retry begins a further attempt after the last one failed; false: there is none to be made.
func (x *exchange) retry() bool {
	if x.inner.Err() != nil {
		return false
	}
	if f := x.last.fail; f != nil && f.stale && !x.again {
		// Most likely the member closed an idle connection as it was picked; going elsewhere would move the key for nothing.
		// Quick as that is, it cost the member nothing, and need not be paid for. Others may be as dead: a new one is not.
		x.again = true
		if x.p.now().Sub(x.last.began) < staleTime || x.add("again") {
			m := x.last.m
			m.closeIdle()
			return x.relaunch(m)
		}
	}
	m := x.next()
	return m != nil && x.add("failover") && sleep(x.inner, rand.N(maxPause), nil) && x.relaunch(m)
}

func (x *exchange) relaunch(m *member) bool {
	res, ok := x.launch(m, false)
	if !ok {
		x.keep(res)
	}
	return ok
}

// next is the member for a further attempt, or nil if there is none or enough were tried.
func (x *exchange) next() *member {
	most := x.p.cfg.MaxAttempts
	if x.hedged {
		most++
	}
	if len(x.tried) >= most {
		return nil
	}
	return x.p.pick(x.r, x.tried, x.p.now())
}

// add takes an added attempt from the budget.
func (x *exchange) add(why string) bool {
	o := x.r.op()
	if !x.p.budgets[o].take(x.p.now()) {
		x.p.metrics.unaffordable(o)
		return false
	}
	x.p.metrics.added(o, why)
	return true
}

// rescue begins an attempt elsewhere if all under way are on members that turned out not to answer. The other must have answered
// something of late: where nobody does, there is nothing to be gained.
func (x *exchange) rescue() {
	for _, a := range x.pending {
		if !a.m.silent.Load() {
			return
		}
	}
	switch m := x.next(); {
	case m == nil:
	case !m.heardSince(x.p.now().Add(-x.p.suspicion())):
		m.askNow()
	case x.add("rescue"):
		x.launch(m, false)
	}
}

// renew sends a write once more to the same member, over a new connection, when it waits out of all proportion while the member
// answers others: then it is the connection that leads nowhere. A read has its hedge.
func (x *exchange) renew(now time.Time) {
	if !x.r.Write || x.renewed || len(x.pending) != 1 || !x.p.twice(writing) {
		return
	}
	wait := 2 * x.p.cfg.HealthTimeout
	if usual, known := x.tail.after(); known {
		wait = max(wait, 10*usual)
	}
	a := x.pending[0]
	if now.Sub(a.began) < wait || !a.m.heardSince(now.Add(-x.p.suspicion())) {
		return
	}
	if x.renewed = true; x.add("renewal") {
		a.m.closeIdle() // idle ones may lead as far
		x.launch(a.m, true)
	}
}

// nextLook is the time until look has something to do.
func (x *exchange) nextLook() time.Duration {
	wait := x.p.suspicion() / 2
	if after, may := x.hedgeAfter(); may {
		wait = min(wait, max(after-x.p.now().Sub(x.began), time.Millisecond))
	}
	return wait
}

// look sees what is to be done for an answer that takes long: a hedge, or a probe of a member that says nothing at all.
func (x *exchange) look() {
	now := x.p.now()
	if after, may := x.hedgeAfter(); may && now.Sub(x.began) >= after {
		x.hedge(now)
	}
	for _, a := range x.pending {
		if now.Sub(a.began) >= x.p.suspicion() && !a.m.heardSince(now.Add(-x.p.suspicion())) {
			a.m.askNow()
		}
	}
	x.renew(now)
	x.rescue()
}

// hedgeAfter is the time since x began after which a second request may be sent, or false if none may. Until it is known how long
// its like take it is that of a renewal: the connection may lead nowhere.
func (x *exchange) hedgeAfter() (time.Duration, bool) {
	if x.hedged || x.r.Write || x.p.cfg.Hedge == 0 || len(x.tried) > 1 {
		return 0, false
	}
	after, known := x.tail.after()
	if !known {
		after = 2 * x.p.cfg.HealthTimeout
	}
	return max(after, x.held), true
}

// hedge sends the request to a second member while the first is still at work. If too many others are under way, it is looked at
// again when it has waited twice as long.
func (x *exchange) hedge(now time.Time) {
	if !x.p.twice(reading) {
		x.held = 2 * now.Sub(x.began)
		return
	}
	x.hedged = true
	if m := x.p.pick(x.r, x.tried, now); m != nil && x.add("hedge") {
		x.launch(m, true)
	}
}

// twice says that one more request may be under way twice. Their number is bounded by that of all under way: so what they add is
// never more than that share of the stores' work, however long a request takes.
func (p *Pool) twice(o op) bool {
	return p.cfg.Hedge > 0 && p.doubled[o].Load() < 1+p.underWay[o].Load()*int64(p.cfg.Hedge)/100
}

// abandon ends the attempts that did not win.
func (x *exchange) abandon(winner *attempt) {
	if winner != nil && winner.hedge {
		x.p.metrics.hedgeWon()
	}
	if x.last.resp != nil && x.last.attempt != winner {
		x.last.resp.Body.(*answerBody).discard()
	}
	if len(x.pending) == 0 {
		return
	}
	for _, a := range x.pending {
		a.cancel(errSuperseded)
	}
	go func(n int) {
		for range n {
			if res := <-x.results; res.resp != nil {
				_ = res.resp.Body.Close()
			}
		}
	}(len(x.pending))
}

// another says that a further member may do better.
func another(resp *http.Response, fail *Error) bool {
	if fail != nil {
		return fail.Kind == Connect || fail.Kind == Reset
	}
	return failing(resp.StatusCode)
}

// failing are the statuses by which a member says that it, not the request, is at fault.
func failing(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
