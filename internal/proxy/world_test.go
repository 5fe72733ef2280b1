package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// world is a network of simulated members, for a Pool in a bubble of testing/synctest: what takes time takes none.
type world struct {
	hosts map[string]*host // by host:port; not changed once the Pool runs
}

// host is a member. Its fields may be changed at any time under mu.
type host struct {
	mu      sync.Mutex
	refuses bool // connections
	silent  bool // takes requests and never answers
	deaf    int  // how many further requests, or probes, are on connections that lead nowhere
	// ready and readsReady are what probes are told.
	notReady, noReads string
	queryFails        bool
	// serve says how long a request takes, and what comes of it: a status, or 0 for a broken connection.
	serve func(r *http.Request) (time.Duration, int)
	body  func(ctx context.Context) io.Reader // of the answers to requests; nil: an empty one
	room  int                                 // how many requests are worked on at a time; 0: no bound
	slots chan struct{}                       // one for each, if there is a bound; of the bubble

	served, refused, probes atomic.Int64 // requests that came, those whose connection was refused, and probes
	seen                    []*http.Request
}

func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// takes is a host that answers 200 after d.
func takes(d time.Duration) func(*http.Request) (time.Duration, int) {
	return func(*http.Request) (time.Duration, int) { return d, 200 }
}

func answers(d time.Duration, status int) func(*http.Request) (time.Duration, int) {
	return func(*http.Request) (time.Duration, int) { return d, status }
}

// simulated is a Pool in a bubble whose members are hosts. It runs from Start on until f returns.
func simulated(t *testing.T, change func(*Config), hosts map[string]*host, f func(t *testing.T, p *Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		// The clock of a bubble starts at midnight; what is aligned to minutes must hold at any second.
		time.Sleep(23 * time.Second)
		cfg := Defaults()
		for name, h := range hosts {
			if h.room > 0 {
				h.slots = make(chan struct{}, h.room)
			}
			cfg.URLs = append(cfg.URLs, "http://"+name)
		}
		if change != nil {
			change(&cfg)
		}
		probe := Probe{Path: probePath, Judge: judgeText, QueryPath: "/q", QueryParams: "query=x", Query: is200}
		p, err := New(cfg, probe, time.Now, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
		if err != nil {
			t.Fatal(err)
		}
		p.connect = func(*member) (plain, h2c http.RoundTripper) { return &world{hosts}, nil }
		ctx, cancel := context.WithCancel(t.Context())
		p.Start(ctx)
		f(t, p)
		cancel()
		p.Close()
		synctest.Wait()
	})
}

// judgeText reads the answer to a probe: a line for each side, empty if it is fit.
func judgeText(_ int, body []byte) (writes, reads error) {
	w, r, _ := strings.Cut(string(body), "\n")
	if w != "" {
		writes = errors.New(w)
	}
	if r != "" {
		reads = errors.New(r)
	}
	return writes, reads
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	if trace == nil {
		trace = &httptrace.ClientTrace{GetConn: func(string) {}, GotConn: func(httptrace.GotConnInfo) {}}
	}
	trace.GetConn(req.URL.Host)
	if req.Body != nil {
		defer req.Body.Close()
	}
	h := w.hosts[req.URL.Host]
	h.mu.Lock()
	if h.deaf > 0 {
		h.deaf--
		h.mu.Unlock()
		trace.GotConn(httptrace.GotConnInfo{Reused: true})
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	refuses, silent, notReady, noReads, queryFails := h.refuses, h.silent, h.notReady, h.noReads, h.queryFails
	probe := req.URL.Path == probePath || req.URL.Path == "/q"
	if !probe && len(h.seen) < 100 {
		h.seen = append(h.seen, req)
	}
	h.mu.Unlock()
	if refuses {
		if !probe {
			h.refused.Add(1)
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	trace.GotConn(httptrace.GotConnInfo{})
	if silent {
		if !probe {
			h.served.Add(1)
		}
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	status, text := 200, ""
	switch {
	case probe && req.URL.Path == probePath:
		h.probes.Add(1)
		text = notReady + "\n" + noReads
	case probe:
		if queryFails {
			status = 500
		}
	default:
		h.served.Add(1)
		var err error
		if status, err = h.work(req); err != nil {
			return nil, err
		}
		if status == 0 {
			return nil, io.ErrUnexpectedEOF
		}
	}
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), Request: req}
	if !probe && h.body != nil {
		resp.Body, resp.ContentLength = io.NopCloser(h.body(req.Context())), -1
	}
	return resp, nil
}

// work waits for a slot, and then takes the time that the host takes then, not when the request came: those that wait for a slow
// host are served fast once it is fast again.
func (h *host) work(req *http.Request) (status int, err error) {
	ctx := req.Context()
	if h.slots != nil {
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	h.mu.Lock()
	serve := h.serve
	h.mu.Unlock()
	took, status := serve(req)
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
		return status, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ask makes one request and reads its answer.
func ask(p *Pool, r *Request) (status int, member string, err error) {
	a, err := p.Do(context.Background(), r)
	if err != nil {
		return 0, "", err
	}
	_, _ = io.Copy(io.Discard, a.Body)
	_ = a.Body.Close()
	return a.StatusCode, strings.TrimPrefix(a.Member, "http://"), nil
}

// jitter is d, more or less by a fifth.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }

// sideOf is what the Pool says of a member.
func sideOf(p *Pool, name string, o op) SideState {
	for _, m := range p.Members() {
		if m.URL == "http://"+name {
			return [ops]SideState{reading: m.Reads, writing: m.Writes}[o]
		}
	}
	return SideState{}
}
