package auth

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// Certificates maps verified client certificates to users. It is immutable; the zero value maps none.
type Certificates struct {
	byName map[certName]string
}

// certName is one name in a certificate.
type certName struct{ kind, value string }

// CertificateError is a client certificate that names no user. Its text is fit for the client, whose certificate it is.
type CertificateError struct{ text string }

func (e *CertificateError) Error() string { return e.text }

// NewCertificates builds the table of entries that have passed Config.Check.
func NewCertificates(entries []CertificateUser) *Certificates {
	c := &Certificates{byName: make(map[certName]string, len(entries))}
	for i := range entries {
		for _, n := range entries[i].names() {
			c.byName[n] = entries[i].User
		}
	}
	return c
}

// Users returns the users that certificates can name, sorted.
func (c *Certificates) Users() []string {
	var users []string
	for _, u := range c.byName {
		users = append(users, u)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// User returns the user that leaf names, or a *CertificateError. leaf has been verified by TLS. A certificate whose names map to
// several users names none of them.
func (c *Certificates) User(leaf *x509.Certificate) (string, error) {
	var user string
	for _, n := range namesOf(leaf) {
		switch u, ok := c.byName[n]; {
		case !ok, u == user:
		case user == "":
			user = u
		default:
			return "", &CertificateError{fmt.Sprintf("the client certificate names several users, %q and %q; mend auth.certificates, or use another certificate", user, u)}
		}
	}
	if user == "" {
		return "", &CertificateError{fmt.Sprintf("the client certificate (%s) names no user, and no password was sent; send a password, or have it mapped under auth.certificates", describe(leaf))}
	}
	return user, nil
}

// namesOf lists the names in leaf that can be mapped.
func namesOf(leaf *x509.Certificate) []certName {
	var all []certName
	if cn := leaf.Subject.CommonName; cn != "" {
		all = append(all, certName{"common_name", cn})
	}
	for _, n := range leaf.DNSNames {
		all = append(all, certName{"dns", strings.ToLower(n)})
	}
	for _, u := range leaf.URIs {
		all = append(all, certName{"uri", u.String()})
	}
	for _, e := range leaf.EmailAddresses {
		all = append(all, certName{"email", e})
	}
	return all
}

// describe lists the first names in leaf, in one line of bounded length.
func describe(leaf *x509.Certificate) string {
	var parts []string
	for _, n := range namesOf(leaf) {
		if len(parts) == 3 {
			parts = append(parts, "…")
			break
		}
		value := n.value
		if len(value) > 100 {
			value = strings.ToValidUTF8(value[:100], "") + "…"
		}
		parts = append(parts, fmt.Sprintf("%s %q", n.kind, value))
	}
	if len(parts) == 0 {
		return "without a name"
	}
	return strings.Join(parts, ", ")
}

// names lists the one name of a good entry, or all that are set.
func (u *CertificateUser) names() []certName {
	var all []certName
	for _, n := range []certName{{"common_name", u.CommonName}, {"dns", strings.ToLower(u.DNS)}, {"uri", u.URI}, {"email", u.Email}} {
		if n.value != "" {
			all = append(all, n)
		}
	}
	return all
}

// checkCertificates reports every entry that cannot work.
func checkCertificates(entries []CertificateUser, bad func(field, problem string)) {
	seen := map[certName]bool{}
	for i := range entries {
		field := fmt.Sprintf("certificates.%d", i)
		if p := userProblem(entries[i].User); entries[i].User == "" {
			bad(field+".user", "is missing; name the user whose certificate it is")
		} else if p != "" {
			bad(field+".user", p)
		}
		switch names := entries[i].names(); {
		case len(names) != 1:
			bad(field, "needs exactly one of common_name, dns, uri and email; write a further entry for a further name")
		case strings.HasPrefix(entries[i].DNS, "*."):
			bad(field+".dns", "is a wildcard; names are compared whole: write the name that is in the certificate, or map each host")
		case seen[names[0]]:
			bad(field+"."+names[0].kind, fmt.Sprintf("%q is mapped already; keep one of the entries", names[0].value))
		default:
			seen[names[0]] = true
		}
	}
}
