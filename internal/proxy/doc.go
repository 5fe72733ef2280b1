// Package proxy brings bytes to one healthy upstream, once or safely again, and its answer back.
package proxy

import "time"

// Config is the `upstream:` section, less its kind.
type Config struct {
	// URLs are the base URLs of the coordinators, as http://host:port. Exactly one of URLs and DNS.Name is set.
	URLs []string `yaml:"urls"`
	// DNS finds the coordinators by name.
	DNS DNSConfig `yaml:"dns"`
	// Routing of writes: series, tenant or any. Default: series for a store that aggregates, else tenant.
	Routing Routing `yaml:"routing"`
	// Handover is the coarsest resolution that the coordinators aggregate to. A member that comes, comes back or leaves in an
	// orderly way does so at a multiple of it, by the samples' timestamps, so that no aggregated window is torn. 0: at once.
	// Default 1m.
	Handover time.Duration `yaml:"handover"`
	// BasicAuth is sent to the upstream when its username is set.
	BasicAuth BasicAuth `yaml:"basic_auth"`
	// BearerToken is sent to the upstream in place of BasicAuth.
	BearerToken string `yaml:"bearer_token" secret:"true"`
	// CAFile holds the certificates that an https upstream is checked against. Default: the system's.
	CAFile string `yaml:"ca_file" path:"true"`
	// ClientCertFile and ClientKeyFile are the gateway's own certificate towards an https upstream, read at each handshake.
	ClientCertFile string `yaml:"client_cert_file" path:"true"`
	ClientKeyFile  string `yaml:"client_key_file" path:"true"`
	// ServerName is the name that an https upstream's certificate must have. Default: the host of the URL, or of DNS.Name.
	ServerName string `yaml:"server_name"`
	// H2C speaks HTTP/2 without TLS to those members that offer it. Default false.
	H2C bool `yaml:"h2c"`
	// ConnectTimeout bounds a connection, and a TLS handshake. Default 2s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// WriteTimeout bounds a write, all attempts and the answer included. Default 30s.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// ReadTimeout bounds a read until the answer's header, all attempts included, and then once more the time spent waiting for
	// the answer's bytes. Default 2m.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// AnswerBytes is the most bytes of an answer to a read. Default 1GiB.
	AnswerBytes int64 `yaml:"answer_bytes" unit:"bytes"`
	// HealthInterval is the time between two health probes of a member. Default 5s.
	HealthInterval time.Duration `yaml:"health_interval"`
	// HealthTimeout bounds one probe. Default 2s.
	HealthTimeout time.Duration `yaml:"health_timeout"`
	// MaxEjected is the largest share of the members, in percent, that is taken out for what requests met there. Default 50.
	MaxEjected int `yaml:"max_ejected_percent"`
	// SlowStart is how long a member that comes back is given less than its share of reads. Default 30s.
	SlowStart time.Duration `yaml:"slow_start"`
	// MaxAttempts is the most members that one request is tried on. Default 2.
	MaxAttempts int `yaml:"max_attempts"`
	// RetryBudget is how many attempts may be added to requests, second ones of reads included, in percent of the requests of the
	// last ten seconds. Default 8: with what the ten seconds before it leave over, a brown-out is not asked a tenth more.
	RetryBudget int `yaml:"retry_budget_percent"`
	// Hedge is the share of the requests under way, in percent, that may be under way twice: a read that takes longer than 95% of
	// its like, or twice HealthTimeout while that is not known, at another member; a write that takes ten times as long while its
	// member answers others, over another connection. 0: none. Default 5.
	Hedge int `yaml:"hedge_percent"`
}

// Routing says which member a write goes to.
type Routing string

const (
	// BySeries divides each write among the members, so that each series keeps to one: see Split and Send. With Do it is ByTenant.
	BySeries Routing = "series"
	// ByTenant keeps all writes with the same Request.Key on one member.
	ByTenant Routing = "tenant"
	// ByLoad sends each write to the less busy of two members at random, for stores that do not aggregate by themselves.
	ByLoad Routing = "any"
)

// DNSConfig resolves a name to members, again and again.
type DNSConfig struct {
	// Name is host:port, where every A and AAAA record of the host is a member; or the name of SRV records, which begins with an
	// underscore and has no port: each target of the lowest priority value is a member, known by its name.
	Name string `yaml:"name"`
	// Scheme is http (default) or https.
	Scheme string `yaml:"scheme"`
	// Interval is the most time between two look-ups; a shorter TTL of the answer shortens it, to 1s at least. Default 10s.
	Interval time.Duration `yaml:"interval"`
	// Server is the host:port of a name server to ask in place of the system's.
	Server string `yaml:"server"`
}

// BasicAuth is a credential of the gateway's own towards the upstream.
type BasicAuth struct {
	Username string `yaml:"username"`
	Password string `yaml:"password" secret:"true"`
}
