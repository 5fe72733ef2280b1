// Package certs decides which certificate answers a ClientHello: from files, or from an ACME authority.
package certs

import "time"

// Config is the `tls:` section.
type Config struct {
	// Certificates are pairs of PEM files, chosen by server name; the first answers clients that name none.
	Certificates []Pair `yaml:"certificates"`
	// ACME orders certificates; used when Domains is not empty.
	ACME ACME `yaml:"acme"`
	// ClientAuth asks clients for certificates of their own.
	ClientAuth ClientAuth `yaml:"client_auth"`
}

// Pair is one certificate chain and its key, both PEM.
type Pair struct {
	CertFile string `yaml:"cert_file" path:"true"`
	KeyFile  string `yaml:"key_file" path:"true"`
}

// The values of ClientAuth.Mode.
const (
	ClientNone     = "none"
	ClientOptional = "optional"
	ClientRequired = "required"
)

// ClientAuth is the `tls.client_auth:` section.
type ClientAuth struct {
	// Mode is none (default), optional: a certificate that is sent must be valid; or required: no connection without one.
	Mode string `yaml:"mode"`
	// CAFile holds the authorities that may sign a client's certificate. Required with optional and required.
	CAFile string `yaml:"ca_file" path:"true"`
}

// ACME is the `tls.acme:` section.
type ACME struct {
	// Domains are the names to order certificates for, one for each. A wildcard needs DNS01.
	Domains []string `yaml:"domains"`
	// Email is the account's contact.
	Email string `yaml:"email"`
	// DirectoryURL of the authority. Default: Let's Encrypt production.
	DirectoryURL string `yaml:"directory_url"`
	// AgreeToTerms must be true: the operator agrees to the authority's terms of service.
	AgreeToTerms bool `yaml:"agree_to_terms"`
	// RootCAFile holds the roots that the authority's own endpoint is checked against. Default: the system's.
	RootCAFile string `yaml:"root_ca_file" path:"true"`
	// PreferredChain is the common name of the root to choose where the authority offers several chains. Default: its first.
	PreferredChain string `yaml:"preferred_chain"`
	// StorageDir keeps account, keys and certificates, for the gateways of one machine. It or Etcd is required with Domains.
	StorageDir string `yaml:"storage_dir" path:"true"`
	// Etcd keeps them for any number of gateways.
	Etcd Etcd `yaml:"etcd"`
	// CacheDir keeps a copy of each certificate that is served, with its key, for a start without the storage. Empty: none.
	CacheDir string `yaml:"cache_dir" path:"true"`
	// EAB binds the account to one that exists at the authority.
	EAB EAB `yaml:"eab"`
	// Challenges are the connections to the gateway that may prove the domains: http-01 to port 80, tls-alpn-01 to port 443. Name
	// the one that the authority can reach, where it cannot reach both: what fails counts against its rate limits. Default:
	// tls-alpn-01, and http-01 if there is a listen.http_address.
	Challenges []string `yaml:"challenges"`
	// DNS01 proves the domains by DNS records, in place of connections to the gateway.
	DNS01 DNS01 `yaml:"dns01"`
}

// EAB is an ACME external account binding (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID  string `yaml:"key_id"`
	MACKey string `yaml:"mac_key" secret:"true"`
}

// Etcd is the `tls.acme.etcd:` section.
type Etcd struct {
	// Endpoints are the members' client URLs. Empty: the storage is StorageDir.
	Endpoints []string `yaml:"endpoints"`
	// Prefix begins every key. Gateways with the same prefix share their certificates. Default "m3gateway/acme".
	Prefix string `yaml:"prefix"`
	// Username and Password, where etcd has authentication on. The user needs read and write below Prefix.
	Username string `yaml:"username"`
	Password string `yaml:"password" secret:"true"`
	// CAFile checks the members' certificates. Default: the system's. With https alone.
	CAFile string `yaml:"ca_file" path:"true"`
	// CertFile and KeyFile are the gateway's own certificate for etcd. With https alone; read anew at each connection.
	CertFile string `yaml:"cert_file" path:"true"`
	KeyFile  string `yaml:"key_file" path:"true"`
	// Timeout bounds each request. Default 5s.
	Timeout time.Duration `yaml:"timeout"`
	// EncryptionKey encrypts what is stored, and CacheDir: 32 random bytes in base64 a line; the first line encrypts, each
	// decrypts. Empty: nothing is encrypted.
	EncryptionKey string `yaml:"encryption_key" secret:"true"`
}

// DNS01 is the `tls.acme.dns01:` section: proof by a TXT record (RFC 8555 section 8.4).
type DNS01 struct {
	// RFC2136 sets the record. Without its Server the domains are proved by connections.
	RFC2136 RFC2136 `yaml:"rfc2136"`
	// Name of the record, which _acme-challenge of each domain is a CNAME to. Default: _acme-challenge of the domain itself.
	Name string `yaml:"name"`
	// Resolvers, as host:port, are asked for the record's zone, and until they know the record. Default: the system's, and then
	// the zone's own servers.
	Resolvers []string `yaml:"resolvers"`
	// Propagation bounds the wait for the record. Default 2m.
	Propagation time.Duration `yaml:"propagation"`
}

// RFC2136 is a name server that takes signed updates of the record's zone.
type RFC2136 struct {
	// Server is its host:port. Updates are sent over TCP.
	Server string `yaml:"server"`
	// KeyName, KeyAlgorithm and KeySecret are the TSIG key (RFC 8945) that signs them. The secret is base64. Default
	// algorithm hmac-sha256; hmac-sha384 and hmac-sha512 are known too.
	KeyName      string `yaml:"key_name"`
	KeyAlgorithm string `yaml:"key_algorithm"`
	KeySecret    string `yaml:"key_secret" secret:"true"`
}
