package certs

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	files := func(c *Config) { c.Certificates = []Pair{{"a.pem", "a.key"}} }
	acme := func(c *Config) {
		c.ACME.Domains = []string{"gw.example.org"}
		c.ACME.AgreeToTerms = true
		c.ACME.StorageDir = "/var/lib/m3gateway"
	}
	for _, tc := range []struct {
		name   string
		change []func(*Config)
		want   []string // "field: part of the problem"; none: good
	}{
		{"files", []func(*Config){files}, nil},
		{"acme", []func(*Config){acme}, nil},
		{"both", []func(*Config){files, acme}, nil},
		{"nothing", nil, []string{"certificates: name acme.domains"}},
		{"no key", []func(*Config){func(c *Config) { c.Certificates = []Pair{{"a.pem", ""}} }}, []string{"certificates.0.key_file: is missing"}},
		{"no certificate", []func(*Config){func(c *Config) { c.Certificates = []Pair{{"", "a.key"}} }}, []string{"certificates.0.cert_file: is missing"}},
		{"twice", []func(*Config){func(c *Config) { c.Certificates = []Pair{{"a", "b"}, {"a", "c"}} }}, []string{"certificates.1.cert_file: twice"}},
		{"terms", []func(*Config){acme, func(c *Config) { c.ACME.AgreeToTerms = false }}, []string{"acme.agree_to_terms: terms of service"}},
		{"storage", []func(*Config){acme, func(c *Config) { c.ACME.StorageDir = "" }}, []string{"acme.storage_dir: survives restarts"}},
		{"plain directory", []func(*Config){acme, func(c *Config) { c.ACME.DirectoryURL = "http://ca.example/dir" }}, []string{"acme.directory_url: https URL"}},
		{"password in directory", []func(*Config){acme, func(c *Config) { c.ACME.DirectoryURL = "https://u:p@ca.example/dir" }}, []string{"acme.directory_url: https URL"}},
		{"e-mail", []func(*Config){acme, func(c *Config) { c.ACME.Email = "Ops <ops@example.org>" }}, []string{"acme.email: name@host"}},
		{"key id alone", []func(*Config){acme, func(c *Config) { c.ACME.EAB.KeyID = "k" }}, []string{"acme.eab.mac_key: is missing"}},
		{"mac key alone", []func(*Config){acme, func(c *Config) { c.ACME.EAB.MACKey = "k" }}, []string{"acme.eab.key_id: is missing"}},
		{"domains", []func(*Config){acme, func(c *Config) {
			c.ACME.Domains = []string{"*.example.org", "10.0.0.1", "https://x", "a..b", "gw:443", "a.example", "A.example", strings.Repeat("a", 64)}
		}}, []string{
			"acme.domains.0: wildcard", "acme.domains.1: address", "acme.domains.2: no DNS name", "acme.domains.3: no DNS name",
			"acme.domains.4: no DNS name", "acme.domains.6: twice", "acme.domains.7: no DNS name",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Defaults()
			for _, change := range tc.change {
				change(&c)
			}
			var got []string
			c.Check(func(field, problem string) { got = append(got, field+": "+problem) })
			if len(got) != len(tc.want) {
				t.Fatalf("got %d problems %q, want %q", len(got), got, tc.want)
			}
			for i, w := range tc.want {
				field, part, _ := strings.Cut(w, ": ")
				if !strings.HasPrefix(got[i], field+": ") || !strings.Contains(got[i], part) {
					t.Errorf("got %q, want %q", got[i], w)
				}
			}
		})
	}
}
