package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"

	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
)

// localRoutes are what clients of Prometheus ask for beside data. A store's own rules and alerts are no tenant's, and M3 has
// none of all this, so that the gateway answers for it.
func (h *Handler) localRoutes(prefix string) {
	get, post := http.MethodGet, http.MethodPost
	h.route("buildinfo", prefix+"/api/v1/status/buildinfo", h.buildInfo, get)
	h.route("rules", prefix+"/api/v1/rules", h.nothing(`{"groups":[]}`, "type", "rule_name[]", "rule_group[]", "file[]", "match[]", "exclude_alerts", "group_limit", "group_next_token"), get)
	h.route("alerts", prefix+"/api/v1/alerts", h.nothing(`{"alerts":[]}`), get)
	h.route("query_exemplars", prefix+"/api/v1/query_exemplars", h.exemplars, get, post)
	h.route("format_query", prefix+"/api/v1/format_query", h.formatQuery, get, post)
}

// nothing answers that there is none of what was asked for.
func (h *Handler) nothing(data string, known ...string) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		if err := x.reader(); err != nil {
			return err
		}
		if _, err := h.params(r, x, known...); err != nil {
			return err
		}
		return success(w, json.RawMessage(data))
	}
}

// success answers with data in the shape of the Prometheus API.
func success(w http.ResponseWriter, data any) error {
	b, err := json.Marshal(map[string]any{"status": "success", "data": data})
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("X-Content-Type-Options", "nosniff")
	_, err = w.Write(b)
	return gone(err)
}

// buildInfo is how Grafana learns which Prometheus it speaks to. M3 is one of 2.31, as far as queries go.
func (h *Handler) buildInfo(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	if _, err := h.params(r, x); err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindPrometheus {
		req := &proxy.Request{Method: http.MethodGet, Path: m3.BuildInfoPath, Header: x.readHeader()}
		return h.stream(w, r, x, req, "application/json")
	}
	return success(w, map[string]string{"version": m3.PrometheusVersion, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""})
}

// exemplars confines the selectors of the expression whose exemplars are asked for; M3 has none.
func (h *Handler) exemplars(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, "query", "start", "end")
	if err != nil {
		return err
	}
	expr, err := x.state.confiner.PromQL(x.lane.scope, in.Get("query"))
	if err != nil {
		return err
	}
	out := url.Values{"query": {expr}}
	if err := take(in, out, isTime, "start", "end"); err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindM3 {
		return success(w, json.RawMessage(`[]`))
	}
	return h.stream(w, r, x, h.formRequest(x, m3.ExemplarsPath, out), "application/json")
}

// formatQuery prints an expression in the usual layout; no store is asked.
func (h *Handler) formatQuery(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, "query")
	if err != nil {
		return err
	}
	text, err := x.state.confiner.Format(in.Get("query"))
	if err != nil {
		return err
	}
	return success(w, text)
}
