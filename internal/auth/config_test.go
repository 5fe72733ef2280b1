package auth

import (
	"testing"
	"time"
)

func TestConfigCheck(t *testing.T) {
	for _, tc := range []struct {
		field string // the one that must be reported; empty: none
		edit  func(*Config)
	}{
		{"", func(*Config) {}},
		{"", func(c *Config) { c.CacheTTL = 0 }},
		{"htpasswd_file", func(c *Config) { c.HtpasswdFile = "" }},
		{"realm", func(c *Config) { c.Realm = "" }},
		{"realm", func(c *Config) { c.Realm = `a"b` }},
		{"realm", func(c *Config) { c.Realm = `a\b` }},
		{"realm", func(c *Config) { c.Realm = "a\r\nX: y" }},
		{"realm", func(c *Config) { c.Realm = "métriques" }},
		{"cache_ttl", func(c *Config) { c.CacheTTL = -time.Second }},
		{"cache_size", func(c *Config) { c.CacheSize = 0 }},
		{"cache_size", func(c *Config) { c.CacheSize = maxCacheSize + 1 }},
		{"max_hashing", func(c *Config) { c.MaxHashing = 0 }},
		{"max_waiting", func(c *Config) { c.MaxWaiting = 0 }},
		{"backoff.user_failures", func(c *Config) { c.Backoff.UserFailures = -1 }},
		{"backoff.address_failures", func(c *Config) { c.Backoff.AddressFailures = -1 }},
		{"", func(c *Config) { c.Backoff.UserFailures, c.Backoff.AddressFailures = 0, 0 }},
		{"backoff.first", func(c *Config) { c.Backoff.First = 0 }},
		{"backoff.longest", func(c *Config) { c.Backoff.Longest = time.Millisecond }},
		{"backoff.entries", func(c *Config) { c.Backoff.Entries = 1 }},
		{"", func(c *Config) { c.HtpasswdFile, c.TokensFile = "", "tokens" }},
		{"", func(c *Config) {
			c.HtpasswdFile, c.Certificates = "", []CertificateUser{{User: "a", CommonName: "x"}, {User: "a", DNS: "x"}}
		}},
		{"certificates.0.user", func(c *Config) { c.Certificates = []CertificateUser{{CommonName: "x"}} }},
		{"certificates.0.user", func(c *Config) { c.Certificates = []CertificateUser{{User: "a\n", CommonName: "x"}} }},
		{"certificates.0", func(c *Config) { c.Certificates = []CertificateUser{{User: "a"}} }},
		{"certificates.0", func(c *Config) { c.Certificates = []CertificateUser{{User: "a", CommonName: "x", DNS: "x"}} }},
		{"certificates.1.dns", func(c *Config) {
			c.Certificates = []CertificateUser{{User: "a", DNS: "x.example"}, {User: "b", DNS: "X.example"}}
		}},
		{"certificates.0.dns", func(c *Config) { c.Certificates = []CertificateUser{{User: "a", DNS: "*.example"}} }},
	} {
		c := Defaults()
		c.HtpasswdFile = "htpasswd"
		tc.edit(&c)
		var got []string
		c.Check(func(field, problem string) {
			if problem == "" {
				t.Errorf("%s: empty problem", field)
			}
			got = append(got, field)
		})
		if tc.field == "" && len(got) > 0 || tc.field != "" && (len(got) != 1 || got[0] != tc.field) {
			t.Errorf("Check of %+v reports %q, want %q", c, got, tc.field)
		}
	}
}
