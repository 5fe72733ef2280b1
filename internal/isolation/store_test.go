package isolation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/devstore"
	"m3gateway/internal/gatewaytest"
)

// store is an embedded Prometheus whose clock stands still for queries, so that two of them can be compared: a query
// without a time is evaluated at now.
type store struct {
	URL     string
	handler http.Handler
	now     time.Time
}

// newStore opens a store that speaks as one of kind does.
func newStore(t testing.TB, kind string, now time.Time) *store {
	t.Helper()
	db, err := devstore.Open(devstore.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &store{now: now}
	s.handler = s.stopped(db.Handler())
	outside := s.handler
	if kind == "m3" {
		outside = asCoordinator(s.handler)
	}
	srv := httptest.NewServer(outside)
	t.Cleanup(func() {
		srv.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s.URL = srv.URL
	return s
}

// stopped puts the time into instant queries that have none.
func (s *store) stopped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/query" {
			if err := r.ParseForm(); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if r.Form.Get("time") == "" {
				r.Form.Set("time", fmt.Sprint(s.now.Unix()))
			}
			r = withForm(r, r.URL.Path, r.Form)
		}
		next.ServeHTTP(w, r)
	})
}

// withForm is r as POST of form to path.
func withForm(r *http.Request, path string, form url.Values) *http.Request {
	out := r.Clone(r.Context())
	text := form.Encode()
	out.Method, out.URL = http.MethodPost, &url.URL{Path: path}
	out.Form, out.PostForm = nil, nil
	out.Body, out.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	return out
}

// asCoordinator gives a Prometheus the routes, the readiness, the limits on match[] and the shape of errors of an
// m3coordinator. It does not know M3-Restrict-By-Tags-JSON, so that the rewritten query is all that keeps tenants apart.
func asCoordinator(next http.Handler) http.Handler {
	paths := map[string]string{"/api/v1/prom/remote/write": "/api/v1/write", "/api/v1/prom/remote/read": "/api/v1/read"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaytest.Probed(w, r) {
			return
		}
		in := r.Clone(r.Context())
		if to := paths[r.URL.Path]; to != "" {
			in.URL = &url.URL{Path: to}
			if strings.HasSuffix(to, "/read") {
				everything(in)
			}
		} else if err := r.ParseForm(); err == nil {
			if one := !strings.HasSuffix(r.URL.Path, "/series"); one && len(r.Form["match[]"]) > 1 {
				http.Error(w, `{"status":"error","error":"only single tag matcher allowed"}`, http.StatusBadRequest)
				return
			}
			if r.Method == http.MethodPost {
				in = withForm(r, r.URL.Path, r.Form)
			}
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, in)
		if rec.Code/100 == 2 {
			for name, v := range rec.Header() {
				w.Header()[name] = v
			}
			w.Header().Set("M3-Namespaces", "default")
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.WriteHeader(http.StatusOK) // never 204
			_, _ = w.Write(rec.Body.Bytes())
			return
		}
		if rec.Code == http.StatusUnprocessableEntity {
			rec.Code = http.StatusBadRequest
		}
		var e struct{ Error string }
		if json.Unmarshal(rec.Body.Bytes(), &e) != nil {
			e.Error = strings.TrimSpace(rec.Body.String())
		}
		var out bytes.Buffer
		_ = json.NewEncoder(&out).Encode(map[string]string{"status": "error", "error": e.Error})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(rec.Code)
		_, _ = w.Write(out.Bytes())
	})
}

// everything lets the queries of a remote read that have no matchers find all series, as they do at an m3coordinator.
func everything(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var req prompb.ReadRequest
	if raw, err := snappy.Decode(nil, body); err == nil && req.Unmarshal(raw) == nil {
		for _, q := range req.Queries {
			if len(q.Matchers) == 0 {
				q.Matchers = []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_NEQ, Name: "__name__"}}
			}
		}
		if raw, err = req.Marshal(); err == nil {
			body = snappy.Encode(nil, raw)
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

// put writes a remote-write body to the store itself, past any gateway.
func (s *store) put(t testing.TB, body []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent {
		t.Fatalf("writing to the store: %d %s", w.Code, w.Body)
	}
}
