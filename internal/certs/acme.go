package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// authority is one Manager's client of the ACME authority: certmagic with a storage, and the goroutines that keep it at work.
type authority struct {
	m       *Manager
	storage storage
	config  *certmagic.Config
	issuer  *certmagic.ACMEIssuer
	cache   *certmagic.Cache
	options certmagic.CacheOptions
	busy    net.Listener
	work    sync.WaitGroup
}

const (
	look       = time.Second      // between two looks at what certmagic has in memory
	probeUp    = 10 * time.Second // between two questions whether the storage answers, while it does
	probeDown  = 2 * time.Second  // and while it does not
	maxRound   = 10 * time.Minute // between two rounds of renewal, at most
	minRound   = time.Second      // at least, for certificates that live for minutes
	roundShare = 60               // rounds in the life of a certificate, within these bounds
	firstRetry = time.Second      // before a certificate is asked for again
	lastRetry  = 15 * time.Second // the same after some failures; failed orders wait longer, in certmagic
	cleanEvery = 24 * time.Hour
	keepGrace  = 30 * 24 * time.Hour // expired certificates of former domains stay that long in the storage
)

// newAuthority opens the storage and prepares the ACME client. Nothing is ordered yet.
func (m *Manager) newAuthority(ctx context.Context) (*authority, error) {
	a := &authority{m: m}
	var err error
	if len(m.cfg.Etcd.Endpoints) > 0 {
		a.storage = openEtcd(m.cfg.Etcd, m.etcd, m.log, m.metrics, m.now)
	} else if a.storage, err = openDirectory(m.cfg.StorageDir, m.log); err != nil {
		return nil, err
	}
	if a.busy, err = occupy(ctx); err != nil {
		a.storage.Close()
		return nil, err
	}
	port := a.busy.Addr().(*net.TCPAddr).Port
	log := zap.New(newSlogCore(m.log))
	a.options = certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		RenewCheckInterval: maxRound,
		Logger:             log,
	}
	a.cache = certmagic.NewCache(a.options)
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage: a.storage,
		OnEvent: a.onEvent,
		Logger:  log,
	})
	template := certmagic.ACMEIssuer{
		CA:                      m.cfg.DirectoryURL,
		Email:                   m.cfg.Email,
		Agreed:                  m.cfg.AgreeToTerms,
		TrustedRoots:            m.roots,
		DisableHTTPChallenge:    !m.http.Load() || !m.cfg.may(acme.ChallengeTypeHTTP01),
		DisableTLSALPNChallenge: !m.cfg.may(acme.ChallengeTypeTLSALPN01),
		ListenHost:              "127.0.0.1",
		AltHTTPPort:             port,
		AltTLSALPNPort:          port,
		Logger:                  log,
	}
	if m.cfg.EAB.KeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: m.cfg.EAB.KeyID, MACKey: m.cfg.EAB.MACKey}
	}
	if m.cfg.PreferredChain != "" {
		template.PreferredChains.RootCommonName = []string{m.cfg.PreferredChain}
	}
	if m.cfg.DNS01.RFC2136.Server != "" {
		template.DNS01Solver = newDNS01(m.cfg.DNS01, log)
	}
	a.issuer = certmagic.NewACMEIssuer(a.config, template)
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

// may reports whether a challenge is allowed.
func (a *ACME) may(challenge string) bool {
	return len(a.Challenges) == 0 || slices.Contains(a.Challenges, challenge)
}

// occupy listens on a loopback port that is named to certmagic as the challenge port and hangs up on every caller. certmagic
// opens no socket where one is open already: all challenges are then answered by the gateway's own listeners, and no
// permission for the ports 80 and 443 is needed.
func occupy(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("reserving a loopback port for ACME: %w", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l, nil
}

// run orders, renews and looks after the certificates until ctx ends.
func (a *authority) run(ctx context.Context) {
	for _, domain := range a.m.cfg.Domains {
		a.work.Go(func() { a.acquire(ctx, strings.ToLower(domain)) })
	}
	a.work.Go(func() { a.maintain(ctx) })
	a.work.Go(func() {
		<-ctx.Done()
		a.cache.Stop()
		a.busy.Close()
		a.storage.Close()
	})
}

// acquire brings the domain's certificate from the storage into memory, or orders it, and tries until it has it. From then on
// the rounds of maintain renew it. An order that fails is tried again inside ObtainCertAsync, ever more seldom, under its lock;
// what comes back here are failures of the storage.
func (a *authority) acquire(ctx context.Context, domain string) {
	told := ""
	for pause := firstRetry; ctx.Err() == nil; pause = min(2*pause, lastRetry) {
		_, err := a.config.CacheManagedCertificate(ctx, domain)
		if errors.Is(err, fs.ErrNotExist) {
			if err = a.config.ObtainCertAsync(ctx, domain); err == nil {
				_, err = a.config.CacheManagedCertificate(ctx, domain)
			}
		}
		if err == nil {
			a.m.metrics.succeeded(domain)
			a.refresh()
			return
		}
		if ctx.Err() == nil {
			a.m.metrics.failed(domain, reasonOf(err, "storage"), a.m.now())
			if text := err.Error(); text != told {
				told = text
				a.m.log.Error("a certificate cannot be had; trying again and again", "component", "acme", "domain", domain, "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// maintain looks after what is in memory: it takes over what certmagic has renewed, asks whether the storage answers, and starts
// the rounds of renewal, often enough for the shortest-lived certificate. While the storage is down there are no rounds:
// certmagic would count them as failed orders and wait for long when it is back.
func (a *authority) maintain(ctx context.Context) {
	var probe, round, clean time.Time // of the last one
	up := true
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		a.refresh()
		now := a.m.now()
		since := func(t time.Time) time.Duration { return now.Sub(t) }
		if since(probe) >= probeUp || !up && since(probe) >= probeDown {
			was := up
			up, probe = a.probe(ctx, was), now
			if up && !was {
				round = time.Time{}
			}
		}
		if up && since(round) >= a.interval() {
			round = now
			a.follow(ctx)
			if err := a.cache.RenewManagedCertificates(ctx); err != nil {
				a.m.log.Error("a round of renewal failed", "component", "acme", "error", err)
			}
		}
		if up && since(clean) >= cleanEvery {
			clean = now
			a.work.Go(func() { a.clean(ctx) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probe asks whether the storage answers, and tells when that has changed.
func (a *authority) probe(ctx context.Context, was bool) bool {
	err := a.storage.Ready(ctx)
	if ctx.Err() != nil {
		return was
	}
	a.m.metrics.reachable(err == nil)
	switch {
	case err != nil && was:
		a.m.log.Error("the storage of certificates cannot be reached: what is in memory is served, nothing is ordered or renewed", "component", "acme", "storage", a.storage.String(), "error", err)
	case err == nil && !was:
		a.m.log.Info("the storage of certificates can be reached again", "component", "acme", "storage", a.storage.String())
	}
	return err == nil
}

// interval is the time between two rounds. certmagic reckons with it when it decides what is due.
func (a *authority) interval() time.Duration {
	d := maxRound
	for _, c := range a.m.ordered.Load().certs {
		d = min(d, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/roundShare)
	}
	d = max(d, minRound)
	if a.options.RenewCheckInterval != d {
		a.options.RenewCheckInterval = d
		a.cache.SetOptions(a.options)
	}
	return d
}

// follow takes over what another replica has renewed. certmagic looks for that only when it finds its own certificate due, and
// replicas can have different times for that in the window that the authority suggests (ARI).
func (a *authority) follow(ctx context.Context) {
	issuer := a.issuer.IssuerKey()
	for domain, served := range a.m.ordered.Load().certs {
		data, err := a.storage.Load(ctx, certmagic.StorageKeys.SiteCert(issuer, domain))
		if err != nil {
			continue // not there yet, or the next probe tells
		}
		block, _ := pem.Decode(data)
		if block == nil || bytes.Equal(block.Bytes, served.Certificate[0]) {
			continue
		}
		if leaf, err := x509.ParseCertificate(block.Bytes); err != nil || !leaf.NotBefore.After(served.Leaf.NotBefore) {
			continue
		}
		if _, err := a.config.CacheManagedCertificate(ctx, domain); err != nil && ctx.Err() == nil {
			a.m.log.Warn("a certificate that another replica has renewed cannot be loaded; trying again", "component", "acme", "domain", domain, "error", err)
		}
	}
	a.refresh()
}

// clean removes from the storage what is long expired, as of domains that are no longer ordered.
func (a *authority) clean(ctx context.Context) {
	err := certmagic.CleanStorage(ctx, a.storage, certmagic.CleanStorageOptions{
		Logger: a.options.Logger, Interval: cleanEvery, OCSPStaples: true, ExpiredCerts: true, ExpiredCertGracePeriod: keepGrace,
	})
	if err != nil && ctx.Err() == nil {
		a.m.log.Warn("cleaning the storage of certificates failed", "component", "acme", "error", err)
	}
}

// onEvent counts what certmagic reports. An error stops what an event announces.
func (a *authority) onEvent(ctx context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	if !a.m.domains[domain] {
		return nil
	}
	switch event {
	case "cert_obtaining":
		renewal, _ := data["renewal"].(bool)
		return a.mayOrder(ctx, domain, renewal)
	case "cert_obtained":
		a.m.metrics.obtained.WithLabelValues(domain).Inc()
		a.m.metrics.succeeded(domain)
	case "cert_failed":
		err, _ := data["error"].(error)
		a.m.metrics.failures.WithLabelValues(domain).Inc()
		a.m.metrics.failed(domain, reasonOf(err, "other"), a.m.now())
	}
	return nil
}

// mayOrder returns an error where an order would be one too many: the lock is no longer held, or the certificate is there, or
// may be, as the storage failed when certmagic asked if it exists, which to certmagic is the same as a no.
func (a *authority) mayOrder(ctx context.Context, domain string, renewal bool) error {
	if err := a.storage.RenewLockLease(ctx, issueLock+domain, 0); err != nil {
		return err
	}
	if renewal {
		return nil // decided by what was read under the lock
	}
	issuer := a.issuer.IssuerKey()
	for _, key := range []string{
		certmagic.StorageKeys.SiteCert(issuer, domain), certmagic.StorageKeys.SitePrivateKey(issuer, domain), certmagic.StorageKeys.SiteMeta(issuer, domain),
	} {
		if _, err := a.storage.Stat(ctx, key); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return errors.New("the certificate is in the storage, which had not answered before; nothing is ordered")
}
