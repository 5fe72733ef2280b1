package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestCertificates(t *testing.T) {
	table := NewCertificates([]CertificateUser{
		{User: "alice", CommonName: "prometheus-1"}, {User: "alice", DNS: "Prom.Example.org"},
		{User: "bob", URI: "spiffe://example.org/ns/a/sa/b"}, {User: "carol", Email: "Carol@example.org"},
	})
	if got := table.Users(); !slices.Equal(got, []string{"alice", "bob", "carol"}) {
		t.Errorf("users %q", got)
	}
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	subject := func(cn string) pkix.Name { return pkix.Name{CommonName: cn} }
	for name, tc := range map[string]struct {
		leaf x509.Certificate
		want string // a user, or after ! a part of the error
	}{
		"common name":                  {x509.Certificate{Subject: subject("prometheus-1")}, "alice"},
		"case of a common name":        {x509.Certificate{Subject: subject("Prometheus-1")}, "!names no user"},
		"dns":                          {x509.Certificate{DNSNames: []string{"other.example.org", "prom.example.ORG"}}, "alice"},
		"a common name is no dns name": {x509.Certificate{Subject: subject("prom.example.org")}, "!names no user"},
		"a dns name is no common name": {x509.Certificate{DNSNames: []string{"prometheus-1"}}, "!names no user"},
		"a wildcard matches nothing":   {x509.Certificate{DNSNames: []string{"*.example.org"}}, "!names no user"},
		"uri":                          {x509.Certificate{URIs: uri("spiffe://example.org/ns/a/sa/b")}, "bob"},
		"uri below":                    {x509.Certificate{URIs: uri("spiffe://example.org/ns/a/sa/b/c")}, "!names no user"},
		"email":                        {x509.Certificate{EmailAddresses: []string{"Carol@example.org"}}, "carol"},
		"case of an email":             {x509.Certificate{EmailAddresses: []string{"carol@example.org"}}, "!names no user"},
		"two names of one user":        {x509.Certificate{Subject: subject("prometheus-1"), DNSNames: []string{"prom.example.org"}}, "alice"},
		"two users":                    {x509.Certificate{Subject: subject("prometheus-1"), EmailAddresses: []string{"Carol@example.org"}}, `!several users, "alice" and "carol"`},
		"no name":                      {x509.Certificate{}, "!without a name"},
		"a long name":                  {x509.Certificate{Subject: subject(strings.Repeat("x", 5000)), DNSNames: []string{"a", "b", "c", "d"}}, `!dns "b", …`},
	} {
		leaf := tc.leaf
		leaf.NotAfter = time.Now().Add(time.Hour)
		got, err := table.User(&leaf)
		var unnamed *CertificateError
		part, fails := strings.CutPrefix(tc.want, "!")
		switch {
		case !fails && (got != tc.want || err != nil):
			t.Errorf("%s: %q, %v", name, got, err)
		case fails && (got != "" || !errors.As(err, &unnamed) || !strings.Contains(err.Error(), part) || len(err.Error()) > 700):
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	var none Certificates
	if got, err := none.User(&x509.Certificate{Subject: subject("prometheus-1")}); err == nil {
		t.Errorf("the empty table names %q", got)
	}
}

func TestNoUsers(t *testing.T) {
	users, err := NoUsers()
	if err != nil || len(users.Names()) > 0 {
		t.Fatalf("%v, %v", users, err)
	}
	v := NewVerifier(Defaults(), prometheus.NewRegistry())
	for _, password := range []string{"of nobody", "x", ""} {
		if err := v.Verify(t.Context(), users, "alice", password, testClient, time.Now()); !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v", password, err)
		}
	}
}
