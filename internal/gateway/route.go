package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"m3gateway/internal/audit"
	"m3gateway/internal/auth"
	"m3gateway/internal/buf"
	"m3gateway/internal/limits"
	"m3gateway/internal/metadata"
	"m3gateway/internal/query"
	"m3gateway/internal/remotewrite"
)

// Config is what a Handler is made of, for good; what a reload changes is in State.
type Config struct {
	Verifier *auth.Verifier
	Buffers  *buf.Pool
	Log      *slog.Logger
	// Audit gets a line for each read of a user that may read every tenant, whatever the level of Log.
	Audit *slog.Logger
	// Trail gets a line for each read, and for each request that is refused.
	Trail *audit.Log
	// Access writes a line for each request.
	Access bool
	// HSTS is the max-age of Strict-Transport-Security on answers to reads over HTTPS; 0: no such header.
	HSTS time.Duration
	Now  func() time.Time
}

// Handler answers clients. It needs a State (Use) before its first request.
type Handler struct {
	Config
	bufs      *buf.Pool
	metrics   *metrics
	state     atomic.Pointer[State]
	confiners sync.Pool
	tenants   *limits.Tenants
	sharing   sync.Mutex
	replicas  int64           // among which the limits are divided; guarded by sharing
	bytes     *limits.Budget  // of all requests under way
	requests  *limits.Budget  // likewise
	working   *limits.Turns   // of the batches held decoded
	seed      uint64          // of series' identities, so that nobody outside can make two series one
	learnt    *metadata.Table // from writes
	editors   sync.Pool
	gzips     sync.Pool
	zstds     sync.Pool
	hsts      string // the header's value; empty: none
	mux       *chi.Mux
}

// New is a Handler whose metrics are in reg.
func New(cfg Config, reg prometheus.Registerer) *Handler {
	h := &Handler{Config: cfg, bufs: cfg.Buffers, mux: chi.NewMux()}
	h.bytes, h.requests = limits.NewBudget(limits.InBytes), limits.NewBudget(limits.InRequests)
	h.working = limits.NewTurns(2 * runtime.GOMAXPROCS(0))
	h.metrics = newMetrics(reg, h.bytes, h.requests)
	if cfg.HSTS > 0 {
		h.hsts = fmt.Sprintf("max-age=%d", int64(cfg.HSTS/time.Second))
	}
	h.confiners.New = func() any { return new(remotewrite.Confiner) }
	h.learnt = metadata.New(1)
	h.tenants, h.replicas = limits.NewTenants(), 1
	h.seed = rand.Uint64()
	reg.MustRegister(usage{h})
	h.editors.New = func() any { return new(query.Editor) }
	h.encoders()
	h.routes()
	return h
}

// Use makes s the state of every request that begins from now on.
func (h *Handler) Use(s *State) {
	h.bytes.Resize(s.Limits.InflightBytes)
	h.requests.Resize(s.Limits.InflightRequests)
	h.state.Store(s)
	for name := range s.Limits.Tenants {
		if _, known := slices.BinarySearch(s.counted, name); !known {
			h.Log.Warn("limits.tenants names a tenant that no user has", "tenant", name)
		}
	}
	h.sharing.Lock()
	defer h.sharing.Unlock()
	h.tenants.Configure(&s.Limits, s.counted, h.replicas, h.Now())
	h.learnt.Resize(len(s.tenants))
	h.learnt.Keep(s.tenants)
}

// Divide makes the limits those of one of n replicas.
func (h *Handler) Divide(n int64) {
	h.sharing.Lock()
	defer h.sharing.Unlock()
	if s := h.state.Load(); h.replicas != n && s != nil {
		h.tenants.Configure(&s.Limits, s.counted, n, h.Now())
	}
	h.replicas = n
	h.metrics.replicas.Set(float64(n))
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// fixedUser is the key of a request's context for the user that its listener makes it.
type fixedUser struct{}

// Plain answers what comes over the plain listener. With a user, all requests are that user's, without a password, and one
// that has an Authorization header is a 400: its sender expects to be somebody else, whose samples and answers must not
// become this user's; and unlike a 401 it asks nobody to send a password again, in clear.
func (h *Handler) Plain(user string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), fixedUser{}, user)))
	})
}

// routes is the allow-list: exact decoded paths and methods, and nothing else reaches the store.
func (h *Handler) routes() {
	get, post := http.MethodGet, http.MethodPost
	write := func(path string) { h.route("write", path, h.write, post) }
	write("/api/v1/prom/remote/write") // M3's path, Prometheus' and Mimir's: clients keep theirs when they move
	write("/api/v1/write")
	write("/api/v1/push")
	for _, prefix := range []string{"", "/prometheus"} {
		h.route("query", prefix+"/api/v1/query", h.query, get, post)
		h.route("query_range", prefix+"/api/v1/query_range", h.queryRange, get, post)
		h.route("series", prefix+"/api/v1/series", h.series, get, post)
		h.route("labels", prefix+"/api/v1/labels", h.labels, get, post)
		h.route("label_values", prefix+"/api/v1/label/{name}/values", h.labelValues, get)
		h.route("remote_read", prefix+"/api/v1/prom/remote/read", h.remoteRead, post)
		h.route("remote_read", prefix+"/api/v1/read", h.remoteRead, post)
		h.localRoutes(prefix)
	}
	h.mux.NotFound(func(w http.ResponseWriter, r *http.Request) {
		h.serve(w, r, "none", func(http.ResponseWriter, *http.Request, *exchange) error {
			return &refusal{status: http.StatusNotFound, kind: "not_found", text: "no such route"}
		})
	})
}

// handlerFunc does the work of a route for a known lane.
type handlerFunc func(http.ResponseWriter, *http.Request, *exchange) error

// route answers path with f for the given methods, behind authentication.
func (h *Handler) route(name, path string, f handlerFunc, methods ...string) {
	allow := ""
	for _, m := range methods {
		if allow != "" {
			allow += ", "
		}
		allow += m
	}
	h.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		h.serve(w, r, name, func(w http.ResponseWriter, r *http.Request, x *exchange) error {
			for _, m := range methods {
				if r.Method == m {
					if err := h.admit(r, x); err != nil {
						return err
					}
					return f(w, r, x)
				}
			}
			return &refusal{status: http.StatusMethodNotAllowed, kind: "bad_data", text: "this route takes " + allow, allow: allow}
		})
	})
}

// exchange is one request under way: its lane, and what the access log tells of it.
type exchange struct {
	state    *State
	lane     *lane
	now      time.Time
	loan     loan
	reach    limits.Reach         // of a write: the window that all of it is judged by
	judged   time.Time            // when it was; later than now, as a body may take its time
	out      remotewrite.Protocol // of a write: what the store is sent
	apart    *buf.Buffer          // of a write in 2.0: the exemplars that go beside it in 1.0; nil: there are none
	division *division            // of a write that is divided among the members; nil: it is not
	counted  bool                 // the store of 2.0 said what it wrote
	write    bool                 // errors are plain text, as senders log them
	user     string               // verified
	claimed  string               // as sent, where it was denied
	listener string
	client   netip.Addr // who opened the connection, as the listener knows it; invalid: it does not
	bytesIn  int
	kept     int
	dropped  int
	reading  bool     // a read that the user has the right to
	asked    []string // of a read: its expression or selectors, as sent
	confined []string // of a read: those, as the store is sent them
	values   string   // of a read of label values: the label
	upstream string
	attempts int
	refusal  *refusal // of a request that came to an error: what that means to its client, told or not
}

// admit finds out who asks, and for which tenant.
func (h *Handler) admit(r *http.Request, x *exchange) error {
	user, err := h.identify(r, x)
	if err != nil {
		return err
	}
	x.user = user
	x.lane, err = x.state.laneOf(user, r.Header["X-Tenant"])
	if err != nil {
		return err
	}
	return x.loan.begin(x.lane.counted[0]) // a request of several tenants counts as the first one's
}

// serve runs f, answers what it returns, and counts and logs the request.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, route string, f handlerFunc) {
	x := &exchange{state: h.state.Load(), now: h.Now(), loan: loan{budget: h.bytes, requests: h.requests}, write: route == "write", listener: "https"}
	if _, plain := r.Context().Value(fixedUser{}).(string); plain {
		x.listener = "plain"
	}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.client = from.Addr()
	}
	if h.hsts != "" && x.listener == "https" && !x.write {
		w.Header().Set("Strict-Transport-Security", h.hsts)
	}
	out := &answer{ResponseWriter: w}
	defer x.loan.close()
	err := f(out, r, x)
	begun := out.status != 0
	if err != nil {
		x.refusal = asRefusal(err)
		if x.lane != nil {
			h.metrics.refused(x.lane.counted[0].Name(), x.refusal)
		}
		if !begun {
			h.refuse(out, r, x, err)
		}
	}
	status := out.status
	if status == 0 {
		status = http.StatusOK
	}
	took := h.Now().Sub(x.now)
	h.metrics.answered(route, status, took.Seconds())
	if x.reading && x.lane.operator {
		h.audit(r, x, route, status, out.bytes, took)
	}
	h.record(r, x, route, status, out.bytes, took)
	if h.Access {
		h.logAccess(r, x, route, status, out.bytes, took, err)
	}
	if err != nil && (begun || status == statusClientGone) {
		// The connection is cut. Half an answer must not look whole; and where the request broke off, its sender may still
		// listen, and silence would reach it as the server's own 200.
		panic(http.ErrAbortHandler)
	}
}

// refuse answers x.refusal, which is what err means.
func (h *Handler) refuse(out *answer, r *http.Request, x *exchange, err error) {
	ref := x.refusal
	if ref.status == statusClientGone {
		out.status = statusClientGone
		return
	}
	if ref.status >= 500 {
		h.Log.Warn("request failed", "route", r.URL.Path, "user", x.user, "status", ref.status, "error", err)
	}
	head := out.Header()
	if ref.status == http.StatusUnauthorized {
		realm := `realm=` + strconv.Quote(x.state.Realm)
		head.Set("WWW-Authenticate", `Basic `+realm+`, charset="UTF-8"`)
		if x.state.Tokens != nil {
			head.Add("WWW-Authenticate", `Bearer `+realm)
		}
	}
	if ref.retry > 0 {
		head.Set("Retry-After", strconv.Itoa(ref.retry))
	}
	if ref.allow != "" {
		head.Set("Allow", ref.allow)
	}
	head.Set("X-Content-Type-Options", "nosniff")
	if x.write {
		head.Set("Content-Type", "text/plain; charset=utf-8")
		out.WriteHeader(ref.status)
		_, _ = out.Write([]byte(ref.text + "\n"))
		return
	}
	head.Set("Content-Type", "application/json")
	out.WriteHeader(ref.status)
	_ = json.NewEncoder(out).Encode(struct {
		Status    string `json:"status"`
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
	}{"error", ref.kind, ref.text})
}

// answer notes what was sent to the client.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// audit writes down a read of a user that may read every tenant.
func (h *Handler) audit(r *http.Request, x *exchange, route string, status int, bytes int64, took time.Duration) {
	const most = 4096 // of the words of one read
	asked, left := []string{}, most
	for _, s := range x.asked {
		if left <= 0 {
			break
		}
		s = oneLine(s, left)
		left -= len(s)
		asked = append(asked, s)
	}
	h.Audit.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "operator read",
		slog.String("user", x.user), slog.Any("client", x.client), slog.String("listener", x.listener), slog.Any("tenants", x.lane.named()), slog.String("route", route),
		slog.Any("asked", asked), slog.Int("status", status), slog.Int64("bytes_out", bytes), slog.Float64("seconds", took.Seconds()))
}

func (h *Handler) logAccess(r *http.Request, x *exchange, route string, status int, bytes int64, took time.Duration, err error) {
	client := ""
	if x.client.IsValid() {
		client = x.client.String()
	}
	attrs := []slog.Attr{
		slog.String("route", route), slog.String("method", r.Method), slog.Int("status", status), slog.String("listener", x.listener), slog.String("client", client),
		slog.String("user", x.user), slog.Int64("bytes_out", bytes), slog.Float64("seconds", took.Seconds()),
	}
	if x.lane != nil {
		g := &x.lane.grant
		switch {
		case g.All:
			attrs = append(attrs, slog.String("tenant", "*"))
		case len(g.Tenants) == 1:
			attrs = append(attrs, slog.String("tenant", g.Tenants[0]))
		default:
			attrs = append(attrs, slog.Any("tenants", g.Tenants))
		}
	}
	if x.claimed != "" {
		attrs = append(attrs, slog.String("claimed_user", oneLine(x.claimed, 100)))
	}
	if x.write {
		attrs = append(attrs, slog.Int("bytes_in", x.bytesIn), slog.Int("kept", x.kept), slog.Int("dropped", x.dropped))
	}
	if x.upstream != "" {
		attrs = append(attrs, slog.String("upstream", x.upstream), slog.Int("attempts", x.attempts))
	}
	if err != nil && !errors.Is(err, auth.ErrDenied) {
		attrs = append(attrs, slog.String("error", oneLine(x.refusal.text, 300)))
	}
	h.Log.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "request", attrs...)
}
