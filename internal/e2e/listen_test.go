//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// balancer spreads new connections over replicas in turn, as a load balancer of the transport layer does; it knows nothing of
// what they carry.
type balancer struct {
	addr string

	mu       sync.Mutex
	replicas []string
	turn     int
}

func startBalancer(t *testing.T, replicas ...string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &balancer{addr: l.Addr().String(), replicas: replicas}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(c)
		}
	}()
	return b
}

func (b *balancer) set(replicas ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = replicas
}

func (b *balancer) pass(c net.Conn) {
	defer c.Close()
	b.mu.Lock()
	b.turn++
	to := b.replicas[b.turn%len(b.replicas)]
	b.mu.Unlock()
	s, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer s.Close()
	go func() {
		_, _ = io.Copy(s, c)
		_ = s.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, s)
	_ = c.(*net.TCPConn).CloseWrite()
}

// written is how many writes the gateway has answered with success.
func (g *gateway) written(t *testing.T) int {
	t.Helper()
	resp, err := http.Get(g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^m3gateway_gateway_requests_total\{code="204",route="write"\} (\d+)$`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// servesMore waits until the gateway has answered n further writes.
func (g *gateway) servesMore(t *testing.T, n int) {
	t.Helper()
	want := g.written(t) + n
	eventually(t, "waiting for writes", func() error {
		if got := g.written(t); got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

// TestReplicas: long-lived connections of real senders spread over a replica that comes, and leave one that goes, and no
// request fails.
func TestReplicas(t *testing.T) {
	t.Parallel()
	receiver := startReceiver(t)
	alice, bob := users()
	first := startGatewayAs(t, "  max_connection_age: 2s\n", fmt.Sprintf("  kind: prometheus\n  urls: [http://%s]\n", receiver.addr), alice, bob)
	b := startBalancer(t, first.addr)
	url := "https://" + b.addr

	var senders []*prometheus
	for _, h2 := range []bool{false, true} {
		senders = append(senders, startPrometheus(t, func(addr string) string {
			return fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {h2: "%v"}}
scrape_configs: [{job_name: self, static_configs: [{targets: [%q]}]}]
remote_write:
  - url: %s/api/v1/write
    enable_http2: %v
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
    queue_config: {batch_send_deadline: 100ms, min_shards: 4, max_shards: 4, max_samples_per_send: 100}
`, h2, addr, url, h2, alice.name, alice.password, first.caFile)
		}))
	}
	startVmagent(t, "-remoteWrite.url="+url+"/api/v1/write", "-remoteWrite.basicAuth.username="+bob.name, "-remoteWrite.basicAuth.password="+bob.password, "-remoteWrite.tlsCAFile="+first.caFile, "-remoteWrite.forcePromProto")
	var counters []*counter
	for i, h2 := range []bool{false, true} {
		var protocols http.Protocols
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		transport := &http.Transport{TLSClientConfig: tlsConfig(t, first.caFile), Protocols: &protocols}
		t.Cleanup(transport.CloseIdleConnections)
		c := client{http: &http.Client{Transport: transport, Timeout: patience}, base: url, user: bob.name, password: bob.password}
		counters = append(counters, count(t, c, fmt.Sprintf("counter_%d", i)))
	}
	first.servesMore(t, 500)

	second := first.replica(t)
	b.set(first.addr, second.addr)
	second.servesMore(t, 500)
	first.servesMore(t, 200)

	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "waiting for readiness to go off", func() error {
		resp, err := http.Get(first.admin + "/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	b.set(second.addr)
	if code := first.wait(t); code != 0 {
		t.Errorf("the replica that went ended with code %d", code)
	}
	second.servesMore(t, 500)

	for _, c := range counters {
		c.end()
		if len(c.statuses) != 1 || c.statuses[http.StatusNoContent] == 0 {
			t.Errorf("%s: answers by status %v, want only 204; 0 is none", c.metric, c.statuses)
		}
		c.verify(t, receiver.direct(), fmt.Sprintf("%s{tenant=%q}", c.metric, bob.tenant))
	}
	for _, s := range senders {
		unanswered(t, s.direct(), `sum({__name__=~"prometheus_remote_storage_(samples|metadata)_(failed|dropped|retried)_total",remote_name!=""}) > 0`)
		log, err := os.ReadFile(s.stderr)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`level=WARN[^\n]*Failed to send`).Match(log) {
			t.Errorf("a sender complains:\n%s", tail(s.stderr))
		}
	}
	g := client{http: trusting(t, second.caFile), base: second.url, user: bob.name, password: bob.password}
	finds(t, g, `vmagent_remotewrite_requests_total{status_code="2XX"} > 10`)
	unanswered(t, g, `vmagent_remotewrite_retries_count_total > 0`, `vmagent_remotewrite_errors_total > 0`, `vmagent_remotewrite_packets_dropped_total > 0`)
}

// unanswered checks that each query, for what a sender counts of its failures, has no answer.
func unanswered(t *testing.T, c client, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if got, err := c.query(q, time.Now()); err != nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", q, got, err)
		}
	}
}

// conformance are the requirements of HTTP/2 that net/http does not meet to the letter. It answers malformed headers with a 400
// (RFC 9113 section 8.1.1 allows it), and takes a setting that is given twice in one frame for an attack.
var conformance = []string{
	"Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"",
	"Sends a HEADERS frame that contains the connection-specific header field",
	"Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE",
}

// TestHTTP2Conformance runs h2spec, in strict mode, against the gateway. Some rows expect an error on a stream whose answer may
// have ended it before; a row counts as failed if it never passes.
func TestHTTP2Conformance(t *testing.T) {
	t.Parallel()
	receiver := startReceiver(t)
	alice, _ := users()
	g := startGateway(t, receiver.addr, alice)
	var failed []string
	for run := range 3 {
		all, now, out := h2spec(t, g.addr)
		if all < 140 {
			t.Fatalf("only %d rows\n%s", all, out)
		}
		if run > 0 {
			now = slices.DeleteFunc(now, func(row string) bool { return !slices.Contains(failed, row) })
		}
		failed = now
		t.Logf("%d of %d rows pass", all-len(failed), all)
		if slices.Equal(failed, conformance) {
			return
		}
	}
	t.Errorf("these rows fail: %q; want %q", failed, conformance)
}

// h2spec returns how many rows there are, and those that failed, in order.
func h2spec(t *testing.T, addr string) (all int, failed []string, out []byte) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	out, err = exec.Command(binary(t, "h2spec"), "--host", host, "--port", port, "--tls", "--insecure", "--strict", "--timeout", "2", "--junit-report", file).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			all++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, c.Name)
			}
		}
	}
	slices.Sort(failed)
	return all, failed, out
}

// TestTLSVersions: TLS 1.2 and 1.3 are spoken, nothing older.
func TestTLSVersions(t *testing.T) {
	receiver := startReceiver(t)
	alice, _ := users()
	g := startGateway(t, receiver.addr, alice)
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		cfg := tlsConfig(t, g.caFile)
		cfg.MinVersion, cfg.MaxVersion = version, version
		c, err := tls.Dial("tcp", g.addr, cfg)
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			c.Close()
		}
	}
}
