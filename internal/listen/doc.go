// Package listen owns the sockets: addresses, whose connection each is, time-outs, connection caps and the drain at the end.
package listen

import (
	"net/netip"
	"time"
)

// Config is the `listen:` section.
type Config struct {
	// HTTPSAddress serves clients. Default ":8443".
	HTTPSAddress string `yaml:"https_address"`
	// HTTPAddress answers ACME challenges and redirects everything else to HTTPS. Empty: no such port.
	HTTPAddress string `yaml:"http_address"`
	// PublicHTTPSPort is the port that clients reach HTTPSAddress at, for redirects; 0 (default): the port of HTTPSAddress.
	// Set it to 443 where a load balancer or a service maps 443 to another port of this process.
	PublicHTTPSPort int `yaml:"public_https_port"`
	// HTTPCredentials is refuse (default): a request to HTTPAddress that carries a credential is refused, with the advice to
	// change it; or redirect: it is redirected as any other.
	HTTPCredentials string `yaml:"http_credentials"`
	// HSTSMaxAge makes answers to reads over HTTPS carry Strict-Transport-Security with it. It binds the whole host name, every
	// port of it, in browsers. Default 0: no such header.
	HSTSMaxAge time.Duration `yaml:"hsts_max_age"`
	// ProxyProtocol is about load balancers in front of HTTPSAddress and HTTPAddress.
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
	// Plain is a second listener for clients, without TLS.
	Plain Plain `yaml:"plain"`
	// AdminAddress serves metrics, health and pprof, without a password. Default "127.0.0.1:9091".
	AdminAddress string `yaml:"admin_address"`
	// HeaderTimeout bounds the reading of a request's header. Default 10s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// BodyTimeout bounds the reading of a request's body. Default 30s.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// BodyGrace is how long a body may take before it must have come at BodyMinRate. Default 10s.
	BodyGrace time.Duration `yaml:"body_grace"`
	// BodyMinRate is the least that must come of a body in each second after BodyGrace, on average. Default 1KiB.
	BodyMinRate int64 `yaml:"body_min_rate" unit:"bytes"`
	// AnswerTimeout is how long a client may take to take the next piece of an answer, 32 KiB at most. Default 30s.
	AnswerTimeout time.Duration `yaml:"answer_timeout"`
	// IdleTimeout closes a connection that carries no request. Default 3m.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxHeaderBytes bounds a request's line and header. Default 32KiB.
	MaxHeaderBytes int64 `yaml:"max_header_bytes" unit:"bytes"`
	// MaxConnections bounds the connections open at once, for each address by itself. Default 10000.
	MaxConnections int `yaml:"max_connections"`
	// MaxConnectionsPerIP bounds those of one IPv4 address, or of one IPv6 network of 64 bits. Default 1000.
	MaxConnectionsPerIP int `yaml:"max_connections_per_ip"`
	// MaxConnectionAge is the most that a connection is used; each one's own share of the last quarter is left to chance. The
	// client then connects anew, which spreads long-lived connections over new replicas. Default 10m.
	MaxConnectionAge time.Duration `yaml:"max_connection_age"`
	// HTTP2 bounds each HTTP/2 connection.
	HTTP2 HTTP2 `yaml:"http2"`
	// ShutdownDelay is how long the gateway still takes new requests after readiness went off. Default 5s.
	ShutdownDelay time.Duration `yaml:"shutdown_delay"`
	// DrainTimeout is how long requests under way may still take after that. Default 30s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Plain is the `listen.plain:` section: plain HTTP for clients on a network that may see what they send, as the Prometheus
// servers of the same cluster. It serves what HTTPSAddress serves.
type Plain struct {
	// Address to listen on. Empty (default): no such listener.
	Address string `yaml:"address"`
	// Auth is required (default): the same passwords as over HTTPS; or none: every request is User's, and one that carries
	// a credential is refused.
	Auth string `yaml:"auth"`
	// User whose rights and tenants hold without a password. With auth none alone, and required there.
	User string `yaml:"user"`
}

// The values of Plain.Auth.
const (
	AuthRequired = "required"
	AuthNone     = "none"
)

// Fixed is the user that every request over the plain listener is made as; empty: each needs its own password, or there is
// no such listener.
func (p *Plain) Fixed() string {
	if p.Address == "" || p.Auth != AuthNone {
		return ""
	}
	return p.User
}

// HTTP2 is the `listen.http2:` section.
type HTTP2 struct {
	// MaxStreams bounds the requests under way on one connection. Default 100.
	MaxStreams int `yaml:"max_streams"`
	// MaxResets is how many requests a client may give up on one connection in a minute; over that, the connection ends with
	// those under way. Default 100.
	MaxResets int `yaml:"max_resets"`
}

// ProxyProtocol is the `listen.proxy_protocol:` section. Of the connections of HTTPSAddress and HTTPAddress, those that a trusted
// proxy opens must begin with a header of the PROXY protocol, version 1 or 2, and are those of the client that it names. Others
// are their sender's own, and a header in them is an error as anything else that is no TLS.
type ProxyProtocol struct {
	// Trusted are the networks of the load balancers, as 10.0.0.0/8. Empty (default): there are none.
	Trusted []string `yaml:"trusted"`
}

// prefixes are the networks, which have passed Check.
func (p *ProxyProtocol) prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, t := range p.Trusted {
		if n, err := netip.ParsePrefix(t); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// The values of HTTPCredentials.
const (
	Refuse   = "refuse"
	Redirect = "redirect"
)
