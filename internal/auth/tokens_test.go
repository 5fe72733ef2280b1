package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	a1, line1, err := NewToken("alice")
	if err != nil {
		t.Fatal(err)
	}
	a2, line2, _ := NewToken("alice")
	b1, line3, _ := NewToken("bob")
	if a1 == a2 || len(a1) != len(tokenPrefix)+43 || strings.Contains(line1, a1) {
		t.Errorf("%q, %q", a1, line1)
	}
	tokens, err := ParseTokens("tokens", []byte("# of dashboards\n\n"+line1+"\r\n"+line2+"\n  "+line3))
	if err != nil {
		t.Fatal(err)
	}
	if names := tokens.Names(); !slices.Equal(names, []string{"alice", "bob"}) {
		t.Errorf("%q", names)
	}
	v := testVerifier(nil)
	for bearer, want := range map[string]string{a1: "alice", a2: "alice", b1: "bob"} {
		if user, err := v.VerifyToken(tokens, bearer, testClient, testNow); user != want || err != nil {
			t.Errorf("%s, %v", user, err)
		}
	}
	digest := strings.TrimPrefix(line1, "alice:sha256:")
	for _, bearer := range []string{"", "x", a1 + "x", a1[:len(a1)-1], strings.ToUpper(a1), digest, line1} {
		if user, err := v.VerifyToken(tokens, bearer, testClient, testNow); user != "" || err != ErrDenied {
			t.Errorf("%q: %s, %v", bearer, user, err)
		}
	}
	if _, err := v.VerifyToken(new(Tokens), a1, testClient, testNow); err != ErrDenied {
		t.Errorf("without tokens: %v", err)
	}
}

// A wrong token is a failure of its address; a right one is not held up by those.
func TestTokensBackOff(t *testing.T) {
	bearer, line, _ := NewToken("alice")
	tokens, err := ParseTokens("tokens", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	v := backingOff(func(c *BackoffConfig) { c.AddressFailures = 2 })
	for _, want := range []error{ErrDenied, ErrDenied, &LockedError{time.Second}} {
		if _, err := v.VerifyToken(tokens, "wrong", testClient, testNow); !(err == want || errors.As(want, new(*LockedError)) && err.Error() == want.Error()) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, err := v.VerifyToken(tokens, bearer, testClient, testNow); err != nil {
		t.Error(err)
	}
	if _, err := v.VerifyToken(tokens, "wrong", testClient, testNow.Add(time.Second)); err != ErrDenied {
		t.Errorf("after the wait: %v", err)
	}
}

func TestBadTokens(t *testing.T) {
	digest := strings.Repeat("0123456789abcdef", 4)
	for text, says := range map[string]string{
		"": "t: no tokens in it", "# nothing": "t: no tokens in it",
		"alice":                                         "t line 1: a line is user:sha256:DIGEST",
		"alice:" + digest:                               "a line is user:sha256:DIGEST",
		":sha256:" + digest:                             "no user before",
		"alice:sha256:" + digest[1:]:                    "64 hexadecimal characters",
		"alice:sha256:" + digest + "00":                 "64 hexadecimal characters",
		"alice:sha256:" + strings.Repeat("g", 64):       "gateway token alice",
		"a:sha256:" + digest + "\n\nb:sha256:" + digest: "t line 3: this token is on line 1 already",
		"a\x01b:sha256:" + digest:                       "control or invisible",
		tokenPrefix + strings.Repeat("A", 43):           "this is a token itself",
		"a:sha256:" + digest + "\nb:x\nc:sha256:y":      "t line 2:",
		strings.Repeat("n", 256) + ":sha256:" + digest:  "the user name has 256 bytes",
	} {
		_, err := ParseTokens("t", []byte(text))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %s", text, err, says)
		}
		if err != nil && (strings.Contains(err.Error(), digest[1:]) || strings.Contains(err.Error(), "AAAA")) {
			t.Errorf("%v shows a digest or a token", err)
		}
	}
	for _, user := range []string{"", "a:b", "#a", " a", "a\n"} {
		if _, _, err := NewToken(user); err == nil {
			t.Errorf("a token for %q", user)
		}
	}
}

func TestBearerCredential(t *testing.T) {
	for header, want := range map[string]string{"Bearer abc": "abc", "bearer  a-._~+/=9": "a-._~+/=9", "BEARER " + strings.Repeat("x", maxBearer): strings.Repeat("x", maxBearer)} {
		if got, ok := BearerCredential([]string{header}); !ok || got != want {
			t.Errorf("%q: %q, %v", header, got, ok)
		}
	}
	for _, header := range [][]string{nil, {"Bearer"}, {"Bearer "}, {"Bearer a b"}, {"Bearer a,b"}, {"Bearer é"}, {"Basic abc"}, {"Bearerabc"}, {"Bearer a", "Bearer a"}, {"Bearer " + strings.Repeat("x", maxBearer+1)}} {
		if got, ok := BearerCredential(header); ok {
			t.Errorf("%q: %q", header, got)
		}
	}
}

func FuzzParseTokens(f *testing.F) {
	_, line, _ := NewToken("alice")
	for _, s := range []string{line, "# x\n" + line + "\n", "alice:sha256:", "a:b:c", "m3gw_x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tokens, err := ParseTokens("t", data)
		if (tokens == nil) == (err == nil) {
			t.Fatalf("%v, %v", tokens, err)
		}
		if tokens == nil {
			return
		}
		for _, name := range tokens.Names() {
			if userProblem(name) != "" {
				t.Errorf("the user %q", name)
			}
		}
		if user, ok := tokens.user(string(data)); ok {
			t.Errorf("the file is the token of %s", user)
		}
	})
}
