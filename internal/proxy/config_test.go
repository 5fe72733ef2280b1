package proxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		fields string
	}{
		{"good", func(c *Config) {}, ""},
		{"two", func(c *Config) { c.URLs = []string{"http://a:7201/", "https://B:7201", "http://[::1]:7201"} }, ""},
		{"no port", func(c *Config) { c.URLs = []string{"https://m3.example.com"} }, ""},
		{"dns", func(c *Config) { c.URLs, c.DNS.Name = nil, "m3:7201" }, ""},
		{"nothing", func(c *Config) { c.URLs = nil }, "urls"},
		{"both", func(c *Config) { c.DNS.Name = "m3:7201" }, "urls"},
		{"no scheme", func(c *Config) { c.URLs = []string{"a:7201"} }, "urls[0]"},
		{"no host", func(c *Config) { c.URLs = []string{"http://"} }, "urls[0]"},
		{"no host but a port", func(c *Config) { c.URLs = []string{"http://:7201"} }, "urls[0]"},
		{"path", func(c *Config) { c.URLs = []string{"http://a:7201/api"} }, "urls[0]"},
		{"query", func(c *Config) { c.URLs = []string{"http://a:7201?x"} }, "urls[0]"},
		{"userinfo", func(c *Config) { c.URLs = []string{"http://u:secret@a:7201"} }, "urls[0]"},
		{"bad userinfo", func(c *Config) { c.URLs = []string{"http://u:sec%ret@a:7201"} }, "urls[0]"},
		{"port", func(c *Config) { c.URLs = []string{"http://a:0"} }, "urls[0]"},
		{"twice", func(c *Config) { c.URLs = []string{"http://a:7201", "http://b:7201", "http://A:7201/"} }, "urls[2]"},
		{"dns without port", func(c *Config) { c.URLs, c.DNS.Name = nil, "m3" }, "dns.name"},
		{"dns named port", func(c *Config) { c.URLs, c.DNS.Name = nil, "m3:http" }, "dns.name"},
		{"dns scheme and interval", func(c *Config) {
			c.URLs, c.DNS = nil, DNSConfig{Name: "m3:7201", Scheme: "ftp", Interval: time.Millisecond}
		}, "dns.scheme dns.interval"},
		{"no user", func(c *Config) { c.BasicAuth.Password = "secret" }, "basic_auth.username"},
		{"no password", func(c *Config) { c.BasicAuth.Username = "gw" }, "basic_auth.password"},
		{"colon", func(c *Config) { c.BasicAuth = BasicAuth{"a:b", "secret"} }, "basic_auth.username"},
		{"no CA file", func(c *Config) { c.CAFile = empty + ".none" }, "ca_file"},
		{"no certificate", func(c *Config) { c.CAFile = empty }, "ca_file"},
		{"times", func(c *Config) {
			c.ConnectTimeout, c.WriteTimeout, c.ReadTimeout, c.HealthInterval, c.HealthTimeout = 0, -1, 0, 0, 0
		}, "connect_timeout write_timeout read_timeout health_interval health_timeout"},
		{"attempts", func(c *Config) { c.MaxAttempts = 0 }, "max_attempts"},
		{"many attempts", func(c *Config) { c.MaxAttempts = 6 }, "max_attempts"},
	} {
		cfg := Defaults()
		cfg.URLs = []string{"http://m3coordinator:7201"}
		c.change(&cfg)
		var fields []string
		cfg.Check(func(field, problem string) {
			fields = append(fields, field)
			if strings.Contains(problem, "secret") || strings.Contains(problem, "sec%ret") {
				t.Errorf("%s: repeats a password: %s", c.name, problem)
			}
		})
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%s: %q, want %q", c.name, got, c.fields)
		}
	}
}
