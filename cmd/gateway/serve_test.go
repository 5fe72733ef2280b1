package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"m3gateway/internal/gatewaytest"
)

// argsOfProcess is the variable with which the test's binary is the program itself.
const argsOfProcess = "M3GATEWAY_TEST_ARGS"

// TestProcess is no test of its own, but the program, when another test starts it as a process.
func TestProcess(t *testing.T) {
	if args := os.Getenv(argsOfProcess); args != "" {
		os.Args = append([]string{"gateway"}, strings.Split(args, " ")...)
		main()
	}
}

// TestAuditLogOfAProcess: after SIGTERM the audit log has the line of every request, of those too that were under way then, in a file
// that nobody else may read, or on standard output and nothing else there.
func TestAuditLogOfAProcess(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaytest.Probed(w, r) {
			return
		}
		if body, _ := io.ReadAll(r.Body); bytes.Contains(body, []byte("held")) {
			entered <- struct{}{}
			<-goOn
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
	}))
	t.Cleanup(store.Close)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{store.URL}})
	text, err := os.ReadFile(filepath.Join(g.Dir, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for output, section := range map[string]string{"file": "file: audit.log", "stdout": "stdout: true"} {
		config := filepath.Join(g.Dir, output+".yaml")
		if err := os.WriteFile(config, fmt.Appendf(nil, "%saudit: {%s}\n", text, section), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout bytes.Buffer // read after the end
		stderr := new(gatewaytest.Log)
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$")
		cmd.Env = append(os.Environ(), argsOfProcess+"=serve --config "+config)
		cmd.Stdout, cmd.Stderr = &stdout, stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		process := *g // the same files and passwords
		gatewaytest.Until(t, "the process listens", func() bool {
			for l := range strings.Lines(stderr.String()) {
				var started struct{ Msg, HTTPS string }
				if json.Unmarshal([]byte(l), &started) == nil && started.Msg == "configuration in use" {
					process.URL = "https://" + started.HTTPS
				}
			}
			return process.URL != g.URL
		})
		ask := func(query, password string) int {
			req := process.Request("", "GET", "/api/v1/query?query="+query, nil)
			req.SetBasicAuth("alice", password)
			resp, err := process.Client.Do(req)
			if err != nil {
				t.Error(err)
				return 0
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		if a, b := ask("up", gatewaytest.Password("alice")), ask("up", "wrong"); a != 200 || b != 401 {
			t.Fatalf("%d %d\n%s", a, b, stderr)
		}
		held := make(chan int)
		go func() { held <- ask("held", gatewaytest.Password("alice")) }()
		<-entered
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		gatewaytest.Until(t, "it drains", func() bool { return strings.Contains(stderr.String(), `"draining"`) })
		goOn <- struct{}{}
		if status := <-held; status != 200 {
			t.Errorf("%s: under way: %d", output, status)
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: %v\n%s", output, err, stderr)
		}
		lines := stdout.String()
		if output == "file" {
			path := filepath.Join(g.Dir, "audit.log")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 || lines != "" {
				t.Errorf("%v %v; standard output %q", info.Mode(), err, lines)
			}
			lines = string(b)
		}
		var got []string
		for l := range strings.Lines(lines) {
			var e struct {
				Status  int
				Queries []string
				User    string
				Claimed string `json:"claimed_user"`
			}
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				t.Errorf("%s: %v: %q", output, err, l)
			}
			got = append(got, fmt.Sprintf("%d %v user %s claimed %s", e.Status, e.Queries, e.User, e.Claimed))
		}
		want := []string{"200 [up] user alice claimed ", "401 [] user  claimed alice", "200 [held] user alice claimed "}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", output, got, want)
		}
	}
}
