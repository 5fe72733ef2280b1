//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"m3gateway/internal/faultnet"
)

// prometheus is a real Prometheus server that can be stopped and started again with its address and data.
type prometheus struct {
	*process
	addr string // host:port
	dir  string // configuration and data
	args []string
}

// startPrometheus starts a server whose configuration is config of its own address.
func startPrometheus(t *testing.T, config func(addr string) string, args ...string) *prometheus {
	t.Helper()
	s := &prometheus{dir: t.TempDir(), args: args}
	s.process = startOn(t, func() (*process, error) {
		s.addr = faultnet.Address(t)
		writeFile(t, s.configFile(), config(s.addr))
		return s.run(t)
	})
	return s
}

func (s *prometheus) configFile() string { return filepath.Join(s.dir, "prometheus.yml") }

func (s *prometheus) run(t *testing.T) (*process, error) {
	t.Helper()
	p := run(t, "prometheus", append([]string{
		"--config.file=" + s.configFile(),
		"--storage.tsdb.path=" + filepath.Join(s.dir, "data"),
		"--web.listen-address=" + s.addr,
	}, s.args...)...)
	return p, p.ready("http://" + s.addr + "/-/ready")
}

// restart starts a server that has ended, on the same address.
func (s *prometheus) restart(t *testing.T) {
	t.Helper()
	s.process = startOn(t, func() (*process, error) { return s.run(t) })
}

// direct is a client of the server itself, past the gateway.
func (s *prometheus) direct() client {
	return client{http: http.DefaultClient, base: "http://" + s.addr}
}

// startReceiver starts the server that stands behind the gateway.
func startReceiver(t *testing.T) *prometheus {
	t.Helper()
	return startPrometheus(t, func(string) string {
		return "storage:\n  tsdb:\n    out_of_order_time_window: 15m\n"
	}, "--web.enable-remote-write-receiver")
}

// startSender starts a server that scrapes itself every second and writes through the gateway to path.
func startSender(t *testing.T, g *gateway, u user, path, externalLabels string) *prometheus {
	t.Helper()
	return startPrometheus(t, func(addr string) string {
		return fmt.Sprintf(`global:
  scrape_interval: 1s
  scrape_timeout: 1s
  external_labels: {%s}
scrape_configs:
  - job_name: self
    static_configs: [{targets: [%q]}]
remote_write:
  - url: %s
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
    queue_config: {batch_send_deadline: 1s, max_shards: 2, min_backoff: 50ms, max_backoff: 500ms}
`, externalLabels, addr, g.url+path, u.name, u.password, g.caFile)
	})
}

// startReader starts a server that has no data of its own and reads from the gateway.
func startReader(t *testing.T, g *gateway, u user) *prometheus {
	t.Helper()
	return startPrometheus(t, func(string) string {
		return fmt.Sprintf(`remote_read:
  - url: %s/api/v1/read
    read_recent: true
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
`, g.url, u.name, u.password, g.caFile)
	})
}
