package auth

import (
	"runtime"
	"strings"
	"time"
)

// maxCacheSize bounds the cache to some 200 MB.
const maxCacheSize = 1_000_000

// Defaults returns the configuration an empty `auth:` section means; only HtpasswdFile has none.
func Defaults() Config {
	return Config{
		Realm:      "m3gateway",
		CacheTTL:   10 * time.Minute,
		CacheSize:  10_000,
		MaxHashing: runtime.GOMAXPROCS(0),
	}
}

// Check reports every semantic problem of c to bad: field is the yaml path inside the section, problem says what is
// wrong and how to mend it.
func (c *Config) Check(bad func(field, problem string)) {
	if c.HtpasswdFile == "" && len(c.Certificates) == 0 {
		bad("htpasswd_file", "is required; name an htpasswd file, made with: gateway passwd alice >> htpasswd")
	}
	checkCertificates(c.Certificates, bad)
	if c.Realm == "" {
		bad("realm", `is empty; leave it out for "m3gateway" or name your own`)
	}
	if strings.ContainsFunc(c.Realm, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		bad("realm", `may hold printable ASCII only, without " and \, as it travels in a quoted header value; choose another`)
	}
	if c.CacheTTL < 0 {
		bad("cache_ttl", "is negative; give a duration like 10m, or 0 to keep a credential as long as its htpasswd entry lives")
	}
	if c.CacheSize < 1 || c.CacheSize > maxCacheSize {
		bad("cache_size", "must be 1 to 1000000: without a cache every request hashes a password; leave it out for 10000")
	}
	if c.MaxHashing < 1 {
		bad("max_hashing", "must be at least 1; leave it out for the number of CPUs")
	}
}
