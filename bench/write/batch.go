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
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"

	"m3gateway/bench/measure"
	"m3gateway/internal/app"
)

// batch is one request as a Prometheus server would send it.
type batch struct {
	large   []byte // a WriteRequest of mostSamples
	raw     []byte // its first series, as many as samples: a WriteRequest
	body    []byte // raw as a snappy block
	second  []byte // the same series as a request of remote write 2.0, in a snappy block
	made    time.Time
	labels  int // of all series of raw
	targets int // of raw
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
	for n := 0; len(req.Timeseries) < mostSamples; n++ {
		if len(req.Timeseries) < samples {
			b.targets++
		}
		req.Timeseries = append(req.Timeseries, target(kinds[n%len(kinds)], n, now, random)...)
	}
	req.Timeseries = req.Timeseries[:mostSamples]
	if b.large, err = req.Marshal(); err != nil {
		return nil, err
	}
	req.Timeseries = req.Timeseries[:samples]
	for i := range req.Timeseries {
		b.labels += len(req.Timeseries[i].Labels)
	}
	if b.raw, err = req.Marshal(); err != nil {
		return nil, err
	}
	b.body = snappy.Encode(nil, b.raw)
	b.second, err = second(&req)
	return b, err
}

// content is the body of a request: so many samples, in 1.0 or 2.0.
type content struct {
	Samples int
	Second  bool
}

// stamped are the bodies of contents, made of the WriteRequest large, whose time stamps move by shift.
func stamped(large []byte, shift time.Duration, contents []content) (map[content][]byte, error) {
	var req prompb.WriteRequest
	if err := req.Unmarshal(large); err != nil {
		return nil, err
	}
	for i := range req.Timeseries {
		for j := range req.Timeseries[i].Samples {
			req.Timeseries[i].Samples[j].Timestamp += shift.Milliseconds()
		}
	}
	out := map[content][]byte{}
	for _, c := range contents {
		part := prompb.WriteRequest{Timeseries: req.Timeseries[:c.Samples]}
		var err error
		if c.Second {
			out[c], err = second(&part)
		} else {
			var raw []byte
			raw, err = part.Marshal()
			out[c] = snappy.Encode(nil, raw)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// second is req as remote write 2.0.
func second(req *prompb.WriteRequest) ([]byte, error) {
	symbols := writev2.NewSymbolTable()
	out := writev2.Request{}
	for _, ts := range req.Timeseries {
		one := writev2.TimeSeries{}
		for _, l := range ts.Labels {
			one.LabelsRefs = append(one.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		for _, s := range ts.Samples {
			one.Samples = append(one.Samples, writev2.Sample{Value: s.Value, Timestamp: s.Timestamp})
		}
		out.Timeseries = append(out.Timeseries, one)
	}
	out.Symbols = symbols.Symbols()
	raw, err := out.Marshal()
	return snappy.Encode(nil, raw), err
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
	file, err := measure.Site{HTTPS: "127.0.0.1:0", Plain: "127.0.0.1:0", Admin: "127.0.0.1:0", Store: "127.0.0.1:1"}.Configure(dir, now)
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
