package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"m3gateway/bench/measure"
)

// server is one that is measured.
type server struct {
	name string
	pid  int
	url  string
	slow bool // it hashes the password with bcrypt at each request
}

// other is a kind of server beside the gateway.
type other struct {
	name, variable, path string // the binary's environment variable, and its name on PATH, if it may be found there
	command              func(*measure.Proxy) ([]string, error)
}

// servers starts the gateway, whose certificate all others get, and those others that are installed; omitted says which are not.
func (b *bench) servers(ctx context.Context) (all []server, omitted []string, err error) {
	binary, err := measure.Build(ctx, b.dir, "m3gateway/cmd/gateway")
	if err != nil {
		return nil, nil, err
	}
	dir, at := filepath.Join(b.dir, "gateway-files"), measure.Site{Store: b.store}
	pid, err := b.processes.Gateway(ctx, binary, dir, &at)
	if err != nil {
		return nil, nil, err
	}
	b.pem, b.caFile = filepath.Join(dir, "tls", "server.pem"), filepath.Join(dir, "tls", "ca.crt")
	all = append(all, server{"gateway serve: bcrypt, remembered; each sample confined", pid, "https://" + at.HTTPS, false})
	for _, o := range []other{{"nginx", "NGINX_BIN", "nginx", (*measure.Proxy).Nginx}, {"Traefik", "TRAEFIK_BIN", "", (*measure.Proxy).Traefik}} {
		file, err := measure.Binary(o.variable, o.path)
		if err != nil {
			omitted = append(omitted, o.name+": "+err.Error())
			continue
		}
		for _, hash := range []string{"apr1", "bcrypt"} {
			sv, err := b.start(ctx, o, file, hash)
			if err != nil {
				return nil, nil, fmt.Errorf("%s with %s: %w", o.name, hash, err)
			}
			all = append(all, sv)
		}
	}
	return all, omitted, nil
}

// start starts another server, with its files in a directory of its own.
func (b *bench) start(ctx context.Context, o other, binary, hash string) (server, error) {
	dir := filepath.Join(b.dir, strings.ToLower(o.name)+"-"+hash)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return server{}, err
	}
	at, err := measure.Free(1)
	if err != nil {
		return server{}, err
	}
	command, err := o.command(&measure.Proxy{Binary: binary, Dir: dir, Address: at[0], Store: b.store, Hash: hash, PEM: b.pem})
	if err != nil {
		return server{}, err
	}
	url := "https://" + at[0]
	pid, err := b.processes.Run(ctx, measure.Proxying(url), command...)
	return server{o.name + ": " + hash + "; bytes passed on", pid, url, hash == "bcrypt"}, err
}
