package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// found is what a look-up gave.
type found struct {
	hosts []string      // host:port of each member
	ttl   time.Duration // for how long that may be kept; negative: the answer does not say, as that of a hosts file
}

// names looks names up as the system does, with its search list, hosts file and time-outs.
type names struct {
	server string // host:port of the name server to ask; "": the system's
}

// look looks up c.Name.
func (n names) look(ctx context.Context, name string) (found, error) {
	ttl := &shortest{}
	resolver := n.resolver(ttl.listen)
	var out found
	if isService(name) {
		_, targets, err := resolver.LookupSRV(ctx, "", "", name)
		if err != nil {
			return found{}, err
		}
		for _, t := range targets {
			if t.Priority == targets[0].Priority { // they come sorted; the others are for when these are gone from the name
				out.hosts = append(out.hosts, net.JoinHostPort(strings.ToLower(strings.TrimSuffix(t.Target, ".")), strconv.Itoa(int(t.Port))))
			}
		}
	} else {
		host, port, err := splitHostPort(name)
		if err != nil {
			return found{}, err
		}
		addresses, err := resolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return found{}, err
		}
		for _, a := range addresses {
			out.hosts = append(out.hosts, netip.AddrPortFrom(a.Unmap(), port).String())
		}
	}
	if len(out.hosts) == 0 {
		return found{}, errors.New("the name has no addresses")
	}
	out.ttl = ttl.get()
	return out, nil
}

// isService says that name is one of SRV records.
func isService(name string) bool { return strings.HasPrefix(name, "_") }

// resolver is Go's own, whose connections to name servers listen gets to see.
func (n names) resolver(listen func(net.Conn) net.Conn) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if n.server != "" {
			address = n.server
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return listen(c), nil
	}}
}

// shortest reads along what name servers answer and keeps the shortest TTL of it.
type shortest struct {
	mu  sync.Mutex
	ttl time.Duration // guarded by mu
	set bool          // guarded by mu
}

func (s *shortest) get() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.set {
		return -1
	}
	return s.ttl
}

// listen gives c back so that what is read of it is noted.
func (s *shortest) listen(c net.Conn) net.Conn {
	if udp, ok := c.(*net.UDPConn); ok { // the resolver tells datagrams from a stream by the connection's methods
		return &datagrams{udp, s}
	}
	return &stream{Conn: c, note: s}
}

type datagrams struct {
	*net.UDPConn
	note *shortest
}

func (c *datagrams) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	c.note.message(b[:n])
	return n, err
}

type stream struct {
	net.Conn
	note *shortest
	got  []byte // the message being read, after its length in two bytes
}

func (c *stream) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got = append(c.got, b[:n]...)
	for len(c.got) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(c.got))
		if len(c.got) < end {
			break
		}
		c.note.message(c.got[2:end])
		c.got = c.got[end:]
	}
	return n, err
}

// message notes the TTLs of an answer; what is no answer, or one without records, has none.
func (s *shortest) message(b []byte) {
	var p dnsmessage.Parser
	head, err := p.Start(b)
	if err != nil || !head.Response || head.RCode != dnsmessage.RCodeSuccess || p.SkipAllQuestions() != nil {
		return
	}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return
		}
		s.mu.Lock()
		if ttl := time.Duration(r.TTL) * time.Second; !s.set || ttl < s.ttl {
			s.ttl, s.set = ttl, true
		}
		s.mu.Unlock()
		if p.SkipAnswer() != nil {
			return
		}
	}
}
