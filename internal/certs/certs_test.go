package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// testCA signs the certificates of one test.
type testCA struct {
	t    *testing.T
	dir  string
	cert *tls.Certificate
	pool *x509.CertPool
}

func newTestCA(t *testing.T) *testCA {
	ca := &testCA{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	var err error
	if ca.cert, err = developmentCA(filepath.Join(ca.dir, "ca.pem"), time.Now()); err != nil {
		t.Fatal(err)
	}
	ca.pool.AddCert(ca.cert.Leaf)
	return ca
}

// pair issues an ECDSA certificate for names, valid for life from now on.
func (ca *testCA) pair(file string, life time.Duration, names ...string) Pair {
	ca.t.Helper()
	file = filepath.Join(ca.dir, file)
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, DNSNames: names, NotAfter: time.Now().Add(life)}
	if err := issue(file, template, ca.cert, time.Now()); err != nil {
		ca.t.Fatal(err)
	}
	return Pair{CertFile: file, KeyFile: file}
}

// rsaPair issues an RSA certificate, in two files.
func (ca *testCA) rsaPair(file string, names ...string) Pair {
	ca.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		ca.t.Fatal(err)
	}
	template := &x509.Certificate{DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert.Leaf, key.Public(), ca.cert.PrivateKey)
	if err != nil {
		ca.t.Fatal(err)
	}
	p := Pair{CertFile: filepath.Join(ca.dir, file+".crt"), KeyFile: filepath.Join(ca.dir, file+".key")}
	write(ca.t, p.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(ca.t, p.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return p
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t *testing.T, pairs ...Pair) *Set {
	t.Helper()
	s, err := Load(Config{Certificates: pairs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// startServer serves the manager's certificates over TLS and returns the address.
func startServer(t *testing.T, m *Manager, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.Listener = tls.NewListener(srv.Listener, m.TLSConfig())
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// handshake returns the certificate that the server shows for sni, unverified.
func handshake(t *testing.T, addr string, c *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	c = c.Clone()
	c.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func newManager(t *testing.T, cfg Config) (*Manager, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	m, err := New(cfg, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

func TestHandshakes(t *testing.T) {
	ca := newTestCA(t)
	hour := time.Hour
	m, _ := newManager(t, Defaults())
	m.Use(mustLoad(t,
		ca.pair("first", hour, "first.example"),
		ca.pair("wild", hour, "*.example.org"),
		ca.pair("exact", hour, "exact.example.org"),
		ca.pair("ecdsa", hour, "both.example"),
		ca.rsaPair("rsa", "both.example"),
	))
	addr := startServer(t, m, http.NotFoundHandler())
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, tc := range []struct {
		name string
		conf *tls.Config
		want string // first DNS name and key type
	}{
		{"no name", &tls.Config{}, "first.example ECDSA"},
		{"unknown name", &tls.Config{ServerName: "other.example"}, "first.example ECDSA"},
		{"exact before wildcard", &tls.Config{ServerName: "exact.example.org"}, "exact.example.org ECDSA"},
		{"wildcard", &tls.Config{ServerName: "any.example.org"}, "*.example.org ECDSA"},
		{"upper case", &tls.Config{ServerName: "ANY.Example.org"}, "*.example.org ECDSA"},
		{"wildcard covers one label", &tls.Config{ServerName: "a.b.example.org"}, "first.example ECDSA"},
		{"wildcard does not cover its parent", &tls.Config{ServerName: "example.org"}, "first.example ECDSA"},
		{"first of two key types", &tls.Config{ServerName: "both.example"}, "both.example ECDSA"},
		{"the key type that the client supports", &tls.Config{ServerName: "both.example", MaxVersion: tls.VersionTLS12, CipherSuites: rsaOnly}, "both.example RSA"},
		{"no name, only RSA", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsaOnly}, "both.example RSA"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert, err := handshake(t, addr, tc.conf)
			if err != nil {
				t.Fatal(err)
			}
			if got := cert.DNSNames[0] + " " + cert.PublicKeyAlgorithm.String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		if _, err := handshake(t, addr, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
			t.Error("TLS 1.1 was accepted")
		}
	})
}

func TestNoCertificate(t *testing.T) {
	cfg := Defaults()
	cfg.ACME.Domains = []string{"gw.example"}
	m, _ := newManager(t, cfg)
	addr := startServer(t, m, http.NotFoundHandler())
	for _, name := range []string{"gw.example", "other.example"} {
		if _, err := handshake(t, addr, &tls.Config{ServerName: name}); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: got %v, want the alert unrecognized name", name, err)
		}
		if _, err := handshake(t, addr, &tls.Config{ServerName: name, NextProtos: []string{"acme-tls/1"}}); err == nil {
			t.Errorf("%s: a challenge was answered without an order", name)
		}
	}
}

func TestUseWhileServing(t *testing.T) {
	ca := newTestCA(t)
	m, reg := newManager(t, Defaults())
	old := mustLoad(t, ca.pair("server.pem", time.Hour, "gw.example"))
	m.Use(old)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	srv.Listener = tls.NewListener(srv.Listener, m.TLSConfig())
	srv.Start()
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool, ServerName: "gw.example"}}}
	get := func() {
		t.Helper()
		resp, err := client.Get("https://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	get()
	before, err := handshake(t, addr, &tls.Config{})
	if err != nil {
		t.Fatal(err)
	}

	// A broken new file is refused, and the old Set still serves.
	good, err := os.ReadFile(filepath.Join(ca.dir, "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(ca.dir, "server.pem"), good[:len(good)/2])
	if _, err := Load(Config{Certificates: []Pair{old.entries[0].pair}}); err == nil {
		t.Fatal("half a file was loaded")
	}
	if now, err := handshake(t, addr, &tls.Config{}); err != nil || !now.Equal(before) {
		t.Fatalf("after a broken file: %v", err)
	}

	// A whole one is served to new handshakes; the connection that is open goes on.
	m.Use(mustLoad(t, ca.pair("server.pem", 2*time.Hour, "gw.example")))
	after, err := handshake(t, addr, &tls.Config{})
	if err != nil || after.Equal(before) {
		t.Fatalf("the new certificate is not served: %v", err)
	}
	get()
	if got, err := testutil.GatherAndCount(reg, "m3gateway_certs_not_after_timestamp_seconds"); err != nil || got != 1 {
		t.Errorf("%d expiry metrics, %v", got, err)
	}
	if got := m.expiries()[0].notAfter; got != float64(after.NotAfter.Unix()) {
		t.Errorf("expiry metric %v, want %v", got, after.NotAfter.Unix())
	}
}

func TestLoadErrors(t *testing.T) {
	ca := newTestCA(t)
	a, b, r := ca.pair("a.pem", time.Hour, "a.example"), ca.pair("b.pem", time.Hour, "b.example"), ca.rsaPair("r", "r.example")
	path := func(name, content string) string {
		p := filepath.Join(ca.dir, name)
		write(t, p, []byte(content))
		return p
	}
	encrypted := path("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	dup := path("dup.pem", "")
	data, _ := os.ReadFile(a.CertFile)
	write(t, dup, data)
	for _, tc := range []struct {
		name  string
		pairs []Pair
		want  []string
	}{
		{"missing", []Pair{{filepath.Join(ca.dir, "none.pem"), a.KeyFile}}, []string{"none.pem", "relative to the config file"}},
		{"empty", []Pair{{path("empty", ""), a.KeyFile}}, []string{"empty", "no PEM certificate"}},
		{"key as certificate", []Pair{{r.KeyFile, r.KeyFile}}, []string{"r.key", "no PEM certificate"}},
		{"certificate as key", []Pair{{r.CertFile, r.CertFile}}, []string{"r.crt", "no PEM private key"}},
		{"encrypted key", []Pair{{a.CertFile, encrypted}}, []string{"enc.key", "openssl pkey"}},
		{"other key", []Pair{{a.CertFile, b.KeyFile}}, []string{"a.pem", "b.pem", "first certificate in the file"}},
		{"twice", []Pair{a, {dup, dup}}, []string{"dup.pem", "a.pem", "remove one"}},
		{"huge", []Pair{{path("huge", strings.Repeat("x", maxFileBytes+1)), a.KeyFile}}, []string{"huge", "over"}},
		{"all are named", []Pair{{r.CertFile, a.KeyFile}, {b.CertFile, a.KeyFile}}, []string{"r.crt", "b.pem"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Load(Config{Certificates: tc.pairs})
			if err == nil || s != nil {
				t.Fatal("loaded")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestDescribeAndWarnings(t *testing.T) {
	ca := newTestCA(t)
	now := time.Now()
	s := mustLoad(t,
		ca.pair("a", 24*time.Hour, "a.example", "b.example"),
		ca.pair("b", 48*time.Hour, "b.example"),
		ca.pair("none", 48*time.Hour),
		ca.rsaPair("rsa", "a.example"),
	)
	lines := s.Describe()
	if want := "a.example, b.example: issued by CN=m3gateway development CA, valid until " + now.Add(24*time.Hour).UTC().Format(time.DateOnly); len(lines) != 4 || !strings.HasPrefix(lines[0], want) {
		t.Errorf("got %q, want %q first", lines, want)
	}
	has := func(now time.Time, parts ...string) bool {
		return slices.ContainsFunc(s.Warnings(now), func(l string) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(l, p) })
		})
	}
	for _, tc := range []struct {
		now   time.Time
		parts []string
		want  bool
	}{
		{now, []string{"/a expired"}, false},
		{now.Add(25 * time.Hour), []string{"/a expired", "renew it"}, true},
		{now.Add(23 * time.Hour), []string{"/a expires", "renew it"}, true},
		{now.Add(23 * time.Hour), []string{"/b expires"}, false},
		{now.Add(-2 * time.Hour), []string{"/a is not valid before", "clock"}, true},
		{now, []string{"/none names no host"}, true},
		{now, []string{"/b is not used for b.example", "/a comes first"}, true},
		{now, []string{"/rsa.crt is not used"}, false},
	} {
		if got := has(tc.now, tc.parts...); got != tc.want {
			t.Errorf("%v at %v: got %v in %q", tc.parts, tc.now, got, s.Warnings(tc.now))
		}
	}
}

func TestHTTPHandlerLeavesTheRest(t *testing.T) {
	cfg := Defaults()
	cfg.ACME.Domains = []string{"gw.example"}
	m, _ := newManager(t, cfg)
	srv := httptest.NewServer(m.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	defer srv.Close()
	for _, path := range []string{"/", "/.well-known/acme-challenge/x"} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusTeapot {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

func TestRootCAFile(t *testing.T) {
	cfg := Defaults()
	cfg.ACME.Domains = []string{"gw.example"}
	for content, want := range map[string]string{"": "no PEM certificate", "-": "no such file"} {
		cfg.ACME.RootCAFile = filepath.Join(t.TempDir(), "root.pem")
		if content != "-" {
			write(t, cfg.ACME.RootCAFile, []byte(content))
		}
		if _, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestDevelopment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	hosts := []string{"localhost", "127.0.0.1"}
	now := time.Now()
	// made returns the serial number of the server's certificate and that of its authority, after a real verification.
	made := func(now time.Time, hosts ...string) (server, authority string) {
		t.Helper()
		pair, caFile, err := Development(dir, hosts, now)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		caPEM, err := os.ReadFile(caFile)
		if err != nil || !pool.AppendCertsFromPEM(caPEM) {
			t.Fatalf("ca file: %v", err)
		}
		block, _ := pem.Decode(caPEM)
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		leaf := mustLoad(t, pair).entries[0].cert.Leaf
		for _, h := range hosts {
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: h, Roots: pool, CurrentTime: now}); err != nil {
				t.Error(err)
			}
		}
		return leaf.SerialNumber.String(), ca.SerialNumber.String()
	}
	s1, a1 := made(now, hosts...)
	for name, want := range map[string]os.FileMode{"": 0o700, "ca.pem": 0o600, "server.pem": 0o600, "ca.crt": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if s, a := made(now, "127.0.0.1", "LOCALHOST"); s != s1 || a != a1 {
		t.Error("the same hosts got a new certificate")
	}
	day := 24 * time.Hour
	if s, a := made(now.Add(334*day), hosts...); s != s1 || a != a1 {
		t.Error("31 days are left, and it was renewed")
	}
	s2, a2 := made(now.Add(336*day), hosts...)
	if s2 == s1 || a2 != a1 {
		t.Error("29 days are left: want a new certificate of the old authority")
	}
	s3, a3 := made(now.Add(336*day), append(hosts, "gw.example")...)
	if s3 == s2 || a3 != a1 {
		t.Error("other hosts: want a new certificate of the old authority")
	}
	if _, a4 := made(now.Add(10*365*day), hosts...); a4 == a1 {
		t.Error("the authority is at its end and was kept")
	}
	write(t, filepath.Join(dir, "server.pem"), []byte("damaged"))
	made(now.Add(10*365*day), hosts...)
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v %v", left, err)
	}
	write(t, filepath.Join(dir, "ca.pem"), []byte("damaged"))
	if _, _, err := Development(dir, hosts, now); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a damaged authority: got %v", err)
	}
}

func TestOccupyHangsUp(t *testing.T) {
	l, err := occupy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the loopback port answered")
	}
}

// lockedBuffer collects what several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
