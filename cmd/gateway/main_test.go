package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// gateway runs the program.
func gateway(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHelp(t *testing.T) {
	for name, args := range map[string][]string{
		"help": {"--help"}, "help-check": {"check", "--help"}, "help-plan": {"plan", "--help"}, "help-smoke": {"smoke", "--help"}, "help-m3": {"m3", "--help"}, "help-m3-init": {"m3", "init", "--help"}, "help-m3-status": {"m3", "status", "--help"},
		"help-passwd": {"passwd", "--help"}, "help-upstreams": {"upstreams", "--help"}, "help-token": {"token", "--help"}, "help-version": {"version", "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("COLUMNS", "80")
			code, out, errs := gateway(t, "", args...)
			if code != 0 || errs != "" {
				t.Errorf("exit status %d, stderr %q", code, errs)
			}
			golden(t, name, out)
		})
	}
}

func TestUsage(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no command":      {nil, "gateway: expected one of "},
		"unknown command": {[]string{"start"}, `gateway: unexpected argument start`},
		"unknown flag":    {[]string{"check", "--confg", "x"}, `gateway: unknown flag --confg, did you mean "--config"?`},
		"no user":         {[]string{"passwd"}, `gateway: expected "<user>"`},
		"cost is text":    {[]string{"passwd", "alice", "--cost", "high"}, "gateway: --cost: expected a valid 64 bit int"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := gateway(t, "", c.args...)
			if code != 2 || out != "" || !strings.HasPrefix(errs, c.want) || !strings.HasSuffix(errs, "\nTry: gateway --help\n") {
				t.Errorf("exit status %d, stdout %q, stderr %q; want 2 and %q", code, out, errs, c.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	code, out, errs := gateway(t, "", "version")
	if code != 0 || errs != "" || !strings.HasPrefix(out, "gateway ") || !strings.Contains(out, ", built with go1.") {
		t.Errorf("exit status %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestToken(t *testing.T) {
	code, out, errs := gateway(t, "", "token", "alice")
	secret := strings.Fields(errs)[len(strings.Fields(errs))-1]
	digest := sha256.Sum256([]byte(secret))
	if code != 0 || out != "alice:sha256:"+hex.EncodeToString(digest[:])+"\n" || !strings.HasPrefix(secret, "m3gw_") {
		t.Errorf("exit status %d, stdout %q, stderr %q", code, out, errs)
	}
	if _, again, _ := gateway(t, "", "token", "alice"); again == out {
		t.Error("the same token twice")
	}
	for _, user := range []string{"a:b", "#a", " a", ""} {
		if code, out, errs := gateway(t, "", "token", user); code != 1 || out != "" || !strings.HasPrefix(errs, "gateway: ") || strings.Contains(errs, "m3gw_") {
			t.Errorf("%q: exit status %d, stdout %q, stderr %q", user, code, out, errs)
		}
	}
}

func TestPasswd(t *testing.T) {
	for stdin, password := range map[string]string{
		"correct horse\n":     "correct horse",
		"correct horse\r\n":   "correct horse",
		"correct horse":       "correct horse",
		" spaces stay \nrest": " spaces stay ",
	} {
		code, out, errs := gateway(t, stdin, "passwd", "alice", "--cost", "4")
		if code != 0 || errs != "" {
			t.Fatalf("%q: exit status %d, stderr %q", stdin, code, errs)
		}
		hash, ok := strings.CutPrefix(out, "alice:")
		hash, whole := strings.CutSuffix(hash, "\n")
		if !ok || !whole || !strings.HasPrefix(hash, "$2y$04$") {
			t.Fatalf("%q: printed %q", stdin, out)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)); err != nil {
			t.Errorf("%q: %v", stdin, err)
		}
	}
}

func TestPasswdRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"no password":     {"", []string{"alice"}, "the password is empty"},
		"empty line":      {"\nsecond\n", []string{"alice"}, "the password is empty"},
		"long":            {strings.Repeat("x", 73) + "\n", []string{"alice"}, "bcrypt would ignore all after 72"},
		"very long":       {strings.Repeat("x", 1<<20), []string{"alice"}, "bcrypt would ignore all after 72"},
		"colon":           {"pw\n", []string{"alice:bob"}, `the user name "alice:bob"; choose one without :`},
		"comment":         {"pw\n", []string{"#alice"}, "without # at the start"},
		"space":           {"pw\n", []string{"alice "}, "space"},
		"empty user":      {"pw\n", []string{""}, "user"},
		"line feed":       {"pw\n", []string{"alice\nbob"}, "line 1"},
		"cost":            {"pw\n", []string{"alice", "--cost", "3"}, "bcrypt cost 3 is outside"},
		"excessive costs": {"pw\n", []string{"alice", "--cost", "31"}, "bcrypt cost 31 is outside"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"passwd", "--cost", "4"}, c.args...)
			code, out, errs := gateway(t, c.stdin, args...)
			if code != 1 || out != "" || !strings.Contains(errs, c.want) || !strings.HasPrefix(errs, "gateway: ") {
				t.Errorf("exit status %d, stdout %q, stderr %q; want 1 and %q", code, out, errs, c.want)
			}
		})
	}
}

// house writes a configuration and the files it names into a new directory and makes it the working directory.
// It returns a function that writes further files.
func house(t *testing.T) func(name, content string) {
	t.Helper()
	t.Chdir(t.TempDir())
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, DNSNames: []string{"metrics.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(2999, 12, 31, 12, 0, 0, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))

	htpasswd := ""
	for _, user := range []string{"alice", "bob", "carol", "grafana"} {
		code, line, errs := gateway(t, "password of "+user, "passwd", user, "--cost", "4")
		if code != 0 {
			t.Fatal(errs)
		}
		htpasswd += line
	}
	write("users.htpasswd", htpasswd)
	write("gateway.yaml", goodConfig)
	return write
}

const goodConfig = `
listen:
  http_address: ":8080"
tls:
  certificates: [{cert_file: cert.pem, key_file: key.pem}]
auth:
  htpasswd_file: users.htpasswd
tenancy:
  client_label: allow
  users:
    alice: {tenants: [team-a, team-b]}
    bob: {tenants: [team-b], rights: [write]}
    grafana: {tenants: ["*"], rights: [read]}
  tenants:
    team-a: {labels: {env: prod, zone: eu}}
limits:
  window: {past: 2h}
upstream:
  urls: ["http://127.0.0.1:7201", "http://127.0.0.1:7202"]
`

func TestCheck(t *testing.T) {
	write := house(t)
	code, out, errs := gateway(t, "", "check", "--config", "gateway.yaml")
	if code != 0 || errs != "" {
		t.Errorf("exit status %d, stderr %s", code, errs)
	}
	for _, want := range []string{
		"gateway.yaml is valid.\n",
		"  https  :8443\n  http   :8080\n  admin  127.0.0.1:9091\n",
		"  metrics.example.com: issued by CN=test CA, valid until 2999-12-31 (cert.pem)\n",
		"USER     RIGHTS       TENANTS\n" +
			"alice    read, write  team-a, team-b\n" +
			"bob      write        team-b\n" +
			"carol    read, write  carol\n" +
			"grafana  read         * (every tenant)\n",
		"TENANT  LABELS SET ON EVERY SAMPLE\n" +
			"carol   tenant=\"carol\"\n" +
			"team-a  env=\"prod\", tenant=\"team-a\", zone=\"eu\"\n" +
			"team-b  tenant=\"team-b\"\n",
		"is kept if it names a tenant of the user (client_label: allow)\n",
		"from 2h0m0s ago (limits.window.past) to 10m0s ahead (limits.window.future)\n",
		"  kind    m3, namespace \"default\" must be ready\n  member  http://127.0.0.1:7201\n  member  http://127.0.0.1:7202\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the summary lacks %q; it is\n%s", want, out)
		}
	}

	write("gateway.yaml", strings.Replace(goodConfig, "upstream:\n  urls: [\"http://127.0.0.1:7201\", \"http://127.0.0.1:7202\"]",
		"upstream:\n  kind: prometheus\n  dns: {name: \"prometheus.local:9090\"}", 1))
	code, out, errs = gateway(t, "", "check")
	want := "  kind     prometheus\n  members  http at every address of prometheus.local:9090, looked up every 10s\n"
	if code != 0 || errs != "" || !strings.Contains(out, want) {
		t.Errorf("exit status %d, stderr %s, stdout\n%s\nwant %s", code, errs, out, want)
	}
}

// What is allowed but probably not meant is said without failing.
func TestCheckWarns(t *testing.T) {
	write := house(t)
	write("gateway.yaml", strings.Replace(goodConfig, "    bob:", "    nobody: {tenants: [team-c]}\n    bob:", 1))
	code, out, errs := gateway(t, "", "check")
	if code != 0 || !strings.Contains(out, "is valid") || !strings.HasPrefix(errs, "warning: ") || !strings.Contains(errs, `"nobody"`) {
		t.Errorf("exit status %d, stderr %s, stdout\n%s", code, errs, out)
	}
}

// With limits.window: auto, the store is asked; that it does not answer is no mistake of the configuration.
func TestCheckLearnsTheWindow(t *testing.T) {
	const registry = `{"registry":{"namespaces":{"default":{"retentionOptions":{"bufferFutureNanos":"300000000000","bufferPastNanos":"1200000000000"},"aggregationOptions":{"aggregations":[{"aggregated":false,"attributes":null}]}}}}}`
	status := http.StatusOK
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/services/m3db/namespace" {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, registry)
		}
	}))
	write := house(t)
	write("gateway.yaml", strings.NewReplacer("{past: 2h}", "{past: auto, future: auto, downsampler_past: 15s}",
		`["http://127.0.0.1:7201", "http://127.0.0.1:7202"]`, `["`+store.URL+`"]`).Replace(goodConfig))
	code, out, errs := gateway(t, "", "check")
	if want := `from 20m0s ago (bufferPast of namespace "default") to 5m0s ahead (bufferFuture of namespace "default")`; code != 0 || errs != "" || !strings.Contains(out, want) {
		t.Errorf("exit status %d, stderr %s, stdout\n%s\nwant %s", code, errs, out, want)
	}
	status = http.StatusInternalServerError
	failed := func(why string) {
		t.Helper()
		code, out, errs := gateway(t, "", "check")
		if code != 0 || !strings.Contains(out, "is valid") || !strings.Contains(out, "as the store says, which is not learnt") ||
			!strings.HasPrefix(errs, "warning: limits.window is auto and was not learnt: ") || !strings.Contains(errs, why) || strings.Count(errs, "\n") != 1 {
			t.Errorf("exit status %d, stderr %s, stdout\n%s\nwant %s", code, errs, out, why)
		}
	}
	failed("answered 500 to GET /api/v1/services/m3db/namespace")
	store.Close()
	failed("connection refused")
}

func TestCheckRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		want          []string // one for each problem, in order
	}{
		"syntax": {"gateway.yaml", "auth: {\n", []string{"gateway.yaml:1:1: YAML syntax"}},
		"two keys": {"gateway.yaml", strings.NewReplacer("past: 2h", "past: 2 hours", "rights: [write]", "right: [write]").Replace(goodConfig),
			[]string{`gateway.yaml:12:30: unknown key "right" in tenancy.users.bob; did you mean "rights"?`, `gateway.yaml:17:18: limits.window.past: bad duration "2 hours"; use 2h`}},
		"right": {"gateway.yaml", strings.Replace(goodConfig, "rights: [write]", "rights: [delete]", 1),
			[]string{`gateway.yaml:12:30: tenancy.users.bob.rights: "delete" is no right`}},
		"no configuration": {"gateway.yaml", "", []string{"gateway.yaml:1:1: the file is empty"}},
		"htpasswd lines": {"users.htpasswd", "alice:secret\nbob\ncarol:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n",
			[]string{"users.htpasswd line 1: ", "users.htpasswd line 2: "}},
		"htpasswd is a directory": {"gateway.yaml", strings.Replace(goodConfig, "users.htpasswd", ".", 1),
			[]string{"auth.htpasswd_file cannot be read: "}},
		"no htpasswd, no key": {"gateway.yaml", strings.NewReplacer("users.htpasswd", "none", "key.pem", "none.pem").Replace(goodConfig),
			[]string{"auth.htpasswd_file cannot be read: open none: no such file or directory; create it with: gateway passwd alice >> none", "none.pem"}},
		"ACME root": {"gateway.yaml", strings.Replace(goodConfig, "tls:\n", "tls:\n  acme: {domains: [acme.example.com], agree_to_terms: true, storage_dir: acme, root_ca_file: none.pem}\n", 1),
			[]string{"acme.root_ca_file: open none.pem"}},
		"certificate": {"cert.pem", "no PEM\n", []string{"cert.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			house(t)(c.file, c.content)
			code, out, errs := gateway(t, "", "check", "--config", "gateway.yaml")
			lines := strings.Split(strings.TrimSuffix(errs, "\n"), "\n")
			last := "gateway.yaml: " + map[int]string{1: "1 problem", 2: "2 problems"}[len(c.want)]
			if code != 1 || out != "" || len(lines) != len(c.want)+1 || lines[len(lines)-1] != last {
				t.Fatalf("exit status %d, stdout %q, stderr\n%s\nwant %d problems", code, out, errs, len(c.want))
			}
			for i, want := range c.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("got  %s\nwant %s", lines[i], want)
				}
			}
			if strings.Contains(errs, "secret") || strings.Contains(errs, "W6ph") {
				t.Errorf("the messages show a password or hash:\n%s", errs)
			}
		})
	}
}

// A cancelled context is no reason for check to fail: it is short.
func TestRunCancelled(t *testing.T) {
	house(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"check"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Errorf("exit status %d, stderr %s", code, &errs)
	}
}
