package listen

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// limiter is a listener that lets at most max connections be open at once. At the cap a new connection takes the place of
// the one that has been idle the longest; while every connection carries a request, it waits its turn, and those behind it
// wait in the kernel's queue. Waiting is chosen over hanging up because senders answer a hang-up by connecting again at
// once, which costs a TLS handshake each time and makes the overload worse, and because a queue is fair. No connection waits
// for ever: one that is open ends within the header, body and idle time-outs and the life of its requests.
//
// Open connections never exceed max+1: the one that waits is counted apart.
type limiter struct {
	*net.TCPListener
	max     int
	metrics *listenerMetrics

	mu     sync.Mutex
	room   sync.Cond // open, idle or closed changed
	open   int
	idle   list.List // of *conn, the one idle for the longest first
	closed bool
}

// conn is one counted connection.
type conn struct {
	*net.TCPConn
	l    *limiter
	idle *list.Element // guarded by l.mu; nil while it carries a request
	gone bool          // guarded by l.mu: Close was called
}

func newLimiter(l *net.TCPListener, max int, m *listenerMetrics) *limiter {
	lim := &limiter{TCPListener: l, max: max, metrics: m}
	lim.room.L = &lim.mu
	return lim
}

// Accept returns the next connection when there is room for it.
func (l *limiter) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max && l.idle.Len() == 0 {
		l.metrics.waited.Inc()
	}
	for l.open >= l.max && !l.closed {
		if e := l.idle.Front(); e != nil {
			l.metrics.displaced.Inc()
			l.closeLocked(e.Value.(*conn))
			continue
		}
		l.room.Wait()
	}
	if l.closed {
		tcp.Close()
		return nil, net.ErrClosed
	}
	l.open++
	l.metrics.open.Inc()
	return &conn{TCPConn: tcp, l: l}, nil
}

// Close stops accepting; a connection that waits is closed.
func (l *limiter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	return l.TCPListener.Close()
}

// openNow is the number of connections that are open.
func (l *limiter) openNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// stateHook is the http.Server.ConnState of the server that serves l.
func (l *limiter) stateHook(nc net.Conn, state http.ConnState) {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case state == http.StateIdle && c.idle == nil && !c.gone:
		c.idle = l.idle.PushBack(c)
		l.room.Broadcast()
	case state != http.StateIdle:
		c.busyLocked()
	}
}

// Close closes the connection and gives its place free.
func (c *conn) Close() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.l.closeLocked(c)
}

func (l *limiter) closeLocked(c *conn) error {
	c.busyLocked()
	if c.gone {
		return net.ErrClosed
	}
	c.gone = true
	l.open--
	l.metrics.open.Dec()
	l.room.Broadcast()
	return c.TCPConn.Close()
}

func (c *conn) busyLocked() {
	if c.idle != nil {
		c.l.idle.Remove(c.idle)
		c.idle = nil
	}
}
