package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFind(t *testing.T) {
	exact, wild := new(tls.Certificate), new(tls.Certificate)
	o := &ordered{certs: map[string]*tls.Certificate{"a.example": exact, "*.a.example": wild}}
	for name, want := range map[string]*tls.Certificate{
		"a.example": exact, "x.a.example": wild, "x.y.a.example": nil, "example": nil, "": nil, "b.example": nil, "*.a.example": wild,
	} {
		if got := o.find(name); got != want {
			t.Errorf("%q: %p, want %p", name, got, want)
		}
	}
}

// cachedManager is a Manager whose storage cannot be reached, with copies in cache_dir.
func cachedManager(t *testing.T, change func(*Config)) (*Manager, *lockedBuffer, *prometheus.Registry) {
	t.Helper()
	l, err := occupy(t.Context())
	must(t, err)
	t.Cleanup(func() { l.Close() })
	cfg := Defaults()
	cfg.ACME.Domains = []string{"gw.example", "*.gw.example"}
	cfg.ACME.DirectoryURL = "https://" + l.Addr().String() + "/dir"
	cfg.ACME.Etcd.Endpoints = []string{"http://" + l.Addr().String()}
	cfg.ACME.Etcd.Timeout = 200 * time.Millisecond
	cfg.ACME.CacheDir = filepath.Join(t.TempDir(), "cache")
	change(&cfg)
	log, reg := &lockedBuffer{}, prometheus.NewRegistry()
	m, err := New(cfg, slog.New(slog.NewTextHandler(log, nil)), reg)
	must(t, err)
	return m, log, reg
}

// TestStartWithoutStorage: what cache_dir holds is served at once, and nothing else.
func TestStartWithoutStorage(t *testing.T) {
	for name, key := range map[string]string{"clear": "", "encrypted": strings.Repeat("A", 43) + "="} {
		t.Run(name, func(t *testing.T) {
			m, log, reg := cachedManager(t, func(c *Config) { c.ACME.Etcd.EncryptionKey = key })
			ca := newTestCA(t)
			for domain, names := range map[string]string{"gw.example": "gw.example", "*.gw.example": "*.gw.example"} {
				e := mustLoad(t, ca.pair("x", time.Hour, names)).entries[0]
				must(t, m.writeCached(domain, &e.cert))
			}
			checkModes(t, m.cfg.CacheDir)
			data, err := os.ReadFile(m.cacheFile("*.gw.example"))
			if err != nil || strings.Contains(string(data), "PRIVATE KEY") != (key == "") {
				t.Errorf("%q, %v", data, err)
			}

			addr := startServer(t, m, http.NotFoundHandler())
			must(t, m.Start(t.Context()))
			t.Cleanup(m.Wait)
			for sni, want := range map[string]string{"gw.example": "gw.example", "x.gw.example": "*.gw.example", "": "gw.example", "GW.example": "gw.example"} {
				if cert, err := handshake(t, addr, &tls.Config{ServerName: sni}); err != nil || cert.DNSNames[0] != want {
					t.Errorf("%q: %v", sni, err)
				}
			}
			if _, err := handshake(t, addr, &tls.Config{ServerName: "other.example"}); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%v", err)
			}
			await(t, "the outage is reported", func() bool {
				return strings.Contains(log.String(), "cannot be reached") && testutil.ToFloat64(m.metrics.storageUp) == 0 && len(m.expiries()) == 2
			})
			await(t, "the failure has a time", func() bool {
				n, err := testutil.GatherAndCount(reg, "m3gateway_certs_acme_last_error_timestamp_seconds")
				return err == nil && n == 2
			})
		})
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// TestUnusableCopies: a copy that is damaged, for another name or under another key is left out, with a word; a directory that
// others can read is refused.
func TestUnusableCopies(t *testing.T) {
	ca := newTestCA(t)
	for name, damage := range map[string]func(t *testing.T, m *Manager){
		"damaged": func(t *testing.T, m *Manager) {
			write(t, m.cacheFile("gw.example"), []byte("x"))
		},
		"of another name": func(t *testing.T, m *Manager) {
			e := mustLoad(t, ca.pair("x", time.Hour, "other.example")).entries[0]
			must(t, m.writeCached("gw.example", &e.cert))
		},
		"moved": func(t *testing.T, m *Manager) {
			e := mustLoad(t, ca.pair("x", time.Hour, "gw.example")).entries[0]
			must(t, m.writeCached("elsewhere", &e.cert))
			must(t, os.Rename(m.cacheFile("elsewhere"), m.cacheFile("gw.example")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, log, _ := cachedManager(t, func(c *Config) { c.ACME.Etcd.EncryptionKey = strings.Repeat("A", 43) + "=" })
			must(t, os.MkdirAll(m.cfg.CacheDir, 0o700))
			damage(t, m)
			must(t, m.readCached())
			if len(m.ordered.Load().certs) > 0 || !strings.Contains(log.String(), "is not used") {
				t.Errorf("%v\n%s", m.ordered.Load().certs, log)
			}
		})
	}
	m, _, _ := cachedManager(t, func(*Config) {})
	must(t, os.MkdirAll(m.cfg.CacheDir, 0o700))
	must(t, os.Chmod(m.cfg.CacheDir, 0o750))
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("%v", err)
	}
	write(t, filepath.Join(t.TempDir(), "file"), nil)
	m, _, _ = cachedManager(t, func(c *Config) { c.ACME.CacheDir = "/dev/null/cache" })
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "acme.cache_dir") {
		t.Errorf("%v", err)
	}
}

func TestReasons(t *testing.T) {
	problem := func(kind string) error {
		return fmt.Errorf("[gw.example] Obtain: %w", acme.Problem{Type: "urn:ietf:params:acme:error:" + kind, Status: 429})
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{problem("rateLimited"), "rateLimited"}, {problem("dns"), "dns"}, {problem("ofTheFuture"), "other"}, {errors.New("x"), "other"},
		{fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), "connection"}, {context.DeadlineExceeded, "connection"},
	} {
		if got := reasonOf(tc.err, "other"); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.err, got, tc.want)
		}
	}
}

// TestEtcdFiles: what the etcd section names is read at the start, or the start says what is wrong.
func TestEtcdFiles(t *testing.T) {
	ca := newTestCA(t)
	pair := ca.pair("client.pem", time.Hour, "gateway")
	bundle := filepath.Join(ca.dir, "ca.crt")
	write(t, bundle, pemOf(ca.cert.Leaf.Raw))
	empty := filepath.Join(ca.dir, "empty")
	write(t, empty, nil)
	for name, tc := range map[string]struct {
		change func(*Etcd)
		want   string
	}{
		"good":               {func(e *Etcd) { e.CAFile, e.CertFile, e.KeyFile = bundle, pair.CertFile, pair.KeyFile }, ""},
		"no bundle":          {func(e *Etcd) { e.CAFile = empty }, "acme.etcd.ca_file"},
		"no certificate":     {func(e *Etcd) { e.CertFile, e.KeyFile = empty, pair.KeyFile }, "acme.etcd.cert_file"},
		"no key":             {func(e *Etcd) { e.CertFile, e.KeyFile = pair.CertFile, bundle }, "acme.etcd.cert_file"},
		"no encryption key":  {func(e *Etcd) { e.EncryptionKey = "x" }, "acme.etcd.encryption_key"},
		"plain has no files": {func(e *Etcd) { e.Endpoints, e.CAFile = []string{"http://etcd:2379"}, empty }, ""},
	} {
		cfg := Defaults()
		cfg.ACME.Domains, cfg.ACME.Etcd.Endpoints = []string{"gw.example"}, []string{"https://etcd:2379"}
		tc.change(&cfg.ACME.Etcd)
		_, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChallengesNeedNoCertificate: a connection of the authority is asked for no client certificate, and speaks no HTTP protocol.
func TestChallengesNeedNoCertificate(t *testing.T) {
	ca := newTestCA(t)
	bundle := filepath.Join(ca.dir, "ca.crt")
	write(t, bundle, pemOf(ca.cert.Leaf.Raw))
	m, _ := newManager(t, Defaults())
	set, err := Load(Config{Certificates: []Pair{ca.pair("s", time.Hour, "gw.example")}, ClientAuth: ClientAuth{Mode: ClientRequired, CAFile: bundle}})
	must(t, err)
	m.Use(set)
	get := m.TLSConfig().GetConfigForClient
	normal, err := get(&tls.ClientHelloInfo{SupportedProtos: []string{"h2", "acme-tls/1"}})
	if err != nil || normal.ClientAuth != tls.RequireAndVerifyClientCert || strings.Join(normal.NextProtos, " ") != "h2 http/1.1" || !normal.ClientCAs.Equal(set.clients.pool) {
		t.Errorf("%+v, %v", normal, err)
	}
	challenge, err := get(&tls.ClientHelloInfo{SupportedProtos: []string{"acme-tls/1"}})
	if err != nil || challenge.ClientAuth != tls.NoClientCert || strings.Join(challenge.NextProtos, " ") != "acme-tls/1" {
		t.Errorf("%+v, %v", challenge, err)
	}
	m.Use(&Set{})
	if c, err := get(&tls.ClientHelloInfo{}); err != nil || c.ClientAuth != tls.NoClientCert {
		t.Errorf("%+v, %v", c, err)
	}
	for _, cfg := range []ClientAuth{{Mode: ClientOptional, CAFile: filepath.Join(ca.dir, "none")}, {Mode: ClientRequired, CAFile: ca.pair("k", time.Hour, "x").KeyFile + "x"}} {
		if _, err := Load(Config{ClientAuth: cfg}); err == nil || !strings.Contains(err.Error(), "tls.client_auth.ca_file") {
			t.Errorf("%v", err)
		}
	}
}
