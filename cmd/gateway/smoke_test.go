package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"m3gateway/internal/gatewaytest"
	"m3gateway/internal/smoke"
)

// TestSmoke: the password's ways in, the table, the JSON, and what the exit status says.
func TestSmoke(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: "  users:\n    alice: {tenants: [team-a]}"})
	ca, err := filepath.Glob(filepath.Join(g.Dir, "tls", "ca.crt"))
	if err != nil || len(ca) == 0 {
		t.Fatalf("no authority below %s (%v)", g.Dir, err)
	}
	password := gatewaytest.Password("alice")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"smoke", "--url", g.URL, "--user", "alice", "--tenant", "team-a"}
	trust := []string{"--ca-file", ca[0]}

	code, out, errs := gateway(t, "", append(append(args, trust...), "--password-file", file)...)
	if code != 0 || errs != "" || !strings.Contains(out, "\nAll is well.\n") || !strings.Contains(out, `tenant="team-a"`) {
		t.Errorf("exit status %d, stderr %s, stdout\n%s", code, errs, out)
	}
	code, out, errs = gateway(t, password+"\n", append(append(args, trust...), "--password-file", "-", "--json")...)
	var report smoke.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || errs != "" || !report.OK || len(report.Checks) != 14 {
		t.Errorf("exit status %d, stderr %s, %v, stdout\n%s", code, errs, err, out)
	}
	t.Setenv("M3GATEWAY_PASSWORD", "guess")
	code, out, errs = gateway(t, "", append(args, trust...)...)
	if code != 1 || errs != "gateway: the smoke test failed\n" || !strings.Contains(out, "FAILED") || !strings.Contains(out, "\n1 of 14 checks failed.\n") || strings.Contains(out, "guess") {
		t.Errorf("exit status %d, stderr %s, stdout\n%s", code, errs, out)
	}
	code, out, _ = gateway(t, "", append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.OK || report.Checks[0].Status != smoke.Failed {
		t.Errorf("without the authority: exit status %d, %v, stdout\n%s", code, err, out)
	}
}

func TestSmokeRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("empty", []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no address":        {nil, 2, "missing flags: --url=STRING"},
		"a path":            {[]string{"--url", "https://h/api"}, 1, `"https://h/api" is no address of a gateway`},
		"no password":       {[]string{"--url", "https://h", "--user", "alice"}, 1, "no password; give --password-file FILE"},
		"empty password":    {[]string{"--url", "https://h", "--user", "alice", "--password-file", "empty"}, 1, "the password is empty"},
		"no such file":      {[]string{"--url", "https://h", "--user", "alice", "--password-file", "none"}, 1, "--password-file: open none"},
		"no such authority": {[]string{"--url", "https://h", "--ca-file", "none"}, 1, "--ca-file: open none"},
		"no authority":      {[]string{"--url", "https://h", "--ca-file", "empty"}, 1, "empty holds no certificate in PEM"},
		"select nothing":    {[]string{"--url", "https://h", "--select"}, 1, "--select needs a --tenant"},
		"user of a store":   {[]string{"--url", "http://h", "--plain", "--user", "alice", "--password-file", "-"}, 1, "the password is empty"},
	} {
		code, out, errs := gateway(t, "", append([]string{"smoke"}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q; want %d and %q", name, code, out, errs, c.code, c.want)
		}
	}
}
