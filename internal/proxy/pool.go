package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Pool sends requests to the members of one upstream. Its methods are safe for concurrent use, but for Start and Close.
type Pool struct {
	cfg     Config
	probe   Probe
	now     func() time.Time
	log     *slog.Logger
	metrics *Metrics
	connect func(*member) (plain, h2c http.RoundTripper) // transports.of but in simulations
	auth    string                                       // the Authorization header, "" for none
	lookup  func(ctx context.Context, name string) (found, error)
	static  []*url.URL

	state
	table   atomic.Pointer[table]
	lookNow chan struct{} // asks for a look-up before its time

	budgets  [ops]budget
	usual    [ops]pace // of all members
	tails    tails
	underWay [ops]atomic.Int64 // attempts
	doubled  [ops]atomic.Int64 // those of them that were begun while another for the same request was at work

	ctx  context.Context    // set by Start
	stop context.CancelFunc // set by Start
	work sync.WaitGroup     // probes and look-ups
}

// New makes a Pool without members; Start finds them. cfg must have passed Check; CAFile and the client's certificate are
// read here.
func New(cfg Config, probe Probe, now func() time.Time, log *slog.Logger, m *Metrics) (*Pool, error) {
	p := &Pool{cfg: cfg, probe: probe, now: now, log: log, metrics: m, auth: authorization(cfg), lookNow: make(chan struct{}, 1)}
	if p.cfg.Routing == "" {
		p.cfg.Routing = ByTenant
	}
	for o := range ops {
		p.budgets[o].percent = cfg.RetryBudget
	}
	p.settle(now())
	var err error
	if p.static, err = parseURLs(cfg.URLs); err != nil {
		return nil, err
	}
	if cfg.DNS.Name != "" {
		p.lookup = names{cfg.DNS.Server}.look
	}
	t, err := newTransports(cfg)
	if err != nil {
		return nil, err
	}
	p.connect = t.of
	return p, nil
}

// Routing is how writes are to be sent: with Send if it is BySeries, else with Do.
func (p *Pool) Routing() Routing { return p.cfg.Routing }

func parseURLs(list []string) ([]*url.URL, error) {
	var urls []*url.URL
	for _, s := range list {
		u, err := parseURL(s)
		if err != nil {
			return nil, fmt.Errorf("upstream.urls: %q %w", s, err)
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// Start finds the members and probes each once, then goes on doing so until ctx ends or Close. It returns after that first
// round, at most dnsTimeout and twice Config.HealthTimeout later, whatever it found: until a first good probe a member is out,
// and as long as all are out, all are used. Call it once.
func (p *Pool) Start(ctx context.Context) {
	p.ctx, p.stop = context.WithCancel(ctx)
	if p.lookup != nil {
		wait := p.resolve(p.ctx)
		p.work.Go(func() { p.resolveAgain(p.ctx, wait) })
	} else {
		p.update(p.ctx, p.static, "")
	}
	p.metrics.adopt(p)
	for _, m := range p.table.Load().members {
		select {
		case <-m.probed:
		case <-p.ctx.Done():
			return
		}
	}
}

// Move makes the members those of urls, in place of the ones that a Config without DNS named. Members that stay keep their
// state; others come and go as by a look-up. Call it after Start.
func (p *Pool) Move(urls []string) error {
	parsed, err := parseURLs(urls)
	if err != nil {
		return err
	}
	p.update(p.ctx, parsed, "")
	return nil
}

// Close ends what Start began and closes idle connections. Requests under way go on to their end. Call it after Start.
func (p *Pool) Close() {
	p.stop()
	p.work.Wait()
	for _, m := range p.table.Load().members {
		m.closeIdle()
	}
	if p.metrics.current() != p {
		p.metrics.forget(p, urlsOf(p.table.Load().members))
	}
}

// Ready says that some member is fit for writes, or some for reads.
func (p *Pool) Ready() bool {
	t := p.table.Load()
	return !t.panic[reading] || !t.panic[writing]
}

func (p *Pool) has(url string) bool {
	for _, m := range p.table.Load().members {
		if m.url == url {
			return true
		}
	}
	return false
}

// limit bounds a request of o.
func (p *Pool) limit(o op) time.Duration {
	if o == writing {
		return p.cfg.WriteTimeout
	}
	return p.cfg.ReadTimeout
}

// suspicion is how long an answer may take before it is asked whether the member answers anything.
func (p *Pool) suspicion() time.Duration { return p.cfg.HealthTimeout / 2 }
