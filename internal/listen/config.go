package listen

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Defaults is the section as if it were empty.
func Defaults() Config {
	return Config{
		HTTPSAddress:        ":8443",
		HTTPCredentials:     Refuse,
		Plain:               Plain{Auth: AuthRequired},
		AdminAddress:        "127.0.0.1:9091",
		HeaderTimeout:       10 * time.Second,
		BodyTimeout:         30 * time.Second,
		BodyGrace:           10 * time.Second,
		BodyMinRate:         1 << 10,
		AnswerTimeout:       30 * time.Second,
		IdleTimeout:         3 * time.Minute,
		MaxHeaderBytes:      32 << 10,
		MaxConnections:      10000,
		MaxConnectionsPerIP: 1000,
		MaxConnectionAge:    10 * time.Minute,
		HTTP2:               HTTP2{MaxStreams: 100, MaxResets: 100},
		ShutdownDelay:       5 * time.Second,
		DrainTimeout:        30 * time.Second,
	}
}

// Check calls bad for every field that cannot work, with the remedy.
func (c *Config) Check(bad func(field, problem string)) {
	type address struct{ field, value string }
	addresses := []address{{"https_address", c.HTTPSAddress}, {"http_address", c.HTTPAddress}, {"plain.address", c.Plain.Address}, {"admin_address", c.AdminAddress}}
	for i, a := range addresses {
		if a.value == "" && (a.field == "http_address" || a.field == "plain.address") {
			continue
		}
		if p := addressProblem(a.value); p != "" {
			bad(a.field, p)
			continue
		}
		for _, b := range addresses[:i] {
			if a.value == b.value && !anyPort(a.value) {
				bad(a.field, fmt.Sprintf("%q is listen.%s already; use another port", a.value, b.field))
			}
		}
	}
	c.Plain.check(bad)
	if c.PublicHTTPSPort < 0 || c.PublicHTTPSPort > 65535 {
		bad("public_https_port", fmt.Sprintf("%d is no port; use the one that clients connect to, as 443, or leave it out", c.PublicHTTPSPort))
	}
	if c.HTTPCredentials != Refuse && c.HTTPCredentials != Redirect {
		bad("http_credentials", fmt.Sprintf("%q is no policy; use refuse or redirect", c.HTTPCredentials))
	}
	c.ProxyProtocol.check(bad)
	c.checkTimes(bad)
	c.checkSizes(bad)
}

func (c *Config) checkTimes(bad func(field, problem string)) {
	for _, d := range []struct {
		field, example string
		value          time.Duration
	}{
		{"header_timeout", "10s", c.HeaderTimeout}, {"body_timeout", "30s", c.BodyTimeout}, {"body_grace", "10s", c.BodyGrace}, {"answer_timeout", "30s", c.AnswerTimeout},
		{"idle_timeout", "3m", c.IdleTimeout}, {"max_connection_age", "10m", c.MaxConnectionAge}, {"drain_timeout", "30s", c.DrainTimeout},
	} {
		if d.value <= 0 {
			bad(d.field, fmt.Sprintf("%v cannot work, and there is no unlimited; use a time as %s", d.value, d.example))
		}
	}
	if c.ShutdownDelay < 0 {
		bad("shutdown_delay", fmt.Sprintf("%v is negative; use 0s or a time as 5s", c.ShutdownDelay))
	}
	if c.HSTSMaxAge < 0 || c.HSTSMaxAge%time.Second != 0 {
		bad("hsts_max_age", fmt.Sprintf("%v is no number of seconds; use a time as 8760h, a year, or 0s for no header", c.HSTSMaxAge))
	}
}

func (c *Config) checkSizes(bad func(field, problem string)) {
	if c.MaxHeaderBytes < 4<<10 || c.MaxHeaderBytes > 1<<20 {
		bad("max_header_bytes", fmt.Sprintf("%d bytes cannot work; use a size from 4KiB to 1MiB, as 32KiB", c.MaxHeaderBytes))
	}
	if c.BodyMinRate < 1 || c.BodyMinRate > 1<<30 {
		bad("body_min_rate", fmt.Sprintf("%d bytes a second cannot work; use a size from 1 to 1GiB, as 1KiB", c.BodyMinRate))
	}
	if c.MaxConnections < 1 {
		bad("max_connections", fmt.Sprintf("%d lets nobody in; use a number as 10000, below the process's limit of open files", c.MaxConnections))
	}
	if c.MaxConnectionsPerIP < 1 {
		bad("max_connections_per_ip", fmt.Sprintf("%d lets nobody in; use a number as 1000, or that of max_connections for no further limit", c.MaxConnectionsPerIP))
	}
	if c.HTTP2.MaxStreams < 1 || c.HTTP2.MaxStreams > 10000 {
		bad("http2.max_streams", fmt.Sprintf("%d cannot work; use a number from 1 to 10000, as 100", c.HTTP2.MaxStreams))
	}
	if c.HTTP2.MaxResets < 1 {
		bad("http2.max_resets", fmt.Sprintf("%d ends connections that nothing is wrong with; use a number as 100", c.HTTP2.MaxResets))
	}
}

func (p *ProxyProtocol) check(bad func(field, problem string)) {
	for i, t := range p.Trusted {
		field := fmt.Sprintf("proxy_protocol.trusted.%d", i)
		n, err := netip.ParsePrefix(t)
		switch {
		case err != nil:
			bad(field, fmt.Sprintf("%q is no network; write its address and the length of its prefix, as 10.0.0.0/8 or 192.0.2.7/32", t))
		case n.Addr().Is4In6():
			bad(field, fmt.Sprintf("%q is an IPv4 network written as IPv6; write it as 10.0.0.0/8", t))
		case n != n.Masked():
			bad(field, fmt.Sprintf("%q has bits after its prefix; write %s", t, n.Masked()))
		case n.Bits() == 0:
			bad(field, fmt.Sprintf("%q trusts everybody to say who they are; name the networks of the load balancers alone", t))
		}
	}
}

func (p *Plain) check(bad func(field, problem string)) {
	switch p.Auth {
	case AuthRequired:
		if p.User != "" {
			bad("plain.user", "is for auth: none; with auth: required each request names its user by its password; remove one of them")
		}
	case AuthNone:
		switch {
		case p.User == "":
			bad("plain.auth", "none needs user: the one user whose rights and tenants every request gets; name it, or use required")
		case p.Address == "":
			bad("plain.user", "no address is given, so nobody is let in; give listen.plain.address, or remove the section")
		case addressProblem(p.Address) == "" && everyInterface(p.Address):
			bad("plain.address", fmt.Sprintf("%q listens on every interface, and with auth: none whoever reaches it needs no password; name one private address of this machine, as 10.0.0.5:8080 or ${POD_IP}:8080, or use auth: required", p.Address))
		}
	default:
		bad("plain.auth", fmt.Sprintf("%q is no policy; use required or none", p.Auth))
	}
}

// everyInterface reports whether a, which is an address, is that of no single interface.
func everyInterface(a string) bool {
	host, _, _ := net.SplitHostPort(a)
	return host == "" || net.ParseIP(host).IsUnspecified()
}

// addressProblem says why a cannot be listened on, or nothing.
func addressProblem(a string) string {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Sprintf("%q is no address; write host:port, or :port for every interface", a)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Sprintf("%q is no port; use a number up to 65535", port)
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Sprintf("%q is no address of this machine; write an IP address, or leave it out for every interface", host)
	}
	return ""
}

// anyPort reports whether the system chooses the port.
func anyPort(a string) bool {
	_, port, _ := net.SplitHostPort(a)
	return port == "0"
}
