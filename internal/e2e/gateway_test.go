//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"m3gateway/internal/certs"
	"m3gateway/internal/faultnet"
)

// user may read and write one tenant.
type user struct{ name, password, tenant string }

// users of the tests; neither name is its tenant.
func users() (alice, bob user) {
	return user{"alice", "al1ce-Secret", "one"}, user{"bob", "b0b-Secret", "two"}
}

// gateway is a running `gateway serve`.
type gateway struct {
	*process
	addr   string // host:port of HTTPS
	url    string
	admin  string // URL
	caFile string
	dir    string
	config func(https, admin string) string
}

// startGateway starts `gateway serve` in front of the receiver, with users.
func startGateway(t *testing.T, upstream string, users ...user) *gateway {
	t.Helper()
	return startGatewayTo(t, fmt.Sprintf("  kind: prometheus\n  urls: [http://%s]\n", upstream), users...)
}

// startGatewayTo is startGateway with the lines of the section upstream.
func startGatewayTo(t *testing.T, upstream string, users ...user) *gateway {
	t.Helper()
	return startGatewayAs(t, "", upstream, users...)
}

// startGatewayAs is startGatewayTo with further lines of the section listen.
func startGatewayAs(t *testing.T, listen, upstream string, users ...user) *gateway {
	t.Helper()
	dir := t.TempDir()
	pair, caFile, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1", "localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var htpasswd, tenancy strings.Builder
	for _, u := range users {
		htpasswd.WriteString(passwd(t, u))
		fmt.Fprintf(&tenancy, "    %s: {tenants: [%s]}\n", u.name, u.tenant)
	}
	writeFile(t, filepath.Join(dir, "htpasswd"), htpasswd.String())

	return runGateway(t, dir, caFile, func(https, admin string) string {
		return fmt.Sprintf(`listen:
  https_address: %s
  admin_address: %s
  shutdown_delay: 1s
%stls:
  certificates:
    - cert_file: %s
      key_file: %s
auth:
  htpasswd_file: htpasswd
tenancy:
  users:
%supstream:
%s  health_interval: 500ms
`, https, admin, listen, pair.CertFile, pair.KeyFile, &tenancy, upstream)
	})
}

// runGateway runs a gateway whose files are in dir, configured by config for its addresses.
func runGateway(t *testing.T, dir, caFile string, config func(https, admin string) string) *gateway {
	t.Helper()
	g := &gateway{caFile: caFile, dir: dir, config: config}
	g.process = startOn(t, func() (*process, error) {
		g.addr = faultnet.Address(t)
		admin := faultnet.Address(t)
		g.url, g.admin = "https://"+g.addr, "http://"+admin
		_, port, _ := strings.Cut(g.addr, ":")
		p := run(t, "gateway", "serve", "--config", writeFile(t, filepath.Join(dir, "gateway-"+port+".yaml"), config(g.addr, admin)))
		return p, p.ready(g.admin + "/readyz")
	})
	return g
}

// replica starts another gateway with the same configuration.
func (g *gateway) replica(t *testing.T) *gateway {
	t.Helper()
	return runGateway(t, g.dir, g.caFile, g.config)
}

// passwd makes a htpasswd line as an operator does.
func passwd(t *testing.T, u user) string {
	t.Helper()
	cmd := exec.Command(binary(t, "gateway"), "passwd", u.name)
	cmd.Stdin = strings.NewReader(u.password + "\n")
	line, err := cmd.Output()
	if err != nil {
		t.Fatalf("gateway passwd: %v", err)
	}
	return string(line)
}

// client is a client of u.
func (g *gateway) client(t *testing.T, u user) client {
	t.Helper()
	return client{http: trusting(t, g.caFile), base: g.url, user: u.name, password: u.password}
}

// trusting returns a client that trusts the authority in caFile and no other, until the test's end.
func trusting(t *testing.T, caFile string) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: tlsConfig(t, caFile), MaxIdleConnsPerHost: 10}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func tlsConfig(t *testing.T, caFile string) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	return &tls.Config{RootCAs: pool}
}
