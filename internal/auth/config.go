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
		MaxHashing: max(1, runtime.GOMAXPROCS(0)/2), // wrong passwords must leave room for work
		MaxWaiting: 1000,
		Backoff:    BackoffConfig{UserFailures: 10, AddressFailures: 30, First: time.Second, Longest: 5 * time.Minute, Entries: 100_000},
	}
}

// Check reports every semantic problem of c to bad: field is the yaml path inside the section, problem says what is
// wrong and how to mend it.
func (c *Config) Check(bad func(field, problem string)) {
	if c.HtpasswdFile == "" && c.TokensFile == "" && len(c.Certificates) == 0 {
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
		bad("max_hashing", "must be at least 1; leave it out for half the number of CPUs")
	}
	if c.MaxWaiting < 1 || c.MaxWaiting > 100_000 {
		bad("max_waiting", "must be 1 to 100000; leave it out for 1000")
	}
	c.Backoff.check(bad)
}

func (b *BackoffConfig) check(bad func(field, problem string)) {
	if b.UserFailures < 0 {
		bad("backoff.user_failures", "is negative; use a number above 0, or 0 so that no user has to wait")
	}
	if b.AddressFailures < 0 {
		bad("backoff.address_failures", "is negative; use a number above 0, or 0 so that no address has to wait")
	}
	if b.First < 10*time.Millisecond || b.First > time.Hour {
		bad("backoff.first", "must be 10ms to 1h; leave it out for 1s")
	}
	if b.Longest < b.First || b.Longest > 24*time.Hour {
		bad("backoff.longest", "must be at least backoff.first and at most 24h; leave it out for 5m")
	}
	if b.Entries < 100 || b.Entries > 10_000_000 {
		bad("backoff.entries", "must be 100 to 10000000; leave it out for 100000, which take 10 MB")
	}
}
