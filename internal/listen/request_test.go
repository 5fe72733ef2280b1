package listen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestPace(t *testing.T) {
	p := pace{grace: 10 * time.Second, rate: 1000, whole: 30 * time.Second}
	for got, want := range map[int64]time.Duration{
		0: 10 * time.Second, 1: 10001 * time.Millisecond, 999: 10999 * time.Millisecond, 1000: 11 * time.Second, 1500: 11500 * time.Millisecond,
		19999: 29999 * time.Millisecond, 20000: 30 * time.Second, 20001: 30 * time.Second, 1 << 62: 30 * time.Second,
	} {
		if d := p.deadline(got); d != want {
			t.Errorf("%d bytes: %v, want %v", got, d, want)
		}
	}
	for _, p := range []pace{{grace: time.Minute, rate: 1, whole: time.Second}, {grace: time.Second, rate: 1 << 30, whole: time.Second}} {
		if d := p.deadline(1 << 40); d != p.whole {
			t.Errorf("%+v: %v", p, d)
		}
	}
	fast := pace{grace: time.Second, rate: 1 << 30, whole: 24 * 365 * time.Hour}
	if d := fast.deadline(1<<45 + 1<<29); d != time.Second+1<<15*time.Second+500*time.Millisecond {
		t.Errorf("%v", d)
	}
}

// reads answers as the corridor does: a body that is late is a 503, and the sender shall come back.
func reads(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	}
	fmt.Fprint(w, n)
}

// piece is something of a body that comes after a time.
type piece struct {
	after time.Duration
	bytes int
}

// sender is a body of pieces; it ends with the last one, or never.
func sender(t *testing.T, whole bool, pieces ...piece) io.ReadCloser {
	r, w := io.Pipe()
	end := make(chan struct{})
	t.Cleanup(func() { close(end); r.Close() })
	go func() {
		for _, p := range pieces {
			select {
			case <-time.After(p.after):
			case <-end:
				return
			}
			if _, err := w.Write(make([]byte, p.bytes)); err != nil {
				return
			}
		}
		if whole {
			w.Close()
		}
	}()
	return r
}

// every is n pieces of the size, one each time.
func every(after time.Duration, size, n int) []piece {
	all := make([]piece, n)
	for i := range all {
		all[i] = piece{after, size}
	}
	return all
}

// TestBodyPace: a body that stalls or trickles is answered, at the moment when it falls behind and with a status that keeps the
// sender's data; one that keeps up is read.
func TestBodyPace(t *testing.T) {
	for name, tc := range map[string]struct {
		body   []piece
		whole  bool
		status int
		at     time.Duration
	}{
		"nothing comes":            {nil, false, 503, 10 * time.Second},
		"it stops":                 {[]piece{{0, 500}}, false, 503, 10500 * time.Millisecond},
		"it trickles":              {every(900*time.Millisecond, 100, 100), false, 503, 11200 * time.Millisecond},
		"just under the rate":      {every(time.Second, 950, 1000), false, 503, 30 * time.Second},
		"at the rate, for ever":    {every(time.Second, 1000, 100), false, 503, 30 * time.Second},
		"at the rate, to its end":  {every(time.Second, 1000, 29), true, 200, 29 * time.Second},
		"a rest within the grace":  {[]piece{{9 * time.Second, 10}, {time.Second, 10}}, true, 200, 10 * time.Second},
		"a rest that it has saved": {[]piece{{0, 15000}, {24 * time.Second, 10}}, true, 200, 24 * time.Second},
		"a longer one":             {[]piece{{0, 15000}, {26 * time.Second, 10}}, true, 503, 25 * time.Second},
		"fast":                     {every(time.Millisecond, 16000, 100), true, 200, 100 * time.Millisecond},
	} {
		for _, h2 := range []bool{false, true} {
			for _, announced := range []bool{false, true} {
				if h2 && announced {
					continue
				}
				t.Run(fmt.Sprintf("%s, h2 %v, announced %v", name, h2, announced), func(t *testing.T) {
					cfg := Defaults()
					cfg.BodyMinRate = 1000
					inBubble(t, cfg, http.HandlerFunc(reads), func(t *testing.T, s *pipeServer) {
						client := s.client(h2)
						began := time.Now()
						req, err := http.NewRequest("POST", "https://example.com/", sender(t, tc.whole, tc.body...))
						if err != nil {
							t.Fatal(err)
						}
						sum := 0
						for _, p := range tc.body {
							sum += p.bytes
						}
						if announced {
							req.ContentLength = int64(sum)
							if !tc.whole {
								req.ContentLength++
							}
						}
						resp, err := client.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						body, _ := io.ReadAll(resp.Body)
						resp.Body.Close()
						if took := time.Since(began); resp.StatusCode != tc.status || took != tc.at {
							t.Errorf("%d after %v, want %d after %v", resp.StatusCode, took, tc.status, tc.at)
						}
						if tc.status == 200 && string(body) != strconv.Itoa(sum) {
							t.Errorf("read %s bytes of %d", body, sum)
						}
						if slow := testutil.ToFloat64(s.metrics.slow); (slow == 1) != (tc.status == 503) {
							t.Errorf("%v slow bodies counted", slow)
						}
						if tc.status == 503 && resp.Header.Get("Retry-After") == "" {
							t.Error("the sender is not told to come back")
						}
					})
				})
			}
		}
	}
}

// TestWaitingIsNotTheSendersFault: the clock runs while the body is read, not while its password is hashed.
func TestWaitingIsNotTheSendersFault(t *testing.T) {
	cfg := Defaults()
	inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(cfg.BodyTimeout - time.Second)
		reads(w, r)
	}), func(t *testing.T, s *pipeServer) {
		for _, h2 := range []bool{false, true} {
			resp, err := s.client(h2).Post("https://example.com/", "", sender(t, true, piece{0, 10}, piece{cfg.BodyTimeout, 10}))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("h2 %v: %d", h2, resp.StatusCode)
			}
		}
	})
}

// TestRefusedBody: the rest of a body that a handler has no use for does not hold up its answer.
func TestRefusedBody(t *testing.T) {
	inBubble(t, Defaults(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), func(t *testing.T, s *pipeServer) {
		for _, h2 := range []bool{false, true} {
			began := time.Now()
			resp, err := s.client(h2).Post("https://example.com/", "", sender(t, false, piece{0, 10}))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if took := time.Since(began); resp.StatusCode != 401 || took > leftover {
				t.Errorf("h2 %v: %d after %v", h2, resp.StatusCode, took)
			}
		}
		// What is there already is read, and the connection used again.
		client := s.client(false)
		dials := s.dials.Load()
		for range 3 {
			resp, err := client.Post("https://example.com/", "", bytes.NewReader(make([]byte, 100<<10)))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if got := s.dials.Load() - dials; got != 1 {
			t.Errorf("%d connections", got)
		}
	})
}

// TestAnswerNotTaken: neither a connection nor a stream whose client does not read its answer stays for ever.
func TestAnswerNotTaken(t *testing.T) {
	cfg := Defaults()
	var failed chan time.Time
	inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			fmt.Fprint(w, "short")
			return
		}
		for {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				failed <- time.Now()
				return
			}
		}
	}), func(t *testing.T, s *pipeServer) {
		failed = make(chan time.Time, 2)
		within := func(what string, began time.Time) {
			t.Helper()
			// crypto/tls tries for 5 s more to say that it closes.
			if took := (<-failed).Sub(began); took < cfg.AnswerTimeout*7/8 || took > cfg.AnswerTimeout+5*time.Second {
				t.Errorf("%s: ended after %v", what, took)
			}
		}
		began := time.Now()
		c, _ := s.raw("http/1.1")
		io.WriteString(c, "GET /long HTTP/1.1\r\nHost: gw\r\n\r\n")
		within("HTTP/1.1", began)

		// A reader that takes a little all the time is served on.
		began = time.Now()
		c, r := s.raw("http/1.1")
		io.WriteString(c, "GET /long HTTP/1.1\r\nHost: gw\r\n\r\n")
		for time.Since(began) < 3*cfg.AnswerTimeout {
			if _, err := io.ReadFull(r, make([]byte, 16<<10)); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			time.Sleep(cfg.AnswerTimeout / 4)
		}
		c.Close()
		<-failed

		began = time.Now()
		stalled(t, s, 0, "/long")
		within("HTTP/2, no window", began)
		began = time.Now()
		stalled(t, s, 100, "/long")
		within("HTTP/2, a small window", began)

		began = time.Now()
		reset := stalled(t, s, 0, "/short")
		if took := (<-reset).Sub(began); took > cfg.AnswerTimeout {
			t.Errorf("HTTP/2, the end of an answer without window: reset after %v", took)
		}
	})
}

// stalled sends an HTTP/2 request for path on a connection whose streams have a window of so many bytes, and reads on without
// ever widening it. The channel gets the time of the stream's reset.
func stalled(t *testing.T, s *pipeServer, window uint32, path string) <-chan time.Time {
	t.Helper()
	f := s.frames(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	f.request(1, path)
	reset := make(chan time.Time, 1)
	go func() {
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := frame.(*http2.RSTStreamFrame); ok {
				reset <- time.Now()
			}
		}
	}()
	return reset
}

// frames is a raw HTTP/2 connection.
type frames struct {
	*http2.Framer
	t *testing.T
}

func (s *pipeServer) frames(settings ...http2.Setting) *frames {
	s.t.Helper()
	c, r := s.raw("h2")
	f := &frames{Framer: http2.NewFramer(c, r), t: s.t}
	// The other end answers while it is spoken to; a pipe holds nothing.
	done := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, http2.ClientPreface)
		done <- errors.Join(err, f.WriteSettings(settings...))
	}()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			s.t.Fatal(err)
		}
		if frame, ok := frame.(*http2.SettingsFrame); ok && frame.IsAck() {
			break
		}
	}
	if err := errors.Join(<-done, f.WriteSettingsAck()); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (f *frames) request(stream uint32, path string) {
	f.t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range []string{":method GET", ":scheme https", ":authority gw", ":path " + path} {
		name, value, _ := strings.Cut(h, " ")
		e.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		f.t.Fatal(err)
	}
}

// TestConnectionAge: connections that are used all the time are led elsewhere when they are old, each at its own age, and no
// request fails.
func TestConnectionAge(t *testing.T) {
	cfg := Defaults()
	cfg.MaxConnectionAge = 10 * time.Minute
	const hours = 6
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second) }), func(t *testing.T, s *pipeServer) {
				client := s.client(h2)
				for end := time.Now().Add(hours * time.Hour); time.Now().Before(end); {
					resp, err := client.Post("https://example.com/", "", strings.NewReader("body"))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					time.Sleep(4 * time.Second)
				}
				// 8.75 minutes each, on average.
				if n := s.dials.Load(); n < hours*60/10 || n > hours*60*10/75+1 {
					t.Errorf("%d connections", n)
				}
				if aged, n := testutil.ToFloat64(s.metrics.aged), s.dials.Load(); int64(aged) != n-1 && int64(aged) != n {
					t.Errorf("%v of %d connections counted as aged", aged, n)
				}
			})
		})
	}
}

// TestAgeUnderLoad: streams that are under way when their connection has served enough are answered, and those that come at
// that moment go elsewhere.
func TestAgeUnderLoad(t *testing.T) {
	cfg := Defaults()
	cfg.MaxConnectionAge = time.Minute
	inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		time.Sleep(time.Duration(len(body)) * 10 * time.Millisecond)
		w.Write(body)
	}), func(t *testing.T, s *pipeServer) {
		client := s.client(true)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for n := range 300 {
					want := strings.Repeat("x", 1+(i*7+n*13)%200)
					resp, err := client.Post("https://example.com/", "", strings.NewReader(want))
					if err != nil {
						t.Error(err)
						return
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(body) != want {
						t.Errorf("%d bytes of %d, %v", len(body), len(want), err)
					}
				}
			})
		}
		wg.Wait()
		if n := s.dials.Load(); n < 5 {
			t.Errorf("only %d connections", n)
		}
	})
}

func TestLifetime(t *testing.T) {
	for r, want := range map[float64]time.Duration{0: 8 * time.Minute, 0.5: 7 * time.Minute, 0.999999: 6*time.Minute + 120*time.Microsecond} {
		if got := lifetime(8*time.Minute, r); got != want {
			t.Errorf("%v: %v, want %v", r, got, want)
		}
	}
}

// TestDrainingLeadsElsewhere: once the gateway drains, each answer ends its connection.
func TestDrainingLeadsElsewhere(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		inBubble(t, Defaults(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(t *testing.T, s *pipeServer) {
			client := s.client(h2)
			for i := range 6 {
				s.draining.Store(i >= 3)
				resp, err := client.Post("https://example.com/", "", strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				synctest.Wait() // GOAWAY follows the answer
			}
			if n := s.dials.Load(); n != 3 {
				t.Errorf("h2 %v: %d connections", h2, n)
			}
		})
	}
}

// TestResets: a client that gives up request after request loses its connection, and what it asks after that costs nothing.
func TestResets(t *testing.T) {
	cfg := Defaults()
	cfg.HTTP2.MaxResets = 20
	var asked atomic.Int64
	inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
		}
	}), func(t *testing.T, s *pipeServer) {
		f := s.frames()
		goAway := make(chan uint32, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				if g, ok := frame.(*http2.GoAwayFrame); ok {
					goAway <- g.LastStreamID
				}
			}
		}()
		for i := range 1000 {
			id := uint32(2*i + 1)
			f.request(id, "/wait")
			if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				break // the connection is gone
			}
			synctest.Wait()
		}
		<-ended
		last := <-goAway
		if n := asked.Load(); n > int64(cfg.HTTP2.MaxResets)+2 || last > 2*uint32(cfg.HTTP2.MaxResets)+5 {
			t.Errorf("%d requests were begun, GOAWAY after stream %d", n, last)
		}
		if got := testutil.ToFloat64(s.metrics.reset); got != 1 {
			t.Errorf("%v connections counted", got)
		}
	})
}

// TestFewResets: giving up a request now and then, as readers do, does no harm.
func TestFewResets(t *testing.T) {
	cfg := Defaults()
	cfg.HTTP2.MaxResets = 20
	cfg.MaxConnectionAge = 24 * time.Hour
	inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
		}
	}), func(t *testing.T, s *pipeServer) {
		client := s.client(true)
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			req, err := http.NewRequestWithContext(ctx, "GET", "https://example.com/wait", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
		}
		if n := s.dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestStreamLimit: the limit is announced, and a client that goes over it gains nothing.
func TestStreamLimit(t *testing.T) {
	cfg := Defaults()
	cfg.HTTP2.MaxStreams = 10
	var most, now atomic.Int64
	inBubble(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-r.Context().Done()
		now.Add(-1)
	}), func(t *testing.T, s *pipeServer) {
		f := s.frames()
		refused := make(chan int)
		go func() {
			n := 0
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					refused <- n
					return
				}
				switch frame := frame.(type) {
				case *http2.RSTStreamFrame:
					n++
				case *http2.GoAwayFrame:
					n += 1000
					_ = frame
				}
			}
		}()
		for i := range 30 {
			f.request(uint32(2*i+1), "/")
			synctest.Wait()
		}
		s.srv.Close()
		if n := <-refused; n == 0 {
			t.Error("nothing was refused")
		}
		if most.Load() > 10 {
			t.Errorf("%d requests at once", most.Load())
		}
	})
}
