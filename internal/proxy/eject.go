package proxy

import (
	"time"
)

// Passive ejection is this package's circuit breaker: what requests meet opens it, time and a good probe close it, and a slow
// start is its half-open state. A breaker beside it would judge the same events by other numbers.
const (
	// ejectRow failures in a row, or ejectLeast in ten seconds that are half of all requests, eject a member.
	ejectRow   = 5
	ejectLeast = 5
	// ejectFirst is the least time that a member is out; each further time takes twice as long, up to ejectMost.
	ejectFirst = 2 * time.Second
	ejectMost  = 5 * time.Minute
	// ejectForget is how long a member must be fit for the next time to be a first one.
	ejectForget = 5 * time.Minute
)

// met books what an attempt met on m, and takes m out if it is worse than others. failed is an answer of 500, 502, 503 or 504, a
// broken connection or the end of patience: never what a client did, and never an answer that judges the request.
func (p *Pool) met(m *member, o op, failed bool, why string) {
	now := p.now()
	row := m.sides[o].book(now, failed)
	if !failed {
		return
	}
	requests, failures := m.sides[o].sums(now)
	if row < ejectRow && (failures < ejectLeast || 2*failures < requests) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.outlierLocked(m, o, requests, failures, now) {
		p.ejectLocked(m, o, why, now)
	}
}

// outlierLocked says that requests to another member fail less than half as often. Where all fail alike it is the store behind
// them, or the requests: sending these elsewhere would only tear aggregated windows.
func (p *Pool) outlierLocked(m *member, o op, requests, failures int, now time.Time) bool {
	for _, other := range p.list {
		if other == m || !other.sides[o].fit {
			continue
		}
		r, f := other.sides[o].sums(now)
		if r == 0 || 2*f*requests < failures*r {
			return true
		}
	}
	return false
}

// refused takes m out, for reads and writes, because no connection to it came about.
func (p *Pool) refused(m *member, why string) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	m.silent.Store(true)
	for o := range ops {
		p.ejectLocked(m, o, why, now)
	}
}

// ejectLocked takes m out, unless it is out or as many are as Config.MaxEjected allows. One of two is always allowed, and the
// only one never: then it is a probe that has the word.
func (p *Pool) ejectLocked(m *member, o op, why string, now time.Time) {
	s := &m.sides[o]
	if !s.fit {
		return
	}
	members, out := 0, 0
	for _, other := range p.list {
		if other.leaving.IsZero() {
			members++
		}
		if !other.sides[o].ejected.IsZero() {
			out++
		}
	}
	if members < 2 || out >= max(1, members*p.cfg.MaxEjected/100) {
		return
	}
	if now.Sub(s.since) > ejectForget {
		s.backoff = 0
	}
	s.ejected = now.Add(min(ejectFirst<<s.backoff, ejectMost))
	s.backoff = min(s.backoff+1, 16)
	s.times++
	s.cause = why
	s.forget()
	s.row.Store(0)
	p.metrics.ejection(m.url, o)
	p.settleLocked(now)
	m.askNow() // so that its probes follow the new time
}
