package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server owns the listening sockets. Bind what is wanted with HTTPS, HTTP, Plain and Admin, then Run it once.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	https, http, plain, admin *listener // nil: not bound

	draining atomic.Bool // set when connections are to be led elsewhere
}

// listener is one bound address with its HTTP server.
type listener struct {
	name      string
	field     string // of Config
	limit     *limiter
	door      *door // in front of limit
	srv       *http.Server
	metrics   *listenerMetrics
	pace      pace
	maxResets int
	draining  *atomic.Bool
}

func (l *listener) addr() net.Addr { return l.limit.Addr() }

// New returns a Server that has bound nothing yet.
func New(cfg Config, log *slog.Logger, reg registerer) *Server {
	return &Server{cfg: cfg, log: log, metrics: newMetrics(reg)}
}

// HTTPS binds https_address, to serve h over TLS with HTTP/1.1 and HTTP/2. The Server takes a copy of tc.
func (s *Server) HTTPS(tc *tls.Config, h http.Handler) error {
	if tc == nil {
		return errors.New("HTTPS needs TLS settings")
	}
	return s.bind(&s.https, "https", "https_address", s.cfg.HTTPSAddress, tc.Clone(), h)
}

// HTTP binds http_address, to serve h in clear.
func (s *Server) HTTP(h http.Handler) error {
	return s.bind(&s.http, "http", "http_address", s.cfg.HTTPAddress, nil, h)
}

// Plain binds plain.address, to serve h in clear as HTTPS serves its own.
func (s *Server) Plain(h http.Handler) error {
	return s.bind(&s.plain, "plain", "plain.address", s.cfg.Plain.Address, nil, h)
}

// Admin binds admin_address, to serve h in clear until all other listeners are drained.
func (s *Server) Admin(h http.Handler) error {
	return s.bind(&s.admin, "admin", "admin_address", s.cfg.AdminAddress, nil, h)
}

// HTTPSAddr returns the address that HTTPS has bound, or nil.
func (s *Server) HTTPSAddr() net.Addr { return boundAddr(s.https) }

// HTTPAddr returns the address that HTTP has bound, or nil.
func (s *Server) HTTPAddr() net.Addr { return boundAddr(s.http) }

// PlainAddr returns the address that Plain has bound, or nil.
func (s *Server) PlainAddr() net.Addr { return boundAddr(s.plain) }

// AdminAddr returns the address that Admin has bound, or nil.
func (s *Server) AdminAddr() net.Addr { return boundAddr(s.admin) }

func boundAddr(l *listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.addr()
}

// bind opens the socket at once, so that its error comes before anything is served. Connections wait in it until Run.
func (s *Server) bind(l **listener, name, field, address string, tc *tls.Config, h http.Handler) error {
	if *l != nil {
		return fmt.Errorf("listen.%s is bound already", field)
	}
	if address == "" {
		return fmt.Errorf("listen.%s is empty; give host:port", field)
	}
	sock, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen.%s %q: %w", field, address, bindProblem(err))
	}
	*l = s.attach(name, field, sock, tc, h)
	return nil
}

// attach makes a listener of a socket.
func (s *Server) attach(name, field string, sock net.Listener, tc *tls.Config, h http.Handler) *listener {
	c, m, log := &s.cfg, s.metrics.listener(name), s.log.With("listener", name)
	l := &listener{
		name: name, field: field, metrics: m, maxResets: c.HTTP2.MaxResets, draining: &s.draining,
		pace: pace{grace: c.BodyGrace, rate: c.BodyMinRate, whole: c.BodyTimeout},
		limit: newLimiter(sock, caps{
			all: c.MaxConnections, perPeer: c.MaxConnectionsPerIP, fresh: c.HeaderTimeout / 4, age: c.MaxConnectionAge, write: c.AnswerTimeout,
		}, m),
	}
	var trusted []netip.Prefix
	if name == "https" || name == "http" {
		trusted = c.ProxyProtocol.prefixes()
	}
	l.door = newDoor(l.limit, trusted, c.HeaderTimeout, log)
	l.srv = &http.Server{
		Handler:                      l.guard(h),
		DisableGeneralOptionsHandler: true,
		TLSConfig:                    tc,
		ReadHeaderTimeout:            c.HeaderTimeout, // bounds the TLS handshake too
		IdleTimeout:                  c.IdleTimeout,
		MaxHeaderBytes:               int(c.MaxHeaderBytes),
		ConnState:                    l.limit.stateHook,
		ConnContext:                  connContext,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          c.HTTP2.MaxStreams,
			MaxReadFrameSize:              frameSize,
			MaxReceiveBufferPerConnection: receiveBuffer,
			MaxReceiveBufferPerStream:     receiveBuffer,
			CountError:                    m.http2Error,
		},
	}
	return l
}

// receiveBuffer is the flow-control window of an HTTP/2 connection, and of each of its streams, in bytes. As much of bodies lies in
// memory before anything is known of their sender. Where a round trip takes 100 ms, it lets 2.5 MB/s through.
const receiveBuffer = 256 << 10

// frameSize is the largest HTTP/2 frame that is read, the protocol's own default. Each connection keeps a buffer of the largest one
// that came; more than a record of TLS saves nothing.
const frameSize = 16 << 10

// bindProblem says what to do about an address that cannot be bound.
func bindProblem(err error) error {
	remedy := "use an address of this machine"
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		remedy = "use a port above 1023 or grant CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another process listens there; stop it or use another port"
	}
	var sys syscall.Errno
	if errors.As(err, &sys) {
		err = sys
	}
	return fmt.Errorf("%w; %s", err, remedy)
}

// bound returns the listeners that are bound, admin last.
func (s *Server) bound() []*listener {
	var all []*listener
	for _, l := range []*listener{s.https, s.http, s.plain, s.admin} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// Run serves what is bound until ctx ends, then drains: it calls draining, which should turn readiness off, serves on for
// shutdown_delay while it asks clients to connect elsewhere, stops accepting, and gives the requests under way drain_timeout; admin is served until the others have
// ended. It returns nil after a clean drain, and an error if it had to cut connections or if a listener failed. All sockets
// are closed when it returns.
func (s *Server) Run(ctx context.Context, draining func()) error {
	all := s.bound()
	failed := make(chan error, len(all))
	for _, l := range all {
		go func() { failed <- l.serve() }()
	}
	err := s.await(ctx, draining, failed)
	if err == nil {
		err = s.drain()
	}
	for _, l := range all {
		l.srv.Close()
		l.door.Close() // Close of a server that has not begun to serve leaves the socket open
	}
	return err
}

// await returns nil when it is time to drain, and an error if a listener ended before.
func (s *Server) await(ctx context.Context, draining func(), failed <-chan error) error {
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	draining()
	s.draining.Store(true)
	delay := time.NewTimer(s.cfg.ShutdownDelay)
	defer delay.Stop()
	select {
	case err := <-failed:
		return err
	case <-delay.C:
		return nil
	}
}

func (l *listener) serve() error {
	var err error
	if l.srv.TLSConfig != nil {
		err = l.srv.ServeTLS(l.door, "", "")
	} else {
		err = l.srv.Serve(l.door)
	}
	return fmt.Errorf("serving listen.%s: %w", l.field, err)
}

// drain stops accepting and waits for the requests under way, those of clients first, then those of admin.
func (s *Server) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	var clients sync.WaitGroup
	errs := make([]error, 3)
	for i, l := range []*listener{s.https, s.http, s.plain} {
		if l != nil {
			clients.Go(func() { errs[i] = l.shutdown(ctx) })
		}
	}
	clients.Wait()
	if s.admin != nil {
		// A profile or a scrape that is under way at the very end is not worth a failed exit.
		last, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.admin.srv.Shutdown(last)
	}
	return errors.Join(errs...)
}

// shutdown returns an error if requests are still under way when ctx ends.
func (l *listener) shutdown(ctx context.Context) error {
	err := l.srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("cutting %d connections of listen.%s that were still busy after drain_timeout; raise it if requests take longer", l.limit.openNow(), l.field)
	}
	return err
}
