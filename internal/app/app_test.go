package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/app"
	"m3gateway/internal/gatewaytest"
)

// sink is a store that takes everything, ready or not as told.
func sink(t *testing.T) (url string, ready *atomic.Bool) {
	ready = new(atomic.Bool)
	ready.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/-/ready" && !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/v1/label") {
			_, _ = w.Write([]byte(`{"status":"success","data":[]}`))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, ready
}

func edit(t *testing.T, g *gatewaytest.Gateway, old, now string) {
	t.Helper()
	file := filepath.Join(g.Dir, "gateway.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), old, now, 1)
	if text == string(data) {
		t.Fatalf("%q is not in the configuration", old)
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{url}, Extra: "limits: {window: {past: 10m, future: 10m}}"})
	status := func(user string) int { return g.Get(user, "/api/v1/labels").Status }
	if status("alice") != 200 || status("bob") != 401 {
		t.Fatal("not set up as meant")
	}

	// The htpasswd file: a new user comes, a verified one goes at once.
	g.WriteUsers("bob")
	gatewaytest.Until(t, "bob is known", func() bool { return status("bob") == 200 })
	if got := status("alice"); got != 401 {
		t.Errorf("alice was removed and verified before: %d", got)
	}

	// A broken configuration changes nothing, not even what else changed with it.
	edit(t, g, "past: 10m", "past: ten")
	g.WriteUsers("bob", "carol")
	if a := g.Admin("POST", "/-/reload"); a.Status != 422 || !strings.Contains(a.Body, "ten") {
		t.Errorf("%+v", a)
	}
	if status("carol") != 401 || status("bob") != 200 {
		t.Error("a part of a broken change took effect")
	}
	if m := g.Admin("GET", "/metrics").Body; !strings.Contains(m, "m3gateway_app_last_reload_successful 0\n") {
		t.Error("the metric does not say that the reload failed")
	}
	if !strings.Contains(g.Log.String(), "the state before stays in use") {
		t.Error("the log does not say that the reload failed")
	}

	// Mended, all of it holds.
	edit(t, g, "past: ten", "past: 1m")
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if status("carol") != 200 {
		t.Error("carol is still unknown")
	}
	old := []prompb.TimeSeries{gatewaytest.Series(time.Now().Add(-2*time.Minute), 1, "__name__", "up")}
	if a := g.Write("carol", old); a.Status != 400 || !strings.Contains(a.Body, "older than 1m0s") {
		t.Errorf("the new window does not hold: %+v", a)
	}
	if m := g.Admin("GET", "/metrics").Body; !strings.Contains(m, "m3gateway_app_last_reload_successful 1\n") {
		t.Error("the metric does not say that the reload succeeded")
	}
}

func TestReloadMovesToAnotherStore(t *testing.T) {
	first, _ := sink(t)
	second, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{first}})
	edit(t, g, first, second)
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 || !strings.Contains(g.Log.String(), "upstream="+second) && !strings.Contains(g.Log.String(), `"upstream":"`+second) {
		t.Errorf("%+v\n%s", a, g.Log)
	}
}

// TestReloadOfMembersKeepsTheOthers: a member more or less leaves what is known of the others as it was.
func TestReloadOfMembersKeepsTheOthers(t *testing.T) {
	first, _ := sink(t)
	second, _ := sink(t)
	third, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{first, second}, UpstreamExtra: "  health_interval: 100ms"})
	members := func() map[string]string {
		var pool app.Upstreams
		if err := json.Unmarshal([]byte(g.Admin("GET", "/upstreams").Body), &pool); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, m := range pool.Members {
			out[m.URL] = fmt.Sprint(m.Writes.State, m.Writes.Since)
		}
		return out
	}
	before := members()
	if len(before) != 2 || !strings.HasPrefix(before[first], "in") {
		t.Fatalf("%v", before)
	}
	edit(t, g, second, third)
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	gatewaytest.Until(t, "the third is in and the second has left", func() bool {
		now := members()
		return strings.HasPrefix(now[third], "in") && now[second] == ""
	})
	if now := members(); now[first] != before[first] {
		t.Errorf("the first was %s, is %s", before[first], now[first])
	}
}

func TestAdmin(t *testing.T) {
	url, ready := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{url}, UpstreamExtra: "  health_interval: 100ms"})
	for path, says := range map[string]string{
		"/upstreams": url, "/healthz": "ok", "/metrics": "m3gateway_app_build_info{version=\"test\"} 1", "/debug/pprof/cmdline": "", "/debug/pprof/goroutine?debug=1": "goroutine profile",
	} {
		if a := g.Admin("GET", path); a.Status != 200 || !strings.Contains(a.Body, says) {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
	gatewaytest.Until(t, "the gateway is ready", func() bool { return g.Admin("GET", "/readyz").Status == 200 })
	ready.Store(false)
	gatewaytest.Until(t, "the gateway is not ready", func() bool { return g.Admin("GET", "/readyz").Status == 503 })
	if a := g.Admin("GET", "/-/reload"); a.Status != 405 {
		t.Errorf("reload by GET: %d", a.Status)
	}
	if a := g.Admin("GET", "/api/v1/labels"); a.Status != 404 {
		t.Errorf("the admin port serves clients: %d", a.Status)
	}
	if a := g.Get("alice", "/metrics"); a.Status != 404 {
		t.Errorf("the client port serves metrics: %d", a.Status)
	}
}

// TestNoCredentialInLogs: neither a good nor a bad password is ever written down.
func TestNoCredentialInLogs(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{url}, Extra: "log: {level: debug}"})
	g.Get("alice", "/api/v1/labels")
	req := g.Request("alice", "GET", "/api/v1/labels", nil)
	req.SetBasicAuth("alice", "wrong-password")
	g.Do(req)
	req.SetBasicAuth("mallory", "wrong-password")
	g.Do(req)
	log := g.Log.String()
	if !strings.Contains(log, "mallory") || !strings.Contains(log, `"user":"alice"`) {
		t.Errorf("the log does not name who came: %s", log)
	}
	for _, secret := range []string{gatewaytest.Password("alice"), "wrong-password", "Basic ", "Authorization"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// TestAuditSection: a log that cannot be opened ends the start, with what to do; a change of it waits for the next start.
func TestAuditSection(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{url}, Extra: "audit: {file: audit.log}"})
	edit(t, g, "file: audit.log", "file: none/audit.log")
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if log := g.Log.String(); !strings.Contains(log, "takes effect only after a restart") || !strings.Contains(log, `"section":"audit"`) {
		t.Errorf("the log does not say that audit changed:\n%s", log)
	}
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	path := filepath.Join(g.Dir, "audit.log")
	gatewaytest.Until(t, "the old log goes on", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), `"route":"labels"`)
	})
	loaded, err := app.Load(filepath.Join(g.Dir, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.New(loaded, app.Options{Version: "test", Log: io.Discard})
	if err == nil || !strings.HasPrefix(err.Error(), "audit.file cannot be opened: ") || !strings.Contains(err.Error(), "none/audit.log: no such file or directory; give the path") {
		t.Errorf("%v", err)
	}
}
