package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// h2spec builds h2spec at the version that the end-to-end suite pins, runs it in strict mode, and prints the rows that fail. Which
// may fail is a test of that suite.
func h2spec(ctx context.Context, b *bench) error {
	tool := os.Getenv("H2SPEC_BIN")
	if tool == "" {
		tool = filepath.Join(b.dir, "h2spec")
		build := exec.CommandContext(ctx, "go", "build", "-o", tool, "github.com/summerwind/h2spec/cmd/h2spec")
		build.Dir = filepath.Join("internal", "e2e", "h2spec")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building h2spec (run this at the top of the module): %w\n%s", err, out)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, err := b.gateway(ctx, "h2spec-files", "")
	if err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(g.HTTPS)
	out, err := exec.CommandContext(ctx, tool, "--host", host, "--port", port, "--tls", "--insecure", "--strict", "--timeout", "2").CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		return fmt.Errorf("%w\n%s", err, out)
	}
	text := string(out)
	fmt.Printf("h2spec, strict: %s\n", regexp.MustCompile(`\d+ tests, .*`).FindString(text))
	if _, failures, ok := strings.Cut(text, "Failures:"); ok {
		for _, m := range regexp.MustCompile(`(?m)^\s+× .*`).FindAllString(failures, -1) {
			fmt.Println(" ", strings.TrimSpace(m))
		}
	}
	return nil
}
