package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// clientAuthority signs client certificates.
type clientAuthority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newClientAuthority(t *testing.T, name string) *clientAuthority {
	a := &clientAuthority{t: t}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(template)
	return a
}

// sign issues template, which signs itself if it is the authority's own. It is valid for an hour unless it says otherwise.
func (a *clientAuthority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *clientAuthority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// client is one of g with a certificate of template's names, and connections of its own.
func (a *clientAuthority) client(g *gatewaytest.Gateway, template x509.Certificate) *gatewaytest.Gateway {
	a.t.Helper()
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key := a.sign(&template)
	return withCertificate(a.t, g, &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})
}

// withCertificate is g for a client with connections and TLS sessions of its own, and with cert if it is not nil.
func withCertificate(t *testing.T, g *gatewaytest.Gateway, cert *tls.Certificate) *gatewaytest.Gateway {
	transport := g.Client.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	if cert != nil {
		// Sent also where the server names other authorities.
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	t.Cleanup(transport.CloseIdleConnections)
	other := *g
	other.Client = &http.Client{Transport: transport, Timeout: time.Minute}
	return &other
}

const clientTenancy = `  users:
    alice: {tenants: [team-a]}
    robot: {tenants: [team-r]}
    operator: {tenants: ["*"], rights: [read]}`

const clientMapping = `, certificates: [{user: robot, common_name: robot-1}, {user: robot, dns: robot.example}, {user: alice, uri: "spiffe://example/alice"},
  {user: operator, email: ops@example}]}`

// startMutual starts a gateway that asks for certificates of the authorities in clients.pem.
func startMutual(t *testing.T, mode string, authorities ...*clientAuthority) *gatewaytest.Gateway {
	t.Helper()
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: clientTenancy})
	writeBundle(t, g, authorities...)
	edit(t, g, "auth: {htpasswd_file: htpasswd}", "auth: {htpasswd_file: htpasswd"+clientMapping)
	edit(t, g, "}]}\nauth", "}], client_auth: {mode: "+mode+", ca_file: clients.pem}}\nauth")
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	return g
}

func writeBundle(t *testing.T, g *gatewaytest.Gateway, authorities ...*clientAuthority) {
	t.Helper()
	var bundle strings.Builder
	for _, a := range authorities {
		bundle.WriteString(a.pem())
	}
	if err := os.WriteFile(filepath.Join(g.Dir, "clients.pem"), []byte(bundle.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func spiffe(t *testing.T, s string) []*url.URL {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}

func TestClientCertificates(t *testing.T) {
	ca := newClientAuthority(t, "clients")
	g := startMutual(t, "optional", ca)
	robot := ca.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}})
	now := []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", "m", "tenant", "team-a")}

	// A name in the certificate is the user, with that user's tenants and rights.
	if a := robot.Write("", now); a.Status != 204 {
		t.Fatalf("%+v", a)
	}
	for name, c := range map[string]*gatewaytest.Gateway{
		"common name": robot, "dns": ca.client(g, x509.Certificate{DNSNames: []string{"Robot.Example"}}),
		"email of an operator": ca.client(g, x509.Certificate{EmailAddresses: []string{"ops@example"}}),
	} {
		if a := c.Get("", "/api/v1/query?query=m"); a.Status != 200 || strings.Count(a.Body, `"__name__":"m"`) != 1 || !strings.Contains(a.Body, `"tenant":"team-r"`) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	alice := ca.client(g, x509.Certificate{URIs: spiffe(t, "spiffe://example/alice")})
	if a := alice.Get("", "/api/v1/query?query=m"); a.Status != 200 || strings.Contains(a.Body, `"m"`) {
		t.Errorf("alice sees another tenant: %+v", a)
	}
	if a := ca.client(g, x509.Certificate{EmailAddresses: []string{"ops@example"}}).Write("", now); a.Status != 403 {
		t.Errorf("an operator wrote: %+v", a)
	}

	// A certificate that names nobody says so; a password still counts.
	stranger := ca.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "stranger"}})
	if a := stranger.Write("", now); a.Status != 401 || !strings.Contains(a.Body, `common_name "stranger"`) || !strings.Contains(a.Body, "send a password") || a.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%+v", a)
	}
	if a := stranger.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	both := ca.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}, URIs: spiffe(t, "spiffe://example/alice")})
	if a := both.Get("", "/api/v1/labels"); a.Status != 401 || !strings.Contains(a.Body, "several users") {
		t.Errorf("%+v", a)
	}

	// A password beside the certificate must be right, and of the same user.
	if a := alice.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if a := robot.Get("alice", "/api/v1/labels"); a.Status != 400 || !strings.Contains(a.Body, "send one of them") {
		t.Errorf("%+v", a)
	}
	req := robot.Request("", "GET", "/api/v1/labels", nil)
	req.SetBasicAuth("robot", "x")
	if a := robot.Do(req); a.Status != 401 {
		t.Errorf("%+v", a)
	}

	// Without a certificate all is as ever; one of another authority, or for servers alone, ends the handshake.
	bare := withCertificate(t, g, nil)
	if a := bare.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if a := bare.Get("", "/api/v1/labels"); a.Status != 401 {
		t.Errorf("%+v", a)
	}
	refused(t, newClientAuthority(t, "clients").client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}}))
	server, key := ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	refused(t, withCertificate(t, g, &tls.Certificate{Certificate: [][]byte{server.Raw}, PrivateKey: key}))
	if log := g.Log.String(); !strings.Contains(log, `"client":"127.0.0.1","user":"robot"`) || !strings.Contains(log, `common_name \"stranger\"`) {
		t.Errorf("the access log:\n%s", log)
	}
}

// refused fails unless g ends the handshake with an alert.
func refused(t *testing.T, g *gatewaytest.Gateway) {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(g.URL, "https://"), g.Client.Transport.(*http.Transport).TLSClientConfig.Clone())
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 the client is done before the server has seen its certificate
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		t.Errorf("the connection was accepted: %v", err)
	}
}

func TestClientCertificatesRequired(t *testing.T) {
	ca := newClientAuthority(t, "clients")
	g := startMutual(t, "optional", ca)
	bare := withCertificate(t, g, nil)
	if a := bare.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	edit(t, g, "mode: optional", "mode: required")
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	// The connection from before the reload is not cut, and gets no answer either.
	if a := bare.Get("alice", "/api/v1/labels"); a.Status != 401 || !strings.Contains(a.Body, "client certificate is required") {
		t.Errorf("%+v", a)
	}
	refused(t, withCertificate(t, g, nil))
	bare.Client.CloseIdleConnections()
	refused(t, bare) // which could resume its session
	robot := ca.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}})
	if a := robot.Get("", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if a := ca.client(g, x509.Certificate{}).Get("alice", "/api/v1/labels"); a.Status != 200 { // the certificate for the connection, the password for the user
		t.Errorf("%+v", a)
	}
}

// TestClientAuthorityReload: the bundle is reloaded by its content; what an authority has signed that was taken out of it opens
// no connection any more, not by resuming a session either; a broken bundle leaves the old one in use.
func TestClientAuthorityReload(t *testing.T) {
	first, second := newClientAuthority(t, "first"), newClientAuthority(t, "second")
	g := startMutual(t, "optional", first)
	one := first.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}})
	two := second.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}})
	if a := one.Get("", "/api/v1/labels"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	refused(t, two)

	if err := os.WriteFile(filepath.Join(g.Dir, "clients.pem"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	gatewaytest.Until(t, "the broken bundle is reported", func() bool { return strings.Contains(g.Log.String(), "tls.client_auth.ca_file") })
	one.Client.CloseIdleConnections()
	if a := one.Get("", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("after a broken bundle: %+v", a)
	}

	writeBundle(t, g, second)
	gatewaytest.Until(t, "the second authority is in use", func() bool {
		resp, err := two.Client.Do(two.Request("", "GET", "/api/v1/labels", nil))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	one.Client.CloseIdleConnections()
	refused(t, one)
}

// TestClientCertificateExpires: a connection does not outlive the certificate that it began with.
func TestClientCertificateExpires(t *testing.T) {
	ca := newClientAuthority(t, "clients")
	g := startMutual(t, "optional", ca)
	var robot *gatewaytest.Gateway
	for life := 2 * time.Second; ; life *= 2 { // on a slow machine the first request comes too late for a short one
		robot = ca.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}, NotAfter: time.Now().Add(life)})
		resp, err := robot.Client.Do(robot.Request("", "GET", "/api/v1/labels", nil))
		if err == nil {
			if resp.Body.Close(); resp.StatusCode == 200 {
				break
			}
		}
		if life > time.Minute {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	gatewaytest.Until(t, "the certificate has expired", func() bool {
		a := robot.Get("", "/api/v1/labels")
		if a.Status != 200 && (a.Status != 401 || !strings.Contains(a.Body, "expired")) {
			t.Fatalf("%+v", a)
		}
		return a.Status == 401
	})
}

// TestClientUserMustBeKnown: a misspelt user must not become a tenant of its own; without an htpasswd file certificates alone do.
func TestClientUserMustBeKnown(t *testing.T) {
	ca := newClientAuthority(t, "clients")
	g := startMutual(t, "optional", ca)
	edit(t, g, "{user: robot, dns: robot.example}", "{user: robto, dns: robot.example}")
	if a := g.Admin("POST", "/-/reload"); a.Status != 422 || !strings.Contains(a.Body, `auth.certificates: the user "robto" is neither`) {
		t.Errorf("%+v", a)
	}
	edit(t, g, "{user: robto, dns: robot.example}", "{user: robot, dns: robot.example}")
	edit(t, g, "auth: {htpasswd_file: htpasswd, ", "auth: {")
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	robot := ca.client(g, x509.Certificate{Subject: pkix.Name{CommonName: "robot-1"}})
	if a := robot.Get("", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if a := withCertificate(t, g, nil).Get("alice", "/api/v1/labels"); a.Status != 401 {
		t.Errorf("a password of a file that is no longer named: %+v", a)
	}
}
