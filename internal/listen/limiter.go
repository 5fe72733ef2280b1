package listen

import (
	"container/list"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// caps bound the connections of one listener.
type caps struct {
	all     int
	perPeer int
	// fresh is how long a connection may be open without a request before it has to make room for another one.
	fresh time.Duration
	// age is the most that a connection lives.
	age time.Duration
	// write is how long the next piece of an answer may wait for its client to take it.
	write time.Duration
}

// limiter is a listener that lets at most caps.all connections be open at once. At the cap a new connection takes the place of
// one that carries no request: the oldest of those that have been open for caps.fresh and have not sent their first, else the
// one that has been idle the longest. While there is none, it waits its turn, and those behind it wait in the kernel's queue.
// Waiting is chosen over hanging up because senders answer a hang-up by connecting again at once, which costs a TLS handshake
// each time and makes the overload worse, and because a queue is fair. No connection waits for ever: one that is open ends
// within the header, body and idle time-outs and the life of its requests.
//
// Open connections never exceed all+1: the one that waits is counted apart.
//
// Of one peer, at most caps.perPeer are open. Over that, a new one takes the place of one of the same peer by the same rule, and
// while there is none it is closed: it may not hold up the others' queue.
type limiter struct {
	net.Listener
	caps    caps
	metrics *listenerMetrics

	mu   sync.Mutex
	room sync.Cond // open, waiting or closed changed
	open int
	waiting
	peers  map[netip.Addr]*peer // those that have a connection
	closed bool
}

// waiting are connections that carry no request.
type waiting struct {
	fresh list.List // of *conn that have not sent one yet, the oldest first
	idle  list.List // of *conn, the one that has been idle the longest first
}

// victim is the connection that makes room for another one, or nil.
func (w *waiting) victim(now time.Time, fresh time.Duration) *conn {
	if e := w.fresh.Front(); e != nil && now.Sub(e.Value.(*conn).born) >= fresh {
		return e.Value.(*conn)
	}
	if e := w.idle.Front(); e != nil {
		return e.Value.(*conn)
	}
	return nil
}

// peer is what counts as one client: an IPv4 address, or an IPv6 network of 64 bits, of which one host commands all addresses.
type peer struct {
	key  netip.Addr
	open int
	waiting
}

func peerKey(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	return a
}

func newLimiter(l net.Listener, c caps, m *listenerMetrics) *limiter {
	lim := &limiter{Listener: l, caps: c, metrics: m, peers: map[netip.Addr]*peer{}}
	lim.room.L = &lim.mu
	return lim
}

// next returns the next connection when there is room for it. It has no peer yet: see claim.
func (l *limiter) next() (*conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	waited := false
	for l.open >= l.caps.all && !l.closed {
		now := time.Now()
		if c := l.victim(now, l.caps.fresh); c != nil {
			l.metrics.displaced.Inc()
			c.closeLocked()
			continue
		}
		if !waited {
			waited = true
			l.metrics.waited.Inc()
		}
		l.waitLocked(now)
	}
	if l.closed {
		nc.Close()
		return nil, net.ErrClosed
	}
	l.open++
	l.metrics.open.Inc()
	c := &conn{Conn: nc, l: l, born: time.Now(), age: lifetime(l.caps.age, rand.Float64())}
	c.seats[0].take(&l.fresh, c)
	return c, nil
}

// waitLocked waits until something has changed, or the oldest fresh connection has to make room.
func (l *limiter) waitLocked(now time.Time) {
	if e := l.fresh.Front(); e != nil {
		t := time.AfterFunc(l.caps.fresh-now.Sub(e.Value.(*conn).born), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.room.Broadcast()
		})
		defer t.Stop()
	}
	l.room.Wait()
}

// errTooMany is a client with caps.perPeer connections, all of them busy.
var errTooMany = errors.New("too many connections of one client")

// claim makes c a connection of the client at a. After errTooMany, and net.ErrClosed if c had to make room while its client was
// not known, c is closed.
func (l *limiter) claim(c *conn, a netip.Addr) error {
	key := peerKey(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.gone {
		return net.ErrClosed
	}
	p := l.peers[key]
	if p != nil && p.open >= l.caps.perPeer {
		v := p.victim(time.Now(), l.caps.fresh)
		if v == nil {
			l.metrics.refused.Inc() // before its client can see it
			c.closeLocked()
			return errTooMany
		}
		l.metrics.displaced.Inc()
		v.closeLocked()
		p = l.peers[key] // gone with its last connection
	}
	if p == nil {
		p = &peer{key: key}
		l.peers[key] = p
	}
	p.open++
	c.peer = p
	c.seats[1].take(&p.fresh, c)
	return nil
}

// Close stops accepting; a connection that waits is closed.
func (l *limiter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// openNow is the number of connections that are open.
func (l *limiter) openNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// seat is a connection's place in one of the lists of waiting.
type seat struct {
	list *list.List
	at   *list.Element // nil: it has none
}

func (s *seat) take(l *list.List, c *conn) {
	s.leave()
	s.list, s.at = l, l.PushBack(c)
}

func (s *seat) leave() {
	if s.at != nil {
		s.list.Remove(s.at)
		s.at = nil
	}
}
