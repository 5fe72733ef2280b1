package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"

	"m3gateway/internal/app"
	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
)

// batch is one request as a Prometheus server would send it.
type batch struct {
	raw     []byte // a WriteRequest
	body    []byte // raw as a snappy block
	made    time.Time
	labels  int // of all series
	targets int
}

// scraped is one kind of target: its exposition and the job it belongs to.
type scraped struct {
	job    string
	metric []*model.Sample
}

// newBatch makes the batch of samples that a scrape of as many targets as it takes gives at the time now. dir is for
// temporary files.
func newBatch(dir string, now time.Time) (*batch, error) {
	own, err := gatewayExposition(dir, now)
	if err != nil {
		return nil, err
	}
	store, err := storeExposition(filepath.Join(dir, "tsdb"), now)
	if err != nil {
		return nil, err
	}
	kinds := []scraped{{"m3gateway", own}, {"prometheus", store}}
	random := rand.New(rand.NewPCG(1, 2))
	b := &batch{made: now}
	var req prompb.WriteRequest
	for ; len(req.Timeseries) < samples; b.targets++ {
		req.Timeseries = append(req.Timeseries, target(kinds[b.targets%len(kinds)], b.targets, now, random)...)
	}
	req.Timeseries = req.Timeseries[:samples]
	for i := range req.Timeseries {
		b.labels += len(req.Timeseries[i].Labels)
	}
	if b.raw, err = req.Marshal(); err != nil {
		return nil, err
	}
	b.body = snappy.Encode(nil, b.raw)
	return b, nil
}

// restamp is the body of b as if it had been made at now.
func (b *batch) restamp(now time.Time) ([]byte, error) {
	var req prompb.WriteRequest
	if err := req.Unmarshal(b.raw); err != nil {
		return nil, err
	}
	shift := now.Sub(b.made).Milliseconds()
	for i := range req.Timeseries {
		for j := range req.Timeseries[i].Samples {
			req.Timeseries[i].Samples[j].Timestamp += shift
		}
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return snappy.Encode(nil, raw), nil
}

func (b *batch) describe() string {
	return fmt.Sprintf("batch:   %d samples, as many series, of %d targets; %.1f labels and %d bytes a series; %d bytes decoded, %d bytes snappy (%.1f to 1)",
		samples, b.targets, float64(b.labels)/samples, len(b.raw)/samples, len(b.raw), len(b.body), float64(len(b.raw))/float64(len(b.body)))
}

// target is the scrape of the nth target, with the labels that Kubernetes discovery usually leaves on it. Values that are not
// 0 differ from target to target, as they do in a fleet.
func target(kind scraped, n int, now time.Time, random *rand.Rand) []prompb.TimeSeries {
	at := now.Add(-time.Duration(random.Int64N(int64(15 * time.Second)))).UnixMilli()
	suffix := fmt.Sprintf("%010x-%05x", random.Uint64N(1<<40), random.Uint64N(1<<20))
	own := model.Metric{
		"cluster": "eu-central-1-prod", "namespace": "observability", "job": model.LabelValue(kind.job), "container": model.LabelValue(kind.job),
		"pod": model.LabelValue(kind.job + "-" + suffix), "node": model.LabelValue(fmt.Sprintf("ip-10-42-%d-%d.eu-central-1.compute.internal", n%8, 16+n)),
		"instance": model.LabelValue(fmt.Sprintf("10.42.%d.%d:9090", n%8, 16+n)), "endpoint": "http-metrics", "service": model.LabelValue(kind.job),
	}
	var out []prompb.TimeSeries
	for _, s := range kind.metric {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: vary(float64(s.Value), random), Timestamp: at}}}
		for _, m := range []model.Metric{s.Metric, own} {
			for name, value := range m {
				ts.Labels = append(ts.Labels, prompb.Label{Name: string(name), Value: string(value)})
			}
		}
		slices.SortFunc(ts.Labels, func(a, b prompb.Label) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, ts)
	}
	return out
}

// vary moves v by up to a quarter; whole numbers stay whole.
func vary(v float64, random *rand.Rand) float64 {
	w := v * (1 + random.Float64()/4)
	if v == math.Trunc(v) {
		return math.Trunc(w)
	}
	return w
}

// gatewayExposition is what a gateway with two users exposes.
func gatewayExposition(dir string, now time.Time) ([]*model.Sample, error) {
	file, err := configure(dir, site{https: "127.0.0.1:0", admin: "127.0.0.1:0", store: "127.0.0.1:1"}, now)
	if err != nil {
		return nil, err
	}
	loaded, err := app.Load(file)
	if err != nil {
		return nil, err
	}
	g, err := app.New(loaded, app.Options{Version: "bench", Log: io.Discard})
	if err != nil {
		return nil, err
	}
	out, err := gather(g.Gatherer(), now)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	return out, errors.Join(err, g.Run(stopped)) // which closes the sockets
}

// storeExposition is what the TSDB and the query engine of a Prometheus server expose, with the Go runtime's metrics.
func storeExposition(dir string, now time.Time) ([]*model.Sample, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC, collectors.MetricsScheduler)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	quiet := slog.New(slog.DiscardHandler)
	db, err := tsdb.Open(dir, quiet, reg, tsdb.DefaultOptions(), nil)
	if err != nil {
		return nil, err
	}
	engine := promql.NewEngine(promql.EngineOpts{Logger: quiet, Reg: reg, MaxSamples: 1, Timeout: time.Second, Parser: parser.NewParser(parser.Options{})})
	out, err := gather(reg, now)
	return out, errors.Join(err, engine.Close(), db.Close(), os.RemoveAll(dir))
}

// gather is one exposition in its own order.
func gather(from prometheus.Gatherer, now time.Time) ([]*model.Sample, error) {
	families, err := from.Gather()
	if err != nil {
		return nil, err
	}
	return expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(now.UnixNano())}, families...)
}

// The sender's account and its tenant.
const (
	userName = "alice"
	password = "correct horse battery staple"
	tenant   = "team-a"
)

// bcryptCost is that of the sender's password.
const bcryptCost = 10

// site is where a gateway listens and what it writes to.
type site struct{ https, admin, store string }

// configure writes the files of a gateway into dir and returns the path of the configuration.
func configure(dir string, at site, now time.Time) (string, error) {
	pair, _, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1"}, now)
	if err != nil {
		return "", err
	}
	var users strings.Builder
	for _, name := range []string{userName, "bob"} {
		hash, err := auth.HashPassword(password, bcryptCost)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&users, "%s:%s\n", name, hash)
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(users.String()), 0o600); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "gateway.yaml")
	return file, os.WriteFile(file, fmt.Appendf(nil, `listen:
  https_address: %s
  admin_address: %s
  shutdown_delay: 0s
tls:
  certificates:
    - cert_file: %s
      key_file: %s
auth:
  htpasswd_file: htpasswd
tenancy:
  users:
    %s: {tenants: [%s]}
    bob: {tenants: [team-b]}
upstream:
  kind: prometheus
  urls: [http://%s]
`, at.https, at.admin, pair.CertFile, pair.KeyFile, userName, tenant, at.store), 0o600)
}
