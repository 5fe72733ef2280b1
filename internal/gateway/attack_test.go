package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/auth"
	"m3gateway/internal/gatewaytest"
)

// TestFailedAttemptsAreHeldUp: wrong passwords of a user are 401, then 429 with the time to wait, whether the user exists or not; who
// was let in before goes on; each failure is logged with user, address and count, and never the password.
func TestFailedAttemptsAreHeldUp(t *testing.T) {
	u := newUpstream(t, ok)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Upstreams: []string{u.URL}, Auth: "backoff: {user_failures: 3, address_failures: 7, first: 1h, longest: 1h}",
	})
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	const guess = "guessed-password"
	try := func(user string, want int) {
		t.Helper()
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			path := map[string]string{http.MethodGet: "/api/v1/labels", http.MethodPost: "/api/v1/write"}[method]
			if want == 401 && method == http.MethodPost {
				continue
			}
			req := g.Request("", method, path, nil)
			req.SetBasicAuth(user, guess)
			a := g.Do(req)
			if a.Status != want || want == 429 && (a.Header.Get("Retry-After") != "3600" || a.Header.Get("WWW-Authenticate") != "" || !strings.Contains(a.Body, "too many failed attempts")) {
				t.Errorf("%s: %d %v %s, want %d", user, a.Status, a.Header, a.Body, want)
			}
		}
	}
	for _, user := range []string{"alice", "nobody"} {
		for _, want := range []int{401, 401, 401, 429, 429} {
			try(user, want)
		}
	}
	try("ops", 401) // the seventh of this address
	try("both", 429)
	for range 3 {
		if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
			t.Errorf("alice: %d %s", a.Status, a.Body)
		}
	}
	if a := g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", "up")}); a.Status != 204 {
		t.Errorf("alice writes: %d %s", a.Status, a.Body)
	}
	text := g.Log.String()
	if strings.Contains(text, guess) || strings.Contains(text, gatewaytest.Password("alice")) {
		t.Error("the log holds a password")
	}
	type line struct {
		Msg, Credential, Client string
		User                    string `json:"claimed_user"`
		OfUser                  int    `json:"failures_of_user"`
		OfAddress               int    `json:"failures_of_address"`
	}
	var got []line
	for s := range strings.Lines(text) {
		var l line
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatal(err)
		}
		if l.Msg == "authentication failed" {
			got = append(got, l)
		}
	}
	if len(got) != 7 {
		t.Fatalf("%d lines", len(got))
	}
	for i, l := range got {
		user, n := []string{"alice", "nobody", "ops"}[i/3], i%3+1
		if want := (line{"authentication failed", "password", "127.0.0.1", user, n, i + 1}); l != want {
			t.Errorf("%+v, want %+v", l, want)
		}
	}
	// A changed htpasswd file may have made right what was wrong.
	g.WriteUsers(append(twoTenantUsers, "late")...)
	gatewaytest.Until(t, "failures are forgotten", func() bool { return g.Get("both", "/api/v1/labels").Status == 200 })
}

// TestBearerTokens: a token is its user's credential on every route, with the same rights; the file is reloaded.
func TestBearerTokens(t *testing.T) {
	u := newUpstream(t, ok)
	s := gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Upstreams: []string{u.URL}, Auth: "tokens_file: tokens, backoff: {address_failures: 0}"}
	secrets := map[string]string{}
	file := func(users ...string) string {
		var b strings.Builder
		for _, user := range users {
			secret, line, err := auth.NewToken(user)
			if err != nil {
				t.Fatal(err)
			}
			secrets[user] = secret
			b.WriteString(line + "\n")
		}
		return b.String()
	}
	s.Files = map[string]string{"tokens": file("alice", "both", "robot")}
	g := gatewaytest.Start(t, s)
	do := func(header, method, path string, more ...string) gatewaytest.Answer {
		t.Helper()
		req := g.Request("", method, path, gatewaytest.Encode(t, []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", "up")}))
		if method == http.MethodGet {
			req = g.Request("", method, path, nil)
		} else {
			req.Header.Set("Content-Type", "application/x-protobuf")
			req.Header.Set("Content-Encoding", "snappy")
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		for i := 0; i < len(more); i += 2 {
			req.Header.Set(more[i], more[i+1])
		}
		return g.Do(req)
	}
	for _, user := range []string{"alice", "robot"} {
		for _, scheme := range []string{"Bearer ", "bearer "} {
			if a := do(scheme+secrets[user], "GET", "/api/v1/labels"); a.Status != 200 {
				t.Errorf("%s reads: %d %s", user, a.Status, a.Body)
			}
		}
		if a := do("Bearer "+secrets[user], "POST", "/api/v1/write"); a.Status != 204 {
			t.Errorf("%s writes: %d %s", user, a.Status, a.Body)
		}
	}
	if a := do("Bearer "+secrets["both"], "GET", "/api/v1/labels", "X-Tenant", "team-c"); a.Status != 403 {
		t.Errorf("a tenant that is not the user's: %d %s", a.Status, a.Body)
	}
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("a password beside tokens: %d", a.Status)
	}
	for _, header := range []string{"Bearer x", "Bearer", "Bearer " + secrets["alice"] + "x", "Bearer " + secrets["alice"] + " x", ""} {
		a := do(header, "GET", "/api/v1/labels")
		if challenges := fmt.Sprint(a.Header.Values("WWW-Authenticate")); a.Status != 401 || challenges != `[Basic realm="m3gateway", charset="UTF-8" Bearer realm="m3gateway"]` {
			t.Errorf("%q: %d %s", header, a.Status, challenges)
		}
	}
	old := secrets["alice"]
	if err := os.WriteFile(filepath.Join(g.Dir, "tokens"), []byte(file("alice", "both")), 0o600); err != nil {
		t.Fatal(err)
	}
	gatewaytest.Until(t, "the new token holds", func() bool { return do("Bearer "+secrets["alice"], "GET", "/api/v1/labels").Status == 200 })
	for _, gone := range []string{old, secrets["robot"]} {
		if a := do("Bearer "+gone, "GET", "/api/v1/labels"); a.Status != 401 {
			t.Errorf("a token that is gone: %d", a.Status)
		}
	}
	for _, secret := range []string{old, secrets["alice"], secrets["robot"]} {
		if strings.Contains(g.Log.String(), secret) {
			t.Error("the log holds a token")
		}
	}
}
