package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A member that offers HTTP/2 without TLS is spoken to in it, on one connection; one that does not, as ever.
func TestH2C(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]map[string]bool{} // connections by protocol
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		if seen[r.Proto] == nil {
			seen[r.Proto] = map[string]bool{}
		}
		seen[r.Proto][r.RemoteAddr] = true
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		_, _ = w.Write(b)
	})
	both := httptest.NewUnstartedServer(h)
	both.Config.Protocols = new(http.Protocols)
	both.Config.Protocols.SetHTTP1(true)
	both.Config.Protocols.SetUnencryptedHTTP2(true)
	both.Start()
	t.Cleanup(both.Close)
	old := httptest.NewServer(h)
	t.Cleanup(old.Close)
	body := strings.Repeat("samples", 100_000)
	for _, c := range []struct {
		url  string
		h2c  bool
		want string
	}{{both.URL, true, "HTTP/2.0"}, {both.URL, false, "HTTP/1.1"}, {old.URL, true, "HTTP/1.1"}} {
		clear(seen)
		p := start(t, func(c2 *Config) { c2.H2C = c.h2c }, c.url)
		clear(seen)
		var asked sync.WaitGroup
		for range 8 {
			asked.Go(func() {
				a, err := p.Do(t.Context(), post(body, "k"))
				if err != nil {
					t.Error(err)
					return
				}
				if read(t, a) != body {
					t.Error("another body")
				}
			})
		}
		asked.Wait()
		if m := p.Members()[0]; len(seen) != 1 || seen[c.want] == nil || m.H2C != (c.want == "HTTP/2.0") || c.want == "HTTP/2.0" && len(seen[c.want]) != 1 {
			t.Errorf("%v: %v, %+v", c, seen, m)
		}
	}
}

// pair writes a certificate for clients that signs itself, and gives the pool that trusts it.
func pair(t *testing.T, dir string) (certFile, keyFile string, trust *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trust = x509.NewCertPool()
	trust.AddCert(cert)
	return certFile, keyFile, trust
}

// An upstream may ask for a certificate of the gateway's, for a token, and have a certificate for another name than its URL's.
func TestUpstreamCredentials(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, trust := pair(t, dir)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName+" "+r.Header.Get("Authorization"))
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust}
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(c *Config) {
		c.CAFile, c.ClientCertFile, c.ClientKeyFile, c.ServerName, c.BearerToken = ca, certFile, keyFile, "example.com", "token"
	}
	a, err := start(t, all, s.URL).Do(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, a); got != "gateway Bearer token" {
		t.Errorf("%q", got)
	}
	for name, change := range map[string]func(*Config){
		"no certificate":          func(c *Config) { all(c); c.ClientCertFile = "" },
		"a name that is nobody's": func(c *Config) { all(c); c.ServerName = "other.test" },
	} {
		if _, err := start(t, change, s.URL).Do(t.Context(), get()); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
}

// An answer to a read has a largest size even where the caller names none.
func TestAnswerBytes(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) })
	for limit, want := range map[int64]int{1 << 20: 1 << 20, 4 << 20: 2 << 20} {
		a, err := start(t, func(c *Config) { c.AnswerBytes = limit }, s.URL).Do(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		a.Body.Close()
		if len(b) != want || (err == ErrAnswerTooLarge) != (want == 1<<20) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
}
