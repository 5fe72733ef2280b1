package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/golang/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/bench/measure"
	"m3gateway/internal/remotewrite"
)

// row is one line of the table: the same work, measured once a round.
type row struct {
	name string
	// once does the work for about d and returns the number of requests and the CPU time they took together.
	once func(ctx context.Context, d time.Duration) (int, time.Duration, error)
	cost []float64 // CPU seconds a request, of each round
}

func (r *row) take(ctx context.Context, d time.Duration) error {
	n, cpu, err := r.once(ctx, d)
	if err != nil {
		return err
	}
	r.cost = append(r.cost, cpu.Seconds()/float64(n))
	return ctx.Err()
}

// local are the rows of this process. They keep their buffers, as a pool does for the gateway.
type local struct {
	batch      *batch
	prometheus *remotewrite.Policy // the rules of stores of kind prometheus
	m3         *remotewrite.Policy
	confiner   remotewrite.Confiner
	minT, maxT int64

	decoded, confined, block, room []byte
	parts                          [][]byte
	encodedWhole, encoded          int // the size of the confined batch's block: searched as a whole, and by internal/remotewrite
}

// newLocal has the policies that the gateway makes for a user of one tenant (internal/gateway, rules).
func newLocal(b *batch) (*local, error) {
	limits := remotewrite.Limits{NameBytes: 1024, ValueBytes: 32 << 10, Labels: 512}
	labels := []remotewrite.TenantLabels{{Tenant: measure.Tenant, Labels: []remotewrite.Label{{Name: "tenant", Value: measure.Tenant}}}}
	lax, err := remotewrite.NewPolicy("tenant", remotewrite.Override,
		remotewrite.Rules{Limits: limits, UTF8Names: true, Histograms: true, Exemplars: true, Metadata: true}, labels)
	if err != nil {
		return nil, err
	}
	strict, err := remotewrite.NewPolicy("tenant", remotewrite.Override,
		remotewrite.Rules{Limits: limits, Reserved: []string{"__m3", "__rollup__", "__option_id_scheme__"}}, labels)
	if err != nil {
		return nil, err
	}
	return &local{
		batch: b, prometheus: lax, m3: strict,
		minT: b.made.Add(-10 * time.Minute).UnixMilli(), maxT: b.made.Add(10 * time.Minute).UnixMilli(),
	}, nil
}

// The names of the rows.
const (
	floorName  = "floor: snappy decode + snappy encode"
	wireName   = "internal/remotewrite, rules of kind m3"
	prompbName = "prompb: decode, unmarshal, set tenant, check, sort, marshal, encode"
)

func (l *local) rows() []row {
	return []row{
		{name: floorName, once: loop(l.floor)},
		{name: prompbName, once: loop(l.structs)},
		{name: "internal/remotewrite, rules of kind prometheus", once: loop(func() error { return l.wire(l.batch.body, l.order(l.prometheus)) })},
		{name: wireName, once: loop(func() error { return l.wire(l.batch.body, l.order(l.m3)) })},
		{name: "the same, divided among 2 members", once: loop(func() error { return l.divided(2) })},
		{name: "the same, divided among 8 members", once: loop(func() error { return l.divided(8) })},
		{name: "internal/remotewrite, 2.0 in and 1.0 out", once: loop(func() error { return l.wire(l.batch.second, l.translated()) })},
		{name: "internal/remotewrite, 2.0 in and 2.0 out", once: loop(func() error {
			o := l.translated()
			o.Out = remotewrite.V2
			return l.wire(l.batch.second, o)
		})},
	}
}

// loop is a row that calls f in this process.
func loop(f func() error) func(context.Context, time.Duration) (int, time.Duration, error) {
	return func(ctx context.Context, d time.Duration) (int, time.Duration, error) {
		runtime.GC() // the garbage of the row before is not this one's
		from, err := measure.CPU(0)
		if err != nil {
			return 0, 0, err
		}
		n := 0
		for start := time.Now(); time.Since(start) < d && ctx.Err() == nil; n++ {
			if err := f(); err != nil {
				return 0, 0, err
			}
		}
		to, err := measure.CPU(0)
		return max(n, 1), to - from, err
	}
}

// undo decodes the batch's block with the bare codec.
func (l *local) undo() error {
	n, err := snappy.DecodedLen(l.batch.body)
	if err != nil {
		return err
	}
	l.decoded = grown(l.decoded, n)
	l.decoded, err = snappy.Decode(l.decoded[:cap(l.decoded)], l.batch.body)
	return err
}

// floor undoes the block and makes it again.
func (l *local) floor() error {
	if err := l.undo(); err != nil {
		return err
	}
	l.block = grown(l.block, snappy.MaxEncodedLen(len(l.decoded)))
	l.block = snappy.Encode(l.block[:cap(l.block)], l.decoded)
	return nil
}

// order is that of 1.0.
func (l *local) order(p *remotewrite.Policy) remotewrite.Order {
	return remotewrite.Order{Policy: p, MinT: l.minT, MaxT: l.maxT, Limit: 2 * len(l.batch.raw)}
}

// translated is that of 2.0 to 1.0.
func (l *local) translated() remotewrite.Order {
	o := l.order(l.prometheus)
	o.Proto = remotewrite.V2
	return o
}

// wire is the job of the gateway's write path, done by internal/remotewrite on the bytes.
func (l *local) wire(body []byte, o remotewrite.Order) error {
	n, err := remotewrite.DecodedLen(body)
	if err != nil {
		return err
	}
	if l.decoded, err = remotewrite.Decode(grown(l.decoded, n), body); err != nil {
		return err
	}
	l.room = grown(l.room, 2*len(l.batch.body))
	block, res, err := l.confiner.Confine(l.room, l.decoded, o)
	if err != nil {
		return err
	}
	if res.Samples != samples {
		return fmt.Errorf("%d samples kept of %d", res.Samples, samples)
	}
	l.block = block
	return nil
}

// divided is wire with the rules of kind m3, divided among n members by rendezvous.
func (l *local) divided(n int) error {
	size, err := remotewrite.DecodedLen(l.batch.body)
	if err != nil {
		return err
	}
	if l.decoded, err = remotewrite.Decode(grown(l.decoded, size), l.batch.body); err != nil {
		return err
	}
	for len(l.parts) < n {
		l.parts = append(l.parts, make([]byte, 0, 2*len(l.batch.body)))
	}
	_, res, err := l.confiner.ConfineParts(l.parts[:n], l.decoded, l.order(l.m3), remotewrite.Split{Parts: n, Part: func(series uint64, _ int64) int {
		part, most := 0, uint64(0)
		for i := range n {
			if high, low := bits.Mul64(series^uint64(i+1)*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93); high^low > most {
				part, most = i, high^low
			}
		}
		return part
	}})
	if err == nil && res.Samples != samples {
		err = fmt.Errorf("%d samples kept of %d", res.Samples, samples)
	}
	return err
}

// structs is the same job done on prompb's structs, labels and window checked. Its byte buffers are kept, its structs are fresh
// each time, as Unmarshal makes them.
func (l *local) structs() error {
	if err := l.undo(); err != nil {
		return err
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(l.decoded); err != nil {
		return err
	}
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		ts.Labels = slices.DeleteFunc(ts.Labels, func(l prompb.Label) bool { return l.Name == "tenant" })
		ts.Labels = append(ts.Labels, prompb.Label{Name: "tenant", Value: measure.Tenant})
		slices.SortFunc(ts.Labels, func(a, b prompb.Label) int { return cmp.Compare(a.Name, b.Name) })
		if err := checked(ts.Labels); err != nil {
			return err
		}
		ts.Samples = slices.DeleteFunc(ts.Samples, func(s prompb.Sample) bool { return s.Timestamp < l.minT || s.Timestamp > l.maxT })
	}
	size := req.Size()
	l.confined = grown(l.confined, size)[:size]
	if _, err := req.MarshalToSizedBuffer(l.confined); err != nil {
		return err
	}
	l.block = grown(l.block, snappy.MaxEncodedLen(size))
	l.block = snappy.Encode(l.block[:cap(l.block)], l.confined)
	return nil
}

// checked is an error unless labels, which are sorted, are fit to be stored.
func checked(labels []prompb.Label) error {
	for i, l := range labels {
		classic := model.LegacyValidation.IsValidLabelName(l.Name)
		if l.Name == model.MetricNameLabel {
			classic = model.LegacyValidation.IsValidMetricName(l.Value)
		}
		if !classic || !utf8.ValidString(l.Value) || i > 0 && labels[i-1].Name == l.Name {
			return fmt.Errorf("bad label %q", l.Name)
		}
	}
	return nil
}

// agree is an error unless the rows that do the whole job come to the same result, and it is the right one.
func (l *local) agree() error {
	if err := l.structs(); err != nil {
		return err
	}
	if err := confined(l.block); err != nil {
		return err
	}
	l.encodedWhole = len(l.block)
	want, err := snappy.Decode(nil, l.block)
	if err != nil {
		return err
	}
	same := func() bool {
		got, err := snappy.Decode(nil, l.block)
		return err == nil && bytes.Equal(want, got)
	}
	for _, p := range []*remotewrite.Policy{l.prometheus, l.m3} {
		if err := l.wire(l.batch.body, l.order(p)); err != nil {
			return err
		}
		if !same() {
			return errors.New("internal/remotewrite and prompb make different bodies of one batch")
		}
	}
	l.encoded = len(l.block)
	if err := l.wire(l.batch.second, l.translated()); err != nil {
		return err
	}
	if !same() {
		return errors.New("internal/remotewrite makes another body of the batch in 2.0")
	}
	return nil
}

// confined is an error unless bodies are the parts of the batch, none of them empty, with every series in the tenant.
func confined(bodies ...[]byte) error {
	series := 0
	for _, body := range bodies {
		raw, err := snappy.Decode(nil, body)
		if err != nil {
			return err
		}
		var req prompb.WriteRequest
		if err := req.Unmarshal(raw); err != nil {
			return err
		}
		if len(req.Timeseries) == 0 {
			return errors.New("a part has no series")
		}
		series += len(req.Timeseries)
		for i := range req.Timeseries {
			ts := &req.Timeseries[i]
			if len(ts.Samples) != 1 || !slices.ContainsFunc(ts.Labels, func(l prompb.Label) bool { return l.Name == "tenant" && l.Value == measure.Tenant }) ||
				!slices.IsSortedFunc(ts.Labels, func(a, b prompb.Label) int { return cmp.Compare(a.Name, b.Name) }) {
				return fmt.Errorf("series %d is not the tenant's: %v", i, ts)
			}
		}
	}
	if series != samples {
		return fmt.Errorf("%d series of %d", series, samples)
	}
	return nil
}

// allocations are what one request costs internal/remotewrite when its buffers are warm.
func (l *local) allocations() (objects, bytes float64, err error) {
	const n = 100
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		if err := l.wire(l.batch.body, l.order(l.prometheus)); err != nil {
			return 0, 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n, nil
}

// profile takes the CPU profile of internal/remotewrite for d.
func (l *local) profile(file string, d time.Duration) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	for start := time.Now(); time.Since(start) < d; {
		if err := l.wire(l.batch.body, l.order(l.prometheus)); err != nil {
			return err
		}
	}
	return nil
}
