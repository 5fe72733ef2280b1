// Package auth turns a credential into a subject, the user's name; it never knows a tenant.
package auth

import "time"

// Config is the `auth:` section.
type Config struct {
	// HtpasswdFile is the path of the htpasswd file. Required, unless Certificates name all users.
	HtpasswdFile string `yaml:"htpasswd_file" path:"true"`
	// Realm is the realm of the Basic challenge. Default "m3gateway".
	Realm string `yaml:"realm"`
	// CacheTTL is how long a verified credential needs no hashing. Default 10m; 0 keeps it as long as its htpasswd entry lives.
	CacheTTL time.Duration `yaml:"cache_ttl"`
	// CacheSize is the most verified credentials kept. Default 10000.
	CacheSize int `yaml:"cache_size"`
	// MaxHashing is how many passwords may be hashed at once; further first checks wait. Default: the number of CPUs.
	MaxHashing int `yaml:"max_hashing"`
	// Certificates say which user a client certificate stands for, in place of a password. They need tls.client_auth.
	Certificates []CertificateUser `yaml:"certificates"`
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
