package certs

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

const (
	testZone      = "m3gateway.example."
	testTSIGKey   = "gateway.key."
	testTSIGValue = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
)

// nameServer is an authoritative server of testZone, over UDP and TCP, that takes updates signed with the test's key. Every name
// in it has the address 127.0.0.1.
type nameServer struct {
	addr     string
	unsigned bool // its answers to updates are not signed

	mu      sync.Mutex
	texts   map[string][]string // TXT data by name
	aliases map[string]string   // CNAMEs
	updates int
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{texts: map[string][]string{}, aliases: map[string]string{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	u, err := net.ListenPacket("udp", l.Addr().String())
	must(t, err)
	s.addr = l.Addr().String()
	for _, srv := range []*dns.Server{{Listener: l}, {PacketConn: u}} {
		srv.Handler = dns.HandlerFunc(s.answer)
		srv.TsigSecret = map[string]string{testTSIGKey: testTSIGValue}
		srv.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept } // the default one refuses updates
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { _ = srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return s
}

func (s *nameServer) answer(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	a.Authoritative = true
	if q.Opcode == dns.OpcodeUpdate {
		a.Rcode = s.update(w, q)
		if tsig := q.IsTsig(); tsig != nil && a.Rcode == dns.RcodeSuccess && !s.unsigned {
			a.SetTsig(tsig.Hdr.Name, tsig.Algorithm, 300, 0)
		}
		_ = w.WriteMsg(a)
		return
	}
	name := strings.ToLower(q.Question[0].Name)
	head := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
	}
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: testZone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 1}, Ns: "ns." + testZone, Mbox: "ops." + testZone, Serial: 1}
	if alias := s.aliases[name]; alias != "" {
		a.Answer = append(a.Answer, &dns.CNAME{Hdr: head(dns.TypeCNAME), Target: alias})
		name = alias
	}
	switch kind := q.Question[0].Qtype; {
	case kind == dns.TypeSOA && name == testZone:
		a.Answer = append(a.Answer, soa)
	case kind == dns.TypeA:
		a.Answer = append(a.Answer, &dns.A{Hdr: head(kind), A: net.IPv4(127, 0, 0, 1)})
	case kind == dns.TypeTXT:
		for _, text := range s.texts[name] {
			a.Answer = append(a.Answer, &dns.TXT{Hdr: head(kind), Txt: []string{text}})
		}
	}
	if len(a.Answer) == 0 {
		a.Ns = append(a.Ns, soa)
	}
	_ = w.WriteMsg(a)
}

func (s *nameServer) update(w dns.ResponseWriter, q *dns.Msg) int {
	if q.IsTsig() == nil {
		return dns.RcodeRefused
	}
	if w.TsigStatus() != nil {
		return dns.RcodeNotAuth
	}
	if q.Question[0].Name != testZone {
		return dns.RcodeNotZone
	}
	s.updates++
	for _, rr := range q.Ns {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			return dns.RcodeRefused
		}
		name, text := strings.ToLower(txt.Hdr.Name), strings.Join(txt.Txt, "")
		switch txt.Hdr.Class {
		case dns.ClassINET:
			s.texts[name] = append(s.texts[name], text)
		case dns.ClassNONE:
			s.texts[name] = slices.DeleteFunc(s.texts[name], func(t string) bool { return t == text })
		default:
			return dns.RcodeRefused
		}
	}
	return dns.RcodeSuccess
}

func (s *nameServer) at(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts[name])
}

// alias makes name a CNAME.
func (s *nameServer) alias(name, target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[name] = target
}

// forge makes answers to updates unsigned, or signed again.
func (s *nameServer) forge(unsigned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsigned = unsigned
}

func testRFC2136(addr string) RFC2136 {
	return RFC2136{Server: addr, KeyName: "Gateway.Key", KeyAlgorithm: "hmac-sha256", KeySecret: testTSIGValue}
}

// TestDNSUpdates: records are added and removed one by one, and others of the same name stay.
func TestDNSUpdates(t *testing.T) {
	s := startNameServer(t)
	for algorithm := range tsigAlgorithms() {
		cfg := testRFC2136(s.addr)
		cfg.KeyAlgorithm = algorithm
		p := &rfc2136{cfg}
		record := func(data string) []libdns.Record {
			return []libdns.Record{libdns.RR{Name: "_acme-challenge.gw", Type: "TXT", Data: data, TTL: time.Minute}}
		}
		name := "_acme-challenge.gw." + testZone
		for _, data := range []string{"one", "two"} {
			got, err := p.AppendRecords(t.Context(), testZone, record(data))
			if err != nil || len(got) != 1 {
				t.Fatalf("%s: %v, %v", algorithm, got, err)
			}
		}
		if got := s.at(name); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("%s: %q", algorithm, got)
		}
		if _, err := p.DeleteRecords(t.Context(), strings.TrimSuffix(testZone, "."), record("one")); err != nil {
			t.Error(err)
		}
		if got := s.at(name); !slices.Equal(got, []string{"two"}) {
			t.Errorf("%s: %q", algorithm, got)
		}
		if _, err := p.DeleteRecords(t.Context(), testZone, record("two")); err != nil {
			t.Error(err)
		}
	}
}

func TestDNSUpdateErrors(t *testing.T) {
	s := startNameServer(t)
	closed, err := occupy(t.Context())
	must(t, err)
	defer closed.Close()
	record := []libdns.Record{libdns.RR{Name: "x", Type: "TXT", Data: "y"}}
	for name, tc := range map[string]struct {
		change func(*RFC2136)
		zone   string
		recs   []libdns.Record
		want   string
	}{
		"a wrong secret":   {func(c *RFC2136) { c.KeySecret = "d3Jvbmc=" }, testZone, record, "let key_name update it"},
		"an unknown key":   {func(c *RFC2136) { c.KeyName = "other" }, testZone, record, "let key_name update it"},
		"another zone":     {func(*RFC2136) {}, "other.example.", record, "NOTZONE"},
		"nobody there":     {func(c *RFC2136) { c.Server = closed.Addr().String() }, testZone, record, "sending a DNS update"},
		"no TXT":           {func(*RFC2136) {}, testZone, []libdns.Record{libdns.RR{Name: "x", Type: "A", Data: "127.0.0.1"}}, "of a A record"},
		"a forged success": {func(*RFC2136) { s.forge(true) }, testZone, record, "not signed"},
	} {
		s.forge(false)
		cfg := testRFC2136(s.addr)
		tc.change(&cfg)
		_, err := (&rfc2136{cfg}).AppendRecords(t.Context(), tc.zone, tc.recs)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), cfg.KeySecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&rfc2136{testRFC2136(s.addr)}).AppendRecords(ctx, testZone, record); err == nil {
		t.Error("an update was sent after its time")
	}
}
