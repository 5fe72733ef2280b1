//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestSmoke: `gateway smoke` finds a gateway in front of a real Prometheus well, and says so when that has gone.
func TestSmoke(t *testing.T) {
	alice, _ := users()
	store := startReceiver(t)
	g := startGateway(t, store.addr, alice)
	smoke := func() (string, error) {
		cmd := exec.Command(binary(t, "gateway"), "smoke", "--url", g.url, "--user", alice.name, "--tenant", alice.tenant, "--ca-file", g.caFile, "--password-file", "-")
		cmd.Stdin = strings.NewReader(alice.password + "\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := smoke(); err != nil || !strings.Contains(out, "All is well.") || strings.Contains(out, "skipped") {
		t.Errorf("%v\n%s", err, out)
	}
	store.terminate(t)
	out, err := smoke()
	if err == nil || !strings.Contains(out, "FAILED") || !strings.Contains(out, "503") {
		t.Errorf("without the store: %v\n%s", err, out)
	}
}
