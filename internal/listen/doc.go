// Package listen owns the sockets: addresses, time-outs, connection caps and the drain at the end.
package listen

import "time"

// Config is the `listen:` section.
type Config struct {
	// HTTPSAddress serves clients. Default ":8443".
	HTTPSAddress string `yaml:"https_address"`
	// HTTPAddress answers ACME challenges and redirects everything else to HTTPS. Empty: no such port.
	HTTPAddress string `yaml:"http_address"`
	// PublicHTTPSPort is the port that clients reach HTTPSAddress at, for redirects; 0 (default): the port of HTTPSAddress.
	// Set it to 443 where a load balancer or a service maps 443 to another port of this process.
	PublicHTTPSPort int `yaml:"public_https_port"`
	// Plain is a second listener for clients, without TLS.
	Plain Plain `yaml:"plain"`
	// AdminAddress serves metrics, health and pprof, without a password. Default "127.0.0.1:9091".
	AdminAddress string `yaml:"admin_address"`
	// HeaderTimeout bounds the reading of a request's header. Default 10s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// BodyTimeout bounds the reading of a request's body. Default 30s.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// IdleTimeout closes a connection that carries no request. Default 3m.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxHeaderBytes bounds a request's line and header. Default 32KiB.
	MaxHeaderBytes int64 `yaml:"max_header_bytes" unit:"bytes"`
	// MaxConnections bounds the connections open at once, for each address by itself. Default 10000.
	MaxConnections int `yaml:"max_connections"`
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
