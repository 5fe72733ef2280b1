package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
)

// Manager answers handshakes: from the Set in use, then from the ACME certificates. Its methods are safe for concurrent use.
type Manager struct {
	cfg     ACME
	log     *slog.Logger
	metrics *metrics
	roots   *x509.CertPool   // nil: the system's
	etcd    *etcdFiles       // read also for a directory, without keys then
	domains map[string]bool  // lower-case names that the ACME authority is asked for
	now     func() time.Time // for what is stored, and for the time between two rounds

	set       atomic.Pointer[Set]       // never nil
	ordered   atomic.Pointer[ordered]   // never nil
	authority atomic.Pointer[authority] // nil before Start and without domains
	http      atomic.Bool               // HTTP-01 can be answered

	refreshing sync.Mutex // held while ordered is replaced
}

// New returns a Manager that serves nothing yet: give it a Set with Use, and Start it for ACME. It reads the files that the
// ACME settings name. These are fixed for the life of a Manager; what a Set holds changes by Use.
func New(cfg Config, log *slog.Logger, reg registerer) (*Manager, error) {
	m := &Manager{cfg: cfg.ACME, log: log, etcd: &etcdFiles{sealer: new(sealer)}, domains: make(map[string]bool), now: time.Now}
	for _, d := range cfg.ACME.Domains {
		m.domains[strings.ToLower(d)] = true
	}
	if len(m.domains) > 0 {
		var err error
		if m.etcd, err = readEtcdFiles(cfg.ACME.Etcd); err != nil {
			return nil, err
		}
		if f := cfg.ACME.RootCAFile; f != "" {
			if m.roots, err = readPool(f); err != nil {
				return nil, fmt.Errorf("reading acme.root_ca_file: %w; give the root that signs the ACME authority's own endpoint", err)
			}
		}
	}
	m.set.Store(&Set{})
	m.ordered.Store(&ordered{certs: map[string]*tls.Certificate{}})
	m.metrics = newMetrics(reg, m)
	return m, nil
}

// Use answers all handshakes that begin from now on from set, and asks clients for certificates as it says.
func (m *Manager) Use(set *Set) {
	m.set.Store(set)
}

// TLSConfig returns the server's settings, which follow Use and Start. The caller owns them.
//
// Each handshake is held to the client authentication of the Set in use; a resumed session is checked against it anew. The
// authority's TLS-ALPN-01 validation (RFC 8737) has no certificate to show: its connections, which negotiate acme-tls/1, are
// asked for none, and nothing but the handshake may be done over them.
func (m *Manager) TLSConfig() *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: m.certificate,
	}
	challenge := base.Clone()
	challenge.NextProtos = []string{acmez.ACMETLS1Protocol}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if isChallenge(hello) {
			return challenge, nil
		}
		return m.set.Load().clientConfig(base), nil
	}
	return base
}

// isChallenge reports whether hello is of a TLS-ALPN-01 validation.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	return slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol})
}

// certificate answers a ClientHello, in this order: an open TLS-ALPN-01 challenge, the files, the ACME certificates. A name that
// none of them has is answered with the first file, as is a client without a name: clients that connect by address, or by a
// name known only to them, can then check against the certificate that they expect. Without files it is refused with
// unrecognized_name.
func (m *Manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if isChallenge(hello) {
		a := m.authority.Load()
		if a == nil || !m.domains[name] {
			return nil, errors.New("no ACME order is open for this name")
		}
		return a.config.GetCertificate(hello)
	}
	set := m.set.Load()
	if c := set.Select(hello); c != nil {
		return c, nil
	}
	if name == "" && len(m.cfg.Domains) > 0 {
		name = strings.ToLower(m.cfg.Domains[0])
	}
	if c := m.ordered.Load().find(name); c != nil {
		return c, nil
	}
	// A nil certificate with a nil error is what crypto/tls turns into the alert unrecognized_name.
	return set.fallback(hello), nil
}

// HTTPHandler answers the HTTP-01 challenges (RFC 8555 section 8.3) of open orders, and leaves all else to next. It is to be
// served at port 80 of the domains. HTTP-01 is attempted only by a Manager whose HTTPHandler was called before Start.
func (m *Manager) HTTPHandler(next http.Handler) http.Handler {
	m.http.Store(true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		a := m.authority.Load()
		if a != nil && m.domains[strings.ToLower(host)] && a.issuer.HandleHTTPChallenge(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Start begins to order, renew and serve the certificates of the ACME domains, if there are any, until ctx ends; Wait waits for
// that end. It returns before they are there; failures after it has returned are logged, counted and tried again. What
// acme.cache_dir holds is served from now on. It may be called once.
func (m *Manager) Start(ctx context.Context) error {
	if len(m.domains) == 0 {
		return nil
	}
	if m.authority.Load() != nil {
		return errors.New("the certificate manager was started twice")
	}
	if err := m.readCached(); err != nil {
		return err
	}
	a, err := m.newAuthority(ctx)
	if err != nil {
		return err
	}
	m.authority.Store(a)
	a.run(ctx)
	return nil
}

// Wait returns when what Start began has ended, after the end of its ctx: the locks of this process are then free for other replicas,
// if the storage answers. Certificates in memory are still served.
func (m *Manager) Wait() {
	if a := m.authority.Load(); a != nil {
		a.work.Wait()
	}
}
