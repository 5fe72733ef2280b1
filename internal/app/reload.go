package app

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"reflect"
	"slices"
	"time"

	"m3gateway/internal/config"
)

// reload loads everything anew and puts it to use, all or nothing: on an error the state before stays.
func (g *Gateway) reload() error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	old := g.current()
	loaded, err := load(old.Path, g.fixed)
	if err == nil {
		err = g.use(loaded)
	}
	if err != nil {
		g.metrics.reloads.WithLabelValues("failure").Inc()
		g.metrics.good.Set(0)
		g.log.Error("reload failed; the state before stays in use", "error", err)
		return err
	}
	g.metrics.reloads.WithLabelValues("success").Inc()
	for _, section := range needRestart(old.Config, loaded.Config) {
		g.log.Warn("this section changed but takes effect only after a restart", "section", section)
	}
	g.summary()
	return nil
}

// needRestart names the changed sections that a reload cannot put to use.
func needRestart(old, now *config.Config) []string {
	var out []string
	a, b := old.Auth, now.Auth
	a.HtpasswdFile, a.TokensFile, a.Realm, a.Certificates = b.HtpasswdFile, b.TokensFile, b.Realm, b.Certificates
	for _, s := range []struct {
		name     string
		old, now any
	}{
		{"listen", old.Listen, now.Listen}, {"log", old.Log, now.Log}, {"audit", old.Audit, now.Audit}, {"tls.acme", old.TLS.ACME, now.TLS.ACME}, {"auth", a, b},
	} {
		if !reflect.DeepEqual(s.old, s.now) {
			out = append(out, s.name)
		}
	}
	return out
}

// sameUpstream reports that the pool of a can serve b.
func sameUpstream(a, b config.Upstream) bool { return reflect.DeepEqual(a, b) }

// onlyMoved reports that b lists other members than a, some of them the same, and differs in nothing else, so that the pool of a
// can follow: those that stay keep their state, and series are handed over as when a name's addresses change. Where none is the
// same it is another store, and nothing may go to the old one any more.
func onlyMoved(a, b config.Upstream) bool {
	if !slices.ContainsFunc(a.Pool.URLs, func(u string) bool { return slices.Contains(b.Pool.URLs, u) }) {
		return false
	}
	a.Pool.URLs, b.Pool.URLs = nil, nil
	return reflect.DeepEqual(a, b)
}

// watch reloads on request, and when the content of a file of the configuration has changed. Files are compared by content:
// a mounted Secret or ConfigMap changes by a swapped link, which no time stamp shows.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(g.opts.WatchInterval)
	defer tick.Stop()
	var broken [sha256.Size]byte // the last content that did not load: reported once, not at every look
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.opts.Reload:
			g.log.Info("reloading", "cause", "signal")
			_ = g.reload()
		case <-tick.C:
			now := digest(g.current().Files)
			if now == g.current().digest || now == broken {
				continue
			}
			g.log.Info("reloading", "cause", "a file changed")
			if g.reload() != nil {
				broken = now
			}
		}
	}
}

// digest is a hash of the files' names and contents; what cannot be read counts as absent.
func digest(files []string) [sha256.Size]byte {
	sum := sha256.New()
	for _, name := range files {
		_, _ = io.WriteString(sum, "\x00"+name+"\x00")
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		_, _ = io.Copy(sum, io.LimitReader(f, maxFileBytes))
		_ = f.Close()
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// summary logs what is in use.
func (g *Gateway) summary() {
	l := g.current()
	cfg := l.Config
	reach, known := l.edges.Reach()
	listeners := []any{"https", g.HTTPSAddr().String(), "admin", g.AdminAddr().String()}
	if a := g.HTTPAddr(); a != nil {
		listeners = append(listeners, "http", a.String())
	}
	if a := g.PlainAddr(); a != nil {
		listeners = append(listeners, "plain", a.String(), "plain_user", g.fixed)
	}
	g.log.Info("configuration in use", append([]any{"config", l.Path, "users", len(l.Table.Grants()), "kind", cfg.Upstream.Store.Kind,
		"window", describe(reach, known), "tenant_label", cfg.Tenancy.Label}, listeners...)...)
	for _, w := range append(l.Table.Warnings(), l.Certs.Warnings(time.Now())...) {
		g.log.Warn(w)
	}
}
