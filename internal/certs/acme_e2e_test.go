//go:build e2e

package certs

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/dns/dnsmessage"
)

const e2eDomain = "gw.m3gateway.example"

// TestACME orders certificates from a real Pebble, whose binary M3GATEWAY_PEBBLE names (module internal/e2e/pebble).
func TestACME(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t, challenge)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()

			m, reg := e.start(ctx)
			serial := e.awaitCertificate()
			if got := e.log.String(); !strings.Contains(got, "challenge="+challenge) {
				t.Errorf("the log does not show %s", challenge)
			}
			if got := testutil.ToFloat64(m.metrics.obtained.WithLabelValues(e2eDomain)); got != 1 {
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
			if got := testutil.ToFloat64(m.metrics.obtained.WithLabelValues(e2eDomain)); got != 0 {
				t.Errorf("obtained counter after the restart is %v", got)
			}
			if got := testutil.ToFloat64(m.metrics.failures.WithLabelValues(e2eDomain)); got != 0 {
				t.Errorf("failures after the restart: %v", got)
			}
		})
	}
}

// environment is one Pebble with a DNS of its own, and the sockets that it validates.
type environment struct {
	t          *testing.T
	cfg        Config
	log        *lockedBuffer
	tls, http  net.Listener // http is nil for TLS-ALPN-01
	current    *current
	stopPebble func()
}

// current is the Manager that the sockets belong to: a restart replaces it.
type current struct {
	sync.Mutex
	m    *Manager
	http http.Handler
}

func newEnvironment(t *testing.T, challenge string) *environment {
	binary := os.Getenv("M3GATEWAY_PEBBLE")
	if binary == "" {
		t.Fatal("M3GATEWAY_PEBBLE must name the pebble binary; build it in internal/e2e/pebble: go build -o DIR github.com/letsencrypt/pebble/v2/cmd/pebble")
	}
	e := &environment{t: t, log: &lockedBuffer{}, current: &current{}}
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
	directory := e.startPebble(binary, pair, httpPort, tlsPort)
	e.cfg = Defaults()
	e.cfg.ACME.Domains = []string{e2eDomain}
	e.cfg.ACME.Email = "ops@m3gateway.example"
	e.cfg.ACME.DirectoryURL = directory
	e.cfg.ACME.AgreeToTerms = true
	e.cfg.ACME.RootCAFile = caFile
	e.cfg.ACME.StorageDir = filepath.Join(dir, "acme")
	e.cfg.Check(func(field, problem string) { t.Errorf("%s %s", field, problem) })
	return e
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
	return m, reg
}

// awaitCertificate polls with real handshakes until the domain is served, and returns the certificate's serial number.
func (e *environment) awaitCertificate() string {
	e.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		cert, err := handshake(e.t, e.tls.Addr().String(), &tls.Config{ServerName: e2eDomain})
		if err == nil {
			if err := cert.VerifyHostname(e2eDomain); err != nil {
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
func (e *environment) startPebble(binary string, pair Pair, httpPort, tlsPort int) string {
	t := e.t
	t.Helper()
	own := listen(t)
	own.Close() // Pebble takes no open socket, so its port is free for a moment
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": own.Addr().String(), "managementListenAddress": "",
		"certificate": pair.CertFile, "privateKey": pair.KeyFile,
		"httpPort": httpPort, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	write(t, file, conf)
	out := &lockedBuffer{}
	cmd := exec.Command(binary, "-config", file, "-dnsserver", serveDNS(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
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
		c, err := net.Dial("tcp", own.Addr().String())
		if err == nil {
			c.Close()
			return "https://" + own.Addr().String() + "/dir"
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
