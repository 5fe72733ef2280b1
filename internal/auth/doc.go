// Package auth turns a credential into a subject, the user's name; it never knows a tenant.
package auth

import "time"

// Config is the `auth:` section.
type Config struct {
	// HtpasswdFile is the path of the htpasswd file. Required, unless TokensFile or Certificates name all users.
	HtpasswdFile string `yaml:"htpasswd_file" path:"true"`
	// TokensFile is the path of a file of bearer tokens' digests. Default none.
	TokensFile string `yaml:"tokens_file" path:"true"`
	// Realm is the realm of the Basic challenge. Default "m3gateway".
	Realm string `yaml:"realm"`
	// CacheTTL is how long a verified credential needs no hashing. Default 10m; 0 keeps it as long as its htpasswd entry lives.
	CacheTTL time.Duration `yaml:"cache_ttl"`
	// CacheSize is the most verified credentials kept. Default 10000.
	CacheSize int `yaml:"cache_size"`
	// MaxHashing is how many passwords may be hashed at once; further first checks wait. Default: half the CPUs, 1 at least.
	MaxHashing int `yaml:"max_hashing"`
	// MaxWaiting is how many first checks may wait for that; one more is told to come again. Default 1000.
	MaxWaiting int `yaml:"max_waiting"`
	// Backoff says how failures hold up further attempts.
	Backoff BackoffConfig `yaml:"backoff"`
	// Certificates say which user a client certificate stands for, in place of a password. They need tls.client_auth.
	Certificates []CertificateUser `yaml:"certificates"`
}

// BackoffConfig is `auth.backoff`. The first failure that costs time costs First, each further one twice as much, up to Longest.
// While no wait is on, one failure is forgiven for each fifth of Longest; all are when there was no other for twice Longest.
type BackoffConfig struct {
	// UserFailures is the failure of one user from which on attempts have to wait; 0: none. Default 10.
	UserFailures int `yaml:"user_failures"`
	// AddressFailures is that of one IPv4 address, or one IPv6 network of 64 bits; 0: none. Default 30.
	AddressFailures int `yaml:"address_failures"`
	// First is the shortest wait. Default 1s.
	First time.Duration `yaml:"first"`
	// Longest is the longest. Default 5m.
	Longest time.Duration `yaml:"longest"`
	// Entries is the most users, and the most addresses, whose failures are kept. Default 100000.
	Entries int `yaml:"entries"`
}

// CertificateUser is one name in client certificates, and the user that it stands for. Exactly one name is set; it is compared
// whole.
type CertificateUser struct {
	User string `yaml:"user"`
	// CommonName is of the certificate's subject; DNS, URI and Email are subject alternative names. Case matters but in DNS.
	CommonName string `yaml:"common_name"`
	DNS        string `yaml:"dns"`
	URI        string `yaml:"uri"`
	Email      string `yaml:"email"`
}
