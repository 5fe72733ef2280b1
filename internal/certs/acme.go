package certs

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// authority is one Manager's client of the ACME authority, with a cache of its own.
type authority struct {
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
	cache  *certmagic.Cache
	busy   net.Listener
}

// newAuthority prepares the storage directory and the ACME client. Nothing is ordered yet.
func (m *Manager) newAuthority(ctx context.Context) (*authority, error) {
	dir := m.cfg.StorageDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating acme.storage_dir: %w; give a directory that the gateway's user may write", err)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("opening acme.storage_dir: %w", err)
	} else if p := info.Mode().Perm(); p&0o022 != 0 {
		m.log.Warn("others may write the directory of the ACME keys; use chmod 700", "storage_dir", dir, "mode", fmt.Sprintf("%#o", p))
	}
	busy, err := occupy(ctx)
	if err != nil {
		return nil, err
	}
	port := busy.Addr().(*net.TCPAddr).Port
	log := zap.New(newSlogCore(m.log))

	a := &authority{busy: busy}
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           log,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:           &certmagic.FileStorage{Path: dir},
		DefaultServerName: m.cfg.Domains[0],
		OnEvent:           m.onEvent,
		Logger:            log,
	})
	template := certmagic.ACMEIssuer{
		CA:                   m.cfg.DirectoryURL,
		Email:                m.cfg.Email,
		Agreed:               m.cfg.AgreeToTerms,
		TrustedRoots:         m.roots,
		DisableHTTPChallenge: !m.http.Load(),
		ListenHost:           "127.0.0.1",
		AltHTTPPort:          port,
		AltTLSALPNPort:       port,
		Logger:               log,
	}
	if m.cfg.EAB.KeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: m.cfg.EAB.KeyID, MACKey: m.cfg.EAB.MACKey}
	}
	a.issuer = certmagic.NewACMEIssuer(a.config, template)
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
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

// stop ends the renewals. Certificates that are in memory are still served.
func (a *authority) stop() {
	a.cache.Stop()
	a.busy.Close()
}

// onEvent counts what certmagic reports.
func (m *Manager) onEvent(_ context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	if !m.domains[domain] {
		return nil
	}
	switch event {
	case "cert_obtained":
		m.metrics.obtained.WithLabelValues(domain).Inc()
	case "cert_failed":
		m.metrics.failures.WithLabelValues(domain).Inc()
	}
	return nil
}

// expiry is the end of one certificate that is being served.
type expiry struct {
	source, name string // "file" and the path, or "acme" and the domain: bounded by the config
	notAfter     float64
}

// expiries returns the ends of all certificates that are being served, in Unix seconds.
func (m *Manager) expiries() []expiry {
	var all []expiry
	for _, e := range m.set.Load().entries {
		all = append(all, expiry{"file", e.pair.CertFile, float64(e.cert.Leaf.NotAfter.Unix())})
	}
	a := m.authority.Load()
	if a == nil {
		return all
	}
	for domain := range m.domains {
		// A renewed certificate may stand beside the old one for a moment; the later one is the one to be replaced last.
		var ends []int64
		for _, c := range a.cache.AllMatchingCertificates(domain) {
			ends = append(ends, c.Leaf.NotAfter.Unix())
		}
		if len(ends) > 0 {
			all = append(all, expiry{"acme", domain, float64(slices.Max(ends))})
		}
	}
	return all
}
