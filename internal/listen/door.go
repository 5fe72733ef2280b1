package listen

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// door is the listener that the HTTP server accepts from: the connections of a limiter, once their clients are known. That is
// the other end of the socket or, for those of a trusted proxy, whom its header names.
type door struct {
	*limiter
	trusted []netip.Prefix // proxies, whose connections must begin with a PROXY protocol header
	timeout time.Duration  // of the header
	log     *slog.Logger
	tell    seldom

	once  sync.Once
	known chan arrival
	shut  chan struct{}
	close sync.Once
}

// arrival is what Accept returns.
type arrival struct {
	c   net.Conn
	err error
}

func newDoor(l *limiter, trusted []netip.Prefix, timeout time.Duration, log *slog.Logger) *door {
	return &door{limiter: l, trusted: trusted, timeout: timeout, log: log, known: make(chan arrival), shut: make(chan struct{})}
}

// Accept returns the next connection whose client is known.
func (d *door) Accept() (net.Conn, error) {
	if len(d.trusted) == 0 {
		for {
			c, err := d.next()
			if err != nil {
				return nil, err
			}
			if d.enter(c, addrOf(c.Conn)) {
				return c, nil
			}
		}
	}
	// Behind a proxy the client is known only when the header is there, and one connection must not wait for another's.
	d.once.Do(func() { go d.receive() })
	select {
	case a := <-d.known:
		return a.c, a.err
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

// receive takes connections until the door is closed.
func (d *door) receive() {
	for {
		c, err := d.next()
		switch {
		case err != nil:
			d.hand(arrival{nil, err})
			if errors.Is(err, net.ErrClosed) {
				return
			}
		case !d.trusts(addrOf(c.Conn)):
			if d.enter(c, addrOf(c.Conn)) {
				d.hand(arrival{c, nil})
			}
		default:
			go d.greet(c)
		}
	}
}

// greet reads the header of a proxy's connection.
func (d *door) greet(c *conn) {
	proxy := addrOf(c.Conn)
	_ = c.SetReadDeadline(time.Now().Add(d.timeout))
	from, err := readProxyHeader(c)
	if err != nil {
		d.metrics.headerless.Inc()
		if d.tell.now(time.Now()) {
			d.log.Warn("closing connections of a trusted proxy that do not begin with a PROXY protocol header; switch the protocol on there, or take it from listen.proxy_protocol.trusted", "proxy", proxy.String(), "error", err)
		}
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	client := proxy
	if from.IsValid() {
		client = from.Addr()
		c.client = net.TCPAddrFromAddrPort(from)
	}
	if d.enter(c, client) {
		d.hand(arrival{c, nil})
	}
}

// hand gives a to Accept, or closes it if nobody accepts any more.
func (d *door) hand(a arrival) {
	select {
	case d.known <- a:
	case <-d.shut:
		if a.c != nil {
			a.c.Close()
		}
	}
}

// enter counts c as client's. It reports false when the client has too many; c is closed then.
func (d *door) enter(c *conn, client netip.Addr) bool {
	err := d.claim(c, client)
	if err == nil {
		return true
	}
	if errors.Is(err, errTooMany) && d.tell.now(time.Now()) {
		d.log.Warn("closing connections of a client that has as many open and busy as it may; raise listen.max_connections_per_ip if it should have more, or set listen.proxy_protocol if it is a load balancer", "client", client.String())
	}
	return false
}

func (d *door) trusts(a netip.Addr) bool {
	for _, p := range d.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Close stops accepting.
func (d *door) Close() error {
	d.close.Do(func() { close(d.shut) })
	return d.limiter.Close()
}

// addrOf is the other end of a socket; invalid if it is none of TCP.
func addrOf(c net.Conn) netip.Addr {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// seldom lets something be told at most once a minute.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

func (s *seldom) now(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && t.Sub(s.last) < time.Minute {
		return false
	}
	s.last = t
	return true
}
