package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	// maxProbeBody bounds, in bytes, what is read of a probe's answer.
	maxProbeBody = 64 << 10
	// dnsTimeout bounds one look-up.
	dnsTimeout = 5 * time.Second
)

// watch probes m at once and then every HealthInterval, or sooner when nudged, until ctx ends.
func (p *Pool) watch(ctx context.Context, m *member) {
	first := true
	for {
		p.check(ctx, m)
		if first {
			close(m.probed)
			first = false
		}
		// A tenth of jitter keeps replicas apart; a twentieth of pause keeps a storm of resets from becoming one of probes.
		pause := p.cfg.HealthInterval / 20
		if !sleep(ctx, pause, nil) || !sleep(ctx, p.cfg.HealthInterval-pause+rand.N(p.cfg.HealthInterval/10+1), m.nudge) {
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

// check probes m once and takes it in or out.
func (p *Pool) check(ctx context.Context, m *member) {
	err := p.ask(ctx, m)
	if ctx.Err() != nil {
		return // the probe was cut off by us
	}
	if err != nil {
		p.takeOut(m, err.Error())
		return
	}
	if m.why.Swap(nil) != nil {
		p.log.Info("upstream member is healthy", "member", m.url)
	}
}

// takeOut keeps requests from m until its next good probe.
func (p *Pool) takeOut(m *member, why string) {
	if old := m.why.Swap(&why); old == nil || *old != why {
		p.log.Warn("upstream member is out", "member", m.url, "why", why)
	}
}

// ask sends one probe and judges its answer.
func (p *Pool) ask(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.HealthTimeout)
	defer cancel()
	req, err := p.request(ctx, m, &Request{Method: http.MethodGet, Path: p.probe.Path}, p.header(nil))
	if err != nil {
		return err
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			return fmt.Errorf("no answer to the probe within %v", p.cfg.HealthTimeout)
		}
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the answer to the probe: %w", err)
	case len(body) > maxProbeBody:
		return errors.New("the answer to the probe is too long")
	}
	return p.probe.OK(resp.StatusCode, body)
}

// resolveAgain looks the name up every DNS.Interval, or every second as long as there are no members, until ctx ends.
func (p *Pool) resolveAgain(ctx context.Context) {
	for {
		wait := p.cfg.DNS.Interval
		if len(*p.members.Load()) == 0 {
			wait = min(wait, time.Second)
		}
		if !sleep(ctx, wait, nil) {
			return
		}
		p.resolve(ctx)
	}
}

// resolve looks the name up once. A failure, or an answer without addresses, leaves the members as they are.
func (p *Pool) resolve(ctx context.Context) {
	host, port, err := splitHostPort(p.cfg.DNS.Name)
	var addresses []netip.Addr
	if err == nil {
		look, cancel := context.WithTimeout(ctx, dnsTimeout)
		addresses, err = p.lookup(look, host)
		cancel()
	}
	if err == nil && len(addresses) == 0 {
		err = errors.New("the name has no addresses")
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		p.metrics.dnsError()
		p.log.Warn("looking up upstream", "name", p.cfg.DNS.Name, "err", err)
		return
	}
	urls := make([]*url.URL, 0, len(addresses))
	for _, a := range addresses {
		urls = append(urls, &url.URL{Scheme: p.cfg.DNS.Scheme, Host: netip.AddrPortFrom(a.Unmap(), port).String()})
	}
	p.update(ctx, urls, p.cfg.DNS.Name)
}
