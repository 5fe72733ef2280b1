//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gateway-dev with --json says where it is and who may use it; its data outlives it.
func TestDevelopmentGateway(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gateway.log:\n%s", tail(filepath.Join(dir, "gateway.log")))
		}
	})
	var counters []*counter
	for i := range 3 {
		p := run(t, "gateway-dev", "--json", "--data-dir", dir, "--https-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0")
		var ready struct {
			URL      string `json:"url"`
			AdminURL string `json:"admin_url"`
			CAFile   string `json:"ca_file"`
			Users    []struct{ Name, Password, Tenant string }
		}
		if err := json.Unmarshal(firstLine(t, p), &ready); err != nil {
			t.Fatalf("first line: %v", err)
		}
		if len(ready.Users) < 2 || ready.Users[0].Tenant == ready.Users[1].Tenant {
			t.Fatalf("users %v, want two of two tenants", ready.Users)
		}
		if err := p.ready(ready.AdminURL + "/readyz"); err != nil {
			t.Fatal(err)
		}
		web := trusting(t, ready.CAFile)
		var clients []client
		for _, u := range ready.Users[:2] {
			clients = append(clients, client{http: web, base: ready.URL, user: u.Name, password: u.Password})
		}
		for _, c := range counters { // of the run before
			for j, u := range ready.Users[:2] {
				if u.Name == c.client.user {
					c.verify(t, clients[j], c.metric)
				}
			}
		}
		for _, c := range clients {
			counters = append(counters, count(t, c, fmt.Sprintf("known_values_%d", i)))
		}
		for _, c := range counters[len(counters)-2:] {
			c.moreAcknowledged(t, 20)
			c.end()
			c.verify(t, c.client, c.metric)
		}
		for j, c := range clients {
			got, err := c.query(fmt.Sprintf("group by (tenant) (known_values_%d)", i), time.Now().Add(time.Second))
			if err != nil || len(got) != 1 || got[0].Metric["tenant"] != ready.Users[j].Tenant {
				t.Errorf("%s sees %v, %v", c.user, got, err)
			}
		}
		eventually(t, "waiting for the gateway's own metrics", func() error {
			for _, c := range clients {
				if got, err := c.query(`count({__name__=~"m3gateway_.+"})`, time.Now()); err != nil {
					return err
				} else if len(got) == 1 {
					return nil
				}
			}
			return errors.New("no user sees any")
		})
		if code := p.terminate(t); code != 0 {
			t.Fatalf("gateway-dev ended with code %d", code)
		}
	}
}

// Without --json it prints what to paste; promtool judges the part for Prometheus.
func TestDevelopmentSnippet(t *testing.T) {
	p := run(t, "gateway-dev", "--data-dir", t.TempDir(), "--https-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0")
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	eventually(t, "waiting for a remote_write block that promtool accepts", func() error {
		if p.ended() {
			t.Fatal("gateway-dev ended")
		}
		printed, err := os.ReadFile(p.stdout)
		if err != nil {
			return err
		}
		snippet, err := block(printed, "remote_write:")
		if err != nil {
			return err
		}
		writeFile(t, config, snippet)
		if out, err := exec.Command(binary(t, "promtool"), "check", "config", config).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s in\n%s", err, out, snippet)
		}
		if !strings.Contains(snippet, "https://") || !strings.Contains(snippet, "basic_auth:") || !strings.Contains(snippet, "ca_file:") {
			return fmt.Errorf("incomplete:\n%s", snippet)
		}
		return nil
	})
	if code := p.terminate(t); code != 0 {
		t.Errorf("gateway-dev ended with code %d", code)
	}
}

// block cuts the YAML block that begins with the line key out of printed, without its indentation.
func block(printed []byte, key string) (string, error) {
	var out strings.Builder
	indent := ""
	lines := bufio.NewScanner(bytes.NewReader(printed))
	for lines.Scan() {
		line := lines.Text()
		text := strings.TrimLeft(line, " ")
		switch {
		case out.Len() == 0 && strings.TrimSpace(text) == key:
			indent = line[:len(line)-len(text)]
			out.WriteString(key + "\n")
		case out.Len() == 0:
		case strings.HasPrefix(line, indent) && (strings.HasPrefix(line[len(indent):], " ") || strings.HasPrefix(line[len(indent):], "-")):
			out.WriteString(line[len(indent):] + "\n")
		default:
			return out.String(), nil
		}
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("no line %q", key)
	}
	return out.String(), nil
}

// firstLine waits for the first line on p's standard output.
func firstLine(t *testing.T, p *process) (line []byte) {
	t.Helper()
	eventually(t, "waiting for the first line", func() error {
		if p.ended() {
			t.Fatal("gateway-dev ended")
		}
		printed, err := os.ReadFile(p.stdout)
		if err != nil {
			return err
		}
		var whole bool
		if line, _, whole = bytes.Cut(printed, []byte("\n")); !whole {
			return errors.New("nothing yet")
		}
		return nil
	})
	return line
}
