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

// dial makes the transports of cfg.
func (p *Pool) dial(cfg Config) error {
	tlsConfig, err := tlsOf(cfg)
	if err != nil {
		return err
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 15 * time.Second}
	if cfg.DNS.Server != "" { // the targets of SRV records are names that only this server may know
		dialer.Resolver = names{cfg.DNS.Server}.resolver(func(c net.Conn) net.Conn { return c })
	}
	transport := &http.Transport{
		DialContext:            dialer.DialContext, // Proxy stays nil: the environment has no say in where tenants' data goes
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		DisableCompression:     true, // the caller chooses Accept-Encoding
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true, // over TLS only
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: pingTime},
	}
	p.transport = transport
	if cfg.H2C {
		h2c := transport.Clone()
		h2c.Protocols = new(http.Protocols)
		h2c.Protocols.SetUnencryptedHTTP2(true)
		p.clear2 = h2c
	}
	switch a := cfg.BasicAuth; {
	case cfg.BearerToken != "":
		p.auth = "Bearer " + cfg.BearerToken
	case a.Username != "":
		p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password))
	}
	return nil
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
func (p *Pool) roundTrip(m *member, req *http.Request) (*http.Response, error) {
	if p.clear2 != nil && m.h2c.Load() {
		return p.clear2.RoundTrip(req)
	}
	return p.transport.RoundTrip(req)
}
