package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestTimeLimitsOfTheBody(t *testing.T) {
	release := make(chan struct{})
	half := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "whole")
	}
	s := server(t, half)
	p := start(t, func(c *Config) { c.WriteTimeout, c.ReadTimeout = time.Second, time.Second }, s.URL)
	w, err := p.Do(t.Context(), post("x", "k"))
	if err != nil {
		t.Fatal(err)
	}
	rd, err := p.Do(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	// The write's limit covers its body; the read's ended with the header, so its body outlives the write's.
	if _, err := io.ReadAll(w.Body); kindOf(err) != Timeout {
		t.Errorf("write: %v", err)
	}
	w.Body.Close()
	close(release)
	if got := read(t, rd); got != "halfwhole" {
		t.Errorf("read: %q", got)
	}
}

func TestHalfAnAnswerIsAnError(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	p := start(t, nil, s.URL)
	a, err := p.Do(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if string(b) != "half" || kindOf(err) != Reset || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", b, err)
	}
}

func TestMaxAnswer(t *testing.T) {
	p := start(t, nil, server(t, says(strings.Repeat("x", 1000))).URL)
	for _, c := range []struct {
		max  int64
		n    int
		want error
	}{{0, 1000, nil}, {1000, 1000, nil}, {1001, 1000, nil}, {999, 999, ErrAnswerTooLarge}, {1, 1, ErrAnswerTooLarge}} {
		r := get()
		r.MaxAnswer = c.max
		a, err := p.Do(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		if len(b) != c.n || !errors.Is(err, c.want) {
			t.Errorf("max %d: %d bytes, %v", c.max, len(b), err)
		}
		if _, err := a.Body.Read(make([]byte, 10)); c.want != nil && err != c.want {
			t.Errorf("max %d: then %v", c.max, err)
		}
		a.Body.Close()
	}
}

// The body is released once, after its last reader's Close, however the exchange ends. A second release panics in buf.
func TestBodyIsReleasedOnce(t *testing.T) {
	release := make(chan struct{})
	early := func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400) } // without reading
	for _, c := range []struct {
		name  string
		first http.HandlerFunc
		limit time.Duration
	}{
		{"read whole", says("good"), time.Minute},
		{"answered early", early, time.Minute},
		{"503 early, then read whole", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, time.Minute},
		{"reset", hangUp, time.Minute},
		{"hung", func(w http.ResponseWriter, r *http.Request) { <-release }, 50 * time.Millisecond},
		{"refused", nil, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := ""
			if c.first != nil {
				url = server(t, c.first).URL
			} else {
				url = refusing(t)
			}
			p := start(t, func(cfg *Config) { cfg.WriteTimeout = c.limit }, url, server(t, says("good")).URL)
			if c.name == "hung" {
				t.Cleanup(func() { close(release) }) // runs before the servers' Close
			}
			allHealthy(p)
			r := post(strings.Repeat("x", 8<<20), keyOf(t, p, url))
			body := r.Body.Keep()
			for range 2 { // a body may serve a second request
				if a, err := p.Do(t.Context(), r); err == nil {
					_, _ = io.Copy(io.Discard, a.Body)
					a.Body.Close()
				}
			}
			eventually(t, "every reader closed", func() bool {
				body.mu.Lock()
				defer body.mu.Unlock()
				return body.refs == 0
			})
			if _, err := body.open(); err != errBodyGone {
				t.Errorf("open after release: %v", err)
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the buffer was not released")
					}
				}()
				body.buf.Release()
			}()
		})
	}
}

func TestReadAfterCloseIsAnError(t *testing.T) {
	body := post("abc", "").Body
	r, err := body.open()
	if err != nil {
		t.Fatal(err)
	}
	r2, _ := body.open()
	r.Close()
	r.Close()
	if n, err := r.Read(make([]byte, 9)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("%d %v", n, err)
	}
	if b, err := io.ReadAll(r2); string(b) != "abc" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	r2.Close()
	body.Drop()
}

// A keep-alive connection that died while idle must not fail a write, even when there is no other member.
func TestDeadIdleConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got atomic.Int32
	go func() { // closes each connection upon the second request on it, unread
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if b, _ := io.ReadAll(req.Body); string(b) == "samples" {
					got.Add(1)
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				_, _ = r.Peek(1)
			}()
		}
	}()
	p := start(t, nil, "http://"+l.Addr().String())
	for i := range 20 {
		a, err := p.Do(t.Context(), post("samples", "k"))
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		read(t, a)
	}
	if got.Load() != 20 {
		t.Errorf("%d arrived", got.Load())
	}
}
