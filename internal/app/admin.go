package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"

	"m3gateway/internal/proxy"
)

// Upstreams is what the admin port's /upstreams answers, as JSON; the others are parts of it.
type (
	Upstreams    = proxy.State
	Traffic      = proxy.Traffic
	UpstreamSide = proxy.SideState
)

// admin serves the operator's port: metrics, health, upstreams, reload and profiles.
func (g *Gateway) admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", g.metrics.handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		l := g.current()
		_, known := l.edges.Reach()
		switch {
		case g.draining.Load():
			http.Error(w, "draining", http.StatusServiceUnavailable)
		case !l.pool.Ready():
			http.Error(w, "no upstream is ready", http.StatusServiceUnavailable)
		case !known:
			http.Error(w, "limits.window is not learnt from the store yet", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ready")
		}
	})
	mux.HandleFunc("GET /upstreams", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(g.current().pool.State()) // the client went away
	})
	mux.HandleFunc("POST /-/reload", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.reload(); err != nil {
			http.Error(w, "the state before stays in use:\n"+err.Error(), http.StatusUnprocessableEntity)
			return
		}
		fmt.Fprintln(w, "reloaded")
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
