// Package gatewaytest runs a whole gateway on loopback for tests, with a certificate authority and passwords of its own.
package gatewaytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/app"
	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
	"m3gateway/internal/devstore"
)

// Setup is what differs from one test's gateway to another's.
type Setup struct {
	// Users are those of the htpasswd file; each has Password(user).
	Users []string
	// Tenancy is the body of the `tenancy:` section, as YAML lines indented by two spaces.
	Tenancy string
	// Auth are further keys of the `auth:` section, as of a YAML flow mapping.
	Auth string
	// Files are further files beside gateway.yaml, by name.
	Files map[string]string
	// Listen are further keys of the `listen:` section, as of a YAML flow mapping.
	Listen string
	// Extra are whole further sections.
	Extra string
	// Kind of the upstream, default prometheus.
	Kind string
	// Upstreams are base URLs. Empty: an embedded store.
	Upstreams []string
	// UpstreamExtra are further lines of the `upstream:` section, indented by two spaces.
	UpstreamExtra string
}

// Gateway is a running gateway.
type Gateway struct {
	URL, AdminURL string
	PlainURL      string // empty without a plain listener
	HTTPURL       string // of challenges and redirects; empty without
	Dir           string // holds gateway.yaml and htpasswd
	Client        *http.Client
	Log           *Log
	tb            testing.TB
}

// Log is what the gateway has logged so far.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Password of a test user.
func Password(user string) string { return "secret-of-" + user }

// Store opens an embedded store for the test and returns its URL.
func Store(tb testing.TB) string {
	tb.Helper()
	s, err := devstore.Open(devstore.Config{Dir: tb.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	tb.Cleanup(func() {
		srv.Close()
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return srv.URL
}

// Start runs a gateway until the test ends, and returns once it is ready.
func Start(tb testing.TB, s Setup) *Gateway {
	tb.Helper()
	if len(s.Upstreams) == 0 {
		s.Upstreams = []string{Store(tb)}
	}
	if s.Kind == "" {
		s.Kind = "prometheus"
	}
	g := &Gateway{Dir: tb.TempDir(), Log: new(Log), tb: tb}
	g.WriteUsers(s.Users...)
	for name, text := range s.Files {
		g.write(name, text)
	}
	pair, ca, err := certs.Development(filepath.Join(g.Dir, "tls"), []string{"127.0.0.1"}, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	g.WriteConfig(s, pair)
	loaded, err := app.Load(filepath.Join(g.Dir, "gateway.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	run, err := app.New(loaded, app.Options{Version: "test", Log: g.Log, WatchInterval: 20 * time.Millisecond, DiscoveryInterval: 30 * time.Millisecond})
	if err != nil {
		tb.Fatal(err)
	}
	g.URL, g.AdminURL = "https://"+run.HTTPSAddr().String(), "http://"+run.AdminAddr().String()
	if a := run.PlainAddr(); a != nil {
		g.PlainURL = "http://" + a.String()
	}
	if a := run.HTTPAddr(); a != nil {
		g.HTTPURL = "http://" + a.String()
	}
	g.Client = client(tb, ca)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		g.Client.CloseIdleConnections()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return g
}

// WriteUsers replaces the htpasswd file.
func (g *Gateway) WriteUsers(users ...string) {
	g.tb.Helper()
	var lines strings.Builder
	for _, u := range users {
		hash, err := auth.HashPassword(Password(u), 4)
		if err != nil {
			g.tb.Fatal(err)
		}
		lines.WriteString(u + ":" + hash + "\n")
	}
	g.write("htpasswd", lines.String())
}

// WriteConfig replaces gateway.yaml.
func (g *Gateway) WriteConfig(s Setup, pair certs.Pair) {
	g.tb.Helper()
	tenancy := s.Tenancy
	if tenancy == "" {
		tenancy = "  label: tenant"
	}
	if s.Auth != "" {
		s.Auth = ", " + s.Auth
	}
	var urls []string
	for _, u := range s.Upstreams {
		urls = append(urls, fmt.Sprintf("%q", u))
	}
	g.write("gateway.yaml", fmt.Sprintf(`listen: {https_address: "127.0.0.1:0", admin_address: "127.0.0.1:0", shutdown_delay: 0s, %s}
tls: {certificates: [{cert_file: %q, key_file: %q}]}
auth: {htpasswd_file: htpasswd%s}
tenancy:
%s
upstream:
  kind: %s
  urls: [%s]
%s
%s
`, s.Listen, pair.CertFile, pair.KeyFile, s.Auth, strings.TrimRight(tenancy, "\n"), s.Kind, strings.Join(urls, ", "), s.UpstreamExtra, s.Extra))
}

// write replaces a file of Dir by renaming, so that no reload sees half of it.
func (g *Gateway) write(name, text string) {
	g.tb.Helper()
	path := filepath.Join(g.Dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		g.tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		g.tb.Fatal(err)
	}
}

func client(tb testing.TB, ca string) *http.Client {
	tb.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Answer is a whole HTTP answer.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Request is a request as user, not yet sent.
func (g *Gateway) Request(user, method, path string, body []byte) *http.Request {
	g.tb.Helper()
	req, err := http.NewRequest(method, g.URL+path, bytes.NewReader(body))
	if err != nil {
		g.tb.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, Password(user))
	}
	return req
}

// Do sends req and reads the whole answer.
func (g *Gateway) Do(req *http.Request) Answer {
	g.tb.Helper()
	resp, err := g.Client.Do(req)
	if err != nil {
		g.tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.tb.Fatal(err)
	}
	return Answer{resp.StatusCode, resp.Header, string(b)}
}

// Get reads path as user.
func (g *Gateway) Get(user, path string) Answer {
	g.tb.Helper()
	return g.Do(g.Request(user, http.MethodGet, path, nil))
}

// Post sends a urlencoded form as user.
func (g *Gateway) Post(user, path, form string) Answer {
	g.tb.Helper()
	req := g.Request(user, http.MethodPost, path, []byte(form))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return g.Do(req)
}

// Write sends series as a remote write 1.0 batch as user, with further headers as name, value pairs.
func (g *Gateway) Write(user string, series []prompb.TimeSeries, headers ...string) Answer {
	g.tb.Helper()
	req := g.Request(user, http.MethodPost, "/api/v1/write", Encode(g.tb, series))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return g.Do(req)
}

// Encode is a remote write 1.0 body.
func Encode(tb testing.TB, series []prompb.TimeSeries) []byte {
	tb.Helper()
	b, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return snappy.Encode(nil, b)
}

// Series is one series of name, value label pairs with one sample.
func Series(at time.Time, value float64, labels ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: value, Timestamp: at.UnixMilli()}}}
	for i := 0; i < len(labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return ts
}

// Admin gets a path of the admin port.
func (g *Gateway) Admin(method, path string) Answer {
	g.tb.Helper()
	req, err := http.NewRequest(method, g.AdminURL+path, nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	return g.Do(req)
}

// Probed answers a health probe as a store of either kind does that is well, and reports whether it was one: for stand-ins of
// stores, which have other things to answer.
func Probed(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.URL.Path == "/-/ready":
	case r.URL.Path == "/ready":
		_, _ = io.WriteString(w, `{"readyReads":[{"id":"default"}],"readyWrites":[{"id":"default"}]}`)
	case r.URL.Query().Get("query") == "m3gateway_probe":
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	default:
		return false
	}
	return true
}

// Until polls ok. The deadline only bounds a failing test.
func Until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	tb.Fatalf("timed out waiting until %s", what)
}
