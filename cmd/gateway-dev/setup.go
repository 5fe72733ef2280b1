package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
)

// user is one of the demo users; the file that keeps them over restarts has this shape.
type user struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	Tenant   string `json:"tenant"`
}

// setup is what a run stands on.
type setup struct {
	dataDir, configFile, htpasswdFile, caFile string
	users                                     []user
	https, admin                              string // addresses, known once bound
}

// bcryptCost of the demo passwords: they are random, and are hashed once.
const bcryptCost = 10

// prepare makes what is not there yet: users, certificate; and writes the configuration anew.
func prepare(c *cli, storeURL string, now time.Time) (*setup, error) {
	s := &setup{
		dataDir: c.DataDir, configFile: filepath.Join(c.DataDir, "gateway.yaml"), htpasswdFile: filepath.Join(c.DataDir, "htpasswd"),
	}
	if err := s.loadUsers(filepath.Join(c.DataDir, "users.json")); err != nil {
		return nil, err
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(c.HTTPSAddress); err == nil && host != "" && host != hosts[1] && host != hosts[0] {
		hosts = append(hosts, host)
	}
	pair, caFile, err := certs.Development(filepath.Join(c.DataDir, "tls"), hosts, now)
	if err != nil {
		return nil, err
	}
	s.caFile = caFile
	var b strings.Builder
	err = configTemplate.Execute(&b, map[string]any{
		"HTTPS": c.HTTPSAddress, "Admin": c.AdminAddress, "Cert": pair.CertFile, "Key": pair.KeyFile,
		"Htpasswd": s.htpasswdFile, "Users": s.users, "Store": storeURL,
	})
	if err != nil {
		return nil, err
	}
	return s, os.WriteFile(s.configFile, []byte(b.String()), 0o600)
}

// loadUsers reads the users that an earlier run left, or makes them with new passwords.
func (s *setup) loadUsers(file string) error {
	data, err := os.ReadFile(file)
	if err == nil {
		return json.Unmarshal(data, &s.users)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.users = []user{{"alice", rand.Text(), "team-a"}, {"bob", rand.Text(), "team-b"}}
	lines := ""
	for _, u := range s.users {
		hash, err := auth.HashPassword(u.Password, bcryptCost)
		if err != nil {
			return err
		}
		lines += u.Name + ":" + hash + "\n"
	}
	if err := os.WriteFile(s.htpasswdFile, []byte(lines), 0o600); err != nil {
		return err
	}
	if data, err = json.Marshal(s.users); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

var configTemplate = template.Must(template.New("gateway.yaml").Parse(`# Written by gateway-dev at each start.
listen:
  https_address: {{printf "%q" .HTTPS}}
  admin_address: {{printf "%q" .Admin}}
  shutdown_delay: 0s
tls:
  certificates:
    - cert_file: {{printf "%q" .Cert}}
      key_file: {{printf "%q" .Key}}
auth:
  htpasswd_file: {{printf "%q" .Htpasswd}}
tenancy:
  users:{{range .Users}}
    {{.Name}}: {tenants: [{{.Tenant}}], rights: [read, write]}{{end}}
upstream:
  kind: prometheus
  urls: [{{printf "%q" .Store}}]
log:
  format: text
`))

// client trusts the gateway's own certificate authority.
func (s *setup) client() (*http.Client, error) {
	pem, err := os.ReadFile(s.caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", s.caFile)
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}, nil
}

// announce says what runs, and what to paste where.
func (s *setup) announce(w io.Writer, c *cli) {
	url := "https://" + s.https
	if c.JSON {
		_ = json.NewEncoder(w).Encode(struct {
			URL      string `json:"url"`
			AdminURL string `json:"admin_url"`
			CAFile   string `json:"ca_file"`
			Users    []user `json:"users"`
		}{url, "http://" + s.admin, s.caFile, s.users})
		return
	}
	_ = announcement.Execute(w, map[string]any{
		"URL": url, "Admin": "http://" + s.admin, "CA": s.caFile, "U": s.users[0], "V": s.users[1], "Dir": s.dataDir,
		"Htpasswd": s.htpasswdFile, "Self": c.SelfScrape,
	})
}

var announcement = template.Must(template.New("").Parse(`m3gateway is ready: {{.URL}}   (metrics and health: {{.Admin}})

Two tenants, each with a user of its own:
  {{.U.Name}}  password {{.U.Password}}  tenant {{.U.Tenant}}
  {{.V.Name}}    password {{.V.Password}}  tenant {{.V.Tenant}}

Ask it something{{if .Self}} (it sends its own metrics as {{.U.Name}}){{end}}:
  curl --cacert {{.CA}} -u {{.U.Name}}:{{.U.Password}} '{{.URL}}/api/v1/query?query=up'

Send from Prometheus (prometheus.yml):
  remote_write:
    - url: {{.URL}}/api/v1/write
      basic_auth:
        username: {{.U.Name}}
        password: {{.U.Password}}
      tls_config:
        ca_file: {{.CA}}

Read with Grafana (provisioning/datasources/m3gateway.yaml):
  apiVersion: 1
  datasources:
    - name: {{.U.Tenant}}
      type: prometheus
      access: proxy
      url: {{.URL}}
      basicAuth: true
      basicAuthUser: {{.U.Name}}
      jsonData: {httpMethod: POST, tlsAuthWithCACert: true}
      secureJsonData:
        basicAuthPassword: {{.U.Password}}
        tlsCACert: $__file{ {{- .CA -}} }

Add a user (it is its own tenant; the gateway sees the change by itself):
  htpasswd -B {{.Htpasswd}} carol      # or: gateway passwd carol >> {{.Htpasswd}}

Everything is kept in {{.Dir}} (log: gateway.log); start with --data-dir {{.Dir}} to find it again. Ctrl-C ends.
`))
