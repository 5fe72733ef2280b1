//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

const (
	message1 = "prometheus.WriteRequest"
	message2 = "io.prometheus.write.v2.Request"
)

// startTraced serves a counter that has a new exemplar at each scrape.
func startTraced(t *testing.T) (addr string) {
	t.Helper()
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i := n.Add(1)
		w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
		_, _ = fmt.Fprintf(w, "# TYPE traced counter\ntraced_total %d # {trace_id=\"t%d\"} 1 %s\n# EOF\n", i, i, seconds(time.Now()))
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// startNativeSender starts a Prometheus that scrapes itself and exemplars and writes that to g as u, with native histograms.
func startNativeSender(t *testing.T, g *gateway, u user, message string) *prometheus {
	t.Helper()
	return startPrometheus(t, func(addr string) string {
		return fmt.Sprintf(`global:
  scrape_interval: 1s
  scrape_timeout: 1s
  scrape_native_histograms: true
scrape_configs:
  - job_name: self
    static_configs: [{targets: [%q]}]
  - job_name: traced
    static_configs: [{targets: [%q]}]
remote_write:
  - url: %s/api/v1/write
    protobuf_message: %s
    send_exemplars: true
    send_native_histograms: true
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
    queue_config: {batch_send_deadline: 1s, max_shards: 2}
`, addr, startTraced(t), g.url, message, u.name, u.password, g.caFile)
	}, "--enable-feature=exemplar-storage,native-histograms,metadata-wal-records")
}

// finds waits until c's answer to each query is not empty.
func finds(t *testing.T, c client, queries ...string) {
	t.Helper()
	for _, q := range queries {
		eventually(t, "waiting for "+q, func() error {
			got, err := c.query(q, time.Now())
			if err == nil && len(got) == 0 {
				err = errors.New("no data")
			}
			return err
		})
	}
}

// contented checks that the sender, once it has sent histograms, neither lost anything nor complains.
func contented(t *testing.T, sender *prometheus) {
	t.Helper()
	finds(t, sender.direct(), `prometheus_remote_storage_histograms_total > 0`)
	const lost = `sum({__name__=~"prometheus_remote_storage_(samples|histograms|exemplars|metadata)_(failed|dropped)_total",remote_name!=""}) > 0`
	if got, err := sender.direct().query(lost, time.Now()); err != nil || len(got) > 0 {
		t.Errorf("%s: %v, %v", lost, got, err)
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
}

// TestProtocols: a real sender of each protocol, with native histograms and exemplars on, has nothing to complain about, and
// what it sent is there, in either protocol to the store. A sender puts exemplars into series of their own, which 2.0 has no place
// for: they follow in 1.0.
func TestProtocols(t *testing.T) {
	for _, protocol := range []string{"auto", "1.0", "2.0"} {
		receiver := startPrometheus(t, func(string) string { return "{}\n" }, "--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage")
		alice, bob := users()
		g := startGatewayTo(t, fmt.Sprintf("  kind: prometheus\n  protocol: %s\n  urls: [http://%s]\n", protocol, receiver.addr), alice, bob)
		for u, message := range map[user]string{alice: message1, bob: message2} {
			t.Run(protocol+"/"+message, func(t *testing.T) {
				t.Parallel()
				sender := startNativeSender(t, g, u, message)
				finds(t, g.client(t, u),
					`rate(prometheus_http_requests_total{job="self",handler="/metrics"}[1m])`,
					`histogram_count(prometheus_http_request_duration_seconds{job="self",handler="/metrics"}) > 2`,
					`traced_total{job="traced"} > 2`)
				finds(t, sender.direct(), `prometheus_remote_storage_exemplars_total{remote_name!=""} > 2`)
				eventually(t, "waiting for exemplars", func() error {
					got, err := g.client(t, u).exemplars(`traced_total{job="traced"}`)
					if err == nil && got == 0 {
						err = errors.New("no exemplars")
					}
					return err
				})
				contented(t, sender)
			})
		}
	}
}

// exemplars counts the exemplars of the last minute that c finds.
func (c client) exemplars(promQL string) (int, error) {
	now := time.Now()
	data, err := c.api(http.MethodGet, "/api/v1/query_exemplars", url.Values{"query": {promQL}, "start": {seconds(now.Add(-time.Minute))}, "end": {seconds(now)}})
	if err != nil {
		return 0, err
	}
	var series []struct{ Exemplars []json.RawMessage }
	err = json.Unmarshal(data, &series)
	n := 0
	for _, s := range series {
		n += len(s.Exemplars)
	}
	return n, err
}

// TestStoreRefusesAPart: of a batch with one sample that a real store refuses, what the sender is told to be stored is what can be
// read back: all else in 2.0, perhaps nothing in 1.0. What the gateway itself dropped is told beside it.
func TestStoreRefusesAPart(t *testing.T) {
	receiver := startReceiver(t)
	alice, _ := users()
	now := time.Now()
	series := func(at time.Time, value float64, name string) prompb.TimeSeries {
		return prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: name}}, Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: value}}}
	}
	none := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "no_histogram"}}, Histograms: []prompb.Histogram{{
		Count: &prompb.Histogram_CountInt{CountInt: 99}, PositiveSpans: []prompb.BucketSpan{{Length: 1}}, PositiveDeltas: []int64{1}, Timestamp: now.UnixMilli(),
	}}}
	for protocol, says := range map[string]string{
		"1.0": "the store refused the batch and may have kept nothing of it: ",
		"2.0": "stored 1 of 2 samples, the store refused the others: ",
	} {
		g := startGatewayTo(t, fmt.Sprintf("  kind: prometheus\n  protocol: %s\n  urls: [http://%s]\n", protocol, receiver.addr), alice)
		c := g.client(t, alice)
		write := func(batch ...prompb.TimeSeries) (int, string) {
			raw, err := (&prompb.WriteRequest{Timeseries: batch}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			status, text, err := c.do(http.MethodPost, "/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
			if err != nil {
				t.Fatal(err)
			}
			return status, string(text)
		}
		name := func(s string) string { return s + "_" + strings.ReplaceAll(protocol, ".", "") }
		if status, text := write(series(now, 1, name("known"))); status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", protocol, status, text)
		}
		for beside, bad := range map[string]prompb.TimeSeries{"beside_sample": series(now, 2, name("known")), "beside_histogram": none} {
			beside = name(beside)
			status, text := write(series(now, 1, beside), bad, series(now.Add(-time.Hour), 1, "old"))
			if status != http.StatusBadRequest || !strings.HasPrefix(text, says) || !strings.Contains(text, `; the gateway dropped 1: too_old 1 (older than 10m0s, example {__name__="old"} at `) {
				t.Errorf("%s: %d %s", protocol, status, text)
			}
			got, err := receiver.direct().query(beside, now.Add(time.Second))
			if stored := len(got) == 1; err != nil || stored != (protocol == "2.0") {
				t.Errorf("%s: %s is %v, %v; told was %s", protocol, beside, got, err, text)
			}
		}
	}
}

// startOldCoordinator plays an m3coordinator as far as writes go: it refuses a batch that carries what M3 has no place for,
// and hands all others to the receiver.
func startOldCoordinator(t *testing.T, receiver *prometheus) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaytest.Probed(w, r) {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		raw, err := snappy.Decode(nil, body)
		var batch prompb.WriteRequest
		if err == nil {
			err = batch.Unmarshal(raw)
		}
		foreign := err != nil || len(batch.Metadata) > 0
		for _, ts := range batch.Timeseries {
			foreign = foreign || len(ts.Histograms)+len(ts.Exemplars) > 0 || len(ts.Samples) == 0
		}
		if foreign {
			t.Errorf("a batch that M3 refuses: %v", err)
			http.Error(w, `{"status":"error","error":"bad request"}`, http.StatusBadRequest)
			return
		}
		resp, err := http.Post("http://"+receiver.addr+"/api/v1/write", "application/x-protobuf", bytes.NewReader(body))
		if err != nil {
			http.Error(w, `{"status":"error","error":"away"}`, http.StatusInternalServerError)
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(text)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestProtocolsToM3: the same senders before a store without native histograms, exemplars and metadata are as content, whether
// histograms are dropped or made classic.
func TestProtocolsToM3(t *testing.T) {
	for _, histograms := range []string{"drop", "classic"} {
		receiver := startReceiver(t)
		alice, bob := users()
		g := startGatewayTo(t, fmt.Sprintf("  kind: m3\n  native_histograms: %s\n  urls: [%s]\n", histograms, startOldCoordinator(t, receiver)), alice, bob)
		for u, message := range map[user]string{alice: message1, bob: message2} {
			t.Run(histograms+"/"+message, func(t *testing.T) {
				t.Parallel()
				sender := startNativeSender(t, g, u, message)
				own := fmt.Sprintf("tenant=%q", u.tenant)
				finds(t, receiver.direct(), `rate(prometheus_http_requests_total{job="self",handler="/metrics",`+own+`}[1m])`)
				if histograms == "classic" {
					finds(t, receiver.direct(),
						`prometheus_http_request_duration_seconds_count{handler="/metrics",`+own+`} > 2`,
						`prometheus_http_request_duration_seconds_bucket{handler="/metrics",le="+Inf",`+own+`} > 2`,
						`histogram_quantile(0.5, prometheus_http_request_duration_seconds_bucket{handler="/metrics",`+own+`}) < 100`)
				}
				contented(t, sender)
			})
		}
	}
}
