package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// patience bounds what a test waits for that should come at once; it is not a measurement.
const patience = 20 * time.Second

// testServer is a Server with all four listeners on loopback.
type testServer struct {
	*Server
	t      *testing.T
	client *tls.Config
	stop   context.CancelFunc
	result chan error // what Run returned
}

func testConfig() Config {
	c := Defaults()
	c.HTTPSAddress, c.HTTPAddress, c.AdminAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Plain.Address = "127.0.0.1:0"
	c.ShutdownDelay = 0
	return c
}

// start serves h on all four addresses until the test ends or stop is called.
func start(t *testing.T, cfg Config, h http.Handler, draining func()) *testServer {
	t.Helper()
	source := httptest.NewTLSServer(nil) // for its certificate and the roots that verify it
	source.Close()
	client := source.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	s := &testServer{
		Server: New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()),
		t:      t, client: client, result: make(chan error, 1),
	}
	err := errors.Join(s.HTTPS(&tls.Config{Certificates: source.TLS.Certificates}, h), s.HTTP(h), s.Plain(h), s.Admin(h))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	done := make(chan struct{})
	go func() {
		s.result <- s.Run(ctx, draining)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

// transport returns a client of the HTTPS listener that speaks only h2 or only HTTP/1.1.
func (s *testServer) transport(h2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP2(h2)
	p.SetHTTP1(!h2)
	tr := &http.Transport{TLSClientConfig: s.client.Clone(), Protocols: &p}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func (s *testServer) url() string { return "https://" + s.HTTPSAddr().String() + "/" }

// dial opens a raw TLS connection for HTTP/1.1.
func (s *testServer) dial() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.HTTPSAddr().String(), s.client)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c, bufio.NewReader(c)
}

// status sends a request on a raw connection and returns the answer's status.
func status(t *testing.T, c io.Writer, r *bufio.Reader, request string) int {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// await polls until ok or patience ends.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// receive takes a value from ch before patience ends.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func TestProtocols(t *testing.T) {
	s := start(t, testConfig(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }), func() {})
	for h2, want := range map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"} {
		resp, err := s.transport(h2).Get(s.url())
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != want {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	for _, addr := range []net.Addr{s.HTTPAddr(), s.PlainAddr(), s.AdminAddr()} {
		resp, err := http.Get("http://" + addr.String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

func TestDrain(t *testing.T) {
	for name, client := range map[string]func(*testServer) (*http.Client, string){
		"h2":       func(s *testServer) (*http.Client, string) { return s.transport(true), s.url() },
		"http/1.1": func(s *testServer) (*http.Client, string) { return s.transport(false), s.url() },
		"plain": func(s *testServer) (*http.Client, string) {
			return s.transport(false), "http://" + s.PlainAddr().String() + "/"
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.DrainTimeout = patience
			cfg.ShutdownDelay = 50 * time.Millisecond
			entered, release := make(chan struct{}), make(chan struct{})
			draining := make(chan struct{})
			s := start(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/block" {
					close(entered)
					<-release
				}
			}), func() { close(draining) })
			answer := make(chan error, 1)
			sender, url := client(s)
			go func() {
				resp, err := sender.Get(url + "block")
				if err == nil {
					resp.Body.Close()
				}
				answer <- err
			}()
			receive(t, "the request", entered)
			s.stop()
			receive(t, "draining", draining)
			await(t, "new connections to be refused", func() bool {
				c, err := net.Dial("tcp", strings.TrimSuffix(url[strings.LastIndex(url, "//")+2:], "/"))
				if err == nil {
					c.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			resp, err := http.Get("http://" + s.AdminAddr().String())
			if err != nil {
				t.Errorf("admin must answer while clients are drained: %v", err)
			} else {
				resp.Body.Close()
			}
			select {
			case err := <-s.result:
				t.Fatalf("Run returned %v with a request under way", err)
			default:
			}
			close(release)
			if err := receive(t, "the answer", answer); err != nil {
				t.Errorf("the request under way: %v", err)
			}
			if err := receive(t, "Run", s.result); err != nil {
				t.Errorf("Run: %v", err)
			}
			if _, err := net.Dial("tcp", s.AdminAddr().String()); err == nil {
				t.Error("admin still listens")
			}
		})
	}
}

func TestServesDuringShutdownDelay(t *testing.T) {
	cfg := testConfig()
	cfg.ShutdownDelay = patience
	draining := make(chan struct{})
	s := start(t, cfg, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func() { close(draining) })
	s.stop()
	receive(t, "draining", draining)
	resp, err := s.transport(true).Get(s.url())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.admin.limit.Close() // a failure ends the delay, so that the test need not sit it out
	if err := receive(t, "Run", s.result); err == nil || !strings.Contains(err.Error(), "listen.admin_address") {
		t.Errorf("Run: %v", err)
	}
}

func TestDrainCutsAfterTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.DrainTimeout = 50 * time.Millisecond
	entered := make(chan struct{})
	s := start(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), func() {})
	go func() {
		if resp, err := s.transport(false).Get(s.url()); err == nil {
			resp.Body.Close()
		}
	}()
	receive(t, "the request", entered)
	s.stop()
	if err := receive(t, "Run", s.result); err == nil || !strings.Contains(err.Error(), "cutting 1 connections") || !strings.Contains(err.Error(), "drain_timeout") {
		t.Errorf("Run: %v", err)
	}
}

func TestListenerFailureEndsRun(t *testing.T) {
	s := start(t, testConfig(), http.NotFoundHandler(), func() { t.Error("a failure is no drain") })
	s.http.limit.Close()
	if err := receive(t, "Run", s.result); err == nil || !strings.Contains(err.Error(), "listen.http_address") {
		t.Errorf("Run: %v", err)
	}
	for _, a := range []net.Addr{s.HTTPSAddr(), s.PlainAddr(), s.AdminAddr()} {
		if _, err := net.Dial("tcp", a.String()); err == nil {
			t.Errorf("%v still listens", a)
		}
	}
}

func TestBindErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "another process listens there",
		"192.0.2.1:0":         "use an address of this machine", // RFC 5737: nobody's
		"":                    "is empty",
	} {
		cfg := testConfig()
		cfg.HTTPAddress = address
		s := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err := s.HTTP(http.NotFoundHandler()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "listen.http_address") {
			t.Errorf("%q: got %v, want %q", address, err, want)
		}
		if s.HTTPAddr() != nil {
			t.Errorf("%q: an address without a socket", address)
		}
	}
	err = bindProblem(&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)})
	if want := "permission denied; use a port above 1023 or grant CAP_NET_BIND_SERVICE"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	s := New(testConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := s.HTTPS(nil, http.NotFoundHandler()); err == nil || s.HTTPSAddr() != nil {
		t.Error("HTTPS without TLS settings was bound")
	}
}

// TestRedirectPort: the port of the HTTPS listener is used when the config names no public one.
func TestRedirectPort(t *testing.T) {
	s := start(t, testConfig(), http.NotFoundHandler(), func() {})
	w := httptest.NewRecorder()
	s.Redirect().ServeHTTP(w, httptest.NewRequest("GET", "http://gw.example/", nil))
	_, port, _ := net.SplitHostPort(s.HTTPSAddr().String())
	if got, want := w.Header().Get("Location"), "https://gw.example:"+port+"/"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
