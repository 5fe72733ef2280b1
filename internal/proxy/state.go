package proxy

import (
	"slices"
	"time"
)

// State is a Pool as an operator sees it.
type State struct {
	Routing string        `json:"routing"`
	Reads   Traffic       `json:"reads"`
	Writes  Traffic       `json:"writes"`
	Members []MemberState `json:"members"` // sorted by URL
	// Handovers are the changes of who owns which series that are due or not long past, newest first.
	Handovers []Handover `json:"handovers,omitempty"`
}

// Traffic is what was asked of the members in the last ten seconds.
type Traffic struct {
	// Panic says that no member is fit, so that all are used.
	Panic    bool `json:"panic"`
	Requests int  `json:"requests"`
	// Added are the attempts that were made beyond the first of a request; at most Allowed may be.
	Added   int `json:"added"`
	Allowed int `json:"allowed"`
	// LatencySeconds is the mean time to an answer.
	LatencySeconds float64 `json:"latency_seconds"`
}

// MemberState is a member as an operator sees it.
type MemberState struct {
	URL     string    `json:"url"`
	Healthy bool      `json:"healthy"`       // it is fit for reads and writes
	Why     string    `json:"why,omitempty"` // why it is not
	H2C     bool      `json:"h2c"`
	Leaving bool      `json:"leaving"` // it is no longer among the members that the configuration names, and hands over
	Reads   SideState `json:"reads"`
	Writes  SideState `json:"writes"`
	// InFlight are the requests that it is working on or whose answer is being read.
	InFlight int64 `json:"in_flight"`
}

// SideState is what a member is for reads, or for writes.
type SideState struct {
	// State is in, warming (a slow start), waiting (fit, but nothing is its own yet), out (a probe says so) or ejected (requests
	// met failures).
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Since is when that began; Until is the earliest end of an ejection, or of waiting.
	Since time.Time  `json:"since,omitzero"`
	Until *time.Time `json:"until,omitempty"`
	// Share is the member's part of the requests of the last ten seconds; of these, Failures failed on it.
	Share          float64 `json:"share"`
	Requests       int     `json:"requests"`
	Failures       int     `json:"failures"`
	LatencySeconds float64 `json:"latency_seconds"`
	Ejections      int     `json:"ejections"` // since it joined
}

// Handover is a time, by the samples' timestamps, from which on the members own the series.
type Handover struct {
	From    time.Time `json:"from"`
	Members []string  `json:"members"`
}

// State is the Pool now.
func (p *Pool) State() State {
	now := p.now()
	t := p.table.Load()
	s := State{Routing: string(p.cfg.Routing), Reads: p.traffic(reading, t, now), Writes: p.traffic(writing, t, now)}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Members = p.membersLocked(now)
	for i, e := range p.eras {
		if i < len(p.eras)-1 {
			s.Handovers = append(s.Handovers, Handover{time.UnixMilli(e.from).UTC(), urlsOf(e.members)})
		}
	}
	return s
}

func (p *Pool) traffic(o op, t *table, now time.Time) Traffic {
	b := &p.budgets[o]
	requests, added := b.sums(now)
	return Traffic{Panic: t.panic[o], Requests: requests, Added: added, Allowed: b.allowed(requests), LatencySeconds: p.usual[o].at(now, 0)}
}

// Members lists the members, sorted by URL.
func (p *Pool) Members() []MemberState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.membersLocked(p.now())
}

func (p *Pool) membersLocked(now time.Time) []MemberState {
	var all [ops]int
	for o := range ops {
		for _, m := range p.list {
			n, _ := m.sides[o].sums(now)
			all[o] += n
		}
	}
	list := make([]MemberState, 0, len(p.list))
	for _, m := range p.list {
		reads, writes := &m.sides[reading], &m.sides[writing]
		s := MemberState{
			URL: m.url, Healthy: reads.fit && writes.fit, H2C: m.h2c.Load(), Leaving: !m.leaving.IsZero(), InFlight: m.inFlight.Load(),
			Reads:  p.sideLocked(m, reading, all[reading], now),
			Writes: p.sideLocked(m, writing, all[writing], now),
		}
		if s.Why = writes.why(); s.Why == "" {
			s.Why = reads.why()
		}
		list = append(list, s)
	}
	return list
}

func (p *Pool) sideLocked(m *member, o op, all int, now time.Time) SideState {
	side := &m.sides[o]
	s := SideState{State: "in", Why: side.why(), Since: side.since.UTC(), Ejections: side.times, LatencySeconds: side.pace.at(now, 0)}
	s.Requests, s.Failures = side.sums(now)
	if all > 0 {
		s.Share = float64(s.Requests) / float64(all)
	}
	keyed := o == writing && p.cfg.Routing != ByLoad
	switch {
	case !side.ejected.IsZero():
		s.State, s.Until = "ejected", new(side.ejected.UTC())
	case side.fault != "":
		s.State = "out"
	case keyed:
		for i, e := range slices.Backward(p.eras) {
			if slices.Contains(e.members, m) {
				if i < len(p.eras)-1 && e.from > now.UnixMilli() {
					s.State, s.Until = "waiting", new(time.UnixMilli(e.from).UTC())
				}
				break
			}
		}
	case side.share(now, p.cfg.SlowStart) < 1:
		s.State = "warming"
	}
	return s
}
