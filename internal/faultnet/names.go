package faultnet

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// NameServer answers look-ups, over UDP and TCP, on one port of loopback.
type NameServer struct {
	tb   testing.TB
	addr string

	mu      sync.Mutex
	records map[string]Record // guarded by mu; by name, with its final dot
	mood    Mood              // guarded by mu
	asked   int               // guarded by mu
}

// Record is what a name is.
type Record struct {
	Addresses []string // of A and AAAA records
	Services  []Service
	TTL       uint32 // seconds
}

// Service is an SRV record.
type Service struct {
	Target         string // with its final dot
	Port, Priority uint16
}

// Mood is how a name server answers.
type Mood int

const (
	Helpful Mood = iota
	Failing      // SERVFAIL
	Mute
	Terse // over UDP every answer is cut, so that the question comes again over TCP
)

// NewNameServer starts a name server until the test ends.
func NewNameServer(tb testing.TB) *NameServer {
	tb.Helper()
	s := &NameServer{tb: tb, records: map[string]Record{}}
	var packets net.PacketConn
	var streams net.Listener
	for range 50 { // both must have the same port
		var err error
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			tb.Fatal(err)
		}
		if streams, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			break
		}
		_ = packets.Close()
	}
	if streams == nil {
		tb.Fatal("no port for both UDP and TCP")
	}
	s.addr = packets.LocalAddr().String()
	var work sync.WaitGroup
	work.Go(func() { s.packets(packets) })
	work.Go(func() { s.streams(streams) })
	tb.Cleanup(func() {
		_, _ = packets.Close(), streams.Close()
		work.Wait()
	})
	return s
}

// Addr is host:port of the server.
func (s *NameServer) Addr() string { return s.addr }

// Set makes r what name is from now on. name has no final dot.
func (s *NameServer) Set(name string, r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[strings.ToLower(name)+"."] = r
}

// Feel makes m how questions are answered from now on.
func (s *NameServer) Feel(m Mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
}

// Asked is how many questions have come.
func (s *NameServer) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *NameServer) packets(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if answer := s.answer(b[:n], true); answer != nil {
			_, _ = c.WriteTo(answer, from)
		}
	}
}

func (s *NameServer) streams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b := make([]byte, 64<<10)
		if n, err := c.Read(b); err == nil && n > 2 { // a question of this length comes in one piece
			if answer := s.answer(b[2:n], false); answer != nil {
				_, _ = c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
			}
		}
		_ = c.Close()
	}
}

// answer is the message that answers question, or nil.
func (s *NameServer) answer(question []byte, packet bool) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(question)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.mood == Mute {
		return nil
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	r, known := s.records[strings.ToLower(q.Name.String())]
	switch {
	case s.mood == Failing:
		m.RCode = dnsmessage.RCodeServerFailure
	case s.mood == Terse && packet:
		m.Truncated = true
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	default:
		m.Answers = r.resources(q)
	}
	b, err := m.Pack()
	if err != nil {
		s.tb.Error(err)
		return nil
	}
	return b
}

func (r Record) resources(q dnsmessage.Question) (out []dnsmessage.Resource) {
	add := func(t dnsmessage.Type, body dnsmessage.ResourceBody) {
		if q.Type == t {
			out = append(out, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: t, Class: dnsmessage.ClassINET, TTL: r.TTL}, Body: body})
		}
	}
	for _, a := range r.Addresses {
		if addr := netip.MustParseAddr(a); addr.Is4() {
			add(dnsmessage.TypeA, &dnsmessage.AResource{A: addr.As4()})
		} else {
			add(dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	for _, s := range r.Services {
		add(dnsmessage.TypeSRV, &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(s.Target), Port: s.Port, Priority: s.Priority, Weight: 1})
	}
	return out
}
