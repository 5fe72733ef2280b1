package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/app"
	"m3gateway/internal/gatewaytest"
)

// plainTenancy has a user without an htpasswd entry, for the plain listener.
const plainTenancy = `  users:
    alice: {tenants: [team-a]}
    cluster: {tenants: [infra]}`

// plain is a request over the plain listener, with further headers as name, value pairs.
func plain(t *testing.T, g *gatewaytest.Gateway, method, path string, body []byte, headers ...string) gatewaytest.Answer {
	t.Helper()
	req, err := http.NewRequest(method, g.PlainURL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return g.Do(req)
}

// credential is the header of user's right password.
func credential(g *gatewaytest.Gateway, user string) string {
	return g.Request(user, http.MethodGet, "/", nil).Header.Get("Authorization")
}

// one is a batch of one sample that claims to be another tenant's.
func one(t *testing.T, metric string) []byte {
	return gatewaytest.Encode(t, []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", metric, "tenant", "team-b")})
}

func TestPlainWithPassword(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: plainTenancy, Listen: `plain: {address: "127.0.0.1:0"}`})
	if a := plain(t, g, "POST", "/api/v1/write", one(t, "m")); a.Status != 401 || a.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("no password: %+v", a)
	}
	if a := plain(t, g, "GET", "/api/v1/labels", nil, "Authorization", "Basic YWxpY2U6d3Jvbmc="); a.Status != 401 {
		t.Errorf("a wrong password: %+v", a)
	}
	if a := plain(t, g, "POST", "/api/v1/write", one(t, "m"), "Authorization", credential(g, "alice")); a.Status != 204 {
		t.Fatalf("%+v", a)
	}
	if a := plain(t, g, "GET", "/api/v1/query?query=m", nil, "Authorization", credential(g, "alice")); a.Status != 200 || !strings.Contains(a.Body, `"tenant":"team-a"`) {
		t.Errorf("%+v", a)
	}
	if log := g.Log.String(); !strings.Contains(log, `"status":204,"listener":"plain","client":"127.0.0.1","user":"alice"`) {
		t.Errorf("the access log does not show the listener:\n%s", log)
	}
}

// TestPlainWithoutPassword: every request is the fixed user's and nobody else's, and the HTTPS port asks for a password as ever.
func TestPlainWithoutPassword(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: plainTenancy, Listen: `plain: {address: "127.0.0.1:0", auth: none, user: cluster}`})
	if a := g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", "m")}); a.Status != 204 {
		t.Fatalf("alice: %+v", a)
	}
	if a := plain(t, g, "POST", "/api/v1/write", one(t, "m")); a.Status != 204 {
		t.Fatalf("%+v", a)
	}
	a := plain(t, g, "GET", "/api/v1/query?query=m", nil)
	if a.Status != 200 || strings.Count(a.Body, `"__name__":"m"`) != 1 || !strings.Contains(a.Body, `"tenant":"infra"`) {
		t.Errorf("not confined to the user's tenant: %+v", a)
	}
	if a := plain(t, g, "GET", "/api/v1/labels", nil, "X-Tenant", "team-a"); a.Status != 403 {
		t.Errorf("another tenant named: %+v", a)
	}
	for _, header := range []string{credential(g, "alice"), credential(g, "cluster"), "Bearer x", ""} {
		if a := plain(t, g, "POST", "/api/v1/write", one(t, "other"), "Authorization", header); a.Status != 400 ||
			!strings.Contains(a.Body, "takes no credentials") || a.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%q: %+v", header, a)
		}
	}
	if a := plain(t, g, "GET", "/api/v1/query?query=other", nil); a.Status != 200 || strings.Contains(a.Body, "other") {
		t.Errorf("what came with a credential was written: %+v", a)
	}
	for _, path := range []string{"/metrics", "/-/reload", "/api/v1/status/config"} {
		if a := plain(t, g, "GET", path, nil); a.Status != 404 {
			t.Errorf("%s: %+v", path, a)
		}
	}
	for _, user := range []string{"", "cluster"} { // one has no password there, and no way to have one
		if a := g.Get(user, "/api/v1/labels"); a.Status != 401 {
			t.Errorf("HTTPS as %q: %+v", user, a)
		}
	}
	if log := g.Log.String(); !strings.Contains(log, `"listener":"plain","client":"127.0.0.1","user":"cluster"`) || !strings.Contains(log, `"listener":"https","client":"127.0.0.1","user":"alice"`) {
		t.Errorf("the access log does not show the listeners:\n%s", log)
	}
}

// TestPlainReload: a reload changes what the fixed user may do, but neither the listener nor its user, which it cannot take away.
func TestPlainReload(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: plainTenancy, Listen: `plain: {address: "127.0.0.1:0", auth: none, user: cluster}`})
	reload := func(old, now string) gatewaytest.Answer {
		t.Helper()
		edit(t, g, old, now)
		return g.Admin("POST", "/-/reload")
	}
	if a := reload("cluster: {tenants: [infra]}", "cluster: {tenants: [infra2]}"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	plain(t, g, "POST", "/api/v1/write", one(t, "m"))
	if a := plain(t, g, "GET", "/api/v1/query?query=m", nil); !strings.Contains(a.Body, `"tenant":"infra2"`) {
		t.Errorf("%+v", a)
	}
	if a := reload("auth: none, user: cluster", "auth: none, user: alice"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	if !strings.Contains(g.Log.String(), "takes effect only after a restart") {
		t.Error("the log does not ask for a restart")
	}
	if a := plain(t, g, "GET", "/api/v1/query?query=m", nil); !strings.Contains(a.Body, `"tenant":"infra2"`) {
		t.Errorf("the listener changed its user: %+v", a)
	}
	if a := reload("cluster: {tenants: [infra2]}", "other: {tenants: [infra2]}"); a.Status != 422 || !strings.Contains(a.Body, "until the next start") {
		t.Errorf("the user of the listener is gone: %+v", a)
	}
	if a := plain(t, g, "GET", "/api/v1/query?query=m", nil); a.Status != 200 {
		t.Errorf("%+v", a)
	}
}

// TestPlainUserMustBeKnown: a misspelt user must not become a tenant of its own.
func TestPlainUserMustBeKnown(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: plainTenancy})
	for user, known := range map[string]bool{"alice": true, "cluster": true, "clutser": false} {
		data, err := os.ReadFile(filepath.Join(g.Dir, "gateway.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(g.Dir, user+".yaml")
		text := strings.Replace(string(data), "shutdown_delay: 0s,", fmt.Sprintf(`plain: {address: "127.0.0.1:0", auth: none, user: %s},`, user), 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = app.Load(file)
		if known && err != nil || !known && (err == nil || !strings.Contains(err.Error(), `listen.plain.user "clutser" is neither under tenancy.users`)) {
			t.Errorf("%s: %v", user, err)
		}
	}
}
