//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; a wait ends as soon as its condition holds.
const patience = 2 * time.Minute

// binary returns the path of one of the binaries that were built before the suite.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("M3GATEWAY_BIN_DIR")
	if dir == "" {
		t.Fatal("M3GATEWAY_BIN_DIR is not set; build gateway and gateway-dev (./cmd/...) and prometheus and promtool (in internal/e2e/prometheus) into one directory and name it there")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		t.Fatalf("M3GATEWAY_BIN_DIR has no binary %s (%v); build it into %s first", name, err, dir)
	}
	return path
}

// eventually polls condition until it returns nil.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// process is a running binary.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout string        // file
	stderr string        // file; the log
	done   chan struct{} // closed when the process has ended
}

// run starts a binary; it is killed at the end of the test at the latest, and its log is shown if the test failed.
func run(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return runWith(t, nil, name, args...)
}

// runWith is run with further variables of the environment.
func runWith(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		name:   name,
		cmd:    exec.Command(binary(t, name), args...),
		stdout: filepath.Join(dir, "stdout"),
		stderr: filepath.Join(dir, "stderr"),
		done:   make(chan struct{}),
	}
	stdout, err := os.Create(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s %s:\n%s%s", name, strings.Join(args, " "), tail(p.stdout), tail(p.stderr))
		}
	})
	return p
}

func tail(file string) []byte {
	b, err := os.ReadFile(file)
	if err != nil {
		return []byte(err.Error())
	}
	if cut := len(b) - 8<<10; cut > 0 {
		b = append([]byte("...\n"), b[cut:]...)
	}
	return b
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// terminate sends SIGTERM and returns the exit code.
func (p *process) terminate(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return p.wait(t)
}

func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s did not end within %s", p.name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// errEnded means that a process ended while it was expected to become ready.
var errEnded = errors.New("the process ended")

// ready polls url until it answers 200.
func (p *process) ready(url string) error {
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if p.ended() {
			return fmt.Errorf("%s: %w: %s", p.name, errEnded, tail(p.stderr))
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready: %w: %s", p.name, err, tail(p.stderr))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// startOn calls start until the process is ready on the addresses that it was given, again when one of them was taken, as may
// happen where addresses are not kept for the test.
func startOn(t *testing.T, start func() (*process, error)) *process {
	t.Helper()
	for range 10 {
		p, err := start()
		if err == nil {
			return p
		}
		if log := slices.Concat(tail(p.stdout), tail(p.stderr)); !errors.Is(err, errEnded) || !bytes.Contains(log, []byte("address already in use")) {
			t.Fatal(err)
		}
	}
	t.Fatal("no free address found")
	return nil
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
