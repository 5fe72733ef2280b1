package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"m3gateway/internal/limits"
)

const envPassword = "value-of-the-environment"

func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"UPSTREAM_USER": "gateway", "UPSTREAM_PASSWORD": envPassword, "ETCD_PASSWORD": envPassword, "UPSTREAM_URL": "http://127.0.0.1:7201",
		"PAST": "20m", "ACCESS": "false", "EMPTY": "",
		"INJECTED": "x\nlog: {level: debug} # ${UPSTREAM_PASSWORD} $$",
	}[name]
	return v, ok
}

func parse(t *testing.T, path string) (*Config, []string, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(path, data, testEnv, os.ReadFile)
}

func glob(t testing.TB, pattern string, atLeast int) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < atLeast {
		t.Fatalf("%s: %d files, %v; want at least %d", pattern, len(files), err, atLeast)
	}
	return files
}

// matches compares a message with a line of a .want file, where … stands for any text.
func matches(got, want string) bool {
	parts := strings.Split(want, "…")
	for i, p := range parts {
		at := strings.Index(got, p)
		switch {
		case at < 0, i == 0 && at != 0:
			return false
		case i == len(parts)-1 && len(parts) > 1:
			return p == "" || strings.HasSuffix(got, p)
		}
		got = got[at+len(p):]
	}
	return got == ""
}

// wantProblems fails unless err has exactly the problems that the .want file beside the .bad.yaml file lists.
func wantProblems(t *testing.T, file string, err error) {
	t.Helper()
	data, err2 := os.ReadFile(strings.TrimSuffix(file, ".bad.yaml") + ".want")
	if err2 != nil {
		t.Fatal(err2)
	}
	want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	var got []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		got = append(got, e.Error())
	}
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && matches(got[i], file+":"+want[i])
	}
	if !ok {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Each x.bad.yaml must fail with exactly the problems of x.want: line, column, offending text, remedy.
func TestBad(t *testing.T) {
	for _, file := range glob(t, "testdata/*.bad.yaml", 60) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bad.yaml"), func(t *testing.T) {
			cfg, files, err := parse(t, file)
			if err == nil || cfg != nil {
				t.Fatalf("cfg %v, error %v; want no config and an error", cfg, err)
			}
			if len(files) == 0 || files[0] != file {
				t.Errorf("files %q; want %q first", files, file)
			}
			wantProblems(t, file, err)
			for _, secret := range []string{"hunter2", envPassword} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the message shows the secret %q:\n%v", secret, err)
				}
			}
		})
	}
}

func TestGood(t *testing.T) {
	for _, file := range glob(t, "testdata/*.good.yaml", 2) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, _, err := parse(t, file); err != nil {
				t.Error(err)
			}
		})
	}
}

// The least file is the defaults plus what has none; paths start at the file's directory.
func TestMinimal(t *testing.T) {
	cfg, files, err := parse(t, "testdata/minimal.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Auth.HtpasswdFile = "testdata/users.htpasswd"
	want.TLS.Certificates = append(want.TLS.Certificates, cfg.TLS.Certificates...)
	want.Upstream.Pool.URLs = []string{"http://127.0.0.1:7201"}
	if !reflect.DeepEqual(*cfg, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg, want)
	}
	wantFiles := []string{"testdata/minimal.good.yaml", "testdata/users.htpasswd", "testdata/cert.pem", "testdata/key.pem"}
	if !reflect.DeepEqual(files, wantFiles) {
		t.Errorf("files %q; want %q", files, wantFiles)
	}
}

// What limits.tenants does not set for a tenant is as for all, wherever in the file that stands.
func TestTenantsInherit(t *testing.T) {
	cfg, _, err := parse(t, "testdata/tenants_inherit.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := limits.TenantConfig{Writes: cfg.Limits.Writes, Reads: cfg.Limits.Reads, Weight: cfg.Limits.Weight}
	a, b := all, all
	a.Writes.SamplesPerSecond = 500
	b.Reads.Range, b.Weight = 0, 7
	if want := map[string]limits.TenantConfig{"team-a": a, "team-b": b}; !reflect.DeepEqual(cfg.Limits.Tenants, want) || a.Writes.Refusal != 503 || a.Reads.Range != 24*time.Hour {
		t.Errorf("got  %+v\nwant %+v", cfg.Limits.Tenants, want)
	}
}

// keysOf lists the paths of all keys that type t knows; * stands for any key of a table and any element of a list.
func keysOf(t reflect.Type, path string, out map[string]bool) {
	switch shape(t) {
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			out[dotted(path, f.key)] = true
			if !f.file && !f.like { // what a table inherits, the section shows
				keysOf(f.typ, dotted(path, f.key), out)
			}
		}
	case reflect.Map, reflect.Slice:
		keysOf(t.Elem(), dotted(path, "*"), out)
	}
}

func mark(n *yaml.Node, t reflect.Type, path string, missing map[string]bool) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			sub, subType := n.Content[i].Value, reflect.TypeFor[string]()
			if t.Kind() == reflect.Map {
				sub, subType = "*", t.Elem()
			} else if f, ok := find(fieldsOf(t), sub); ok {
				subType = f.typ
				if f.secret {
					sub = strings.TrimSuffix(sub, "_file")
					delete(missing, dotted(path, sub+"_file"))
				}
			}
			delete(missing, dotted(path, sub))
			mark(n.Content[i+1], subType, dotted(path, sub), missing)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			mark(c, t.Elem(), dotted(path, "*"), missing)
		}
	}
}

// full.good.yaml shows every key there is.
func TestFull(t *testing.T) {
	data, err := os.ReadFile("testdata/full.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root, p := document(data, "")
	if p != nil {
		t.Fatal(p)
	}
	missing := map[string]bool{}
	keysOf(reflect.TypeFor[Config](), "", missing)
	if len(missing) < 50 {
		t.Fatalf("only %d keys are known", len(missing))
	}
	mark(root, reflect.TypeFor[Config](), "", missing)
	for key := range missing {
		t.Errorf("full.good.yaml does not set %s", key)
	}
}

// Every field of every room's Config has a key and a type that the decoder can set, and no default is a path, which would
// start at the wrong directory.
func TestTypes(t *testing.T) {
	var walk func(v reflect.Value, path string, f field)
	walk = func(v reflect.Value, path string, f field) {
		typ := v.Type()
		switch {
		case shape(typ) == reflect.Struct:
			for _, f := range fieldsOf(typ) {
				if f.key == "" {
					t.Errorf("%s: a field has no yaml key", path)
				}
				if f.file {
					continue
				}
				fv := v.FieldByIndex(f.index)
				if (f.path || f.secret) && (f.typ.Kind() != reflect.String || fv.String() != "") {
					t.Errorf("%s.%s: paths and secrets are strings without a default", path, f.key)
				}
				walk(fv, dotted(path, f.key), f)
			}
		case typ.Kind() == reflect.Map && typ.Key().Kind() == reflect.String, typ.Kind() == reflect.Slice:
			walk(reflect.New(typ.Elem()).Elem(), dotted(path, "*"), field{typ: typ.Elem()})
		case typ.Kind() == reflect.String:
		default:
			text := map[bool]string{true: "true", false: "0"}[typ.Kind() == reflect.Bool]
			if mend := setScalar(reflect.New(typ).Elem(), text, f, false); mend != "" {
				t.Errorf("%s: %s", path, mend)
			}
		}
	}
	c := Defaults()
	walk(reflect.ValueOf(c), "", field{})
}

func TestExpand(t *testing.T) {
	cfg := parseText(t, `
auth: {htpasswd_file: "${EMPTY}users.htpasswd", realm: "$5 $$6 $${UPSTREAM_USER} ${UPSTREAM_USER}$", cache_ttl: 0}
tls: {certificates: [{cert_file: /abs/cert.pem, key_file: sub/key.pem}]}
upstream:
  urls: ['${UPSTREAM_URL}']
  basic_auth: {username: "${UPSTREAM_USER}", password: "${INJECTED}"}
limits: {window: {past: "${PAST}"}, request_bytes: 2MiB, decoded_bytes: 5000000}
log: {access: "${ACCESS}"}
`)
	for name, c := range map[string]struct{ got, want any }{
		"part":     {cfg.Auth.Realm, "$5 $6 ${UPSTREAM_USER} gateway$"},
		"path":     {cfg.Auth.HtpasswdFile, "conf/users.htpasswd"},
		"absolute": {cfg.TLS.Certificates[0].CertFile, "/abs/cert.pem"},
		"relative": {cfg.TLS.Certificates[0].KeyFile, "conf/sub/key.pem"},
		"list":     {cfg.Upstream.Pool.URLs[0], "http://127.0.0.1:7201"},
		"once":     {cfg.Upstream.Pool.BasicAuth.Password, "x\nlog: {level: debug} # ${UPSTREAM_PASSWORD} $$"},
		"no yaml":  {cfg.Log.Level, "info"},
		"duration": {cfg.Limits.Window.Past, limits.Side{Fixed: 20 * time.Minute}},
		"default":  {cfg.Limits.Window.Future, limits.Side{Fixed: 10 * time.Minute}},
		"zero":     {cfg.Auth.CacheTTL, time.Duration(0)},
		"size":     {cfg.Limits.RequestBytes, int64(2 << 20)},
		"bytes":    {cfg.Limits.DecodedBytes, int64(5_000_000)},
		"bool":     {cfg.Log.Access, false},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %#v, want %#v", name, c.got, c.want)
		}
	}
}

func parseText(t *testing.T, text string) *Config {
	t.Helper()
	cfg, _, err := Parse("conf/gateway.yaml", []byte(text), testEnv, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A type that reads itself is a scalar whatever it is made of: its text is expanded, may be quoted, and a list or a section in
// its place is refused.
func TestAuto(t *testing.T) {
	for text, want := range map[string]limits.WindowConfig{
		`{past: auto, future: "auto", downsampler_past: 15s}`: {Past: limits.Side{Auto: true}, Future: limits.Side{Auto: true}, DownsamplerPast: 15 * time.Second},
		`{past: "${PAST}", future: auto}`:                     {Past: limits.Side{Fixed: 20 * time.Minute}, Future: limits.Side{Auto: true}},
	} {
		cfg := parseText(t, "auth: {htpasswd_file: users}\ntls: {certificates: [{cert_file: c, key_file: k}]}\nupstream: {urls: ['http://127.0.0.1:7201']}\nlimits: {window: "+text+"}\n")
		if cfg.Limits.Window != want {
			t.Errorf("%s: %+v", text, cfg.Limits.Window)
		}
	}
}

func TestSecretFile(t *testing.T) {
	for content, want := range map[string]string{
		"pw": "pw", "pw\n": "pw", "pw\r\n": "pw", "pw\n\n": "pw\n", " pw $$ ${X} ": " pw $$ ${X} ",
	} {
		read := func(file string) ([]byte, error) { return []byte(content), nil }
		cfg, files, err := Parse("conf/gateway.yaml", []byte(`
auth: {htpasswd_file: users}
tls: {certificates: [{cert_file: c, key_file: k}]}
upstream: {urls: ["http://127.0.0.1:7201"], basic_auth: {username: gateway, password_file: run/pw}}
`), testEnv, read)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Upstream.Pool.BasicAuth.Password; got != want {
			t.Errorf("%q: got %q, want %q", content, got, want)
		}
		if last := files[len(files)-1]; last != "conf/run/pw" {
			t.Errorf("files %q; want the secret's file last", files)
		}
	}
}

// Numbers and truth values are taken as written where text belongs.
func TestTextAsWritten(t *testing.T) {
	cfg := parseText(t, `
auth: {htpasswd_file: 007, realm: true}
tls: {certificates: [{cert_file: c, key_file: k}]}
upstream: {urls: ["http://127.0.0.1:7201"]}
tenancy: {tenants: {1e3: {labels: {zone: 0x10}}}}
`)
	if cfg.Auth.HtpasswdFile != "conf/007" || cfg.Auth.Realm != "true" || cfg.Tenancy.Tenants["1e3"].Labels["zone"] != "0x10" {
		t.Errorf("got %+v, %+v", cfg.Auth, cfg.Tenancy)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.yaml")
	if _, files, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":1:1: cannot be read: ") || len(files) != 1 {
		t.Errorf("missing file: files %q, error %v", files, err)
	}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gateway.yaml", bytes.Repeat([]byte("#"), maxConfigBytes+1))
	if _, _, err := Load(path); err == nil || !strings.Contains(err.Error(), "has over 16777216 bytes") {
		t.Errorf("oversized file: %v", err)
	}
	t.Setenv("GATEWAY_TEST_USER", "gateway")
	write("pw", []byte("secret\n"))
	write("gateway.yaml", []byte(`
auth: {htpasswd_file: users}
tls: {certificates: [{cert_file: c, key_file: k}]}
upstream: {urls: ["http://127.0.0.1:7201"], basic_auth: {username: "${GATEWAY_TEST_USER}", password_file: pw}}
`))
	cfg, files, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if b := cfg.Upstream.Pool.BasicAuth; b.Username != "gateway" || b.Password != "secret" || len(files) != 5 {
		t.Errorf("got %+v, files %q", b, files)
	}
}

// ACME's storage and the audit log are written by the gateway itself: they must not be among the files whose change means a reload.
func TestStorageIsNotWatched(t *testing.T) {
	cfg, files, err := Parse("conf/gateway.yaml", []byte(`
auth: {htpasswd_file: users}
tls: {acme: {domains: [metrics.example.com], email: ops@example.com, agree_to_terms: true, storage_dir: acme}}
upstream: {urls: ["http://127.0.0.1:7201"]}
audit: {file: log/audit}
`), testEnv, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"conf/gateway.yaml", "conf/users"}; !reflect.DeepEqual(files, want) || cfg.Audit.File != "conf/log/audit" {
		t.Errorf("files %q; want %q; audit log %q", files, want, cfg.Audit.File)
	}
}

func TestDurationRemedy(t *testing.T) {
	const general = "write a number and a unit, such as 10m, 30s or 1h30m"
	for text, want := range map[string]string{
		"10 minutes": "use 10m", "10min": "use 10m", "5 Seconds": "use 5s", "1 hour": "use 1h", "2hrs": "use 2h", "90 msec": "use 90ms",
		"3 days": "use 72h", "1w": "use 168h", "7 fortnights": general, "": general, "ten m": general, "1m 30s": general,
		"30": "a unit is missing: write 30s for seconds or 30m for minutes", "999999999 weeks": "it is too long",
	} {
		if got := durationRemedy(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	const general = "write a whole number with one of the units KiB, MiB, GiB, KB, MB, GB, or none for bytes"
	for text, want := range map[string]struct {
		size int64
		mend string
	}{
		"0": {0, ""}, "1": {1, ""}, "2KiB": {2048, ""}, "3MiB": {3 << 20, ""}, "4GiB": {4 << 30, ""},
		"2KB": {2000, ""}, "3MB": {3_000_000, ""}, "4GB": {4_000_000_000, ""},
		"16M": {0, "use 16MiB"}, "16mib": {0, "use 16MiB"}, "16 MiB": {0, "use 16MiB"}, "1g": {0, "use 1GiB"}, "16kb": {0, "use 16KB"}, "16 KB": {0, "use 16KB"},
		"": {0, general}, "-1": {0, general}, "1.5GiB": {0, general}, "16TiB": {0, general}, "16 ": {0, general}, "MiB": {0, general},
		"9223372036854775807": {1<<63 - 1, ""}, "9223372036854775808": {0, "it is too large; write a smaller one"},
		"8589934591GiB": {8589934591 << 30, ""}, "8589934592GiB": {0, "it is too large; write a smaller one"},
	} {
		if size, mend := parseBytes(text); size != want.size || mend != want.mend {
			t.Errorf("%q: got %d, %q, want %d, %q", text, size, mend, want.size, want.mend)
		}
	}
}

// 2,000 users are read, and a mistake among them is placed, in bounded work.
func TestLarge(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("auth: {htpasswd_file: users}\ntls: {certificates: [{cert_file: c, key_file: k}]}\nupstream: {urls: [\"http://127.0.0.1:7201\"]}\ntenancy:\n  users:\n")
	for i := range 2_000 {
		fmt.Fprintf(&b, "    user%d: {tenants: [tenant%d], rights: [read, write]}\n", i, i)
	}
	if cfg := parseText(t, b.String()); len(cfg.Tenancy.Users) != 2_000 || cfg.Tenancy.Users["user7"].Tenants[0] != "tenant7" {
		t.Errorf("%d users", len(cfg.Tenancy.Users))
	}
	b.WriteString("    last: {tenants: [a\n" + strings.Repeat("x: 1\n", 100_000))
	if _, _, err := Parse("gateway.yaml", b.Bytes(), testEnv, os.ReadFile); err == nil || !strings.Contains(err.Error(), ": YAML syntax") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range append(glob(f, "testdata/*.bad.yaml", 60), glob(f, "testdata/*.good.yaml", 2)...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, files, err := Parse("testdata/f.yaml", data, testEnv, func(string) ([]byte, error) { return []byte("content\n"), nil })
		if (cfg == nil) != (err != nil) || len(files) == 0 {
			t.Fatalf("cfg %v, files %q, error %v", cfg, files, err)
		}
		if err == nil {
			return
		}
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			if !strings.HasPrefix(e.Error(), "testdata/f.yaml:") || strings.ContainsAny(e.Error(), "\r\n") {
				t.Errorf("%q is not a place and a problem on one line", e)
			}
		}
	})
}
