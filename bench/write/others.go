package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"m3gateway/bench/measure"
)

// other is another server for the same job, or the part of it that it knows: the password and the passing on.
type other struct {
	name     string
	variable string // of the environment: its binary
	path     string // name to be found on PATH, where the variable is not set; empty: it has to be set
	late     bool   // it answers before it has done its work
	start    func(*measure.Proxy) (command []string, err error)
	hash     string // of the password, where the server knows hashed ones
}

// others are asked as an operator would run them: no TLS, a measure.Password, connections to the sink kept, an access log to /dev/null
// where there is one.
func others() []other {
	return []other{
		{name: nginxName, variable: "NGINX_BIN", path: "nginx", start: (*measure.Proxy).Nginx, hash: "bcrypt"},
		{name: "nginx: auth_basic with apr1, proxy_pass", variable: "NGINX_BIN", path: "nginx", start: (*measure.Proxy).Nginx, hash: "apr1"},
		{name: "Traefik: basicAuth with bcrypt, proxy", variable: "TRAEFIK_BIN", start: (*measure.Proxy).Traefik, hash: "bcrypt"},
		{name: "vmauth: password in clear in its file, proxy", variable: "VMAUTH_BIN", start: vmauth},
		{name: "vmagent: one password, label added, forwarded", variable: "VMAGENT_BIN", late: true, start: vmagent},
	}
}

const nginxName = "nginx: auth_basic with bcrypt, proxy_pass"

// otherRows are the rows of those others that are installed; omitted says which are not.
func (s *stage) otherRows(ctx context.Context) (rows []row, omitted []string, err error) {
	for i, o := range others() {
		file, err := measure.Binary(o.variable, o.path)
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
		command, err := o.start(&measure.Proxy{Binary: file, Dir: dir, Address: address[0], Store: s.store, Hash: o.hash})
		if errors.Is(err, exec.ErrNotFound) {
			omitted = append(omitted, fmt.Sprintf("omitted: %s: %v", o.name, err))
			continue
		} else if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", o.name, err)
		}
		p := &process{url: "http://" + address[0] + "/api/v1/write", late: o.late}
		ready := measure.Proxying("http://" + address[0])
		if o.late { // it passes on nothing but writes
			ready = measure.Listening(address[0])
		}
		if p.pid, err = s.Run(ctx, ready, command...); err != nil {
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

// vmauth knows no hashed passwords.
func vmauth(p *measure.Proxy) ([]string, error) {
	file := filepath.Join(p.Dir, "auth.yml")
	text := fmt.Appendf(nil, "users:\n- {username: %q, password: %q, url_prefix: \"http://%s\"}\n", measure.User, measure.Password, p.Store)
	return []string{p.Binary, "-auth.config=" + file, "-httpListenAddr=" + p.Address}, os.WriteFile(file, text, 0o600)
}

// vmagent answers before it has forwarded, and merges requests.
func vmagent(p *measure.Proxy) ([]string, error) {
	return []string{p.Binary, "-httpListenAddr=" + p.Address, "-httpAuth.username=" + measure.User, "-httpAuth.password=" + measure.Password,
		"-remoteWrite.url=http://" + p.Store + "/api/v1/write", "-remoteWrite.forcePromProto=true", "-remoteWrite.label=tenant=" + measure.Tenant,
		"-remoteWrite.tmpDataPath=" + filepath.Join(p.Dir, "data"), "-loggerLevel=ERROR"}, nil
}
