package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Every request starts at the member under test and must end as told; the other member always answers "good".
func TestFailover(t *testing.T) {
	cut := func(w http.ResponseWriter, r *http.Request) { // a header cut off in the middle
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
			_ = c.Close()
		}
	}
	hugeHeader := func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 100<<10)) }
	for _, c := range []struct {
		name     string
		first    http.HandlerFunc // nil: refuses connections
		status   int
		body     string
		attempts int
	}{
		{"refused", nil, 200, "good", 2},
		{"reset before the answer", hangUp, 200, "good", 2},
		{"cut in the header", cut, 200, "good", 2},
		{"header too large", hugeHeader, 200, "good", 2},
		{"500", status(500), 200, "good", 2},
		{"502", status(502), 200, "good", 2},
		{"503", status(503), 200, "good", 2},
		{"504", status(504), 200, "good", 2},
		{"501", status(501), 501, "status 501", 1},
		{"400", status(400), 400, "status 400", 1},
		{"404", status(404), 404, "status 404", 1},
		{"429", status(429), 429, "status 429", 1},
		{"204", status(204), 204, "", 1},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
		}, 301, "", 1},
	} {
		for _, write := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/write=%v", c.name, write), func(t *testing.T) {
				good := server(t, func(w http.ResponseWriter, r *http.Request) {
					if b, err := io.ReadAll(r.Body); err != nil || string(b) != "samples" || r.URL.Path != "/w" {
						t.Errorf("%s %q %v", r.URL.Path, b, err)
					}
					_, _ = io.WriteString(w, "good")
				})
				url := ""
				if c.first != nil {
					url = server(t, c.first).URL
				} else {
					url = refusing(t)
				}
				p := start(t, nil, url, good.URL)
				allHealthy(p)
				r := post("samples", keyOf(t, p, url))
				r.Write = write
				a, err := p.Do(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				body := read(t, a)
				if c.status == 301 {
					body = ""
				}
				if a.StatusCode != c.status || body != c.body || a.Attempts != c.attempts {
					t.Errorf("%d %q, %d attempts", a.StatusCode, body, a.Attempts)
				}
				if want := (map[int]string{1: url, 2: good.URL})[c.attempts]; a.Member != want {
					t.Errorf("member %s, not %s", a.Member, want)
				}
				for _, m := range p.Members() {
					if m.InFlight != 0 {
						t.Errorf("%+v", m)
					}
				}
			})
		}
	}
}

func TestAllFail(t *testing.T) {
	t.Run("the last 5xx is the answer", func(t *testing.T) {
		p := start(t, nil, server(t, status(503)).URL, server(t, status(503)).URL)
		a, err := p.Do(t.Context(), post("x", "k"))
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, a); a.StatusCode != 503 || body != "status 503" || a.Attempts != 2 {
			t.Errorf("%d %q %d", a.StatusCode, body, a.Attempts)
		}
	})
	t.Run("max attempts", func(t *testing.T) {
		var n atomic.Int32
		h := func(w http.ResponseWriter, r *http.Request) { n.Add(1); w.WriteHeader(500) }
		p := start(t, func(c *Config) { c.MaxAttempts = 2 }, server(t, h).URL, server(t, h).URL, server(t, h).URL)
		a, err := p.Do(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		read(t, a)
		if n.Load() != 2 {
			t.Errorf("%d attempts", n.Load())
		}
	})
	for _, c := range []struct {
		kind Kind
		url  func() string
	}{
		{Connect, func() string { return refusing(t) }},
		{Reset, func() string { return server(t, hangUp).URL }},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			p := start(t, nil, c.url(), c.url())
			_, err := p.Do(t.Context(), post("x", "k"))
			var e *Error
			if !errors.As(err, &e) || e.Kind != c.kind || e.Member == "" || e.Err == nil {
				t.Errorf("%v", err)
			}
			if n := testutil.ToFloat64(p.metrics.requests.WithLabelValues("write", string(c.kind))); n != 1 {
				t.Errorf("counted %v", n)
			}
			if n := testutil.ToFloat64(p.metrics.failovers.WithLabelValues("write")); n != 1 {
				t.Errorf("counted %v failovers", n)
			}
		})
	}
	t.Run("no member", func(t *testing.T) {
		p := start(t, nil)
		if _, err := p.Do(t.Context(), post("x", "k")); kindOf(err) != NoMember {
			t.Error(err)
		}
	})
	t.Run("invalid", func(t *testing.T) {
		p := start(t, nil, server(t, says("")).URL, server(t, says("")).URL)
		r := post("x", "")
		r.Header = http.Header{"X": {"a\r\nb"}}
		if _, err := p.Do(t.Context(), r); kindOf(err) != Invalid {
			t.Error(err)
		}
		if !p.Members()[0].Healthy || !p.Members()[1].Healthy {
			t.Error("a request that cannot be sent took a member out")
		}
	})
}

func TestHungServerTimesOut(t *testing.T) {
	for _, write := range []bool{true, false} {
		release := make(chan struct{})
		hang := func(w http.ResponseWriter, r *http.Request) { <-release }
		a, b := server(t, hang), server(t, hang)
		t.Cleanup(func() { close(release) }) // runs before the servers' Close
		p := start(t, func(c *Config) { c.WriteTimeout, c.ReadTimeout = 50*time.Millisecond, 50*time.Millisecond }, a.URL, b.URL)
		r := post("x", "k")
		r.Write = write
		if _, err := p.Do(t.Context(), r); kindOf(err) != Timeout {
			t.Errorf("write=%v: %v", write, err)
		}
		if got := testutil.ToFloat64(p.metrics.failovers.WithLabelValues(r.op().String())); got != 0 {
			t.Errorf("write=%v: tried another member after a time-out", write)
		}
	}
}

func TestConnectTimeout(t *testing.T) {
	// A TLS handshake that nobody answers is a connection that does not come about.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := start(t, func(c *Config) { c.ConnectTimeout, c.HealthTimeout = 50*time.Millisecond, 50*time.Millisecond }, "https://"+l.Addr().String())
	if _, err := p.Do(t.Context(), get()); kindOf(err) != Connect {
		t.Error(err)
	}
}

// gone is a context that ends by err when done is closed: a deadline that passes when the test says.
type gone struct {
	context.Context
	done chan struct{}
	err  error
}

func (g *gone) Done() <-chan struct{} { return g.done }

func (g *gone) Err() error {
	select {
	case <-g.done:
		return g.err
	default:
		return nil
	}
}

func TestCallerGoesAway(t *testing.T) {
	var calls atomic.Int32
	arrived, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	h := func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}
	p := start(t, nil, server(t, h).URL, server(t, h).URL)
	for _, c := range []struct {
		kind Kind
		err  error
	}{{Canceled, context.Canceled}, {Timeout, context.DeadlineExceeded}} {
		calls.Store(0)
		ctx := &gone{t.Context(), make(chan struct{}), c.err}
		go func() {
			<-arrived
			close(ctx.done)
		}()
		_, err := p.Do(ctx, post("x", "k"))
		if kindOf(err) != c.kind || !errors.Is(err, c.err) {
			t.Errorf("%v", err)
		}
		<-ended // the upstream saw it end
		if calls.Load() != 1 {
			t.Errorf("%s: %d attempts", c.kind, calls.Load())
		}
	}
	for _, m := range p.Members() {
		if !m.Healthy {
			t.Errorf("%+v", m)
		}
	}
}

func TestWhatTravels(t *testing.T) {
	type seen struct {
		host, uri, method string
		header            http.Header
		length            int64
	}
	requests := make(chan seen, 1)
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- seen{r.Host, r.RequestURI, r.Method, r.Header, r.ContentLength}
	})
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	p := start(t, func(c *Config) { c.BasicAuth = BasicAuth{"gw", "pw"} }, s.URL)
	r := post("samples", "k")
	r.Path, r.RawQuery = "/label/a%2Fb/values", "match[]=x"
	r.Header = http.Header{"Content-Type": {"application/x-protobuf"}, "Authorization": {"Basic client"}, "User-Agent": {"client"}}
	a, err := p.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	read(t, a)
	got := <-requests
	want := http.Header{"Content-Type": {"application/x-protobuf"}, "Authorization": {"Basic Z3c6cHc="}, "User-Agent": {"m3gateway"}, "Content-Length": {"7"}}
	if fmt.Sprint(got.header) != fmt.Sprint(want) || got.length != 7 || got.method != "POST" ||
		got.uri != "/label/a%2Fb/values?match[]=x" || "http://"+got.host != s.URL {
		t.Errorf("%+v", got)
	}
	if r.Header.Get("Authorization") != "Basic client" {
		t.Error("the caller's header was changed")
	}

	p = start(t, nil, s.URL)
	r = get()
	r.Header = http.Header{"Authorization": {"Basic client"}}
	a, err = p.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	read(t, a)
	if got := <-requests; len(got.header) != 1 {
		t.Errorf("%v", got.header)
	}
}
