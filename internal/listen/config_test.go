package listen

import (
	"strings"
	"testing"
	"time"
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
		{"none of one client", func(c *Config) { c.MaxConnectionsPerIP = 0 }, "max_connections_per_ip: 1000"},
		{"connection age", func(c *Config) { c.MaxConnectionAge = 0 }, "max_connection_age: 10m"},
		{"body grace", func(c *Config) { c.BodyGrace = 0 }, "body_grace: 10s"},
		{"no body rate", func(c *Config) { c.BodyMinRate = 0 }, "body_min_rate: 1KiB"},
		{"huge body rate", func(c *Config) { c.BodyMinRate = 2 << 30 }, "body_min_rate: 1KiB"},
		{"answer timeout", func(c *Config) { c.AnswerTimeout = -1 }, "answer_timeout: 30s"},
		{"no streams", func(c *Config) { c.HTTP2.MaxStreams = 0 }, "http2.max_streams: 100"},
		{"many streams", func(c *Config) { c.HTTP2.MaxStreams = 1 << 20 }, "http2.max_streams: 100"},
		{"no resets", func(c *Config) { c.HTTP2.MaxResets = 0 }, "http2.max_resets: 100"},
		{"credentials led on", func(c *Config) { c.HTTPCredentials = Redirect }, ""},
		{"credentials policy", func(c *Config) { c.HTTPCredentials = "allow" }, "http_credentials: refuse or redirect"},
		{"HSTS", func(c *Config) { c.HSTSMaxAge = 8760 * time.Hour }, ""},
		{"HSTS negative", func(c *Config) { c.HSTSMaxAge = -time.Second }, "hsts_max_age: 8760h"},
		{"HSTS of half seconds", func(c *Config) { c.HSTSMaxAge = 1500 * time.Millisecond }, "hsts_max_age: 8760h"},
		{"proxies", func(c *Config) { c.ProxyProtocol.Trusted = []string{"10.0.0.0/8", "192.0.2.7/32", "fd00::/8"} }, ""},
		{"proxy address", func(c *Config) { c.ProxyProtocol.Trusted = []string{"10.0.0.0/8", "10.0.0.1"} }, "proxy_protocol.trusted.1: 192.0.2.7/32"},
		{"proxy bits", func(c *Config) { c.ProxyProtocol.Trusted = []string{"10.1.2.3/8"} }, "proxy_protocol.trusted.0: write 10.0.0.0/8"},
		{"proxy mapped", func(c *Config) { c.ProxyProtocol.Trusted = []string{"::ffff:10.0.0.0/104"} }, "proxy_protocol.trusted.0: 10.0.0.0/8"},
		{"everybody a proxy", func(c *Config) { c.ProxyProtocol.Trusted = []string{"0.0.0.0/0"} }, "proxy_protocol.trusted.0: trusts everybody"},
		{"everybody a proxy, IPv6", func(c *Config) { c.ProxyProtocol.Trusted = []string{"::/0"} }, "proxy_protocol.trusted.0: trusts everybody"},
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
