package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"m3gateway/bench/measure"
)

// explained are the findings of testssl.sh above INFO that are meant to be as they are, by their ids.
func explained() map[string]string {
	return map[string]string{
		"engine_problem":     "of the OpenSSL of the machine that tests, not of the gateway",
		"cert_revocation":    "of the bench's own certificate; whether one names a CRL or an OCSP responder is its authority's choice",
		"cipherlist_AVERAGE": "TLS 1.2 clients without AEAD get ECDHE with AES-CBC, as Go's defaults have it; AEAD and TLS 1.3 come first",
		"LUCKY13":            "the same suites; Go's defaults have of them only those with SHA-1, whose MAC it checks in constant time",
		"TLS_session_ticket": "Go's tickets hold for a week at most; the key for new ones, which is in this process alone, changes every day",
	}
}

// testssl runs testssl.sh, all of its tests, and prints what it rates above INFO. The error names the findings above LOW that are
// not explained.
func testssl(ctx context.Context, b *bench) error {
	tool, err := measure.Binary("TESTSSL_BIN", "testssl")
	if err != nil {
		fmt.Println("omitted: testssl.sh:", err)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, err := b.gateway(ctx, "testssl", "  hsts_max_age: 8760h\n")
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "testssl.json")
	cmd := exec.CommandContext(ctx, tool, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "min", "--add-ca", g.caFile, "--jsonfile", file, g.HTTPS)
	if out, err := cmd.CombinedOutput(); err != nil && !errors.As(err, new(*exec.ExitError)) { // its status is a number of findings
		return fmt.Errorf("%w\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(data, &findings); err != nil {
		return err
	}
	fmt.Printf("testssl.sh: %d results; those above INFO:\n", len(findings))
	if len(findings) < 100 {
		return fmt.Errorf("only %d results", len(findings))
	}
	var open []string
	for _, f := range findings {
		if f.Severity == "OK" || f.Severity == "INFO" {
			continue
		}
		why, known := explained()[f.ID]
		if !known {
			why = "NOT EXPLAINED"
			if f.Severity != "LOW" {
				open = append(open, f.ID)
			}
		}
		fmt.Printf("  %-8s %-20s %s\n           %s\n", f.Severity, f.ID, f.Finding, why)
	}
	if len(open) > 0 {
		return fmt.Errorf("findings without an explanation: %v", open)
	}
	return nil
}
