package listen

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRedirect(t *testing.T) {
	for _, tc := range []struct {
		name, method, target, host string
		port                       int
		header                     http.Header
		status                     int
		location                   string
	}{
		{name: "plain", method: "GET", target: "/a/b?c=d", host: "gw.example", status: 308, location: "https://gw.example/a/b?c=d"},
		{name: "head", method: "HEAD", target: "/", host: "gw.example", status: 308, location: "https://gw.example/"},
		{name: "port is dropped", method: "GET", target: "/", host: "gw.example:80", status: 308, location: "https://gw.example/"},
		{name: "443", method: "GET", target: "/", host: "gw.example", port: 443, status: 308, location: "https://gw.example/"},
		{name: "public port", method: "GET", target: "/", host: "gw.example:8080", port: 8443, status: 308, location: "https://gw.example:8443/"},
		{name: "IPv4", method: "GET", target: "/", host: "10.0.0.1:80", status: 308, location: "https://10.0.0.1/"},
		{name: "IPv6", method: "GET", target: "/", host: "[::1]:80", port: 8443, status: 308, location: "https://[::1]:8443/"},
		{name: "IPv6 without port", method: "GET", target: "/", host: "[::1]", status: 308, location: "https://[::1]/"},
		{name: "encoded path stays encoded", method: "GET", target: "/a%2Fb%0d%0aX: y", host: "gw.example", status: 308, location: "https://gw.example/a%2Fb%0d%0aX:%20y"},
		{name: "path of slashes", method: "GET", target: "//evil.example/", host: "gw.example", status: 308, location: "https://gw.example//evil.example/"},
		{name: "post", method: "POST", target: "/api/v1/write", host: "gw.example", status: 308, location: "https://gw.example/api/v1/write"},
		{name: "put", method: "PUT", target: "/", host: "gw.example", status: 308, location: "https://gw.example/"},
		{name: "post with password", method: "POST", target: "/api/v1/write", host: "gw.example", header: http.Header{"Authorization": {"Basic s3cret"}}, status: 403},
		{name: "options of the server", method: "OPTIONS", target: "*", host: "gw.example", status: 400},
		{name: "connect", method: "CONNECT", target: "", host: "gw.example", status: 400},
		{name: "basic auth", method: "GET", target: "/s3cret", host: "gw.example", header: http.Header{"Authorization": {"Basic s3cret"}}, status: 403},
		{name: "proxy auth", method: "GET", target: "/", host: "gw.example", header: http.Header{"Proxy-Authorization": {"Basic s3cret"}}, status: 403},
		{name: "cookie", method: "GET", target: "/", host: "gw.example", header: http.Header{"Cookie": {"a=s3cret"}}, status: 403},
		{name: "no host", method: "GET", target: "/", host: "", status: 400},
		{name: "host with user", method: "GET", target: "/", host: "gw.example@evil.example", status: 400},
		{name: "host with path", method: "GET", target: "/", host: "evil.example/x", status: 400},
		{name: "long host", method: "GET", target: "/", host: strings.Repeat("a", 254), status: 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Defaults()
			cfg.PublicHTTPSPort = tc.port
			h := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Redirect()
			r := httptest.NewRequest(tc.method, "/", nil)
			u, err := r.URL.Parse(strings.ReplaceAll(tc.target, " ", "%20"))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.HasPrefix(tc.target, "//"):
				u.Host, u.Path = "", tc.target
			case !strings.HasPrefix(tc.target, "/"):
				u.Path = tc.target
			}
			r.URL, r.Host = u, tc.host
			for name, values := range tc.header {
				r.Header[name] = values
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.status || w.Header().Get("Location") != tc.location {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Header().Get("Location"), tc.status, tc.location)
			}
			if tc.status == 403 && !strings.Contains(w.Body.String(), "without TLS and carried a credential, which anyone on its way could read: change the password, and use https") {
				t.Errorf("body %q", w.Body)
			}
			for name, values := range w.Header() {
				if strings.Contains(strings.Join(values, ""), "s3cret") {
					t.Errorf("%s repeats the credential", name)
				}
			}
			if strings.Contains(w.Body.String(), "s3cret") {
				t.Error("the answer repeats the credential")
			}
		})
	}
}

// TestRedirectOfCredentials: an operator may choose to have them led on, too.
func TestRedirectOfCredentials(t *testing.T) {
	cfg := Defaults()
	cfg.HTTPCredentials = Redirect
	h := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Redirect()
	for _, method := range []string{"GET", "POST"} {
		r := httptest.NewRequest(method, "http://gw.example/api/v1/write", nil)
		r.SetBasicAuth("alice", "s3cret")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 308 || w.Header().Get("Location") != "https://gw.example/api/v1/write" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}
