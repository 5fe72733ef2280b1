package proxy

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Pool sends requests to the members of one upstream. Its methods are safe for concurrent use, but for Start and Close.
type Pool struct {
	cfg       Config
	probe     Probe
	log       *slog.Logger
	metrics   *Metrics
	transport *http.Transport
	auth      string // the Authorization header, "" for none
	lookup    func(ctx context.Context, host string) ([]netip.Addr, error)
	static    []*url.URL

	members atomic.Pointer[[]*member] // an immutable list, sorted by url; replaced only by update

	stop context.CancelFunc // set by Start
	work sync.WaitGroup     // probes and look-ups
}

// Probe says how a member is asked for its health.
type Probe struct {
	// Path is requested with GET.
	Path string
	// OK says why the answer means that the member must not be used, or nil. body is not valid afterwards.
	OK func(status int, body []byte) error
}

// member is one upstream server. It is never changed to another; a name that moves to a new address is a new member.
type member struct {
	url      string // scheme://host:port: the identity in routing, metrics and logs
	scheme   string
	address  string // host:port to connect to
	host     string // the Host header
	hash     uint64
	count    attemptCounters
	inFlight atomic.Int64
	why      atomic.Pointer[string] // why it is out; nil: healthy
	nudge    chan struct{}          // asks for a probe before its time
	probed   chan struct{}          // closed after the first probe
	leave    context.CancelFunc     // ends the probes
}

func (m *member) healthy() bool { return m.why.Load() == nil }

// MemberState is a member as an operator sees it.
type MemberState struct {
	URL      string `json:"url"`
	Healthy  bool   `json:"healthy"`
	Why      string `json:"why,omitempty"` // why it is not healthy
	InFlight int64  `json:"in_flight"`
}

// New makes a Pool without members; Start finds them. cfg must have passed Check; CAFile is read here.
func New(cfg Config, probe Probe, log *slog.Logger, m *Metrics) (*Pool, error) {
	p := &Pool{cfg: cfg, probe: probe, log: log, metrics: m}
	p.members.Store(new([]*member))
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		roots, err := loadCA(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("upstream.ca_file: %w", err)
		}
		tlsConfig.RootCAs = roots
	}
	for _, s := range cfg.URLs {
		u, err := parseURL(s)
		if err != nil {
			return nil, fmt.Errorf("upstream.urls: %q %w", s, err)
		}
		p.static = append(p.static, u)
	}
	if cfg.DNS.Name != "" {
		host, _, err := splitHostPort(cfg.DNS.Name)
		if err != nil {
			return nil, fmt.Errorf("upstream.dns.name: %w", err)
		}
		tlsConfig.ServerName = host // members are dialed by address, their certificates name the host
		resolver := &net.Resolver{}
		p.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return resolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if a := cfg.BasicAuth; a.Username != "" {
		p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password))
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 15 * time.Second}
	p.transport = &http.Transport{
		DialContext:            dialer.DialContext, // Proxy stays nil: the environment has no say in where tenants' data goes
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		DisableCompression:     true, // the caller chooses Accept-Encoding
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true, // over TLS only
	}
	return p, nil
}

// Start finds the members and probes each once, then goes on doing so until ctx ends or Close. It returns after that first
// round, at most dnsTimeout and Config.HealthTimeout later, whatever it found: until a first good probe a member is out,
// and as long as all are out, all are used. Call it once.
func (p *Pool) Start(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	if p.lookup != nil {
		p.resolve(ctx)
		p.work.Go(func() { p.resolveAgain(ctx) })
	} else {
		p.update(ctx, p.static, "")
	}
	p.metrics.adopt(p)
	for _, m := range *p.members.Load() {
		select {
		case <-m.probed:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends what Start began and closes idle connections. Requests under way go on to their end. Call it after Start.
func (p *Pool) Close() {
	p.stop()
	p.work.Wait()
	p.transport.CloseIdleConnections()
	if p.metrics.current() != p {
		var urls []string
		for _, m := range *p.members.Load() {
			urls = append(urls, m.url)
		}
		p.metrics.forget(p, urls)
	}
}

// Ready says that some member's last probe was good.
func (p *Pool) Ready() bool {
	return slices.ContainsFunc(*p.members.Load(), (*member).healthy)
}

// Members lists the members, sorted by URL.
func (p *Pool) Members() []MemberState {
	members := *p.members.Load()
	list := make([]MemberState, 0, len(members))
	for _, m := range members {
		s := MemberState{URL: m.url, Healthy: true, InFlight: m.inFlight.Load()}
		if why := m.why.Load(); why != nil {
			s.Healthy, s.Why = false, *why
		}
		list = append(list, s)
	}
	return list
}

func (p *Pool) has(url string) bool {
	return slices.ContainsFunc(*p.members.Load(), func(m *member) bool { return m.url == url })
}

// update makes the members those of urls, with host as Host header, or their own if "". Members that stay keep their
// state; those that go finish their requests. Called by Start and then by one goroutine only.
func (p *Pool) update(ctx context.Context, urls []*url.URL, host string) {
	old := *p.members.Load()
	var next []*member
	for _, u := range urls {
		id := u.String()
		same := func(m *member) bool { return m.url == id }
		if slices.ContainsFunc(next, same) {
			continue
		}
		if i := slices.IndexFunc(old, same); i >= 0 {
			next = append(next, old[i])
			continue
		}
		m := &member{
			url: id, scheme: u.Scheme, address: u.Host, host: host, hash: hash(id),
			count: p.metrics.attemptCounters(id),
			nudge: make(chan struct{}, 1), probed: make(chan struct{}),
		}
		if host == "" {
			m.host = u.Host
		}
		why := "not probed yet"
		m.why.Store(&why)
		next = append(next, m)
	}
	slices.SortFunc(next, func(a, b *member) int {
		if a.url < b.url {
			return -1
		}
		return 1
	})
	p.members.Store(&next)
	for _, m := range next {
		if m.leave == nil {
			watch, leave := context.WithCancel(ctx)
			m.leave = leave
			p.work.Go(func() { p.watch(watch, m) })
			p.log.Info("upstream member joined", "member", m.url)
		}
	}
	for _, m := range old {
		if !slices.Contains(next, m) {
			m.leave()
			p.metrics.forget(p, []string{m.url})
			p.log.Info("upstream member left", "member", m.url)
		}
	}
}
