// Package proxy brings bytes to one healthy upstream, once or safely again, and its answer back.
package proxy

import "time"

// Config is the `upstream:` section, less its kind.
type Config struct {
	// URLs are the base URLs of the coordinators, as http://host:port. Exactly one of URLs and DNS.Name is set.
	URLs []string `yaml:"urls"`
	// DNS finds the coordinators by name.
	DNS DNSConfig `yaml:"dns"`
	// BasicAuth is sent to the upstream when its username is set.
	BasicAuth BasicAuth `yaml:"basic_auth"`
	// CAFile holds the certificates that an https upstream is checked against. Default: the system's.
	CAFile string `yaml:"ca_file" path:"true"`
	// ConnectTimeout default 2s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// WriteTimeout bounds one attempt of a write, answer included. Default 30s.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// ReadTimeout bounds one attempt of a read until the answer's header. Default 2m.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// HealthInterval is the time between two health probes of a member. Default 5s.
	HealthInterval time.Duration `yaml:"health_interval"`
	// HealthTimeout bounds one probe. Default 2s.
	HealthTimeout time.Duration `yaml:"health_timeout"`
	// MaxAttempts is the most members that one request is tried on. Default 2.
	MaxAttempts int `yaml:"max_attempts"`
}

// DNSConfig resolves a host name to members, again and again.
type DNSConfig struct {
	// Name is host:port; every A and AAAA record of the host is a member.
	Name string `yaml:"name"`
	// Scheme is http (default) or https.
	Scheme string `yaml:"scheme"`
	// Interval is the time between two look-ups. Default 10s.
	Interval time.Duration `yaml:"interval"`
}

// BasicAuth is a credential of the gateway's own towards the upstream.
type BasicAuth struct {
	Username string `yaml:"username"`
	Password string `yaml:"password" secret:"true"`
}
