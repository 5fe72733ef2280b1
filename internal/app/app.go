package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"m3gateway/internal/audit"
	"m3gateway/internal/auth"
	"m3gateway/internal/buf"
	"m3gateway/internal/certs"
	"m3gateway/internal/config"
	"m3gateway/internal/gateway"
	"m3gateway/internal/limits"
	"m3gateway/internal/listen"
	"m3gateway/internal/proxy"
)

// Options say which gateway to run.
type Options struct {
	Version string
	// Log receives the log, in the format of the `log:` section.
	Log io.Writer
	// Stdout receives the audit log with `audit.stdout`. Default os.Stdout.
	Stdout io.Writer
	// Reload asks for a reload with each value; nil: only files and the admin port do.
	Reload <-chan os.Signal
	// WatchInterval is the time between two looks at the configuration's files. Default 5s.
	WatchInterval time.Duration
	// DiscoveryInterval is the least time between two looks at the store's namespaces, with limits.window: auto. The most is
	// twice that. Default 30s.
	DiscoveryInterval time.Duration
}

// Gateway is a whole gateway whose sockets are bound.
type Gateway struct {
	opts     Options
	fixed    string // the user of the plain listener, which a reload cannot change; empty: none
	log      *slog.Logger
	metrics  *metrics
	manager  *certs.Manager
	verifier *auth.Verifier
	trail    *audit.Log
	handler  *gateway.Handler
	server   *listen.Server
	upstream *proxy.Metrics
	draining atomic.Bool

	reloading sync.Mutex // held by the one reload under way; it guards the writing of live
	live      atomic.Pointer[live]
}

// live is what a reload replaces as one.
type live struct {
	*Loaded
	pool  *proxy.Pool
	stop  context.CancelFunc // ends the pool's probes
	edges *limits.Edges      // the window in force
	end   func()             // ends the learning of edges and of the number of replicas
}

// New binds the sockets of what was loaded. Nothing is served before Run.
func New(loaded *Loaded, opts Options) (g *Gateway, err error) {
	if opts.WatchInterval == 0 {
		opts.WatchInterval = 5 * time.Second
	}
	if opts.DiscoveryInterval == 0 {
		opts.DiscoveryInterval = 30 * time.Second
	}
	if opts.Stdout == nil {
		opts.Stdout = os.Stdout
	}
	cfg := loaded.Config
	g = &Gateway{opts: opts, fixed: cfg.Listen.Plain.Fixed(), log: newLog(cfg.Log, opts.Log), metrics: newMetrics(opts.Version)}
	reg := g.metrics.registry
	if g.manager, err = certs.New(cfg.TLS, g.log, reg); err != nil {
		return nil, err
	}
	trail, err := audit.Open(cfg.Audit, opts.Stdout, g.log, reg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = trail.Close(context.Background())
		}
	}()
	g.trail = trail
	g.verifier = auth.NewVerifier(cfg.Auth, reg)
	g.upstream = proxy.NewMetrics(reg)
	g.handler = gateway.New(gateway.Config{
		Verifier: g.verifier, Buffers: new(buf.Pool), Log: g.log, Access: cfg.Log.Access, HSTS: cfg.Listen.HSTSMaxAge, Now: time.Now,
		Audit: newLog(config.Log{Format: cfg.Log.Format, Level: "info"}, opts.Log),
		Trail: g.trail,
	}, reg)
	g.server = listen.New(cfg.Listen, g.log, reg)
	if err := g.bind(cfg); err != nil {
		return nil, err
	}
	if err := g.use(loaded); err != nil {
		return nil, err
	}
	g.summary()
	return g, nil
}

// bind opens the listeners, so that a port that cannot be had is known before anything else runs.
func (g *Gateway) bind(cfg *config.Config) error {
	if err := g.server.HTTPS(g.manager.TLSConfig(), g.handler); err != nil {
		return err
	}
	if cfg.Listen.HTTPAddress != "" {
		if err := g.server.HTTP(g.manager.HTTPHandler(g.server.Redirect())); err != nil {
			return err
		}
	}
	if cfg.Listen.Plain.Address != "" {
		if err := g.server.Plain(g.handler.Plain(cfg.Listen.Plain.Fixed())); err != nil {
			return err
		}
	}
	return g.server.Admin(g.admin())
}

// HTTPSAddr is where clients connect.
func (g *Gateway) HTTPSAddr() net.Addr { return g.server.HTTPSAddr() }

// PlainAddr is where clients connect without TLS, or nil.
func (g *Gateway) PlainAddr() net.Addr { return g.server.PlainAddr() }

// HTTPAddr is where challenges and redirects are answered, or nil.
func (g *Gateway) HTTPAddr() net.Addr { return g.server.HTTPAddr() }

// AdminAddr is where the admin port listens.
func (g *Gateway) AdminAddr() net.Addr { return g.server.AdminAddr() }

// Run serves until ctx ends, then drains. It returns nil after a clean drain.
func (g *Gateway) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	defer func() {
		stop()
		watching.Wait()
		if err := g.trail.Close(context.WithoutCancel(ctx)); err != nil {
			g.log.Error("the audit log has lost lines", "error", err)
		}
		g.manager.Wait()
		l := g.current()
		l.end()
		l.stop()
		l.pool.Close()
	}()
	if err := g.manager.Start(background); err != nil {
		return fmt.Errorf("starting ACME: %w", err)
	}
	watching.Go(func() { g.watch(background) })
	err := g.server.Run(ctx, func() {
		g.draining.Store(true)
		l := g.current().Config.Listen
		g.log.Info("draining", "delay", l.ShutdownDelay.String(), "timeout", l.DrainTimeout.String())
	})
	g.log.Info("stopped", "clean", err == nil)
	return err
}

func (g *Gateway) current() *live { return g.live.Load() }

// use makes loaded the state in use, all of it or, on an error, nothing.
func (g *Gateway) use(loaded *Loaded) error {
	old := g.current()
	next := &live{Loaded: loaded, edges: limits.NewEdges(loaded.Config.Limits.Window)}
	up := loaded.Config.Upstream
	moved := false
	if old != nil && (sameUpstream(old.Config.Upstream, up) || onlyMoved(old.Config.Upstream, up)) {
		next.pool, next.stop = old.pool, old.stop
		moved = !sameUpstream(old.Config.Upstream, up)
	} else {
		pool, err := newPool(up, g.log, g.upstream)
		if err != nil {
			return err
		}
		next.pool = pool
	}
	state, err := g.handler.Build(gateway.Parts{
		Users: loaded.Users, Tokens: loaded.Tokens, Certificates: loaded.Certificates, RequireCertificate: loaded.Config.TLS.ClientAuth.Mode == certs.ClientRequired,
		Table: loaded.Table, Limits: loaded.Config.Limits, Edges: next.edges, Store: up.Store, Pool: next.pool,
		Realm: loaded.Config.Auth.Realm, ReadTimeout: up.Pool.ReadTimeout,
	})
	if err != nil {
		return err
	}
	if moved {
		if err := next.pool.Move(up.Pool.URLs); err != nil {
			return err
		}
	}
	if next.stop == nil {
		var ctx context.Context
		ctx, next.stop = context.WithCancel(context.Background())
		next.pool.Start(ctx)
	}
	if old != nil {
		old.end()
		if s, ok := old.edges.Learnt(); ok && old.pool == next.pool && loaded.Config.Limits.Window.Auto() {
			next.edges.Learn(s)
		}
	}
	stopDiscovery, stopCounting := g.startDiscovery(next), g.startCounting(next)
	next.end = func() { stopDiscovery(); stopCounting() }
	g.manager.Use(loaded.Certs)
	g.handler.Use(state)
	g.verifier.Purge(loaded.Users)
	if old != nil && loaded.credentials != old.credentials { // what failed may be right now
		g.verifier.Forget()
	}
	g.live.Store(next)
	if old != nil {
		if old.pool != next.pool {
			old.stop()
			old.pool.Close() // requests under way keep their connections to the end
		}
	}
	g.metrics.loaded.SetToCurrentTime()
	g.metrics.good.Set(1)
	return nil
}

// newLog writes to w as cfg says; cfg has been checked.
func newLog(cfg config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}
