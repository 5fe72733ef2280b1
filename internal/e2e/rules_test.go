//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAlertRules: promtool takes the rules, and each alert fires and is quiet as its cases say.
func TestAlertRules(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "m3gateway.rules.yaml"},
		{"test", "rules", "m3gateway.rules.test.yaml"},
	} {
		cmd := exec.Command(binary(t, "promtool"), args...)
		cmd.Dir = "../../deploy/prometheus"
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
