package measure

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"m3gateway/internal/auth"
)

// Proxy is a server beside the gateway that checks the client's password and passes on to a store what came.
type Proxy struct {
	Binary, Dir    string // its program, and where its files are put
	Address, Store string
	Hash           string // of the password: bcrypt or apr1
	PEM            string // file of a certificate and its key, for TLS with HTTP/2; empty: no TLS
}

// htpasswd writes the client's entry and returns the file.
func (p *Proxy) htpasswd() (string, error) {
	entry, err := auth.HashPassword(Password, BcryptCost)
	if p.Hash == "apr1" {
		var out []byte
		if out, err = exec.Command("openssl", "passwd", "-apr1", Password).Output(); err != nil {
			err = fmt.Errorf("openssl passwd -apr1: %w", err)
		}
		entry = string(out)
	}
	file := filepath.Join(p.Dir, "htpasswd")
	return file, errors.Join(err, os.WriteFile(file, []byte(User+":"+entry+"\n"), 0o600))
}

// Nginx is the command that runs p as nginx. It has a worker for each CPU, and a cache of TLS sessions beside its tickets. A body is
// held in memory whole before it is passed on, as it is by default: senders are slower than the store is.
func (p *Proxy) Nginx() ([]string, error) {
	passwords, err := p.htpasswd()
	user, tls, ssl := "", "", ""
	if os.Getuid() == 0 {
		user = "user root;\n" // the files are root's
	}
	if p.PEM != "" {
		ssl, tls = " ssl http2", fmt.Sprintf(`
  ssl_certificate %s;
  ssl_certificate_key %s;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:sessions:16m;`, p.PEM, p.PEM)
	}
	file := filepath.Join(p.Dir, "nginx.conf")
	return []string{p.Binary, "-p", p.Dir, "-c", file, "-e", "stderr"}, errors.Join(err, os.WriteFile(file, fmt.Appendf(nil, `%[1]sdaemon off;
worker_processes %[2]d;
pid %[3]s/pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log /dev/null;
  client_body_temp_path %[3]s/body;
  proxy_temp_path %[3]s/proxy;
  fastcgi_temp_path %[3]s/fastcgi;
  uwsgi_temp_path %[3]s/uwsgi;
  scgi_temp_path %[3]s/scgi;
  client_max_body_size 16m;
  client_body_buffer_size 1m;
  keepalive_requests 1000000;
  keepalive_timeout 10m;%[4]s
  upstream store { server %[5]s; keepalive 64; keepalive_requests 1000000; keepalive_timeout 10m; }
  server {
    listen %[6]s%[7]s;
    location / {
      auth_basic metrics;
      auth_basic_user_file %[8]s;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering on;
      proxy_pass http://store;
    }
  }
}
`, user, runtime.NumCPU(), p.Dir, tls, p.Store, p.Address, ssl, passwords), 0o600))
}

// Traefik is the command that runs p as Traefik.
func (p *Proxy) Traefik() ([]string, error) {
	passwords, err := p.htpasswd()
	static, dynamic := filepath.Join(p.Dir, "static.yml"), filepath.Join(p.Dir, "dynamic.yml")
	router, stores := "", ""
	if p.PEM != "" {
		router, stores = ", tls: {}", fmt.Sprintf("tls:\n  stores: {default: {defaultCertificate: {certFile: %q, keyFile: %q}}}\n", p.PEM, p.PEM)
	}
	return []string{p.Binary, "--configFile=" + static}, errors.Join(err,
		os.WriteFile(static, fmt.Appendf(nil, `global: {checkNewVersion: false, sendAnonymousUsage: false}
entryPoints: {web: {address: %q}}
providers: {file: {filename: %q}}
accessLog: {filePath: /dev/null}
log: {level: ERROR}
`, p.Address, dynamic), 0o600),
		os.WriteFile(dynamic, fmt.Appendf(nil, `http:
  routers: {write: {rule: "PathPrefix(`+"`/`"+`)", service: store, middlewares: [password]%s}}
  middlewares: {password: {basicAuth: {usersFile: %q}}}
  services: {store: {loadBalancer: {servers: [{url: "http://%s"}]}}}
%s`, router, passwords, p.Store, stores), 0o600))
}
