package proxy

import (
	"context"
	"net/url"
	"slices"
	"time"
)

const (
	// dnsTimeout bounds one look-up.
	dnsTimeout = 5 * time.Second
	// dnsLeast is the least time between two look-ups, whatever the TTL.
	dnsLeast = time.Second
)

// resolveAgain looks the name up when the last answer's TTL has passed, and at least every DNS.Interval; every second as long
// as there are no members; and sooner when a member could not be reached, as its name may have moved. It ends with ctx.
func (p *Pool) resolveAgain(ctx context.Context, wait time.Duration) {
	for {
		if len(p.table.Load().members) == 0 {
			wait = min(wait, dnsLeast)
		}
		least := min(wait, dnsLeast)
		if !sleep(ctx, least, nil) || !sleep(ctx, wait-least, p.lookNow) {
			return
		}
		wait = p.resolve(ctx)
	}
}

// moved asks for a look-up before its time.
func (p *Pool) moved() {
	select {
	case p.lookNow <- struct{}{}:
	default:
	}
}

// resolve looks the name up once, and says when to do so again. A failure, or an answer without addresses, leaves the members
// as they are.
func (p *Pool) resolve(ctx context.Context) (again time.Duration) {
	look, cancel := context.WithTimeout(ctx, dnsTimeout)
	answer, err := p.lookup(look, p.cfg.DNS.Name)
	cancel()
	again = p.cfg.DNS.Interval
	if ctx.Err() != nil {
		return again
	}
	if err != nil {
		p.metrics.dnsError()
		p.log.Warn("looking up upstream", "name", p.cfg.DNS.Name, "err", err)
		return again
	}
	if answer.ttl >= 0 {
		again = max(min(answer.ttl, again), min(dnsLeast, again))
	}
	urls := make([]*url.URL, 0, len(answer.hosts))
	for _, h := range answer.hosts {
		urls = append(urls, &url.URL{Scheme: p.cfg.DNS.Scheme, Host: h})
	}
	host := p.cfg.DNS.Name
	if isService(host) {
		host = "" // each target has its own name
	}
	p.update(ctx, urls, host)
	return again
}

// update makes the members those of urls, with host as Host header, or their own if "". Members that stay keep their state;
// those that go finish their requests, and what they own until it is handed over.
func (p *Pool) update(ctx context.Context, urls []*url.URL, host string) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	named := func(m *member) bool {
		return slices.ContainsFunc(urls, func(u *url.URL) bool { return u.String() == m.url })
	}
	for _, m := range p.list {
		switch stays := named(m); {
		case stays && !m.leaving.IsZero():
			m.leaving = time.Time{}
			p.log.Info("upstream member is back before it left", "member", m.url)
		case !stays && m.leaving.IsZero():
			m.leaving = now
			p.log.Info("upstream member is leaving", "member", m.url)
		}
	}
	for _, u := range urls {
		id := u.String()
		if slices.ContainsFunc(p.list, func(m *member) bool { return m.url == id }) {
			continue
		}
		m := p.newMember(u, host)
		watch, leave := context.WithCancel(ctx)
		m.leave = leave
		p.list = append(p.list, m)
		p.log.Info("upstream member joined", "member", m.url)
		p.work.Go(func() { p.watch(watch, m) })
	}
	slices.SortFunc(p.list, byURL)
	p.settleLocked(now)
}

func (p *Pool) newMember(u *url.URL, host string) *member {
	id := u.String()
	m := &member{
		url: id, scheme: u.Scheme, address: u.Host, host: host, hash: hash(id),
		count: p.metrics.attemptCounters(id),
		nudge: make(chan struct{}, 1), probed: make(chan struct{}),
	}
	if host == "" {
		m.host = u.Host
	}
	m.plain, m.clear2 = p.connect(m)
	for o := range ops {
		m.sides[o].fault = notProbed
	}
	return m
}

func byURL(a, b *member) int {
	switch {
	case a.url < b.url:
		return -1
	case a.url > b.url:
		return 1
	}
	return 0
}
