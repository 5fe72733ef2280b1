package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// conn is one counted connection.
type conn struct {
	net.Conn
	l      *limiter
	born   time.Time
	age    time.Duration // how long it may serve
	client net.Addr      // as a trusted proxy named it; nil: the other end of the socket is the client

	// Guarded by l.mu.
	peer  *peer   // nil while the client is not known
	seats [2]seat // in l.waiting and in peer.waiting, while it carries no request
	gone  bool    // Close was called
	state http.ConnState

	begun    atomic.Bool  // the first request has come; set under l.mu
	deadline atomic.Bool  // the server has set one for writing; until it lifts it, that is the one
	armed    atomic.Int64 // when the last deadline for writing was set by Write, in Unix nanoseconds
	unread   atomic.Bool  // a request's body was left in the socket

	served served
}

// RemoteAddr is the client's address.
func (c *conn) RemoteAddr() net.Addr {
	if c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

// Write gives the client caps.write to take b. A write is a record of TLS or a buffer of net/http, 32 KiB at most, so that a
// client which keeps reading, however slowly it is told to, is not cut in the middle of a long answer.
func (c *conn) Write(b []byte) (int, error) {
	if !c.deadline.Load() {
		now := time.Now()
		// Setting it costs more than asking for the time: an old one holds for a while.
		if last := c.armed.Load(); now.UnixNano()-last > int64(c.l.caps.write/8) {
			c.armed.Store(now.UnixNano())
			if err := c.Conn.SetWriteDeadline(now.Add(c.l.caps.write)); err != nil {
				return 0, err
			}
		}
	}
	return c.Conn.Write(b)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	c.own(t)
	return c.Conn.SetDeadline(t)
}

// SetWriteDeadline replaces the deadline of Write until it is lifted by the zero time.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.own(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *conn) own(t time.Time) {
	c.deadline.Store(!t.IsZero())
	c.armed.Store(0)
}

// CloseWrite ends what is sent.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// lingering is how long, and lingeringBytes how far, a connection is read on after its end when a body was left in it. Closed at
// once, the kernel would answer what is still coming with a reset, which can overtake the answer.
const (
	lingering      = 500 * time.Millisecond
	lingeringBytes = 256 << 10
)

// Close closes the connection and gives its place free.
func (c *conn) Close() error {
	if c.unread.CompareAndSwap(true, false) && c.CloseWrite() == nil {
		go func() {
			_ = c.Conn.SetReadDeadline(time.Now().Add(lingering))
			_, _ = io.CopyN(io.Discard, c.Conn, lingeringBytes)
			_ = c.Close()
		}()
		return nil
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.closeLocked()
}

func (c *conn) closeLocked() error {
	c.busyLocked()
	if c.gone {
		return net.ErrClosed
	}
	c.gone = true
	c.l.open--
	c.l.metrics.open.Dec()
	if p := c.peer; p != nil {
		if p.open--; p.open == 0 {
			delete(c.l.peers, p.key)
		}
	}
	c.l.room.Broadcast()
	return c.Conn.Close()
}

// busyLocked takes the connection from those that carry no request.
func (c *conn) busyLocked() {
	for i := range c.seats {
		c.seats[i].leave()
	}
}

// requested notes that a request has come. Until then the state that net/http tells of says little: an HTTP/2 connection is
// active and then idle before its first request.
func (c *conn) requested() {
	if c.begun.Load() {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.begun.Store(true)
	c.seatLocked()
}

// seatLocked puts a connection that has sent a request where its state belongs.
func (c *conn) seatLocked() {
	c.busyLocked()
	if c.state != http.StateIdle || c.gone {
		return
	}
	c.seats[0].take(&c.l.idle, c)
	if c.peer != nil {
		c.seats[1].take(&c.peer.idle, c)
	}
	c.l.room.Broadcast()
}

// stateHook is the http.Server.ConnState of the server that serves l.
func (l *limiter) stateHook(nc net.Conn, state http.ConnState) {
	c := connOf(nc)
	if c == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.state = state
	if c.begun.Load() {
		c.seatLocked()
	}
}

// connOf is the counted connection below nc, or nil.
func connOf(nc net.Conn) *conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// connKey is the key of a request's context for its *conn.
type connKey struct{}

// connContext is the http.Server.ConnContext.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(nc))
}
