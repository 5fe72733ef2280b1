package listen

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // "field: part of the problem"; "": good
	}{
		{"defaults", func(c *Config) {}, ""},
		{"all addresses", func(c *Config) { c.HTTPAddress = "[::1]:8080"; c.AdminAddress = "localhost:9091" }, ""},
		{"any port twice", func(c *Config) { c.HTTPSAddress, c.AdminAddress = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"no delay", func(c *Config) { c.ShutdownDelay = 0 }, ""},
		{"no https", func(c *Config) { c.HTTPSAddress = "" }, "https_address: host:port"},
		{"no port", func(c *Config) { c.HTTPSAddress = "127.0.0.1" }, "https_address: host:port"},
		{"port name", func(c *Config) { c.HTTPSAddress = ":https" }, "https_address: number up to 65535"},
		{"large port", func(c *Config) { c.AdminAddress = ":70000" }, "admin_address: number up to 65535"},
		{"host name", func(c *Config) { c.HTTPAddress = "gw.example:80" }, "http_address: IP address"},
		{"plain", func(c *Config) { c.Plain.Address = ":8080" }, ""},
		{"plain, no password", func(c *Config) { c.Plain = Plain{"10.0.0.5:8080", "none", "cluster"} }, ""},
		{"plain, no password, own name", func(c *Config) { c.Plain = Plain{"localhost:8080", "none", "cluster"} }, ""},
		{"plain host name", func(c *Config) { c.Plain.Address = "gw.example:80" }, "plain.address: IP address"},
		{"plain, same address", func(c *Config) { c.Plain.Address = ":8443" }, "plain.address: listen.https_address already"},
		{"admin, same address as plain", func(c *Config) { c.Plain.Address = "127.0.0.1:9091" }, "admin_address: listen.plain.address already"},
		{"plain policy", func(c *Config) { c.Plain.Auth = "optional" }, "plain.auth: required or none"},
		{"plain, a user too many", func(c *Config) { c.Plain = Plain{"10.0.0.5:8080", "required", "cluster"} }, "plain.user: for auth: none"},
		{"plain, no user", func(c *Config) { c.Plain = Plain{"10.0.0.5:8080", "none", ""} }, "plain.auth: needs user"},
		{"plain, no address", func(c *Config) { c.Plain = Plain{"", "none", "cluster"} }, "plain.user: give listen.plain.address"},
		{"plain, no password, everywhere", func(c *Config) { c.Plain = Plain{":8080", "none", "cluster"} }, "plain.address: every interface"},
		{"plain, no password, IPv4 everywhere", func(c *Config) { c.Plain = Plain{"0.0.0.0:8080", "none", "cluster"} }, "plain.address: every interface"},
		{"plain, no password, IPv6 everywhere", func(c *Config) { c.Plain = Plain{"[::]:8080", "none", "cluster"} }, "plain.address: every interface"},
		{"plain, no password, mapped everywhere", func(c *Config) { c.Plain = Plain{"[::ffff:0.0.0.0]:8080", "none", "cluster"} }, "plain.address: every interface"},
		{"same address", func(c *Config) { c.HTTPAddress = ":8443" }, "http_address: listen.https_address already"},
		{"public port", func(c *Config) { c.PublicHTTPSPort = 65536 }, "public_https_port: 443"},
		{"header timeout", func(c *Config) { c.HeaderTimeout = 0 }, "header_timeout: 10s"},
		{"body timeout", func(c *Config) { c.BodyTimeout = -1 }, "body_timeout: 30s"},
		{"idle timeout", func(c *Config) { c.IdleTimeout = 0 }, "idle_timeout: 3m"},
		{"drain timeout", func(c *Config) { c.DrainTimeout = 0 }, "drain_timeout: 30s"},
		{"negative delay", func(c *Config) { c.ShutdownDelay = -1 }, "shutdown_delay: negative"},
		{"small header", func(c *Config) { c.MaxHeaderBytes = 100 }, "max_header_bytes: 32KiB"},
		{"huge header", func(c *Config) { c.MaxHeaderBytes = 1 << 30 }, "max_header_bytes: 32KiB"},
		{"no connections", func(c *Config) { c.MaxConnections = 0 }, "max_connections: 10000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Defaults()
			tc.change(&c)
			var got []string
			c.Check(func(field, problem string) { got = append(got, field+": "+problem) })
			field, part, _ := strings.Cut(tc.want, ": ")
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("got %q", got)
			case tc.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], field+": ") || !strings.Contains(got[0], part)):
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
