//go:build e2e

package certs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/dns/dnsmessage"

	"m3gateway/internal/faultnet"
)

// TestACME orders certificates from a real Pebble, whose binary M3GATEWAY_PEBBLE names (module internal/e2e/pebble).
func TestACME(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t, challenge, serveDNS(t), nil)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()

			// The authority has no certificate to show where clients need one.
			e.cfg.ClientAuth = ClientAuth{Mode: ClientRequired, CAFile: e.cfg.ACME.RootCAFile}
			m, reg := e.start(ctx)
			serial := e.awaitCertificate()
			if got := e.log.String(); !strings.Contains(got, "challenge="+challenge) {
				t.Errorf("the log does not show %s", challenge)
			}
			if got := testutil.ToFloat64(m.metrics.obtained.WithLabelValues(e.domain)); got != 1 {
				t.Errorf("obtained counter is %v", got)
			}
			if n, err := testutil.GatherAndCount(reg, "m3gateway_certs_not_after_timestamp_seconds"); err != nil || n != 1 {
				t.Errorf("%d expiry metrics, %v", n, err)
			}
			if keys := checkModes(t, e.cfg.ACME.StorageDir); keys < 2 { // the account's and the certificate's
				t.Errorf("%d keys", keys)
			}
			stop()

			// A second life serves the stored certificate, and orders none: the authority is gone.
			e.stopPebble()
			m, _ = e.start(t.Context())
			if again := e.awaitCertificate(); again != serial {
				t.Error("the restart got another certificate")
			}
			if got := testutil.ToFloat64(m.metrics.obtained.WithLabelValues(e.domain)); got != 0 {
				t.Errorf("obtained counter after the restart is %v", got)
			}
			if got := testutil.ToFloat64(m.metrics.failures.WithLabelValues(e.domain)); got != 0 {
				t.Errorf("failures after the restart: %v", got)
			}
		})
	}
}

// TestACMEByDNS proves a wildcard and its parent by signed DNS updates, at their own names and at one that these are aliases of.
// No record is left.
func TestACMEByDNS(t *testing.T) {
	for _, alias := range []string{"", "_proof." + strings.TrimSuffix(testZone, ".")} {
		t.Run("alias "+alias, func(t *testing.T) {
			t.Parallel()
			ns := startNameServer(t)
			e := newEnvironment(t, "none", ns.addr, nil, "PEBBLE_WFE_NONCEREJECT=15")
			record := "_acme-challenge." + e.domain + "."
			if alias != "" {
				ns.alias(record, dns.Fqdn(alias))
			}
			e.cfg.ACME.Domains = []string{"*." + e.domain, e.domain}
			e.cfg.ACME.DNS01.RFC2136 = testRFC2136(ns.addr)
			e.cfg.ACME.DNS01.Name = alias
			e.cfg.ACME.DNS01.Resolvers = []string{ns.addr}
			e.cfg.Check(func(field, problem string) { t.Errorf("%s %s", field, problem) })
			e.start(t.Context())
			if a, b := e.await("any."+e.domain), e.await(e.domain); a == b {
				t.Error("one certificate for both domains")
			}
			for deadline := time.Now().Add(time.Minute); len(ns.at(record))+len(ns.at(dns.Fqdn(alias))) > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("records are left: %q %q", ns.at(record), ns.at(dns.Fqdn(alias)))
				}
			}
			ns.mu.Lock()
			defer ns.mu.Unlock()
			if ns.updates < 4 { // each domain's record came and went
				t.Errorf("%d updates", ns.updates)
			}
		})
	}
}

// TestACMEAccountAndChain: the account is bound to one that exists at the authority, and of several chains the preferred one is
// served.
func TestACMEAccountAndChain(t *testing.T) {
	const kid, mac = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	e := newEnvironment(t, "tls-alpn-01", serveDNS(t), map[string]any{
		"externalAccountBindingRequired": true, "externalAccountMACKeys": map[string]string{kid: mac},
	}, "PEBBLE_ALTERNATE_ROOTS=2", "PEBBLE_CHAIN_LENGTH=2")
	e.cfg.ACME.EAB = EAB{KeyID: kid, MACKey: mac}
	preferred := ""
	for range 2 {
		e.cfg.ACME.StorageDir = filepath.Join(t.TempDir(), "acme")
		e.cfg.ACME.PreferredChain = preferred
		m, _ := e.start(t.Context())
		e.awaitCertificate()
		chain := m.ordered.Load().certs[e.domain].Certificate
		last, err := x509.ParseCertificate(chain[len(chain)-1])
		must(t, err)
		root := last.Issuer.CommonName
		if preferred != "" && root != preferred {
			t.Errorf("the chain ends at %q, want %q", root, preferred)
		}
		for other := range e.roots() {
			if other != root {
				preferred = other
			}
		}
	}
}

// environment is one Pebble with a DNS of its own, and the sockets that it validates.
type environment struct {
	t          *testing.T
	domain     string // of this environment alone: certmagic knows the open challenges of a process by their domains
	cfg        Config
	log        *lockedBuffer
	tls, http  net.Listener // http is nil for TLS-ALPN-01
	current    *current
	stopPebble func()
	pebbleLog  *lockedBuffer
}

// current is the Manager that the sockets belong to: a restart replaces it.
type current struct {
	sync.Mutex
	m    *Manager
	http http.Handler
}

// newEnvironment starts the authority with a name server and further settings.
func newEnvironment(t *testing.T, challenge, resolver string, settings map[string]any, env ...string) *environment {
	binary := os.Getenv("M3GATEWAY_PEBBLE")
	if binary == "" {
		t.Fatal("M3GATEWAY_PEBBLE must name the pebble binary; build it in internal/e2e/pebble: go build -o DIR github.com/letsencrypt/pebble/v2/cmd/pebble")
	}
	e := &environment{t: t, domain: strings.ToLower(rand.Text()) + "." + strings.TrimSuffix(testZone, "."), log: &lockedBuffer{}, current: &current{}}
	mute, err := occupy(t.Context()) // for the challenge that is not to succeed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	tlsPort, httpPort := port(mute), port(mute)
	base := listen(t)
	if challenge == "http-01" {
		e.http = base
		httpPort = port(base)
		srv := &httptest.Server{Listener: e.http, Config: &http.Server{Handler: http.HandlerFunc(e.serveHTTP)}}
		srv.Start()
		t.Cleanup(srv.Close)
		e.tls = listen(t) // clients connect here; the authority does not
	} else {
		e.tls = base
		tlsPort = port(base)
	}
	srv := &httptest.Server{
		Listener: tls.NewListener(e.tls, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			e.current.Lock()
			defer e.current.Unlock()
			return e.current.m.TLSConfig().GetConfigForClient(hello)
		}}),
		Config: &http.Server{Handler: http.NotFoundHandler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)},
	}
	srv.Start()
	t.Cleanup(srv.Close)

	dir := t.TempDir()
	pair, caFile, err := Development(filepath.Join(dir, "pebble"), []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	directory := e.startPebble(binary, pair, httpPort, tlsPort, resolver, settings, env)
	e.cfg = Defaults()
	e.cfg.ACME.Domains = []string{e.domain}
	if challenge != "none" {
		e.cfg.ACME.Challenges = []string{challenge}
	}
	e.cfg.ACME.Email = "ops@m3gateway.example"
	e.cfg.ACME.DirectoryURL = directory
	e.cfg.ACME.AgreeToTerms = true
	e.cfg.ACME.RootCAFile = caFile
	e.cfg.ACME.StorageDir = filepath.Join(dir, "acme")
	e.cfg.Check(func(field, problem string) { t.Errorf("%s %s", field, problem) })
	return e
}

// roots are the names of the authority's roots, from its log.
func (e *environment) roots() map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`Generated new root issuer CN=(.*?) with serial`).FindAllStringSubmatch(e.pebbleLog.String(), -1) {
		found[m[1]] = true
	}
	if len(found) != 3 {
		e.t.Fatalf("roots %v", found)
	}
	return found
}

func (e *environment) serveHTTP(w http.ResponseWriter, r *http.Request) {
	e.current.Lock()
	h := e.current.http
	e.current.Unlock()
	h.ServeHTTP(w, r)
}

// start begins a new life of the gateway's certificate manager.
func (e *environment) start(ctx context.Context) (*Manager, *prometheus.Registry) {
	e.t.Helper()
	reg := prometheus.NewRegistry()
	m, err := New(e.cfg, slog.New(slog.NewTextHandler(e.log, nil)), reg)
	if err != nil {
		e.t.Fatal(err)
	}
	set, err := Load(e.cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	m.Use(set)
	var h http.Handler
	if e.http != nil {
		h = m.HTTPHandler(http.NotFoundHandler())
	}
	e.current.Lock()
	e.current.m, e.current.http = m, h
	e.current.Unlock()
	if err := m.Start(ctx); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(m.Wait)
	return m, reg
}

// awaitCertificate polls with real handshakes until the domain is served, and returns the certificate's serial number.
func (e *environment) awaitCertificate() string {
	e.t.Helper()
	return e.await(e.domain)
}

// await is awaitCertificate for another name.
func (e *environment) await(name string) string {
	e.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		cert, err := handshake(e.t, e.tls.Addr().String(), &tls.Config{ServerName: name})
		if err == nil {
			if err := cert.VerifyHostname(name); err != nil {
				e.t.Fatal(err)
			}
			if !strings.Contains(cert.Issuer.CommonName, "Pebble") {
				e.t.Fatalf("issued by %s", cert.Issuer)
			}
			return cert.SerialNumber.String()
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("no certificate: %v\n%s", err, e.log)
		}
	}
}

// startPebble runs the authority and returns its directory URL.
func (e *environment) startPebble(binary string, pair Pair, httpPort, tlsPort int, resolver string, settings map[string]any, env []string) string {
	t := e.t
	t.Helper()
	own := faultnet.Address(t)
	all := map[string]any{
		"listenAddress": own, "managementListenAddress": "",
		"certificate": pair.CertFile, "privateKey": pair.KeyFile,
		"httpPort": httpPort, "tlsPort": tlsPort,
	}
	maps.Copy(all, settings)
	conf, err := json.Marshal(map[string]any{"pebble": all})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	write(t, file, conf)
	out := &lockedBuffer{}
	e.pebbleLog = out
	cmd := exec.Command(binary, "-config", file, "-dnsserver", resolver)
	cmd.Env = append(append(os.Environ(), "PEBBLE_VA_NOSLEEP=1"), env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.stopPebble = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(func() {
		e.stopPebble()
		if t.Failed() {
			t.Logf("pebble:\n%s\ngateway:\n%s", out, e.log)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", own)
		if err == nil {
			c.Close()
			return "https://" + own + "/dir"
		}
		if time.Now().After(deadline) {
			t.Fatalf("pebble does not listen: %s", out)
		}
	}
}

// serveDNS answers every A question over TCP with 127.0.0.1, and every other with nothing, until the test ends.
func serveDNS(t *testing.T) string {
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for answerDNS(c) == nil {
				}
			}()
		}
	}()
	return l.Addr().String()
}

// answerDNS answers one question (RFC 1035 section 4.2.2: two bytes of length before each message).
func answerDNS(c net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	var msg dnsmessage.Message
	if err := msg.Unpack(buf); err != nil {
		return err
	}
	msg.Response, msg.Authoritative = true, true
	msg.Additionals = nil
	for _, q := range msg.Questions {
		if q.Type == dnsmessage.TypeA {
			msg.Answers = append(msg.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	answer, err := msg.AppendPack(make([]byte, 2))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
	_, err = c.Write(answer)
	return err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
