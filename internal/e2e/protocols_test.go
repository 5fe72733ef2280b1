//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestProtocols: a real sender of each protocol, with native histograms and exemplars on, has nothing to complain about, and
// what it sent is there.
func TestProtocols(t *testing.T) {
	receiver := startReceiver(t)
	alice, bob := users()
	g := startGateway(t, receiver.addr, alice, bob)
	for u, message := range map[user]string{alice: "prometheus.WriteRequest", bob: "io.prometheus.write.v2.Request"} {
		t.Run(message, func(t *testing.T) {
			sender := startPrometheus(t, func(addr string) string {
				return fmt.Sprintf(`global:
  scrape_interval: 1s
  scrape_timeout: 1s
  scrape_native_histograms: true
scrape_configs:
  - job_name: self
    static_configs: [{targets: [%q]}]
remote_write:
  - url: %s/api/v1/write
    protobuf_message: %s
    send_exemplars: true
    send_native_histograms: true
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
    queue_config: {batch_send_deadline: 1s, max_shards: 2}
`, addr, g.url, message, u.name, u.password, g.caFile)
			}, "--enable-feature=exemplar-storage,native-histograms")
			c := g.client(t, u)
			for _, q := range []string{
				`rate(prometheus_http_requests_total{job="self",handler="/metrics"}[1m])`,
				`histogram_count(prometheus_http_request_duration_seconds{job="self",handler="/metrics"}) > 2`,
			} {
				eventually(t, "waiting for "+q, func() error {
					got, err := c.query(q, time.Now())
					if err == nil && len(got) == 0 {
						err = errors.New("no data")
					}
					return err
				})
			}
			for _, q := range []string{
				`sum({__name__=~"prometheus_remote_storage_(samples|histograms|exemplars)_(failed|dropped)_total",remote_name!=""}) > 0`,
				`prometheus_remote_storage_histograms_total == 0`,
			} {
				got, err := sender.direct().query(q, time.Now())
				if err != nil || len(got) > 0 {
					t.Errorf("%s: %v, %v", q, got, err)
				}
			}
			log, err := os.ReadFile(sender.stderr)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{"level=ERROR", "level=WARN msg=\"Failed to send", "investigation needed"} {
				if bytes.Contains(log, []byte(word)) {
					t.Errorf("the sender's log holds %q:\n%s", word, tail(sender.stderr))
				}
			}
		})
	}
}
