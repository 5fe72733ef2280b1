package certs

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// letsEncrypt is the directory of Let's Encrypt's production service.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Defaults is the section as if it were empty.
func Defaults() Config {
	return Config{ACME: ACME{DirectoryURL: letsEncrypt}}
}

// Check calls bad for every field that cannot work, with the remedy. It reads no file: Load and New do.
func (c *Config) Check(bad func(field, problem string)) {
	if len(c.Certificates) == 0 && len(c.ACME.Domains) == 0 {
		bad("certificates", "there is no certificate to serve; give cert_file and key_file here, or name acme.domains to order them")
	}
	for i, p := range c.Certificates {
		field := fmt.Sprintf("certificates.%d.", i)
		if p.CertFile == "" {
			bad(field+"cert_file", "is missing; give the PEM file of the certificate and its intermediates")
		}
		if p.KeyFile == "" {
			bad(field+"key_file", "is missing; give the PEM file of the certificate's private key")
		}
		if p.CertFile != "" && slices.ContainsFunc(c.Certificates[:i], func(q Pair) bool { return q.CertFile == p.CertFile }) {
			bad(field+"cert_file", "is listed twice; remove one")
		}
	}
	if len(c.ACME.Domains) > 0 {
		c.ACME.check(bad)
	}
}

func (a *ACME) check(bad func(field, problem string)) {
	for i, d := range a.Domains {
		field := fmt.Sprintf("acme.domains.%d", i)
		if p := domainProblem(d); p != "" {
			bad(field, p)
		} else if slices.ContainsFunc(a.Domains[:i], func(e string) bool { return strings.EqualFold(d, e) }) {
			bad(field, fmt.Sprintf("%q is listed twice; remove one", d))
		}
	}
	if u, err := url.Parse(a.DirectoryURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		bad("acme.directory_url", "must be the https URL of an ACME directory, without user and password; Let's Encrypt's is "+letsEncrypt)
	}
	if !a.AgreeToTerms {
		bad("acme.agree_to_terms", "read the authority's terms of service, then set it to true: no certificate is ordered without")
	}
	if a.StorageDir == "" {
		bad("acme.storage_dir", "is missing; give a directory that survives restarts, as /var/lib/m3gateway/acme")
	}
	if a.Email != "" {
		if m, err := mail.ParseAddress(a.Email); err != nil || m.Address != a.Email {
			bad("acme.email", fmt.Sprintf("%q is no e-mail address; write name@host, or leave it out", a.Email))
		}
	}
	switch {
	case a.EAB.KeyID != "" && a.EAB.MACKey == "":
		bad("acme.eab.mac_key", "is missing; the authority gives it together with key_id")
	case a.EAB.KeyID == "" && a.EAB.MACKey != "":
		bad("acme.eab.key_id", "is missing; the authority gives it together with mac_key")
	}
}

// domainProblem says why name cannot be ordered, or nothing.
func domainProblem(name string) string {
	if strings.HasPrefix(name, "*.") {
		return "a wildcard cannot be proved by HTTP-01 or TLS-ALPN-01; list the names"
	}
	if net.ParseIP(name) != nil {
		return fmt.Sprintf("%q is an address; order a certificate for a DNS name", name)
	}
	if !validHost(name) {
		return fmt.Sprintf("%q is no DNS name; use letters, digits, - and dots, in ASCII (xn-- for others), without port or scheme", name)
	}
	return ""
}

// validHost reports whether name is a DNS host name in ASCII (RFC 1123 section 2.1), without a final dot.
func validHost(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}
