package auth

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestBasicCredential(t *testing.T) {
	for _, tc := range []struct {
		header         []string
		user, password string
		ok             bool
	}{
		{[]string{"Basic " + b64("alice:secret")}, "alice", "secret", true},
		{[]string{"bAsIC   " + b64("alice:secret")}, "alice", "secret", true},
		{[]string{"Basic " + b64("alice:a:b:c")}, "alice", "a:b:c", true},
		{[]string{"Basic " + b64("test:123£")}, "test", "123£", true}, // RFC 7617, section 2.1
		{[]string{"Basic " + b64("alice:")}, "alice", "", true},
		{[]string{"Basic " + b64("alice:"+strings.Repeat("p", MaxPassword))}, "alice", strings.Repeat("p", MaxPassword), true},
		{[]string{"Basic " + b64(strings.Repeat("u", maxUser)+":"+strings.Repeat("p", MaxPassword))}, strings.Repeat("u", maxUser), strings.Repeat("p", MaxPassword), true},

		{nil, "", "", false},
		{[]string{}, "", "", false},
		{[]string{""}, "", "", false},
		{[]string{"Basic"}, "", "", false},
		{[]string{"Basic "}, "", "", false},
		{[]string{"Basic" + b64("alice:secret")}, "", "", false},
		{[]string{"Basic\t" + b64("alice:secret")}, "", "", false},
		{[]string{" Basic " + b64("alice:secret")}, "", "", false},
		{[]string{"Bearer " + b64("alice:secret")}, "", "", false},
		{[]string{"Basic " + b64("alice:secret"), "Basic " + b64("alice:secret")}, "", "", false},
		{[]string{"Basic " + b64("alice:secret"), ""}, "", "", false},
		{[]string{"Basic " + b64("alice:secret") + ", Basic " + b64("bob:secret")}, "", "", false},
		{[]string{"Basic " + b64("alice:secret") + " "}, "", "", false},
		{[]string{"Basic " + b64("alice:secret") + "\r\n"}, "", "", false},
		{[]string{"Basic YWxp\nY2U6c2VjcmV0"}, "", "", false},
		{[]string{"Basic " + strings.TrimRight(b64("alice:secrets"), "=")}, "", "", false},
		{[]string{"Basic YTpiYx=="}, "", "", false}, // unused bits
		{[]string{"Basic " + b64("alice")}, "", "", false},
		{[]string{"Basic " + b64(":secret")}, "", "", false},
		{[]string{"Basic " + b64("al\x00ice:secret")}, "", "", false},
		{[]string{"Basic " + b64("al\u0085ice:secret")}, "", "", false},
		{[]string{"Basic " + b64("alice:sec\nret")}, "", "", false},
		{[]string{"Basic " + b64("alice:sec\x7fret")}, "", "", false},
		{[]string{"Basic " + b64("al\xe9ice:secret")}, "", "", false},
		{[]string{"Basic " + b64("alice:\xe9t\xe9")}, "", "", false},
		{[]string{"Basic " + b64("alice:"+strings.Repeat("p", MaxPassword+1))}, "", "", false},
		{[]string{"Basic " + b64(strings.Repeat("u", maxUser+1)+":p")}, "", "", false},
		{[]string{"Basic " + strings.Repeat("A", 1<<20)}, "", "", false},
	} {
		user, password, ok := BasicCredential(tc.header)
		if user != tc.user || password != tc.password || ok != tc.ok {
			t.Errorf("%.80q: got %.40q %.40q %v", tc.header, user, password, ok)
		}
	}
}

// FuzzBasicCredential checks against net/http, which is laxer: what is accepted here is accepted there and the same.
func FuzzBasicCredential(f *testing.F) {
	seeds := []string{"", "Basic", "Basic " + b64("alice:secret"), "basic  " + b64("a:b:c"), "Basic " + b64("a"), "Bearer x", "Basic YTpiYx==", "Basic YTpi\nYw=="}
	if len(seeds) == 0 {
		f.Fatal("seed corpus is empty")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		user, password, ok := BasicCredential([]string{header})
		if !ok {
			if user != "" || password != "" {
				t.Fatal("a credential that is not ok")
			}
			return
		}
		if user == "" || strings.Contains(user, ":") || len(user) > maxUser || len(password) > MaxPassword || !utf8.ValidString(user+password) {
			t.Fatalf("accepted %q %q", user, password)
		}
		if !strings.HasSuffix(header, " "+b64(user+":"+password)) {
			t.Fatalf("%q is not the canonical form of %q %q", header, user, password)
		}
		_, token, _ := strings.Cut(header, " ")
		r := http.Request{Header: http.Header{"Authorization": {"Basic " + strings.TrimLeft(token, " ")}}}
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			t.Fatalf("%q: net/http reads %q %q %v, we %q %q", header, u, p, ok, user, password)
		}
		if _, _, ok := BasicCredential([]string{header, header}); ok {
			t.Fatal("accepted two values")
		}
	})
}
