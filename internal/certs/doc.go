// Package certs decides which certificate answers a ClientHello: from files, or from an ACME authority.
package certs

// Config is the `tls:` section.
type Config struct {
	// Certificates are pairs of PEM files, chosen by server name; the first answers clients that name none.
	Certificates []Pair `yaml:"certificates"`
	// ACME orders certificates; used when Domains is not empty.
	ACME ACME `yaml:"acme"`
}

// Pair is one certificate chain and its key, both PEM.
type Pair struct {
	CertFile string `yaml:"cert_file" path:"true"`
	KeyFile  string `yaml:"key_file" path:"true"`
}

// ACME is the `tls.acme:` section.
type ACME struct {
	// Domains are the names to order certificates for.
	Domains []string `yaml:"domains"`
	// Email is the account's contact.
	Email string `yaml:"email"`
	// DirectoryURL of the authority. Default: Let's Encrypt production.
	DirectoryURL string `yaml:"directory_url"`
	// AgreeToTerms must be true: the operator agrees to the authority's terms of service.
	AgreeToTerms bool `yaml:"agree_to_terms"`
	// RootCAFile holds the roots that the authority's own endpoint is checked against. Default: the system's.
	RootCAFile string `yaml:"root_ca_file" path:"true"`
	// StorageDir keeps account, keys and certificates. Required with Domains.
	StorageDir string `yaml:"storage_dir" path:"true"`
	// EAB binds the account to one that exists at the authority.
	EAB EAB `yaml:"eab"`
}

// EAB is an ACME external account binding (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID  string `yaml:"key_id"`
	MACKey string `yaml:"mac_key" secret:"true"`
}
