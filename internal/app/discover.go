package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"m3gateway/internal/config"
	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
)

const (
	// discoveryTimeout has room for the 10 to 12 s after which a coordinator without etcd answers from memory.
	discoveryTimeout = 15 * time.Second
	// firstDiscovery is how long a load waits for what it needs to judge a sample, before it takes effect without.
	firstDiscovery = 3 * time.Second
	// maxRegistry bounds, in bytes, the answer that is read. A namespace takes about 700.
	maxRegistry = 4 << 20
)

// discovery asks a store, again and again, for the limits that `limits.window` leaves to it.
type discovery struct {
	ask      func(context.Context) (limits.Store, error)
	edges    *limits.Edges
	log      *slog.Logger
	metrics  *metrics
	interval time.Duration

	trouble string // of the last round; "" after a good one
	held    bool   // the last round said more than is followed
}

// startDiscovery keeps l's window up to date with what the members of its pool say, if it depends on them. It returns when the
// window is known, or asking has failed once, or after firstDiscovery. end ends what was begun, and waits for that.
func (g *Gateway) startDiscovery(l *live) (end func()) {
	r, known := l.edges.Reach()
	g.metrics.reach(r, known)
	if !l.Config.Limits.Window.Auto() {
		return func() {}
	}
	pool, namespace := l.pool, l.Config.Upstream.Store.Namespace
	d := &discovery{
		ask:   func(ctx context.Context) (limits.Store, error) { return askStore(ctx, pool, namespace) },
		edges: l.edges, log: g.log, metrics: g.metrics, interval: g.opts.DiscoveryInterval,
	}
	ctx, stop := context.WithCancel(context.Background())
	first, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		d.run(ctx, first)
	}()
	if !known {
		timer := time.NewTimer(firstDiscovery)
		defer timer.Stop()
		select {
		case <-first:
		case <-timer.C:
		}
	}
	return func() { stop(); <-done }
}

// run asks at once, closes first, and asks again, until ctx ends. As long as nothing is known, writers wait: then it asks more often.
func (d *discovery) run(ctx context.Context, first chan<- struct{}) {
	d.round(ctx)
	close(first)
	for {
		pause := d.interval + rand.N(d.interval)
		if _, known := d.edges.Reach(); !known {
			pause = d.interval / 15
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			d.round(ctx)
		}
	}
}

// round asks once. What went wrong is logged when it begins or changes, not at every round.
func (d *discovery) round(ctx context.Context) {
	asked, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	store, err := d.ask(asked)
	if ctx.Err() != nil {
		return // cut off by us
	}
	before, knew := d.edges.Reach()
	if err != nil {
		if text := err.Error(); text != d.trouble {
			d.trouble = text
			d.log.Warn("learning limits.window from the store failed", "error", err, "in_use", describe(before, knew))
		}
		return
	}
	held := d.edges.Learn(store)
	now, known := d.edges.Reach()
	d.metrics.reach(now, known)
	d.metrics.discovered.SetToCurrentTime()
	if !knew || now != before || d.trouble != "" {
		d.log.Info("learnt limits.window from the store", "in_use", describe(now, known))
	}
	if held && !d.held {
		d.log.Warn("the store's namespace allows a wider window than before, which is not followed: its database nodes take new limits "+
			"when they start; once all of them were restarted, restart the gateway", "in_use", describe(now, known),
			"buffer_past", store.Past.String(), "buffer_future", store.Future.String())
	}
	d.trouble, d.held = "", held
}

// describe says which window is in use.
func describe(r limits.Reach, known bool) string {
	if !known {
		return "none yet: writes are answered 503 until limits.window is learnt from the store"
	}
	return r.String()
}

// askStore asks one of the coordinators in pool what it knows of its namespaces.
func askStore(ctx context.Context, pool *proxy.Pool, namespace string) (limits.Store, error) {
	ans, err := pool.Do(ctx, &proxy.Request{Method: http.MethodGet, Path: m3.NamespacesPath, MaxAnswer: maxRegistry})
	if err != nil {
		return limits.Store{}, err
	}
	defer ans.Body.Close()
	body, err := io.ReadAll(ans.Body)
	switch {
	case err != nil:
		return limits.Store{}, fmt.Errorf("reading the namespace registry of %s: %w", ans.Member, err)
	case ans.StatusCode != http.StatusOK:
		return limits.Store{}, fmt.Errorf("%s answered %d to GET %s", ans.Member, ans.StatusCode, m3.NamespacesPath)
	}
	n, err := m3.ParseNamespaces(body, namespace)
	if err != nil {
		return limits.Store{}, fmt.Errorf("%s: %w", ans.Member, err)
	}
	return limits.Store{Namespace: namespace, Past: n.BufferPast, Future: n.BufferFuture, Aggregated: len(n.Aggregated) > 0}, nil
}

// Window is the window that a gateway with this configuration begins with. Where that is the store's to say, the store is
// asked once, for at most discoveryTimeout, the members' first probe included; nothing goes on afterwards.
func (l *Loaded) Window(ctx context.Context) (limits.Reach, error) {
	edges := limits.NewEdges(l.Config.Limits.Window)
	if r, known := edges.Reach(); known {
		return r, nil
	}
	up := l.Config.Upstream
	pool, err := newPool(up, slog.New(slog.DiscardHandler), proxy.NewMetrics(newMetrics("").registry))
	if err != nil {
		return limits.Reach{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	pool.Start(ctx)
	defer pool.Close()
	store, err := askStore(ctx, pool, up.Store.Namespace)
	if err != nil {
		return limits.Reach{}, err
	}
	edges.Learn(store)
	r, _ := edges.Reach()
	return r, nil
}

// newPool is a pool of the members of up, not started.
func newPool(up config.Upstream, log *slog.Logger, m *proxy.Metrics) (*proxy.Pool, error) {
	probe := proxy.Probe{Path: m3.ReadyPath(up.Store.Kind), Judge: up.Store.Ready, Query: m3.ProbeError}
	probe.QueryPath, probe.QueryParams = m3.ProbeQuery(up.Store.Kind)
	cfg := up.Pool
	if up.Store.Kind != m3.KindM3 {
		cfg.Handover = 0 // nothing is aggregated
	}
	return proxy.New(cfg, probe, time.Now, log, m)
}
