package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pipes is a listener without a network, for tests in a bubble of their own time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// pipeServer is one listener with its HTTP server in a bubble.
type pipeServer struct {
	*listener
	t     *testing.T
	sock  *pipes
	tls   *tls.Config
	dials atomic.Int64
}

// inBubble runs f with a server of h in a bubble, where time passes only while everybody waits.
func inBubble(t *testing.T, cfg Config, h http.Handler, f func(*testing.T, *pipeServer)) {
	t.Helper()
	source := httptest.NewTLSServer(nil) // for its certificate and the roots that verify it
	source.Close()
	client := source.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // the last of all: what still waits for a while comes to its end
		s := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		sock := &pipes{conns: make(chan net.Conn, 100), done: make(chan struct{})}
		p := &pipeServer{t: t, sock: sock, tls: client}
		p.listener = s.attach("https", "https_address", sock, &tls.Config{Certificates: source.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}, h)
		served := make(chan error, 1)
		go func() { served <- p.serve() }()
		defer func() {
			p.srv.Close()
			p.door.Close()
			<-served
		}()
		f(t, p)
	})
}

// connect opens a connection from an address, without a handshake.
func (p *pipeServer) connect(from string) net.Conn {
	c, s := wires(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 1234)))
	p.dials.Add(1)
	p.sock.conns <- s
	return c
}

// home is where clients are that are nowhere else.
const home = "192.0.2.1"

// client is a client of it that speaks only h2 or only HTTP/1.1.
func (p *pipeServer) client(h2 bool) *http.Client {
	var proto http.Protocols
	proto.SetHTTP2(h2)
	proto.SetHTTP1(!h2)
	tr := &http.Transport{
		Protocols: &proto, TLSClientConfig: p.tls.Clone(),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return p.connect(home), nil },
	}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// raw opens a TLS connection for the protocol.
func (p *pipeServer) raw(proto string) (*tls.Conn, *bufio.Reader) {
	p.t.Helper()
	cfg := p.tls.Clone()
	cfg.NextProtos = []string{proto}
	return p.handshake(p.connect(home), cfg)
}

func (p *pipeServer) handshake(nc net.Conn, cfg *tls.Config) (*tls.Conn, *bufio.Reader) {
	p.t.Helper()
	c := tls.Client(nc, cfg)
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}
