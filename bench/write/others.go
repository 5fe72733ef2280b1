package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"m3gateway/bench/measure"
	"m3gateway/internal/auth"
)

// other is another server for the same job, or the part of it that it knows: the password and the passing on.
type other struct {
	name     string
	variable string // of the environment: its binary
	path     string // name to be found on PATH, where the variable is not set; empty: it has to be set
	late     bool   // it answers before it has done its work
	start    func(ctx context.Context, s *stage, binary, dir, address string) (command []string, err error)
}

// others are asked as an operator would run them: no TLS, a measure.Password, connections to the sink kept, an access log to /dev/null
// where there is one.
func others() []other {
	return []other{
		{name: nginxName, variable: "NGINX_BIN", path: "nginx", start: nginx(func() (string, error) { return auth.HashPassword(measure.Password, measure.BcryptCost) })},
		{name: "nginx: auth_basic with apr1, proxy_pass", variable: "NGINX_BIN", path: "nginx", start: nginx(apr1)},
		{name: "Traefik: basicAuth with bcrypt, proxy", variable: "TRAEFIK_BIN", start: traefik},
		{name: "vmauth: password in clear in its file, proxy", variable: "VMAUTH_BIN", start: vmauth},
		{name: "vmagent: one password, label added, forwarded", variable: "VMAGENT_BIN", late: true, start: vmagent},
	}
}

const nginxName = "nginx: auth_basic with bcrypt, proxy_pass"

// binary is the path of o's program, or why there is none.
func (o *other) binary() (string, error) {
	if file := os.Getenv(o.variable); file != "" {
		return file, nil
	}
	if o.path == "" {
		return "", fmt.Errorf("%s is not set", o.variable)
	}
	file, err := exec.LookPath(o.path)
	if err != nil {
		if file = "/usr/sbin/" + o.path; !executable(file) { // where Debian has it, which is not on every PATH
			return "", fmt.Errorf("%s is not set and there is no %s on PATH", o.variable, o.path)
		}
	}
	return file, nil
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode()&0o111 != 0
}

// otherRows are the rows of those others that are installed; omitted says which are not.
func (s *stage) otherRows(ctx context.Context) (rows []row, omitted []string, err error) {
	for i, o := range others() {
		file, err := o.binary()
		if err != nil {
			omitted = append(omitted, fmt.Sprintf("omitted: %s: %v", o.name, err))
			continue
		}
		dir := filepath.Join(s.Dir, fmt.Sprintf("other-%d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, nil, err
		}
		address, err := measure.Free(1)
		if err != nil {
			return nil, nil, err
		}
		command, err := o.start(ctx, s, file, dir, address[0])
		if errors.Is(err, exec.ErrNotFound) {
			omitted = append(omitted, fmt.Sprintf("omitted: %s: %v", o.name, err))
			continue
		} else if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", o.name, err)
		}
		p := &process{url: "http://" + address[0] + "/api/v1/write", late: o.late}
		if p.pid, err = s.Run(ctx, address[0], "", command...); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", o.name, err)
		}
		r, err := s.row(o.name, p, order{URL: p.url, Content: content{Samples: samples}, Connections: 4})
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, r)
	}
	return rows, omitted, nil
}

// apr1 is the password as OpenSSL hashes it.
func apr1() (string, error) {
	out, err := exec.Command("openssl", "passwd", "-apr1", measure.Password).Output()
	if err != nil {
		return "", fmt.Errorf("openssl passwd -apr1: %w", err)
	}
	return string(out[:len(out)-1]), nil
}

// nginx has a worker for each CPU. A body is held in memory whole before it is passed on, as it is by default: senders are
// slower than the store is.
func nginx(hash func() (string, error)) func(context.Context, *stage, string, string, string) ([]string, error) {
	return func(_ context.Context, s *stage, binary, dir, address string) ([]string, error) {
		h, err := hash()
		if err != nil {
			return nil, err
		}
		user := ""
		if os.Getuid() == 0 {
			user = "user root;\n" // the files are root's
		}
		text := fmt.Sprintf(`%sdaemon off;
worker_processes %d;
pid %s/pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log /dev/null;
  client_body_temp_path %s/body;
  proxy_temp_path %s/proxy;
  fastcgi_temp_path %s/fastcgi;
  uwsgi_temp_path %s/uwsgi;
  scgi_temp_path %s/scgi;
  client_max_body_size 16m;
  client_body_buffer_size 1m;
  keepalive_requests 1000000;
  keepalive_timeout 10m;
  upstream store { server %s; keepalive 64; keepalive_requests 1000000; keepalive_timeout 10m; }
  server {
    listen %s;
    location / {
      auth_basic metrics;
      auth_basic_user_file %s/htpasswd;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering on;
      proxy_pass http://store;
    }
  }
}
`, user, runtime.NumCPU(), dir, dir, dir, dir, dir, dir, s.store, address, dir)
		if err := write(dir, "nginx.conf", text); err != nil {
			return nil, err
		}
		return []string{binary, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"}, write(dir, "htpasswd", measure.User+":"+h+"\n")
	}
}

func traefik(_ context.Context, s *stage, binary, dir, address string) ([]string, error) {
	hash, err := auth.HashPassword(measure.Password, measure.BcryptCost)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		write(dir, "htpasswd", measure.User+":"+hash+"\n"),
		write(dir, "static.yml", fmt.Sprintf(`global: {checkNewVersion: false, sendAnonymousUsage: false}
entryPoints: {web: {address: %q}}
providers: {file: {filename: %q}}
accessLog: {filePath: /dev/null}
log: {level: ERROR}
`, address, filepath.Join(dir, "dynamic.yml"))),
		write(dir, "dynamic.yml", fmt.Sprintf(`http:
  routers: {write: {rule: "PathPrefix(`+"`/`"+`)", service: store, middlewares: [password]}}
  middlewares: {password: {basicAuth: {usersFile: %q}}}
  services: {store: {loadBalancer: {servers: [{url: "http://%s"}]}}}
`, filepath.Join(dir, "htpasswd"), s.store)))
	return []string{binary, "--configFile=" + filepath.Join(dir, "static.yml")}, err
}

// vmauth knows no hashed passwords.
func vmauth(_ context.Context, s *stage, binary, dir, address string) ([]string, error) {
	err := write(dir, "auth.yml", fmt.Sprintf("users:\n- {username: %q, password: %q, url_prefix: \"http://%s\"}\n", measure.User, measure.Password, s.store))
	return []string{binary, "-auth.config=" + filepath.Join(dir, "auth.yml"), "-httpListenAddr=" + address}, err
}

// vmagent answers before it has forwarded, and merges requests.
func vmagent(_ context.Context, s *stage, binary, dir, address string) ([]string, error) {
	return []string{binary, "-httpListenAddr=" + address, "-httpAuth.username=" + measure.User, "-httpAuth.password=" + measure.Password,
		"-remoteWrite.url=http://" + s.store + "/api/v1/write", "-remoteWrite.forcePromProto=true", "-remoteWrite.label=tenant=" + measure.Tenant,
		"-remoteWrite.tmpDataPath=" + filepath.Join(dir, "data"), "-loggerLevel=ERROR"}, nil
}

func write(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}
