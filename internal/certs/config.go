package certs

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// letsEncrypt is the directory of Let's Encrypt's production service.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Defaults is the section as if it were empty.
func Defaults() Config {
	return Config{
		ACME: ACME{
			DirectoryURL: letsEncrypt,
			Etcd:         Etcd{Prefix: "m3gateway/acme", Timeout: 5 * time.Second},
			DNS01:        DNS01{RFC2136: RFC2136{KeyAlgorithm: "hmac-sha256"}, Propagation: 2 * time.Minute},
		},
		ClientAuth: ClientAuth{Mode: ClientNone},
	}
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
	c.ClientAuth.check(bad)
}

func (c *ClientAuth) check(bad func(field, problem string)) {
	switch c.Mode {
	case ClientNone:
		if c.CAFile != "" {
			bad("client_auth.mode", "none asks for no certificate, so ca_file says nothing; use optional or required, or remove ca_file")
		}
	case ClientOptional, ClientRequired:
		if c.CAFile == "" {
			bad("client_auth.ca_file", "is missing; give the PEM bundle of the authorities that sign the clients' certificates")
		}
	default:
		bad("client_auth.mode", fmt.Sprintf("%q is no mode; use none, optional or required", c.Mode))
	}
}

func (a *ACME) check(bad func(field, problem string)) {
	for i, d := range a.Domains {
		field := fmt.Sprintf("acme.domains.%d", i)
		if p := domainProblem(d, a.DNS01.RFC2136.Server != ""); p != "" {
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
	switch etcd := len(a.Etcd.Endpoints) > 0; {
	case a.StorageDir == "" && !etcd:
		bad("acme.storage_dir", "is missing; give a directory that survives restarts, as /var/lib/m3gateway/acme, or etcd.endpoints for several gateways")
	case a.StorageDir != "" && etcd:
		bad("acme.storage_dir", "and etcd.endpoints are both set; remove one of them")
	case etcd:
		a.Etcd.check(bad)
	}
	for i, c := range a.Challenges {
		switch field := fmt.Sprintf("acme.challenges.%d", i); {
		case c != acme.ChallengeTypeHTTP01 && c != acme.ChallengeTypeTLSALPN01:
			bad(field, fmt.Sprintf("%q is no challenge; use http-01, tls-alpn-01 or both, or dns01 for proof by DNS", c))
		case a.DNS01.RFC2136.Server != "":
			bad(field, "is not used beside dns01; remove one of them")
		}
	}
	a.DNS01.check(bad)
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

// secure reports whether the members are spoken to over TLS.
func (e *Etcd) secure() bool {
	return len(e.Endpoints) > 0 && strings.HasPrefix(e.Endpoints[0], "https://")
}

func (e *Etcd) check(bad func(field, problem string)) {
	for i, s := range e.Endpoints {
		field := fmt.Sprintf("acme.etcd.endpoints.%d", i)
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			bad(field, "must be the client URL of a member, as https://etcd-0:2379, without user and password")
		case u.Port() == "":
			bad(field, "has no port; etcd's is usually 2379")
		case strings.HasPrefix(s, "https://") != e.secure():
			bad(field, "all endpoints must be http, or all https")
		}
	}
	if p := strings.Split(e.Prefix, "/"); slices.Contains(p, "") || strings.ContainsFunc(e.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad("acme.etcd.prefix", fmt.Sprintf("%q is no prefix; write names with single slashes between them, as m3gateway/acme", e.Prefix))
	}
	if e.Timeout < 100*time.Millisecond || e.Timeout > time.Minute {
		bad("acme.etcd.timeout", fmt.Sprintf("%v cannot work; use a time from 100ms to 1m, as 5s", e.Timeout))
	}
	switch {
	case e.Username != "" && e.Password == "":
		bad("acme.etcd.password", "is missing; give the password of username, or remove that")
	case e.Username == "" && e.Password != "":
		bad("acme.etcd.username", "is missing; name the user whose password is given")
	}
	switch {
	case !e.secure() && (e.CAFile != "" || e.CertFile != "" || e.KeyFile != ""):
		bad("acme.etcd.endpoints", "are http, where ca_file, cert_file and key_file say nothing; use https, or remove them")
	case e.CertFile != "" && e.KeyFile == "":
		bad("acme.etcd.key_file", "is missing; give the key of cert_file")
	case e.CertFile == "" && e.KeyFile != "":
		bad("acme.etcd.cert_file", "is missing; give the certificate of key_file")
	}
	if _, err := newSealer(e.EncryptionKey); err != nil {
		bad("acme.etcd.encryption_key", err.Error())
	}
}

func (d *DNS01) check(bad func(field, problem string)) {
	r := &d.RFC2136
	if r.Server == "" {
		if r.KeyName != "" || r.KeySecret != "" || d.Name != "" || len(d.Resolvers) > 0 {
			bad("acme.dns01.rfc2136.server", "is missing; give host:port of the name server that takes updates, or remove the section")
		}
		return
	}
	if !hostPort(r.Server) {
		bad("acme.dns01.rfc2136.server", fmt.Sprintf("%q is no address; write host:port, as ns1.example.com:53", r.Server))
	}
	if r.KeyName == "" {
		bad("acme.dns01.rfc2136.key_name", "is missing; name the TSIG key that the name server knows: unsigned updates are not sent")
	}
	if _, ok := tsigAlgorithms()[r.KeyAlgorithm]; !ok {
		bad("acme.dns01.rfc2136.key_algorithm", fmt.Sprintf("%q is not known; use hmac-sha256, hmac-sha384 or hmac-sha512", r.KeyAlgorithm))
	}
	if secret, err := base64.StdEncoding.DecodeString(r.KeySecret); err != nil || len(secret) == 0 {
		bad("acme.dns01.rfc2136.key_secret", "is no TSIG secret; give it in base64, as the name server's configuration has it")
	}
	if d.Name != "" && !validHost(strings.ReplaceAll(d.Name, "_", "x")) {
		bad("acme.dns01.name", fmt.Sprintf("%q is no DNS name; write the record's whole name, as _acme-challenge.example.net", d.Name))
	}
	for i, s := range d.Resolvers {
		if !hostPort(s) {
			bad(fmt.Sprintf("acme.dns01.resolvers.%d", i), fmt.Sprintf("%q is no address; write host:port, as 10.0.0.2:53", s))
		}
	}
	if d.Propagation < time.Second || d.Propagation > time.Hour {
		bad("acme.dns01.propagation", fmt.Sprintf("%v cannot work; use a time from 1s to 1h, as 2m", d.Propagation))
	}
}

// hostPort reports whether s is an address to connect to.
func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n > 0 && (validHost(host) || net.ParseIP(host) != nil)
}

// domainProblem says why name cannot be ordered, or nothing. wildcards can be, where they are proved by DNS.
func domainProblem(name string, wildcards bool) string {
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		if !wildcards {
			return "a wildcard cannot be proved by HTTP-01 or TLS-ALPN-01; list the names, or set dns01"
		}
		name = rest
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
