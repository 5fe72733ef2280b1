package proxy

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// idleConnections is how many connections to one member are kept for the next request. It is more than are ever in use at
	// once: as many as were needed of late stay, and idleTime ends the others.
	idleConnections = 4096
	idleTime        = 90 * time.Second
	// silence is how long a member that speaks HTTP/2 may send nothing before it is pinged, and pingTime for its answer: one
	// connection that leads nowhere would take all its requests with it.
	silence  = 2 * time.Second
	pingTime = 2 * time.Second
)

// transports make the connections to members, each its own, so that those of one can be given up without the others'.
type transports struct {
	plain *http.Transport // a pattern
	h2c   *http.Transport // the same for HTTP/2 without TLS; nil without Config.H2C
}

func newTransports(cfg Config) (*transports, error) {
	tlsConfig, err := tlsOf(cfg)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 15 * time.Second}
	if cfg.DNS.Server != "" { // the targets of SRV records are names that only this server may know
		dialer.Resolver = names{cfg.DNS.Server}.resolver(func(c net.Conn) net.Conn { return c })
	}
	t := &transports{plain: &http.Transport{
		DialContext:            dialer.DialContext, // Proxy stays nil: the environment has no say in where tenants' data goes
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		DisableCompression:     true, // the caller chooses Accept-Encoding
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true, // over TLS only
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: pingTime},
	}}
	if cfg.H2C {
		t.h2c = t.plain.Clone()
		t.h2c.Protocols = new(http.Protocols)
		t.h2c.Protocols.SetUnencryptedHTTP2(true)
	}
	return t, nil
}

// of are the transports of one member. h2c is nil without Config.H2C.
func (t *transports) of(*member) (plain, h2c http.RoundTripper) {
	if t.h2c != nil {
		h2c = t.h2c.Clone()
	}
	return t.plain.Clone(), h2c
}

// authorization is the header of that name, "" for none.
func authorization(cfg Config) string {
	switch a := cfg.BasicAuth; {
	case cfg.BearerToken != "":
		return "Bearer " + cfg.BearerToken
	case a.Username != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password))
	}
	return ""
}

func tlsOf(cfg Config) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.ServerName}
	if cfg.CAFile != "" {
		roots, err := loadCA(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("upstream.ca_file: %w", err)
		}
		out.RootCAs = roots
	}
	if cfg.ClientCertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.ClientCertFile, cfg.ClientKeyFile)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("upstream.client_cert_file: %w", err)
		}
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	if name := cfg.DNS.Name; name != "" && !isService(name) && out.ServerName == "" {
		host, _, err := splitHostPort(name)
		if err != nil {
			return nil, fmt.Errorf("upstream.dns.name: %w", err)
		}
		out.ServerName = host // members are dialed by address, their certificates name the host
	}
	return out, nil
}

// roundTrip sends one request to m, by the protocol that it speaks.
func (m *member) roundTrip(req *http.Request) (*http.Response, error) {
	if m.h2c.Load() {
		return m.clear2.RoundTrip(req)
	}
	return m.plain.RoundTrip(req)
}

// closeIdle gives up the connections to m that no request is on: they may lead nowhere, or m has gone.
func (m *member) closeIdle() {
	for _, t := range []http.RoundTripper{m.plain, m.clear2} {
		if t, ok := t.(*http.Transport); ok {
			t.CloseIdleConnections()
		}
	}
}
