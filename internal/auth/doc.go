// Package auth turns a credential into a subject, the user's name; it never knows a tenant.
package auth

import "time"

// Config is the `auth:` section.
type Config struct {
	// HtpasswdFile is the path of the htpasswd file. Required.
	HtpasswdFile string `yaml:"htpasswd_file" path:"true"`
	// Realm is the realm of the Basic challenge. Default "m3gateway".
	Realm string `yaml:"realm"`
	// CacheTTL is how long a verified credential needs no hashing. Default 10m; 0 keeps it as long as its htpasswd entry lives.
	CacheTTL time.Duration `yaml:"cache_ttl"`
	// CacheSize is the most verified credentials kept. Default 10000.
	CacheSize int `yaml:"cache_size"`
	// MaxHashing is how many passwords may be hashed at once; further first checks wait. Default: the number of CPUs.
	MaxHashing int `yaml:"max_hashing"`
}
