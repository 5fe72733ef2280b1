package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"m3gateway/internal/m3"
	"m3gateway/internal/metadata"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
)

// localRoutes are what clients of Prometheus ask for beside data. A store's own rules and alerts are no tenant's, and M3 has
// none of all this, so that the gateway answers for it.
func (h *Handler) localRoutes(prefix string) {
	get, post := http.MethodGet, http.MethodPost
	h.route("limits", prefix+"/api/v1/limits", h.limitsOf, get)
	h.route("buildinfo", prefix+"/api/v1/status/buildinfo", h.buildInfo, get)
	h.route("rules", prefix+"/api/v1/rules", h.nothing(`{"groups":[]}`, "type", "rule_name[]", "rule_group[]", "file[]", "match[]", "exclude_alerts", "group_limit", "group_next_token"), get)
	h.route("alerts", prefix+"/api/v1/alerts", h.nothing(`{"alerts":[]}`), get)
	h.route("query_exemplars", prefix+"/api/v1/query_exemplars", h.exemplars, get, post)
	h.route("format_query", prefix+"/api/v1/format_query", h.formatQuery, get, post)
	h.route("parse_query", prefix+"/api/v1/parse_query", h.parseQuery, get, post)
	h.route("metadata", prefix+"/api/v1/metadata", h.metadata, get)
	h.route("federate", prefix+"/federate", h.federate, get)
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
		return h.success(w, r, x, json.RawMessage(data))
	}
}

// success answers with data in the shape of the Prometheus API.
func (h *Handler) success(w http.ResponseWriter, r *http.Request, x *exchange, data any) error {
	b, err := json.Marshal(map[string]any{"status": "success", "data": data})
	if err != nil {
		return err
	}
	return h.send200(w, r, x, b)
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
		return h.pass(w, r, x, req, passing{media: jsonMedia})
	}
	return h.success(w, r, x, map[string]string{"version": m3.PrometheusVersion, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""})
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
	q, err := x.expression(in)
	if err != nil {
		return err
	}
	out := url.Values{"query": {q.Text}}
	if err := x.span(in, out); err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindM3 {
		return h.success(w, r, x, json.RawMessage(`[]`))
	}
	err = h.pass(w, r, x, h.formRequest(x, m3.ExemplarsPath, out), h.jsonPassing(x, query.Exemplars, 0))
	if errors.Is(err, errNoSelector) {
		return h.success(w, r, x, json.RawMessage(`[]`)) // as clients know it of an expression whose series have none
	}
	return err
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
	x.asked = append(x.asked, in.Get("query"))
	text, err := x.state.confiner.Format(in.Get("query"))
	if err != nil {
		return err
	}
	return h.success(w, r, x, text)
}

// parseQuery answers the syntax tree of an expression; no store is asked.
func (h *Handler) parseQuery(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, "query")
	if err != nil {
		return err
	}
	x.asked = append(x.asked, in.Get("query"))
	tree, err := x.state.confiner.Tree(in.Get("query"))
	if err != nil {
		return err
	}
	return h.success(w, r, x, tree)
}

// metadata answers what the writes of the caller's tenants said of their metrics, as far as this gateway has seen them. A
// store's own answer would be of what the store itself scrapes.
func (h *Handler) metadata(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	in, err := h.params(r, x, "metric", "limit", "limit_per_metric")
	if err != nil {
		return err
	}
	q := metadata.Question{Metric: in.Get("metric"), Limit: -1}
	for name, n := range map[string]*int{"limit": &q.Limit, "limit_per_metric": &q.PerMetric} {
		if v := in.Get(name); v != "" {
			if *n, err = strconv.Atoi(v); err != nil {
				return badRequest("invalid parameter %q: %q is no number", name, oneLine(v, 64))
			}
		}
	}
	x.asked = append(x.asked, q.Metric)
	return h.success(w, r, x, h.learnt.Of(x.lane.grant.Tenants, x.lane.grant.All, q))
}

// federate passes on the newest sample of every series that the confined selectors find.
func (h *Handler) federate(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.reader(); err != nil {
		return err
	}
	if x.state.Store.Kind == m3.KindM3 {
		return &refusal{status: http.StatusNotFound, kind: "not_found", text: "this store has no federation"}
	}
	in, err := h.params(r, x, "match[]")
	if err != nil {
		return err
	}
	if len(in["match[]"]) == 0 {
		return badRequest("no match[] parameter provided")
	}
	x.asked = append(x.asked, in["match[]"]...)
	selectors, err := x.state.confiner.Selectors(x.lane.scope, in["match[]"])
	if err != nil {
		return err
	}
	x.confined = selectors
	req, err := h.urlRequest(x, m3.FederatePath, url.Values{"match[]": selectors})
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	if strings.Contains(strings.Join(r.Header["Accept"], ","), "escaping=allow-utf-8") { // as a scraper says that it reads any name
		req.Header.Set("Accept", "text/plain;version=1.0.0;escaping=allow-utf-8,text/plain;version=0.0.4;q=0.5")
	}
	p := passing{media: expositionMedia}
	if x.lane.strip.Name != "" {
		p.edit = func(_ string, dst io.Writer, src io.Reader) error {
			return query.StripExposition(dst, src, x.lane.strip)
		}
	}
	return h.pass(w, r, x, req, p)
}
