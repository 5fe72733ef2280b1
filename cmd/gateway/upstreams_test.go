package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"m3gateway/internal/app"
	"m3gateway/internal/gatewaytest"
)

// pools is an admin port that answers /upstreams with body.
func pools(t *testing.T, status int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/upstreams" || r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestUpstreams(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 0, 0, time.UTC)
	since := now.Add(-90 * time.Second).Format(time.RFC3339Nano)
	body := strings.ReplaceAll(`{"routing": "tenant",
		"reads": {"panic": true, "requests": 20, "added": 1, "allowed": 10, "latency_seconds": 0.0213},
		"writes": {"panic": false, "requests": 4000, "added": 12, "allowed": 320, "latency_seconds": 0.0041},
		"members": [
			{"url": "http://m3coordinator-0:7201", "in_flight": 7,
				"reads": {"state": "out", "why": "a query answered status 500: the store is starting", "since": "SINCE"},
				"writes": {"state": "in", "since": "SINCE", "share": 0.756, "requests": 3024, "failures": 3, "latency_seconds": 0.0041, "ejections": 2}},
			{"url": "http://m3coordinator-1:7201", "in_flight": 0, "leaving": true,
				"reads": {"state": "out", "why": "not probed yet"},
				"writes": {"state": "ejected", "why": "it answered 503 to writes", "since": "SINCE", "until": "2030-01-02T03:04:05Z", "share": 0.244, "requests": 976, "failures": 976, "latency_seconds": 1.25, "ejections": 1}}],
		"handovers": [{"from": "2030-01-02T03:05:00Z", "members": ["http://m3coordinator-0:7201"]}]}`, "SINCE", since)
	code, out, errs := gateway(t, "", "upstreams", "--admin", pools(t, 200, body)+"/")
	if code != 0 || errs != "" || !strings.HasPrefix(out, "Writes are routed by tenant.") {
		t.Errorf("exit status %d, stdout %q, stderr %q", code, out, errs)
	}
	var pool app.Upstreams
	if err := json.Unmarshal([]byte(body), &pool); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := printPool(&table, pool, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "upstreams", table.String())
	if code, out, _ := gateway(t, "", "upstreams", "--json", "--admin", pools(t, 200, body)); code != 0 || out != body {
		t.Errorf("exit status %d, %s", code, out)
	}
}

func TestUpstreamsFails(t *testing.T) {
	for name, c := range map[string]struct{ url, want string }{
		"nobody there":    {"http://127.0.0.1:1", "is the gateway running there? (--admin)"},
		"no URL":          {"127.0.0.1:9091", "write it as http://127.0.0.1:9091"},
		"something else":  {pools(t, 404, "404 page not found"), "answered 404 Not Found; is this the admin port of a gateway?"},
		"no JSON":         {pools(t, 200, "ok"), "answered no upstreams"},
		"no URL's scheme": {"ftp://127.0.0.1", "unsupported protocol scheme"},
	} {
		if code, out, errs := gateway(t, "", "upstreams", "--admin", c.url); code != 1 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", name, code, out, errs)
		}
	}
	if code, _, errs := gateway(t, "", "upstreams", "--config", filepath.Join(t.TempDir(), "none.yaml")); code != 1 || !strings.Contains(errs, "1 problem") {
		t.Errorf("exit status %d, stderr %q", code, errs)
	}
}

func TestAdminURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:9091": "http://127.0.0.1:9091", ":9091": "http://127.0.0.1:9091", "0.0.0.0:9091": "http://127.0.0.1:9091",
		"[::]:9091": "http://127.0.0.1:9091", "10.0.0.5:9091": "http://10.0.0.5:9091", "[::1]:9091": "http://[::1]:9091", "admin:9091": "http://admin:9091",
	} {
		if got, err := adminURL(address); err != nil || got != want {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
}

// TestUpstreamsOfAGateway: what a real gateway answers is understood, found by its configuration.
func TestUpstreamsOfAGateway(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}})
	text, err := os.ReadFile(filepath.Join(g.Dir, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	mended := strings.Replace(string(text), `admin_address: "127.0.0.1:0"`, fmt.Sprintf("admin_address: %q", strings.TrimPrefix(g.AdminURL, "http://")), 1)
	config := filepath.Join(g.Dir, "running.yaml")
	if err := os.WriteFile(config, []byte(mended), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		g.Get("alice", "/api/v1/labels")
	}
	code, out, errs := gateway(t, "", "upstreams", "--config", config)
	if code != 0 || errs != "" || strings.Count(out, "  in  ") != 2 || !strings.Contains(out, "http://127.0.0.1:") || !strings.Contains(out, "100%") {
		t.Errorf("exit status %d, stderr %q, stdout\n%s", code, errs, out)
	}
}
