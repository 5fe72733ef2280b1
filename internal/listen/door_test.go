package listen

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// whose answers with the client's address; /wait takes a day.
func whose(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/wait" {
		select {
		case <-time.After(24 * time.Hour):
		case <-r.Context().Done():
		}
	}
	fmt.Fprint(w, r.RemoteAddr)
}

// visit is a client's connection.
type visit struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

// visit opens a connection from an address, with some first bytes before TLS.
func (p *pipeServer) visit(from, first string) *visit {
	p.t.Helper()
	nc := p.connect(from)
	if _, err := io.WriteString(nc, first); err != nil {
		p.t.Fatal(err)
	}
	cfg := p.tls.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	c := tls.Client(nc, cfg)
	p.t.Cleanup(func() { nc.Close() })
	return &visit{p.t, c, bufio.NewReader(c)}
}

// ask sends a request, without waiting for an answer.
func (v *visit) ask(path string) error {
	_, err := io.WriteString(v.c, "GET "+path+" HTTP/1.1\r\nHost: gw\r\n\r\n")
	return err
}

// get returns an answer's body.
func (v *visit) get() (string, error) {
	if err := v.ask("/"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// is asserts that the gateway takes the connection for that of an address.
func (v *visit) is(want string) {
	v.t.Helper()
	if got, err := v.get(); err != nil || got != want {
		v.t.Errorf("taken for %q, %v; want %q", got, err, want)
	}
}

// closed asserts that the connection is of no use.
func (v *visit) closed() {
	v.t.Helper()
	if got, err := v.get(); err == nil {
		v.t.Errorf("served as %q", got)
	}
}

// busy makes a request that takes long, and returns once it is under way.
func (v *visit) busy() *visit {
	v.t.Helper()
	if err := v.ask("/wait"); err != nil {
		v.t.Fatal(err)
	}
	synctest.Wait()
	return v
}

func behindProxies(networks ...string) Config {
	cfg := Defaults()
	cfg.ProxyProtocol.Trusted = networks
	return cfg
}

// TestClientAddress: a header counts from a trusted proxy, must be there from one, and is an error from anybody else.
func TestClientAddress(t *testing.T) {
	inBubble(t, behindProxies("10.0.0.0/8", "fd00::/8"), http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		v2 := header2(0x21, 0x11, addresses4)
		for _, proxy := range []string{"10.1.2.3", "::ffff:10.1.2.3", "fd00::1"} {
			s.visit(proxy, v2).is("192.0.2.1:4660")
			s.visit(proxy, header2(0x21, 0x21, addresses6("2001:db8::1"), tlv(4, "x"))).is("[2001:db8::1]:4660")
			s.visit(proxy, "PROXY TCP4 192.0.2.7 192.0.2.2 4660 443\r\n").is("192.0.2.7:4660")
			own := strings.TrimPrefix(proxy, "::ffff:")
			if strings.Contains(own, ":") {
				own = "[" + own + "]"
			}
			s.visit(proxy, header2(0x20, 0x00)).is(own + ":1234")
			for _, first := range []string{"", v2[:10], strings.Repeat("x", 16), header2(0x21, 0x12, addresses4), v2 + v2} {
				s.visit(proxy, first).closed()
			}
		}
		for _, other := range []string{"11.0.0.1", "2001:db8::2"} {
			own := "[" + other + "]:1234"
			if !strings.Contains(other, ":") {
				own = other + ":1234"
			}
			s.visit(other, "").is(own)
			s.visit(other, v2).closed()
			s.visit(other, "PROXY TCP4 192.0.2.7 192.0.2.2 4660 443\r\n").closed()
		}
	})
}

// TestWithoutProxies: a header is never read where no proxy is trusted.
func TestWithoutProxies(t *testing.T) {
	inBubble(t, Defaults(), http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		s.visit("10.1.2.3", "").is("10.1.2.3:1234")
		s.visit("10.1.2.3", header2(0x21, 0x11, addresses4)).closed()
	})
}

// TestSlowProxyHeader: a header that does not come holds up nobody, and not for ever.
func TestSlowProxyHeader(t *testing.T) {
	cfg := behindProxies("10.0.0.0/8")
	inBubble(t, cfg, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		began := time.Now()
		silent := s.connect("10.0.0.1")
		s.visit("10.0.0.1", header2(0x21, 0x11, addresses4)).is("192.0.2.1:4660")
		if took := time.Since(began); took != 0 {
			t.Errorf("a silent connection held up another for %v", took)
		}
		if _, err := silent.Read(make([]byte, 1)); err == nil || time.Since(began) != cfg.HeaderTimeout {
			t.Errorf("closed after %v, %v", time.Since(began), err)
		}
		if n := testutil.ToFloat64(s.metrics.headerless); n != 1 {
			t.Errorf("%v counted", n)
		}
	})
}

// TestPerClient: one client's connections are bounded, over that its own give way, and nobody else's.
func TestPerClient(t *testing.T) {
	cfg := Defaults()
	cfg.MaxConnectionsPerIP = 2
	inBubble(t, cfg, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		others := s.visit("198.51.100.1", "")
		others.is("198.51.100.1:1234")
		idle := s.visit(home, "")
		idle.is(home + ":1234")
		busy := s.visit(home, "").busy()
		third := s.visit(home, "")
		third.is(home + ":1234") // in the place of the idle one
		idle.closed()
		third.busy()
		s.visit(home, "").closed() // both are busy
		if n := testutil.ToFloat64(s.metrics.refused); n != 1 {
			t.Errorf("%v refused", n)
		}
		if n := testutil.ToFloat64(s.metrics.displaced); n != 1 {
			t.Errorf("%v displaced", n)
		}
		others.is("198.51.100.1:1234")
		s.visit("198.51.100.1", "").is("198.51.100.1:1234")
		busy.c.Close()
		synctest.Wait()
		s.visit(home, "").is(home + ":1234")
	})
}

// TestPerClientBehindProxy: the client is whom the header names, not the proxy.
func TestPerClientBehindProxy(t *testing.T) {
	cfg := behindProxies("10.0.0.0/8")
	cfg.MaxConnectionsPerIP = 1
	inBubble(t, cfg, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		for i := range 5 {
			from := fmt.Sprintf("192.0.2.%d", i+1)
			s.visit("10.0.0.1", "PROXY TCP4 "+from+" 10.0.0.2 4660 443\r\n").busy()
			s.visit("10.0.0.2", "PROXY TCP4 "+from+" 10.0.0.2 4661 443\r\n").closed()
		}
		if n := testutil.ToFloat64(s.metrics.refused); n != 5 {
			t.Errorf("%v refused", n)
		}
	})
}

// TestSilentClientsGiveWay: connections that have not sent a request make room first, so that many of them lock nobody out; one
// that was just opened has its time.
func TestSilentClientsGiveWay(t *testing.T) {
	for name, cfg := range map[string]Config{"in all": {MaxConnections: 3, MaxConnectionsPerIP: 100}, "of one client": {MaxConnections: 100, MaxConnectionsPerIP: 3}} {
		t.Run(name, func(t *testing.T) {
			c := Defaults()
			c.MaxConnections, c.MaxConnectionsPerIP = cfg.MaxConnections, cfg.MaxConnectionsPerIP
			inBubble(t, c, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
				idle := s.visit(home, "")
				idle.is(home + ":1234")
				var silent []net.Conn
				for range 2 {
					silent = append(silent, s.connect(home))
					synctest.Wait()
					time.Sleep(time.Second)
				}
				// The first silent one is 2 s old, so that the idle one gives way now.
				second := s.visit(home, "")
				second.is(home + ":1234")
				idle.closed()
				time.Sleep(time.Second)
				// Now the silent one is older than 2.5 s, and the second, though idle, stays.
				third := s.visit(home, "")
				third.is(home + ":1234")
				if n, err := silent[0].Read(make([]byte, 1)); err == nil {
					t.Errorf("the silent one was sent %d bytes", n)
				}
				second.is(home + ":1234")
				if n := testutil.ToFloat64(s.metrics.displaced); n != 2 {
					t.Errorf("%v displaced", n)
				}
			})
		})
	}
}

// TestWaitingForSilentOnes: a connection that waits at the cap is let in as soon as a silent one has had its time.
func TestWaitingForSilentOnes(t *testing.T) {
	cfg := Defaults()
	cfg.MaxConnections = 3
	inBubble(t, cfg, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		s.visit(home, "").busy()
		began := time.Now()
		for range 2 {
			s.connect(home)
		}
		synctest.Wait()
		s.visit("198.51.100.1", "").is("198.51.100.1:1234")
		if took := time.Since(began); took != cfg.HeaderTimeout/4 {
			t.Errorf("let in after %v", took)
		}
		if n := testutil.ToFloat64(s.metrics.waited); n != 1 {
			t.Errorf("%v waited", n)
		}
	})
}

// TestHTTP2WithoutRequest: an HTTP/2 connection on which nothing was asked yet is a silent one.
func TestHTTP2WithoutRequest(t *testing.T) {
	cfg := Defaults()
	cfg.MaxConnections = 2
	inBubble(t, cfg, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		used := s.visit(home, "")
		used.is(home + ":1234")
		s.frames() // a preface, and settings
		time.Sleep(cfg.HeaderTimeout / 2)
		s.visit(home, "").is(home + ":1234")
		used.is(home + ":1234")
	})
}

// TestCountsAreKept: whatever way connections end, nothing is left of them.
func TestCountsAreKept(t *testing.T) {
	cfg := behindProxies("10.0.0.0/8")
	cfg.MaxConnections, cfg.MaxConnectionsPerIP = 20, 5
	inBubble(t, cfg, http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
		for i := range 200 {
			proxy := fmt.Sprintf("10.0.0.%d", i%3)
			header := fmt.Sprintf("PROXY TCP4 192.0.2.%d 10.0.0.2 4660 443\r\n", 1+i%7)
			switch i % 5 {
			case 0:
				s.connect(proxy).Close()
			case 1:
				s.connect(proxy)
			case 2:
				v := s.visit(proxy, header)
				_, _ = v.get()
			case 3:
				v := s.visit(proxy, header)
				_ = v.ask("/wait")
				time.AfterFunc(time.Duration(i%11)*time.Second, func() { v.c.Close() })
			case 4:
				v := s.visit(home, "")
				_, _ = v.get()
				v.c.Close()
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(cfg.IdleTimeout + cfg.HeaderTimeout)
		l := s.limit
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open != 0 || len(l.peers) != 0 || l.fresh.Len() != 0 || l.idle.Len() != 0 || testutil.ToFloat64(s.metrics.open) != 0 {
			t.Errorf("%d open, %d peers, %d fresh, %d idle, gauge %v", l.open, len(l.peers), l.fresh.Len(), l.idle.Len(), testutil.ToFloat64(s.metrics.open))
		}
	})
}

func TestPeerKey(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := peerKey(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
	if got := peerKey(netip.Addr{}); got.IsValid() {
		t.Errorf("none: %s", got)
	}
}

// TestAcceptError: an error of the socket reaches the server through the door, and a closed socket ends it.
func TestAcceptError(t *testing.T) {
	for _, networks := range [][]string{nil, {"10.0.0.0/8"}} {
		inBubble(t, behindProxies(networks...), http.HandlerFunc(whose), func(t *testing.T, s *pipeServer) {
			d := newDoor(newLimiter(failing{s.sock}, s.limit.caps, s.metrics), s.door.trusted, time.Second, s.door.log)
			for range 3 {
				if _, err := d.Accept(); !errors.Is(err, io.ErrNoProgress) {
					t.Errorf("%v", err)
				}
			}
			d.Close()
			if _, err := d.Accept(); err == nil {
				t.Error("a connection through a closed door")
			}
			s.sock.Close()
			d = newDoor(newLimiter(s.sock, s.limit.caps, s.metrics), s.door.trusted, time.Second, s.door.log)
			if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v", err)
			}
		})
	}
}

// failing is a socket that has no file descriptors left.
type failing struct{ *pipes }

func (f failing) Accept() (net.Conn, error) {
	select {
	case <-f.done:
		return nil, net.ErrClosed
	default:
		return nil, io.ErrNoProgress
	}
}

func TestSeldom(t *testing.T) {
	var s seldom
	t0 := time.Unix(1000, 0)
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Second, false}, {59 * time.Second, false}, {time.Minute, true}, {61 * time.Second, false}, {2 * time.Minute, true}} {
		if got := s.now(t0.Add(step.after)); got != step.want {
			t.Errorf("%v: %v", step.after, got)
		}
	}
}
