package faultnet

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Fault is what befalls connections and requests. The zero value is none.
type Fault struct {
	// Refuse closes the listener and resets every connection.
	Refuse bool
	// ResetAfter resets each connection when it has brought so many bytes since the fault began; -1: at once.
	ResetAfter int
	// BlackHole takes bytes and answers nothing, on old connections and new.
	BlackHole bool
	// HalfOpen does so on the connections that are open when the fault begins; new ones are well.
	HalfOpen bool
	// Status answers requests without asking the target. 0: it is asked.
	Status int
	// Delay holds back each answer of the target.
	Delay time.Duration
	// BytesPerSecond is the pace of what goes back. 0: at once.
	BytesPerSecond int
	// Only limits Status and Delay to the requests for which it is true; nil: all.
	Only func(*http.Request) bool
}

// Proxy passes HTTP requests on to a target, from an address that it keeps.
type Proxy struct {
	tb      testing.TB
	forward *httputil.ReverseProxy
	server  *http.Server
	addr    string
	over    chan struct{} // closed at the end of the test

	mu       sync.Mutex
	fault    Fault          // guarded by mu
	changed  chan struct{}  // guarded by mu; closed when fault is another
	listener net.Listener   // guarded by mu; nil while refusing
	conns    map[*conn]bool // guarded by mu
	work     sync.WaitGroup
}

// NewProxy starts a proxy in front of the server at target, host:port, until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	return NewProxies(tb, []string{"127.0.0.1"}, target)[0]
}

// NewProxies starts a proxy on each of several addresses of loopback, all on one port, as the members of one DNS name have; each
// is in front of the target with its index, or of the only one.
func NewProxies(tb testing.TB, addresses []string, targets ...string) []*Proxy {
	tb.Helper()
	for range 50 {
		var listeners []net.Listener
		port := "0"
		for _, a := range addresses {
			addr, err := reserve(tb, a, port)
			if err != nil {
				break
			}
			l, err := net.Listen("tcp", addr)
			if err != nil {
				break
			}
			_, port, _ = net.SplitHostPort(addr)
			listeners = append(listeners, l)
		}
		if len(listeners) < len(addresses) {
			for _, l := range listeners {
				_ = l.Close()
			}
			continue
		}
		var out []*Proxy
		for i, l := range listeners {
			out = append(out, newProxy(tb, l, targets[i%len(targets)]))
		}
		return out
	}
	tb.Fatal("no common port")
	return nil
}

func newProxy(tb testing.TB, listener net.Listener, target string) *Proxy {
	p := &Proxy{tb: tb, over: make(chan struct{}), changed: make(chan struct{}), conns: map[*conn]bool{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	p.forward = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: target}) },
		Transport:    transport,
		ErrorLog:     log.New(io.Discard, "", 0),
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // as if the target itself had hung up
	}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ErrorLog: log.New(io.Discard, "", 0)}
	p.addr = listener.Addr().String()
	p.mu.Lock()
	p.listenLocked(listener)
	p.mu.Unlock()
	tb.Cleanup(func() {
		close(p.over)
		p.Set(Fault{})
		_ = p.server.Close()
		transport.CloseIdleConnections()
		p.work.Wait()
	})
	return p
}

// Addr is host:port of the proxy.
func (p *Proxy) Addr() string { return p.addr }

// Set makes f what happens from now on.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
	for c := range p.conns {
		c.struck(f)
	}
	switch {
	case f.Refuse && p.listener != nil:
		_ = p.listener.Close()
		p.listener = nil
	case !f.Refuse && p.listener == nil:
		// Where it is not kept, a connection may have taken the port meanwhile; it is awaited.
		l, err := net.Listen("tcp", p.addr)
		for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); l, err = net.Listen("tcp", p.addr) {
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil {
			p.tb.Error(err)
			return
		}
		p.listenLocked(l)
	}
}

func (p *Proxy) listenLocked(l net.Listener) {
	p.listener = l
	p.work.Go(func() { _ = p.server.Serve(&listener{l, p}) })
}

// now is the fault, and what is closed when it is another.
func (p *Proxy) now() (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.changed
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	f, changed := p.now()
	if f.Only != nil && !f.Only(r) {
		f.Status, f.Delay = 0, 0
	}
	if f.Status != 0 {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, `{"status":"error","error":"played by a test"}`)
		return
	}
	if f.Delay > 0 {
		w = &late{w, func() {
			select {
			case <-time.After(f.Delay):
			case <-changed:
			case <-r.Context().Done():
			}
		}}
	}
	p.forward.ServeHTTP(w, r)
}

// late is an answer that is held back.
type late struct {
	http.ResponseWriter
	wait func()
}

func (l *late) WriteHeader(status int) {
	l.wait()
	l.ResponseWriter.WriteHeader(status)
}

// listener makes conns.
type listener struct {
	net.Listener
	p *Proxy
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own := &conn{TCPConn: c.(*net.TCPConn), p: l.p}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.p.conns[own] = true
	if l.p.fault.Refuse {
		own.struck(l.p.fault)
	}
	return own, nil
}

// conn is a connection from the client's side.
type conn struct {
	*net.TCPConn
	p *Proxy

	mu   sync.Mutex
	dead bool // guarded by mu; a half-open connection
	got  int  // guarded by mu; bytes since the fault began
}

// struck is called when a fault begins.
func (c *conn) struck(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = 0
	c.dead = c.dead || f.HalfOpen
	if f.Refuse || f.ResetAfter < 0 {
		c.reset()
	}
}

func (c *conn) reset() {
	_ = c.SetLinger(0)
	_ = c.TCPConn.Close()
}

// hold waits while the connection leads nowhere.
func (c *conn) hold() {
	for {
		c.mu.Lock()
		dead := c.dead
		c.mu.Unlock()
		f, changed := c.p.now()
		if !f.BlackHole && !dead {
			return
		}
		select {
		case <-changed:
		case <-c.p.over:
			c.reset()
			return
		}
	}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.hold()
	f, _ := c.p.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got += n; f.ResetAfter != 0 && c.got >= f.ResetAfter {
		c.reset()
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.hold()
	for i := range b {
		f, changed := c.p.now()
		if f.BytesPerSecond == 0 {
			n, err := c.TCPConn.Write(b[i:])
			return i + n, err
		}
		if _, err := c.TCPConn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		select {
		case <-time.After(time.Second / time.Duration(f.BytesPerSecond)):
		case <-changed:
		}
	}
	return len(b), nil
}

// ReadFrom hides that of TCPConn, which would pass by Write.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

func (c *conn) Close() error {
	c.p.mu.Lock()
	delete(c.p.conns, c)
	c.p.mu.Unlock()
	return c.TCPConn.Close()
}
