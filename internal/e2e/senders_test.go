//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"m3gateway/internal/faultnet"
)

// reset is the row of a connection that is cut instead of answered.
const reset = 0

// sendersDo is what real senders with default settings do with a batch that is answered so: repeat it (true) or drop it. It is
// the ground of the status table of internal/gateway.
var sendersDo = map[int]struct{ prometheus, vmagent, otel bool }{
	reset: {true, true, true},
	400:   {false, false, false},
	401:   {false, true, false},
	403:   {false, true, false},
	404:   {false, true, false},
	405:   {false, true, false},
	408:   {false, true, false},
	413:   {false, true, false},
	415:   {false, false, false},
	429:   {false, true, false},
	503:   {true, true, true},
}

// refuser answers the first write of each path /SENDER/STATUS with that status, and later ones with 204; it sees whether the
// first comes again.
type refuser struct {
	mu    sync.Mutex
	first map[string][]byte // by path
	after map[string]int    // writes since, up to the verdict
	again map[string]bool   // the verdict
}

func (f *refuser) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) == 0 { // what vmagent finds out about a server by
		w.WriteHeader(http.StatusNoContent)
		return
	}
	var sender string
	var status int
	if _, err := fmt.Sscanf(strings.ReplaceAll(r.URL.Path, "/", " "), " %s %d", &sender, &status); err != nil {
		http.NotFound(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	first, known := f.first[r.URL.Path]
	if known {
		f.after[r.URL.Path]++
		if _, judged := f.again[r.URL.Path]; !judged {
			if same := bytes.Equal(first, body); same || f.after[r.URL.Path] == 4 { // some send others in between
				f.again[r.URL.Path] = same
			}
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	f.first[r.URL.Path] = body
	if status == reset {
		panic(http.ErrAbortHandler)
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, "a reason", status)
}

// TestWhatSendersDo: each row of the table, with the real senders.
func TestWhatSendersDo(t *testing.T) {
	f := &refuser{first: map[string][]byte{}, after: map[string]int{}, again: map[string]bool{}}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	var remotes strings.Builder
	var vmURLs, otelURLs []string
	for status := range sendersDo {
		fmt.Fprintf(&remotes, "  - url: %s/prometheus/%d\n    name: s%d\n    queue_config: {batch_send_deadline: 300ms, max_shards: 1}\n    metadata_config: {send: false}\n", srv.URL, status, status)
		vmURLs = append(vmURLs, fmt.Sprintf("-remoteWrite.url=%s/vmagent/%d", srv.URL, status))
		otelURLs = append(otelURLs, fmt.Sprintf("%s/otel/%d", srv.URL, status))
	}
	startPrometheus(t, func(addr string) string {
		return fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs: [{job_name: self, static_configs: [{targets: [%q]}]}]\nremote_write:\n%s", addr, &remotes)
	})
	startVmagent(t, append(vmURLs, "-remoteWrite.queues=1", "-remoteWrite.forcePromProto", "-remoteWrite.maxRowsPerBlock=1000000")...)
	run(t, "otel", otelURLs...)
	eventually(t, "each sender has repeated or dropped each batch", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for path := range f.first {
			if _, judged := f.again[path]; !judged {
				return errors.New(path + " is open")
			}
		}
		if n := 3 * len(sendersDo); len(f.again) < n {
			return fmt.Errorf("%d of %d", len(f.again), n)
		}
		return nil
	})
	for status, want := range sendersDo {
		for sender, want := range map[string]bool{"prometheus": want.prometheus, "vmagent": want.vmagent, "otel": want.otel} {
			if got := f.again[fmt.Sprintf("/%s/%d", sender, status)]; got != want {
				t.Errorf("%s repeats what is answered %d: %v, want %v", sender, status, got, want)
			}
		}
	}
}

// startVmagent starts a vmagent that scrapes itself.
func startVmagent(t *testing.T, args ...string) {
	t.Helper()
	dir := t.TempDir()
	startOn(t, func() (*process, error) {
		addr := faultnet.Address(t)
		config := writeFile(t, filepath.Join(dir, "scrape.yml"), fmt.Sprintf("global: {scrape_interval: 500ms}\nscrape_configs: [{job_name: vmagent, static_configs: [{targets: [%q]}]}]\n", addr))
		p := run(t, "vmagent", append([]string{
			"-httpListenAddr=" + addr, "-promscrape.config=" + config, "-remoteWrite.tmpDataPath=" + filepath.Join(dir, "data"), "-remoteWrite.flushInterval=500ms",
		}, args...)...)
		return p, p.ready("http://" + addr + "/health")
	})
}

// TestOtherSenders: vmagent and the OpenTelemetry Collector write through the gateway with no more than the URL, the password
// and the CA; what they send is their tenant's.
func TestOtherSenders(t *testing.T) {
	receiver := startReceiver(t)
	alice, bob := users()
	g := startGateway(t, receiver.addr, alice, bob)
	startVmagent(t, "-remoteWrite.url="+g.url+"/api/v1/write", "-remoteWrite.basicAuth.username="+alice.name, "-remoteWrite.basicAuth.password="+alice.password, "-remoteWrite.tlsCAFile="+g.caFile)
	run(t, "otel", "-user", bob.name, "-password", bob.password, "-ca", g.caFile, g.url+"/api/v1/write")
	finds(t, g.client(t, alice), `vm_app_version{job="vmagent"}`, `rate(vmagent_remotewrite_requests_total[1m])`)
	finds(t, g.client(t, bob), `count_over_time(up{job="otel"}[1m]) > 2`)
	for u, other := range map[user]string{alice: `{job="otel"}`, bob: `{job="vmagent"}`} {
		if got, err := g.client(t, u).query(other, time.Now()); err != nil || len(got) > 0 {
			t.Errorf("%s sees %v, %v", u.name, got, err)
		}
	}
}
