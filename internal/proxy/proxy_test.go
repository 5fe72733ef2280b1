package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"m3gateway/internal/buf"
	"m3gateway/internal/faultnet"
)

const probePath = "/probe"

func is200(status int, _ []byte) error {
	if status != http.StatusOK {
		return fmt.Errorf("status %d", status)
	}
	return nil
}

var readyIf200 = Probe{Path: probePath, Judge: func(status int, body []byte) (writes, reads error) {
	return is200(status, body), is200(status, body)
}}

// server answers probes with 200 and everything else with h.
func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == probePath {
			return
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, "status %d", code)
	}
}

// hangUp cuts the connection before any answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// refusing is the URL of a port on which nobody listens, and nobody will.
func refusing(t *testing.T) string {
	t.Helper()
	return "http://" + faultnet.Address(t)
}

// start makes and starts a Pool whose probes come only at the start or when nudged, unless change says otherwise.
func start(t *testing.T, change func(*Config), urls ...string) *Pool {
	t.Helper()
	cfg := Defaults()
	cfg.URLs = urls
	cfg.HealthInterval = time.Hour
	cfg.MaxAttempts = 3
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, readyIf200, time.Now, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t.Context())
	t.Cleanup(p.Close)
	return p
}

// keyOf finds a key whose requests go to the member with this URL.
func keyOf(t *testing.T, p *Pool, url string) string {
	t.Helper()
	for i := range 10000 {
		key := fmt.Sprint("tenant", i)
		if p.pick(&Request{Key: key, Write: true}, nil, time.Now()).url == url {
			return key
		}
	}
	t.Fatalf("no key for %s", url)
	return ""
}

// allHealthy makes the pool take every member for healthy, as right after a good probe.
func allHealthy(p *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.list {
		m.silent.Store(false)
		for o := range ops {
			m.sides[o].fault, m.sides[o].ejected = "", time.Time{}
		}
	}
	p.settleLocked(time.Now())
}

func post(body, key string) *Request {
	var pool buf.Pool
	b := pool.Get(len(body))
	b.B = append(b.B, body...)
	return &Request{Method: "POST", Path: "/w", Body: NewPayload(b), Key: key, Write: true}
}

func get() *Request { return &Request{Method: "GET", Path: "/r"} }

// read closes the answer and gives its body.
func read(t *testing.T, a *Answer) string {
	t.Helper()
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Kind(fmt.Sprint(err))
}

// eventually polls cond; the deadline only bounds a failing test.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// memberNames lists the hosts of the members' URLs, shortened to their last digit.
func memberNames(p *Pool) string {
	var b strings.Builder
	for _, m := range p.Members() {
		host, _, _ := net.SplitHostPort(strings.TrimPrefix(m.URL, "http://"))
		b.WriteString(host[len(host)-1:])
	}
	return b.String()
}
