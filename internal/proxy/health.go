package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// maxProbeBody bounds, in bytes, what is read of a probe's answer.
	maxProbeBody = 64 << 10
	// outInterval is the time between two probes of a member that is out, if Config.HealthInterval is not shorter.
	outInterval = time.Second
	// patientMisses are the probes in a row without an answer in time that take a member out. One may be a pause of its garbage
	// collector, and moving its series away and back costs more than waiting for another probe.
	patientMisses = 2

	notProbed = "not probed yet"
)

// Probe says how a member is asked for its health. Its funcs judge an answer: nil, or why the member must not be used. body is
// not valid afterwards.
type Probe struct {
	// Path is requested with GET.
	Path  string
	Judge func(status int, body []byte) (writes, reads error)
	// QueryPath and QueryParams are a cheap read that must work, too, before the member is used for reads. "": there is none.
	QueryPath, QueryParams string
	Query                  func(status int, body []byte) error
}

// errNoAnswer is a probe that was not answered in time.
var errNoAnswer = errors.New("no answer to the probe")

// watch probes m at once and then every HealthInterval, sooner when nudged, when it is out, or when a time-out is to be
// confirmed, until ctx ends.
func (p *Pool) watch(ctx context.Context, m *member) {
	first := true
	for {
		again := p.check(ctx, m)
		if first {
			close(m.probed)
			first = false
		}
		// A tenth of jitter keeps replicas apart; a twentieth of pause keeps a storm of resets from becoming one of probes.
		pause := p.cfg.HealthInterval / 20
		if !sleep(ctx, pause, nil) || !sleep(ctx, again-pause+rand.N(p.cfg.HealthInterval/10+1), m.nudge) {
			return
		}
	}
}

// sleep waits for d or an earlier wake; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-wake:
		return true
	case <-ctx.Done():
		return false
	}
}

// check probes m once, takes it in or out, and says when to do so again.
func (p *Pool) check(ctx context.Context, m *member) (again time.Duration) {
	p.speak(ctx, m)
	var answer [ops]error
	answer[writing], answer[reading] = p.ask(ctx, m)
	if ctx.Err() != nil {
		return 0 // the probe was cut off by us
	}
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	again = p.cfg.HealthInterval
	for o := range ops {
		s := &m.sides[o]
		switch err := answer[o]; {
		case err == nil:
			s.misses, s.fault = 0, ""
			if !now.Before(s.ejected) {
				s.ejected, s.cause = time.Time{}, ""
			}
		case errors.Is(err, errNoAnswer) && s.fit && s.misses+1 < patientMisses:
			s.misses++
			again = 0
			m.closeIdle() // the next one is to be on a new connection
		default:
			s.misses = 0
			s.fault = err.Error()
		}
		if !s.ejected.IsZero() || s.fault != "" {
			again = min(again, max(outInterval, s.ejected.Sub(now)))
		}
	}
	silent := m.sides[writing].misses+m.sides[reading].misses == 0 && cannotAnswer(answer[writing]) && cannotAnswer(answer[reading])
	if m.silent.Store(silent); silent {
		m.closeIdle()
	}
	p.settleLocked(now)
	return again
}

// speak finds out whether m offers HTTP/2 without TLS, when that is wanted, by speaking it: once when m joins, and while it is
// out, since another process may be there when it comes back.
func (p *Pool) speak(ctx context.Context, m *member) {
	if m.clear2 == nil || m.scheme != "http" {
		return
	}
	p.mu.Lock()
	known := m.sides[reading].fit || m.sides[writing].fit
	p.mu.Unlock()
	if known {
		return
	}
	m.h2c.Store(true)
	if _, _, err := p.get(ctx, m, p.probe.Path, ""); err != nil {
		m.h2c.Store(false)
	}
}

// cannotAnswer says that a probe got no answer at all.
func cannotAnswer(err error) bool {
	var none *noAnswer
	return errors.As(err, &none)
}

// noAnswer is a probe without an answer, for whatever reason.
type noAnswer struct{ err error }

func (e *noAnswer) Error() string { return e.err.Error() }
func (e *noAnswer) Unwrap() error { return e.err }

// ask sends one probe, and the query if reads may be fit, and judges the answers.
func (p *Pool) ask(ctx context.Context, m *member) (writes, reads error) {
	status, body, err := p.get(ctx, m, p.probe.Path, "")
	if err != nil {
		return err, err
	}
	writes, reads = p.probe.Judge(status, body)
	if reads == nil && p.probe.QueryPath != "" {
		if status, body, err = p.get(ctx, m, p.probe.QueryPath, p.probe.QueryParams); err == nil {
			err = p.probe.Query(status, body)
		}
		reads = err
	}
	return writes, reads
}

// get asks m for path and reads the whole answer, within HealthTimeout.
func (p *Pool) get(ctx context.Context, m *member, path, params string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.HealthTimeout)
	defer cancel()
	req, err := p.request(ctx, m, &Request{Method: http.MethodGet, Path: path, RawQuery: params}, p.header(nil))
	if err != nil {
		return 0, nil, err
	}
	lost := func(err error) error {
		if ctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("%w within %v", errNoAnswer, p.cfg.HealthTimeout)
		}
		return &noAnswer{err}
	}
	resp, err := m.roundTrip(req)
	if err != nil {
		return 0, nil, lost(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxProbeBody+1))
	switch {
	case err != nil:
		return 0, nil, lost(fmt.Errorf("reading the answer to the probe: %w", err))
	case len(body) > maxProbeBody:
		return 0, nil, errors.New("the answer to the probe is too long")
	}
	m.heard.Store(p.now().UnixNano())
	return resp.StatusCode, body, nil
}
