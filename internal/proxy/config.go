package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxAttempts is the most that Config.MaxAttempts may ask for: more tries do not find a store, they multiply an outage's load.
const maxAttempts = 5

// Defaults is a Config that lacks only its members.
func Defaults() Config {
	return Config{
		DNS:            DNSConfig{Scheme: "http", Interval: 10 * time.Second},
		Handover:       time.Minute,
		ConnectTimeout: 2 * time.Second,
		WriteTimeout:   30 * time.Second,
		ReadTimeout:    2 * time.Minute,
		AnswerBytes:    1 << 30,
		HealthInterval: 5 * time.Second,
		HealthTimeout:  2 * time.Second,
		MaxEjected:     50,
		SlowStart:      30 * time.Second,
		MaxAttempts:    2,
		RetryBudget:    8,
		Hedge:          5,
	}
}

// Check reports each problem of c: field is the yaml path inside the section, problem says what is wrong and how to mend it.
// It reads CAFile.
func (c *Config) Check(bad func(field, problem string)) {
	switch {
	case len(c.URLs) == 0 && c.DNS.Name == "":
		bad("urls", "is missing; list the stores, as in [http://m3coordinator:7201], or set dns.name")
	case len(c.URLs) > 0 && c.DNS.Name != "":
		bad("urls", "cannot stand beside dns.name; remove one of them")
	}
	https := c.DNS.Name != "" && c.DNS.Scheme == "https"
	seen := map[string]bool{}
	for i, s := range c.URLs {
		field := fmt.Sprintf("urls[%d]", i)
		u, err := parseURL(s)
		if err != nil {
			bad(field, err.Error())
			continue
		}
		if seen[u.String()] {
			bad(field, "is listed twice; remove one")
		}
		seen[u.String()] = true
		https = https || u.Scheme == "https"
	}
	if c.DNS.Name != "" {
		c.checkDNS(bad)
	}
	c.checkCredentials(bad)
	c.checkTLS(bad, https)
	if !slices.Contains([]Routing{"", BySeries, ByTenant, ByLoad}, c.Routing) {
		bad("routing", strconv.Quote(string(c.Routing))+" is not known; write series, tenant or any")
	}
	c.checkNumbers(bad)
}

// checkTLS checks what is for https alone, which one member at least must be then.
func (c *Config) checkTLS(bad func(field, problem string), https bool) {
	for _, f := range [][2]string{{"ca_file", c.CAFile}, {"client_cert_file", c.ClientCertFile}, {"server_name", c.ServerName}} {
		if f[1] != "" && !https {
			bad(f[0], "is not used, as no upstream is https; write https in urls or dns.scheme, or remove "+f[0])
			return
		}
	}
	if c.CAFile != "" {
		if _, err := loadCA(c.CAFile); err != nil {
			bad("ca_file", err.Error())
		}
	}
	switch {
	case c.ClientCertFile == "" && c.ClientKeyFile != "":
		bad("client_cert_file", "is missing beside client_key_file; set both or none")
	case c.ClientCertFile != "" && c.ClientKeyFile == "":
		bad("client_key_file", "is missing beside client_cert_file; set both or none")
	case c.ClientCertFile != "":
		if _, err := tls.LoadX509KeyPair(c.ClientCertFile, c.ClientKeyFile); err != nil {
			bad("client_cert_file", fmt.Sprintf("cannot be used with client_key_file: %v; write a certificate and its key in PEM", err))
		}
	}
}

func (c *Config) checkNumbers(bad func(field, problem string)) {
	for _, d := range []struct {
		field string
		value time.Duration
		least time.Duration
	}{
		{"connect_timeout", c.ConnectTimeout, 10 * time.Millisecond},
		{"write_timeout", c.WriteTimeout, 100 * time.Millisecond},
		{"read_timeout", c.ReadTimeout, 100 * time.Millisecond},
		{"health_interval", c.HealthInterval, 100 * time.Millisecond},
		{"health_timeout", c.HealthTimeout, 10 * time.Millisecond},
	} {
		if d.value < d.least {
			bad(d.field, fmt.Sprintf("is %v; write %v or more", d.value, d.least))
		}
	}
	for _, n := range []struct {
		field              string
		value, least, most int
	}{
		{"max_attempts", c.MaxAttempts, 1, maxAttempts},
		{"max_ejected_percent", c.MaxEjected, 0, 100},
		{"retry_budget_percent", c.RetryBudget, 0, 100},
		{"hedge_percent", c.Hedge, 0, 100},
	} {
		if n.value < n.least || n.value > n.most {
			bad(n.field, fmt.Sprintf("is %d; write %d to %d", n.value, n.least, n.most))
		}
	}
	if c.AnswerBytes < leastAnswer {
		bad("answer_bytes", fmt.Sprintf("is %d; write 1MiB or more", c.AnswerBytes))
	}
	if c.Handover < 0 || c.Handover > 24*time.Hour || c.Handover%time.Second != 0 {
		bad("handover", fmt.Sprintf("is %v; write whole seconds up to 24h: the coarsest resolution that is aggregated", c.Handover))
	}
	if c.SlowStart < 0 || c.SlowStart > time.Hour {
		bad("slow_start", fmt.Sprintf("is %v; write 0s to 1h", c.SlowStart))
	}
}

// leastAnswer is the least that Config.AnswerBytes may be.
const leastAnswer = 1 << 20

func (c *Config) checkDNS(bad func(field, problem string)) {
	if isService(c.DNS.Name) {
		if strings.ContainsAny(c.DNS.Name, ":/ ") {
			bad("dns.name", strconv.Quote(c.DNS.Name)+" begins with an underscore, as names of SRV records do, which say the port themselves; write it as _http._tcp.m3coordinator.m3.svc")
		}
	} else if _, _, err := splitHostPort(c.DNS.Name); err != nil {
		bad("dns.name", err.Error())
	}
	if c.DNS.Server != "" {
		if _, _, err := splitHostPort(c.DNS.Server); err != nil {
			bad("dns.server", strconv.Quote(c.DNS.Server)+" is not host:port; write it as 127.0.0.1:53")
		}
	}
	if c.DNS.Scheme != "http" && c.DNS.Scheme != "https" {
		bad("dns.scheme", strconv.Quote(c.DNS.Scheme)+" is not a scheme; write http or https")
	}
	if c.DNS.Interval < time.Second {
		bad("dns.interval", fmt.Sprintf("is %v; write 1s or more", c.DNS.Interval))
	}
}

func (c *Config) checkCredentials(bad func(field, problem string)) {
	switch a := c.BasicAuth; {
	case c.BearerToken != "" && (a.Username != "" || a.Password != ""):
		bad("bearer_token", "cannot stand beside basic_auth; remove one of them")
	case strings.ContainsFunc(c.BearerToken, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		bad("bearer_token", "has a character that a header cannot carry; write the token alone, in ASCII and without spaces")
	case a.Username == "" && a.Password != "":
		bad("basic_auth.username", "is missing beside a password; set both or none")
	case a.Username != "" && a.Password == "":
		bad("basic_auth.password", "is missing beside a username; set password or password_file")
	case strings.Contains(a.Username, ":"):
		bad("basic_auth.username", "contains a colon, which basic auth cannot carry; choose another name at the upstream")
	}
}

// parseURL reads the base URL of a member; its String is the member's identity.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL; write it as http://host:port") // the cause would repeat a password
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("has the scheme %q; write it as http://host:port or https://host:port", u.Scheme)
	case u.User != nil:
		return nil, errors.New("contains a credential; move it to basic_auth")
	case u.Hostname() == "":
		return nil, errors.New("names no host; write it as http://host:port")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("goes on after the host; write only scheme, host and port, as the gateway chooses the path itself")
	}
	if port := u.Port(); port != "" {
		if _, err := parsePort(port); err != nil {
			return nil, err
		}
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

// splitHostPort reads host:port, both required, the port as a number.
func splitHostPort(s string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("%q is not host:port; write it as m3coordinator.m3.svc:7201", s)
	}
	port, err = parsePort(p)
	return host, port, err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("has the port %q; write a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// loadCA reads the certificates in a PEM file.
func loadCA(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate; write CA certificates in PEM", path)
	}
	return pool, nil
}
