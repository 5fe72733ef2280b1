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
	"sync/atomic"

	"github.com/mholt/acmez/v3"
)

// Manager answers handshakes: from the Set in use, then from the ACME certificates. Its methods are safe for concurrent use.
type Manager struct {
	cfg     ACME
	log     *slog.Logger
	metrics *metrics
	roots   *x509.CertPool  // nil: the system's
	domains map[string]bool // lower-case names that the ACME authority is asked for

	set       atomic.Pointer[Set]       // never nil
	authority atomic.Pointer[authority] // nil before Start and without domains
	http      atomic.Bool               // HTTP-01 can be answered
}

// New returns a Manager that serves nothing yet: give it a Set with Use, and Start it for ACME. It reads acme.root_ca_file.
// The ACME settings are fixed for the life of a Manager; files change by Use.
func New(cfg Config, log *slog.Logger, reg registerer) (*Manager, error) {
	m := &Manager{cfg: cfg.ACME, log: log, domains: make(map[string]bool)}
	for _, d := range cfg.ACME.Domains {
		m.domains[strings.ToLower(d)] = true
	}
	if f := cfg.ACME.RootCAFile; f != "" && len(m.domains) > 0 {
		data, err := readFile(f)
		if err != nil {
			return nil, fmt.Errorf("reading acme.root_ca_file: %w", err)
		}
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no PEM certificate; give the root that signs the ACME authority's own endpoint", f)
		}
	}
	m.set.Store(&Set{})
	m.metrics = newMetrics(reg, m)
	return m, nil
}

// Use answers all handshakes that begin from now on from set.
func (m *Manager) Use(set *Set) {
	m.set.Store(set)
}

// TLSConfig returns the server's settings, which follow Use and Start. The caller owns them.
func (m *Manager) TLSConfig() *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: m.certificate,
	}
	if len(m.domains) > 0 {
		c.NextProtos = append(c.NextProtos, acmez.ACMETLS1Protocol)
	}
	return c
}

// certificate answers a ClientHello, in this order: an open TLS-ALPN-01 challenge (RFC 8737), the files, the ACME
// certificates. A name that none of them has is answered with the first file, as is a client without a name: clients that
// connect by address, or by a name known only to them, can then check against the certificate that they expect. Without
// files it is refused with unrecognized_name.
func (m *Manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	a := m.authority.Load()
	known := m.domains[strings.ToLower(hello.ServerName)]
	if slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		if a == nil || !known {
			return nil, errors.New("no ACME order is open for this name")
		}
		return a.config.GetCertificate(hello)
	}
	set := m.set.Load()
	if c := set.Select(hello); c != nil {
		return c, nil
	}
	if a != nil && (known || hello.ServerName == "") {
		if c, err := a.config.GetCertificate(hello); err == nil {
			return c, nil
		}
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

// Start begins to order, renew and serve the certificates of the ACME domains, if there are any, until ctx ends. It returns
// before they are there; failures after it has returned are logged, counted and tried again. It may be called once.
func (m *Manager) Start(ctx context.Context) error {
	if len(m.domains) == 0 {
		return nil
	}
	a, err := m.newAuthority(ctx)
	if err != nil {
		return err
	}
	if !m.authority.CompareAndSwap(nil, a) {
		a.stop()
		return errors.New("the certificate manager was started twice")
	}
	context.AfterFunc(ctx, a.stop)
	if err := a.config.ManageAsync(ctx, m.cfg.Domains); err != nil {
		return fmt.Errorf("managing ACME certificates: %w", err)
	}
	return nil
}
