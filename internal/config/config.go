package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"m3gateway/internal/audit"
	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
	"m3gateway/internal/limits"
	"m3gateway/internal/listen"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/tenant"
)

const (
	maxConfigBytes = 16 << 20 // room for 100,000 users
	maxSecretBytes = 64 << 10
)

// Defaults is the configuration of an empty file. It does not pass Check: some keys have no default.
func Defaults() Config {
	c := Config{
		Listen:   listen.Defaults(),
		TLS:      certs.Defaults(),
		Auth:     auth.Defaults(),
		Tenancy:  tenant.Defaults(),
		Limits:   limits.Defaults(),
		Upstream: Upstream{Store: m3.Defaults(), Pool: proxy.Defaults()},
		Log:      Log{Format: "json", Level: "info", Access: true},
		Audit:    audit.Defaults(),
	}
	c.Upstream.route()
	return c
}

// route sets how writes are routed where nothing is said of it: coordinators of M3 each aggregate what they get.
func (u *Upstream) route() {
	switch {
	case u.Pool.Routing != "":
	case u.Store.Kind == m3.KindM3:
		u.Pool.Routing = proxy.BySeries
	default:
		u.Pool.Routing = proxy.ByTenant
	}
}

// Load reads the configuration file at path. The error unwraps to a []error, one for each problem, ordered by line.
// files are the paths whose content decides the result, the configuration file first; they are returned with an error too,
// as far as they are known, so that a reload can wait for the file to be mended.
func Load(path string) (cfg *Config, files []string, err error) {
	data, err := readBounded(path, maxConfigBytes)
	if err != nil {
		return nil, []string{path}, join(path, []problem{{1, 1, fmt.Sprintf("cannot be read: %v; give the file's path with --config", err)}})
	}
	return Parse(path, data, os.LookupEnv, func(file string) ([]byte, error) { return readBounded(file, maxSecretBytes) })
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has over %d bytes", path, limit)
	}
	return data, err
}

// Parse is Load for content that is already read. path names the file in messages and is where relative paths start; env
// looks up the variables of ${NAME}, readFile reads the files of <key>_file secrets.
func Parse(path string, data []byte, env func(string) (string, bool), readFile func(string) ([]byte, error)) (cfg *Config, files []string, err error) {
	root, p := document(data, `sections "auth", "tls" and "upstream"`)
	if p != nil {
		return nil, []string{path}, join(path, []problem{*p})
	}
	d := &decoder{
		path: path, whole: reflect.TypeFor[Config](), env: env, readFile: readFile,
		files: []string{path}, places: map[string]place{}, broken: map[string]bool{},
	}
	c := Defaults()
	c.Upstream.Pool.Routing = "" // as the kind of the store has it
	whole := field{typ: reflect.TypeFor[Config]()}
	d.refused(root, root, "the file", whole)
	d.section(root, "", whole, reflect.ValueOf(&c).Elem())
	c.Upstream.route()
	c.Check(d.checked)
	if len(d.problems) > 0 {
		return nil, d.files, join(path, d.problems)
	}
	return &c, d.files, nil
}

// Check calls bad for everything that cannot work, in one section or between sections: field is a dotted path, problem says
// what is wrong and how to mend it.
func (c *Config) Check(bad func(field, problem string)) {
	in := func(section string) func(field, problem string) {
		return func(field, problem string) { bad(dotted(section, field), problem) }
	}
	c.Listen.Check(in("listen"))
	c.TLS.Check(in("tls"))
	c.Auth.Check(in("auth"))
	c.Tenancy.Check(in("tenancy"))
	c.Limits.Check(in("limits"))
	c.Upstream.Store.Check(in("upstream"))
	c.Upstream.Pool.Check(in("upstream"))
	if w := c.Limits.Window; c.Upstream.Store.Kind == m3.KindPrometheus {
		for field, side := range map[string]limits.Side{"past": w.Past, "future": w.Future} {
			if side.Auto {
				bad("limits.window."+field, "is learnt from M3's namespaces, which an upstream of kind prometheus does not have; write a duration, such as 10m")
			}
		}
	}
	if c.Upstream.Pool.Routing == proxy.BySeries && c.Upstream.Store.Protocol == m3.Protocol2 {
		bad("upstream.routing", "divides requests, which only those of remote write 1.0 can be; set upstream.protocol to auto or 1.0, or routing to tenant")
	}
	if slices.Contains(c.TLS.ACME.Challenges, "http-01") && c.Listen.HTTPAddress == "" {
		bad("tls.acme.challenges", "http-01 is answered at listen.http_address, which is not set; set it, or remove http-01")
	}
	if len(c.Auth.Certificates) > 0 && c.TLS.ClientAuth.Mode == certs.ClientNone {
		bad("auth.certificates", "map client certificates, but tls.client_auth asks for none; set its mode and ca_file, or remove this")
	}
	c.Log.Check(in("log"))
	c.Audit.Check(in("audit"))
}

// Check calls bad for every field that cannot work, with the remedy.
func (l *Log) Check(bad func(field, problem string)) {
	switch l.Format {
	case "json", "text":
	default:
		bad("format", fmt.Sprintf("%q is no log format; use json or text", l.Format))
	}
	switch l.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("level", fmt.Sprintf("%q is no log level; use debug, info, warn or error", l.Level))
	}
}

// checked takes a problem found by a Check and finds its place: that of the key, or of the nearest section that is in the
// file, or the file's beginning. A problem with a value that could not be decoded is left out: it is reported already.
func (d *decoder) checked(path, text string) {
	path = strings.TrimSuffix(strings.NewReplacer("[", ".", "]", "").Replace(path), ".")
	for b := range d.broken {
		if strings.HasPrefix(path+".", b+".") || strings.HasPrefix(b+".", path+".") {
			return
		}
	}
	subject := path
	for at := path; at != ""; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
		if p, ok := d.places[at]; ok {
			if at == path && p.text != "" && !strings.Contains(text, show(p.text)) {
				subject += " " + show(p.text)
			}
			d.problems = append(d.problems, problem{p.line, p.col, subject + ": " + text})
			return
		}
	}
	d.problems = append(d.problems, problem{1, 1, subject + ": " + text})
}
