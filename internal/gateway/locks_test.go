package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"

	"m3gateway/internal/audit"
	"m3gateway/internal/buf"
	"m3gateway/internal/devstore"
	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
	"m3gateway/internal/tenant"
)

// restricting is a store that ANDs the matchers of M3-Restrict-By-Tags-JSON to every selector, as an m3coordinator does to
// every fetch, and takes writes and remote reads on its routes.
func restricting(t *testing.T, store http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ready" {
			_, _ = io.WriteString(w, `{"readyReads":[{"id":"default"}],"readyWrites":[{"id":"default"}]}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		form := url.Values{}
		remoteRead := r.URL.Path == "/api/v1/prom/remote/read"
		if !remoteRead && r.URL.Path != "/api/v1/prom/remote/write" {
			if form, err = url.ParseQuery(r.URL.RawQuery + "&" + string(body)); err != nil {
				t.Error(err)
			}
		}
		if header := r.Header.Get("M3-Restrict-By-Tags-JSON"); header != "" {
			ms := restriction(t, header)
			for i, q := range form["query"] {
				form["query"][i] = restricted(t, q, ms)
			}
			for i, m := range form["match[]"] {
				form["match[]"][i] = restricted(t, m, ms)
			}
			if remoteRead {
				body = restrictedRead(t, body, ms)
			}
		}
		r = r.Clone(r.Context())
		r.URL.Path = strings.Replace(r.URL.Path, "/prom/remote/", "/", 1)
		switch {
		case len(form) == 0:
		case r.Method == http.MethodGet:
			r.URL.RawQuery, body = form.Encode(), nil
		default:
			r.URL.RawQuery, body = "", []byte(form.Encode())
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		store.ServeHTTP(w, r)
	})
}

func restriction(t *testing.T, header string) (ms []*labels.Matcher) {
	var restrict struct {
		Match []struct{ Name, Type, Value string }
		Strip []string
	}
	if err := json.Unmarshal([]byte(header), &restrict); err != nil || len(restrict.Match) == 0 || restrict.Strip == nil {
		t.Errorf("header %s: %v", header, err)
	}
	for _, m := range restrict.Match {
		typ, known := map[string]labels.MatchType{"EQUAL": labels.MatchEqual, "REGEXP": labels.MatchRegexp}[m.Type]
		if !known {
			t.Errorf("matcher type %s", m.Type)
		}
		ms = append(ms, labels.MustNewMatcher(typ, m.Name, m.Value))
	}
	return ms
}

func restricted(t *testing.T, expr string, ms []*labels.Matcher) string {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return expr
	}
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok {
			vs.LabelMatchers = append(vs.LabelMatchers, ms...)
		}
		return nil
	})
	return tree.String()
}

func restrictedRead(t *testing.T, body []byte, ms []*labels.Matcher) []byte {
	raw, err := snappy.Decode(nil, body)
	var req prompb.ReadRequest
	if err == nil {
		err = req.Unmarshal(raw)
	}
	if err != nil {
		t.Error(err)
	}
	for _, q := range req.Queries {
		for _, m := range ms {
			typ := prompb.LabelMatcher_EQ
			if m.Type == labels.MatchRegexp {
				typ = prompb.LabelMatcher_RE
			}
			q.Matchers = append(q.Matchers, &prompb.LabelMatcher{Type: typ, Name: m.Name, Value: m.Value})
		}
	}
	if raw, err = req.Marshal(); err != nil {
		t.Error(err)
	}
	return snappy.Encode(nil, raw)
}

// lockedHandler is a Handler before a store of kind m3, with the users "one" and "several" and their neighbour "foreign", whose
// tenants begin with run.
func lockedHandler(t *testing.T, store, run string) (*Handler, *State) {
	reg, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	h := New(Config{Buffers: new(buf.Pool), Log: log, Audit: log, Trail: new(audit.Log), Now: time.Now}, reg)
	cfg := m3.Defaults()
	pc := proxy.Defaults()
	pc.URLs = strings.Split(store, ",")
	pool, err := proxy.New(pc, proxy.Probe{Path: m3.ReadyPath(cfg.Kind), Judge: cfg.Ready, Query: m3.ProbeError}, time.Now, log, proxy.NewMetrics(reg))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	pool.Start(ctx)
	t.Cleanup(func() {
		cancel()
		pool.Close()
	})
	tc := tenant.Defaults()
	tc.Users = map[string]tenant.UserConfig{"one": {Tenants: []string{run + "a"}}, "several": {Tenants: []string{run + "a", run + "b"}}, "other": {Tenants: []string{run + "b"}}, "foreign": {Tenants: []string{run + "aa"}}}
	table, err := tenant.NewTable(tc, []string{"one", "several", "other", "foreign"})
	if err != nil {
		t.Fatal(err)
	}
	lim := limits.Defaults()
	state, err := h.Build(Parts{Table: table, Limits: lim, Edges: limits.NewEdges(lim.Window), Store: cfg, Pool: pool, ReadTimeout: pc.ReadTimeout})
	if err != nil {
		t.Fatal(err)
	}
	h.Use(state)
	return h, state
}

// ask sends a request as user and returns the answer, a remote read's as the text of its message.
func ask(t *testing.T, h *Handler, user, method, target string, body []byte) string {
	t.Helper()
	r := httptest.NewRequest(method, target, bytes.NewReader(body))
	if body != nil {
		r.Header.Set("Content-Type", "application/x-protobuf")
	}
	w := httptest.NewRecorder()
	h.Plain(user).ServeHTTP(w, r)
	if w.Code/100 != 2 {
		t.Fatalf("%s as %s: %d %s", target, user, w.Code, w.Body)
	}
	if !strings.HasSuffix(target, "/read") {
		return w.Body.String()
	}
	raw, err := snappy.Decode(nil, w.Body.Bytes())
	var resp prompb.ReadResponse
	if err == nil {
		err = resp.Unmarshal(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resp.String()
}

// TestEachLockAlone: a store of kind m3 is asked with two locks, the rewritten query and the restriction in a header. Each of
// them alone keeps a user to its tenants on every route; with neither, the same requests show what is foreign.
func TestEachLockAlone(t *testing.T) {
	store := os.Getenv("M3_COORDINATOR_URLS") // real coordinators, if there are any
	if store == "" {
		s, err := devstore.Open(devstore.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(restricting(t, s.Handler()))
		t.Cleanup(func() {
			srv.Close()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		store = srv.URL
	}
	run := fmt.Sprintf("run%d_", time.Now().UnixNano())
	metric := run + "m"
	h, state := lockedHandler(t, store, run)
	now := time.Now()
	for user, secret := range map[string]string{"one": "amber", "other": "azure", "foreign": "blue"} {
		req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels:  []prompb.Label{{Name: "__name__", Value: metric}, {Name: run + secret, Value: "x"}, {Name: "secret", Value: secret}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: now.UnixMilli()}},
		}}}
		raw, err := req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		ask(t, h, user, "POST", "/api/v1/write", snappy.Encode(nil, raw))
	}
	selector := url.QueryEscape(metric)
	span := fmt.Sprintf("&start=%d&end=%d", now.Unix()-300, now.Unix()+5)
	read := prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: now.UnixMilli() - 1000, EndTimestampMs: now.UnixMilli() + 1000, Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: metric}}}}}
	raw, err := read.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string][]byte{
		"GET /api/v1/query?query=" + selector + fmt.Sprintf("&time=%d", now.Unix()+5):                                                                            nil,
		"GET /api/v1/query?query=" + url.QueryEscape("max_over_time("+metric+"[5m:5s]) or "+metric+" * 2") + fmt.Sprintf("&time=%d", now.Unix()+5):               nil,
		"GET /api/v1/query_range?step=5&query=" + url.QueryEscape("count by (secret) ("+metric+")") + fmt.Sprintf("&start=%d&end=%d", now.Unix(), now.Unix()+10): nil,
		"GET /api/v1/series?match[]=" + selector + span:                                                                                                          nil,
		"GET /api/v1/labels?match[]=" + selector + span:                                                                                                          nil,
		"GET /api/v1/label/secret/values?match[]=" + selector + span:                                                                                             nil,
		"POST /api/v1/read": snappy.Encode(nil, raw),
	}
	ready := func() bool {
		return strings.Contains(ask(t, h, "foreign", "GET", "/api/v1/query?query="+selector+fmt.Sprintf("&time=%d", now.Unix()+5), nil), "blue")
	}
	for deadline := now.Add(30 * time.Second); !ready() && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	lanes := func(edit func(*lane)) map[string]*lane {
		out := map[string]*lane{}
		for user, l := range state.lanes {
			l := *l
			edit(&l)
			out[user] = &l
		}
		return out
	}
	both := lanes(func(*lane) {})
	open := func(l *lane) { l.scope = query.Scope{All: true} }
	for name, tc := range map[string]struct {
		lanes map[string]*lane
		holds bool
	}{
		"both":           {both, true},
		"the query":      {lanes(func(l *lane) { l.restrict = [2]string{} }), true},
		"the header":     {lanes(open), true},
		"neither, shows": {lanes(func(l *lane) { open(l); l.restrict = [2]string{} }), false},
	} {
		state.lanes = tc.lanes
		for route, body := range routes {
			method, target, _ := strings.Cut(route, " ")
			for user, own := range map[string][]string{"one": {"amber"}, "several": {"amber", "azure"}} {
				got := ask(t, h, user, method, target, body)
				if strings.Contains(got, "blue") == tc.holds {
					t.Errorf("%s, %s, %s: %s", name, user, route, got)
				}
				if strings.Contains(got, "azure") != (user == "several") && tc.holds {
					t.Errorf("%s, %s, %s: %s", name, user, route, got)
				}
				for _, s := range own {
					if !strings.Contains(got, s) {
						t.Errorf("%s, %s, %s lacks %s: %s", name, user, route, s, got)
					}
				}
			}
		}
	}
}
