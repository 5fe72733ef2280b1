package listen

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSlowHeader(t *testing.T) {
	cfg := testConfig()
	cfg.HeaderTimeout = 100 * time.Millisecond
	s := start(t, cfg, http.NotFoundHandler(), func() {})
	c, r := s.dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: gw")
	if _, err := r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a slow header: got %v, want the connection closed", err)
	}
	silent, err := net.Dial("tcp", s.HTTPSAddr().String()) // sends no ClientHello
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection without a handshake stays open")
	}
}

func TestLargeHeader(t *testing.T) {
	cfg := testConfig()
	cfg.MaxHeaderBytes = 4 << 10
	s := start(t, cfg, http.NotFoundHandler(), func() {})
	c, r := s.dial()
	if got := status(t, c, r, "GET / HTTP/1.1\r\nHost: gw\r\nX: "+strings.Repeat("x", 16<<10)+"\r\n\r\n"); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", got)
	}
}

// pipe is a request body that stalls until it is closed.
func pipe(t *testing.T, start string) io.ReadCloser {
	r, w := io.Pipe()
	go io.WriteString(w, start)
	t.Cleanup(func() { w.Close() })
	return r
}

func TestSlowBody(t *testing.T) {
	cfg := testConfig()
	cfg.BodyTimeout = 100 * time.Millisecond
	got := make(chan error, 1)
	s := start(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
		w.WriteHeader(http.StatusRequestTimeout)
	}), func() {})
	for _, h2 := range []bool{true, false} {
		resp, err := s.transport(h2).Post(s.url(), "", pipe(t, "half"))
		if err != nil {
			t.Errorf("h2 %v: %v", h2, err)
		} else if resp.Body.Close(); resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("h2 %v: %d", h2, resp.StatusCode)
		}
		if err := receive(t, "the handler", got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("h2 %v: the body's reader got %v", h2, err)
		}
	}
}

// TestSlowBodyUnread: a handler that does not read the body is not a way around the deadline.
func TestSlowBodyUnread(t *testing.T) {
	cfg := testConfig()
	cfg.BodyTimeout = 100 * time.Millisecond
	s := start(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }), func() {})
	c, r := s.dial()
	if got := status(t, c, r, "POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 10\r\n\r\nhalf"); got != http.StatusForbidden {
		t.Errorf("got %d", got)
	}
	if _, err := r.ReadByte(); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
}

// TestDeadlineIsLifted: neither a long answer nor an idle connection is cut by the deadline of a body that was read in time.
// The waits are multiples of the time-out that must not strike: a slow machine cannot make the test fail.
func TestDeadlineIsLifted(t *testing.T) {
	cfg := testConfig()
	cfg.BodyTimeout = 200 * time.Millisecond
	wait := 2 * cfg.BodyTimeout
	for name, read := range map[string]func(io.ReadCloser){
		"read to its end": func(b io.ReadCloser) { io.Copy(io.Discard, b) },
		"closed unread":   func(b io.ReadCloser) { b.Close() },
		"read in part":    func(b io.ReadCloser) { io.ReadFull(b, make([]byte, 3)); b.Close() },
		"left alone":      func(io.ReadCloser) {},
	} {
		s := start(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			read(r.Body)
			if r.URL.Path == "/long" {
				select {
				case <-r.Context().Done():
					t.Errorf("%s, %s: the request was cancelled while it was answered", name, r.Proto)
				case <-time.After(wait):
				}
			}
		}), func() {})
		for _, length := range []string{"Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"} {
			t.Run("HTTP1 "+name, func(t *testing.T) {
				t.Parallel()
				c, r := s.dial()
				for _, path := range []string{"/long", "/"} {
					if got := status(t, c, r, "POST "+path+" HTTP/1.1\r\nHost: gw\r\n"+length); got != http.StatusOK {
						t.Errorf("%s: %d", path, got)
					}
				}
				time.Sleep(wait) // idle for longer than the body's time-out
				if got := status(t, c, r, "POST / HTTP/1.1\r\nHost: gw\r\n"+length); got != http.StatusOK {
					t.Errorf("after idling: %d", got)
				}
			})
		}
		t.Run("HTTP2 "+name, func(t *testing.T) {
			t.Parallel()
			client := s.transport(true)
			for _, path := range []string{"long", ""} {
				resp, err := client.Post(s.url()+path, "", strings.NewReader("body"))
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				resp.Body.Close()
			}
		})
	}
}

func TestConnectionCap(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConnections = 2
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	s := start(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/block" {
			entered <- struct{}{}
			<-release
		}
	}), func() {})
	m := s.metrics.listener("https")
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: gw\r\n\r\n" }

	// Two idle connections fill it; a third takes the place of the one that has been idle the longest.
	oldest, oldestR := s.dial()
	status(t, oldest, oldestR, get("/"))
	second, secondR := s.dial()
	status(t, second, secondR, get("/"))
	await(t, "two idle connections", func() bool {
		s.https.limit.mu.Lock()
		defer s.https.limit.mu.Unlock()
		return s.https.limit.idle.Len() == 2
	})
	third, thirdR := s.dial()
	if got := status(t, third, thirdR, get("/")); got != http.StatusOK {
		t.Errorf("third: %d", got)
	}
	if _, err := oldestR.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest idle connection: got %v, want it closed", err)
	}
	if got := testutil.ToFloat64(m.displaced); got != 1 {
		t.Errorf("displaced %v", got)
	}

	// Busy ones are not displaced: a fourth waits until one of them is done.
	for _, c := range []net.Conn{second, third} {
		io.WriteString(c, get("/block"))
		receive(t, "a busy connection", entered)
	}
	if got := testutil.ToFloat64(m.open); got != 2 {
		t.Errorf("open %v", got)
	}
	fourth := make(chan error, 1)
	go func() {
		resp, err := s.transport(false).Get(s.url())
		if err == nil {
			resp.Body.Close()
		}
		fourth <- err
	}()
	await(t, "the fourth to queue", func() bool { return testutil.ToFloat64(m.waited) == 1 })
	select {
	case err := <-fourth:
		t.Errorf("the fourth was answered (%v) while two were busy", err)
	default:
	}
	close(release)
	for _, r := range []*bufio.Reader{secondR, thirdR} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("a busy connection was cut: %v", err)
		}
		resp.Body.Close()
	}
	if err := receive(t, "the fourth", fourth); err != nil {
		t.Error(err)
	}
	await(t, "the count to fall to the cap", func() bool { return testutil.ToFloat64(m.open) <= 2 })
}

// TestHTTP2Idle: an HTTP/2 connection without streams counts as idle.
func TestHTTP2Idle(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConnections = 1
	s := start(t, cfg, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func() {})
	for range 3 {
		resp, err := s.transport(true).Get(s.url())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if got := testutil.ToFloat64(s.metrics.listener("https").displaced); got != 2 {
		t.Errorf("displaced %v", got)
	}
}

// TestCapHolds opens many connections at once and checks the gauge from within.
func TestCapHolds(t *testing.T) {
	cfg := testConfig()
	cfg.MaxConnections = 4
	var s *testServer
	ready := make(chan struct{})
	s = start(t, cfg, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-ready
		if n := s.https.limit.openNow(); n > cfg.MaxConnections {
			t.Errorf("%d connections are open", n)
		}
	}), func() {})
	close(ready)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			client := s.transport(false)
			// An idle connection may be displaced at the very moment it is used again, so each request has its own.
			client.Transport.(*http.Transport).DisableKeepAlives = true
			for range 5 {
				resp, err := client.Get(s.url())
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	await(t, "all to close", func() bool { return testutil.ToFloat64(s.metrics.listener("https").open) == 0 })
}
