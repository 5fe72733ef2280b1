package proxy

import (
	"math"
	"slices"
	"time"
)

// table is which member takes what, as of one moment. It is immutable; another takes its place when a member comes, goes, or
// is judged otherwise.
type table struct {
	members []*member      // all, sorted by URL
	in      [ops][]*member // those that take requests; all, if panic
	panic   [ops]bool      // none is fit
	split   Split          // of writes by key or series
	changed chan struct{}  // closed when another table has taken its place
}

// era is a time, by the samples' timestamps, in which the same members own the series. A coordinator aggregates the samples of
// a window in its memory and writes one value at the window's end, over what another has written: whoever holds a part of a
// window spoils the whole. So owners change at the bounds of windows, and a sample goes to the owner of its own time.
type era struct {
	from    int64     // Unix milliseconds; math.MinInt64 in the last of a list
	members []*member // sorted by URL
}

const (
	// handoverLead is how long before its beginning an era is known at least: longer than a probe's interval, so that replicas
	// that saw a member come at slightly different times mostly name the same bound.
	handoverLead = 10 * time.Second
	// eraKept is how long past its end an era is kept for late samples. M3's downsampler takes them for 2m at most unless told
	// otherwise, the raw namespace's bufferPast is commonly 10m.
	eraKept = 10 * time.Minute
	// founding bounds the time in which members that are found fit after all were out count as having been there all along.
	founding = 15 * time.Second
)

// settle makes what is known of the members take effect, and returns the earliest time at which it must be called again, or
// the zero time.
func (p *Pool) settle(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settleLocked(now)
}

func (p *Pool) settleLocked(now time.Time) time.Time {
	next := &table{changed: make(chan struct{})}
	for o := range ops {
		for _, m := range p.list {
			s := &m.sides[o]
			if fit := s.fault == "" && s.ejected.IsZero(); fit != s.fit {
				if s.fit, s.since = fit, now; fit {
					s.ramp.Store(p.rampLocked(m, o, now))
				}
				p.tell(m, o, s)
			}
		}
	}
	p.erasLocked(now)
	p.departLocked(now)
	next.members = slices.Clone(p.list)
	for o := range ops {
		next.in[o] = p.fitLocked(o)
		if next.panic[o] = len(next.in[o]) == 0; next.panic[o] {
			next.in[o] = next.members
		}
	}
	eras := p.eras
	if len(eras) == 0 { // panic
		eras = []era{{from: math.MinInt64, members: next.members}}
	}
	next.split = newSplit(eras)
	if old := p.table.Load(); old == nil || !old.same(next) {
		p.table.Store(next)
		if old != nil {
			close(old.changed)
		}
	}
	return p.dueLocked()
}

// same says that u would change nothing.
func (t *table) same(u *table) bool {
	for o := range ops {
		if t.panic[o] != u.panic[o] || !slices.Equal(t.in[o], u.in[o]) {
			return false
		}
	}
	return slices.Equal(t.members, u.members) && t.split.same(&u.split)
}

// rampLocked is when m begins a slow start for o, if there are others that have been fit for longer: among equals, as at the
// Pool's start, there is nothing to be slower than.
func (p *Pool) rampLocked(m *member, o op, now time.Time) int64 {
	for _, other := range p.list {
		if s := &other.sides[o]; other != m && s.fit && now.Sub(s.since) > p.foundingTime() {
			return now.UnixNano()
		}
	}
	return 0
}

// fitLocked are the members that are fit for o: those that are to stay, or else those that are leaving.
func (p *Pool) fitLocked(o op) []*member {
	for _, leaving := range []bool{false, true} {
		var fit []*member
		for _, m := range p.list {
			if m.sides[o].fit && m.leaving.IsZero() != leaving {
				fit = append(fit, m)
			}
		}
		if len(fit) > 0 {
			return fit
		}
	}
	return nil
}

// erasLocked brings the eras up to date. A member that is no longer fit for writes is in none of them at once, as nobody could
// give it a sample. One that is fit anew owns series from the next bound on; one that is leaving does so until then.
func (p *Pool) erasLocked(now time.Time) {
	unfit := func(m *member) bool { return !m.sides[writing].fit || !slices.Contains(p.list, m) }
	var eras []era
	for _, e := range p.eras {
		if e.members = slices.DeleteFunc(slices.Clone(e.members), unfit); len(e.members) > 0 {
			eras = append(eras, e)
		}
	}
	want := p.fitLocked(writing)
	switch {
	case len(want) == 0:
		p.eras = nil
		return
	case len(eras) == 0:
		p.founded = now
		fallthrough
	case now.Sub(p.founded) < p.foundingTime(), p.handover() == 0:
		eras = []era{{members: want}}
	case !slices.Equal(eras[0].members, want):
		if from := bound(now.Add(handoverLead), p.handover()); eras[0].from == from {
			eras[0].members = want
		} else {
			eras = slices.Insert(eras, 0, era{from, want})
		}
		p.log.Info("upstream members for writes change", "from", time.UnixMilli(eras[0].from).UTC(), "members", urlsOf(want))
	}
	for len(eras) > 1 && (slices.Equal(eras[0].members, eras[1].members) || eras[len(eras)-2].from < now.Add(-eraKept).UnixMilli()) {
		if slices.Equal(eras[0].members, eras[1].members) {
			eras = eras[1:]
		} else {
			eras = eras[:len(eras)-1]
		}
	}
	eras[len(eras)-1].from = math.MinInt64
	p.eras = eras
}

// bound is the first multiple of d, counted from 1970 as M3 counts windows, that is not before t; in Unix milliseconds.
func bound(t time.Time, d time.Duration) int64 {
	ms, step := t.UnixMilli(), d.Milliseconds()
	return (ms + step - 1) / step * step
}

func (p *Pool) handover() time.Duration {
	if p.cfg.Routing == ByLoad {
		return 0
	}
	return p.cfg.Handover
}

// foundingTime is one round of probes.
func (p *Pool) foundingTime() time.Duration {
	return min(founding, p.cfg.HealthInterval+2*p.cfg.HealthTimeout)
}

// departLocked ends the members that have left and own nothing any more.
func (p *Pool) departLocked(now time.Time) {
	p.list = slices.DeleteFunc(p.list, func(m *member) bool {
		if m.leaving.IsZero() {
			return false
		}
		for _, e := range p.eras {
			if slices.Contains(e.members, m) {
				return false
			}
		}
		m.leave()
		m.closeIdle()
		p.metrics.forget(p, []string{m.url})
		p.log.Info("upstream member left", "member", m.url)
		return true
	})
}

// dueLocked is when time alone changes something.
func (p *Pool) dueLocked() time.Time {
	if len(p.eras) < 2 {
		return time.Time{}
	}
	return time.UnixMilli(p.eras[len(p.eras)-2].from).Add(eraKept + time.Second)
}

// tell logs that a side of m is in or out.
func (p *Pool) tell(m *member, o op, s *side) {
	switch {
	case s.fit:
		p.log.Info("upstream member is in", "member", m.url, "for", o.String())
	case s.fault != notProbed:
		p.log.Warn("upstream member is out", "member", m.url, "for", o.String(), "why", s.why())
	}
}

func urlsOf(members []*member) []string {
	urls := make([]string, len(members))
	for i, m := range members {
		urls[i] = m.url
	}
	return urls
}
