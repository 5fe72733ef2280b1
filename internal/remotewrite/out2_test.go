package remotewrite

import (
	"fmt"
	"math"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// checkOut2 has src confined to 2.0 and compares that with ref1, the reference's result in 1.0. of gives the series of a 2.0
// request that are kept, for what only 2.0 has; nil: src is 1.0.
func checkOut2(t testing.TB, c *Confiner, ref *reference, p *Policy, src []byte, proto Protocol, ref1 refResult, of func() []writev2.TimeSeries, symbols ...string) {
	t.Helper()
	if ref.rules.Escape || ref.rules.Classic {
		return
	}
	out, res, err := rawTo(t, c, src, Order{Proto: proto, Out: V2, Policy: p, MinT: ref.minT, MaxT: ref.maxT, Limit: testLimit})
	if err != nil {
		t.Fatal(err)
	}
	var got writev2.Request
	if err := got.Unmarshal(out); err != nil {
		t.Fatalf("the oracle refuses the output: %v", err)
	}
	if where := unrecognised2(&got); where != "" {
		t.Fatalf("unknown bytes in %s", where)
	}
	if len(got.Symbols) == 0 || got.Symbols[0] != "" {
		t.Fatalf("symbols %q", got.Symbols)
	}
	for _, s := range got.Symbols {
		if !utf8.ValidString(s) {
			t.Fatalf("symbol %q", s)
		}
	}
	plain, bad, lost := downgrade(&got)
	if lost > 0 {
		t.Fatalf("%d exemplars refer to nothing", lost)
	}
	for i, b := range bad {
		if b {
			t.Fatalf("series %d refers to nothing: %v of %q", i, got.Timeseries[i].LabelsRefs, got.Symbols)
		}
	}
	var want prompb.WriteRequest  // without metadata: their place is with the series, which 1.0 does not name
	var apart prompb.WriteRequest // series of exemplars alone, which 2.0 does not know
	exemplars := 0
	for _, ts := range ref1.req.Timeseries {
		if len(ts.Samples)+len(ts.Histograms) == 0 {
			exemplars += len(ts.Exemplars)
			apart.Timeseries = append(apart.Timeseries, ts)
			continue
		}
		want.Timeseries = append(want.Timeseries, ts)
	}
	if !equal(plain, want) {
		t.Fatalf("got\n%v\nwant\n%v", plain.String(), want.String())
	}
	if res.Series != len(want.Timeseries) || res.Metadata != 0 || res.Exemplars != ref1.exemplars-exemplars || res.Apart != exemplars || res.Dropped[Exemplar] != ref1.dropped[Exemplar] {
		t.Fatalf("counts %+v, want %+v", res, ref1)
	}
	out, beside, err := rawTo(t, c, src, Order{Proto: proto, Out: V1, Policy: p, MinT: ref.minT, MaxT: ref.maxT, Limit: testLimit, Apart: true})
	if err != nil {
		t.Fatal(err)
	}
	var rest prompb.WriteRequest
	if err := rest.Unmarshal(out); err != nil {
		t.Fatalf("the oracle refuses the exemplars apart: %v", err)
	}
	if where := unrecognised(&rest); where != "" {
		t.Fatalf("unknown bytes in %s", where)
	}
	if !equal(rest, apart) || beside.Exemplars != exemplars || beside.Series != len(apart.Timeseries) || beside.Samples+beside.Histograms+beside.Metadata != 0 {
		t.Fatalf("apart\n%v\nwant\n%v\ncounts %+v", rest.String(), apart.String(), beside)
	}
	if of == nil {
		return
	}
	for i, ts := range of() {
		o, at := got.Timeseries[i], 0
		for _, s := range ts.Samples {
			if s.Timestamp >= ref.minT && s.Timestamp <= ref.maxT {
				if o.Samples[at].StartTimestamp != s.StartTimestamp {
					t.Fatalf("start %d, want %d", o.Samples[at].StartTimestamp, s.StartTimestamp)
				}
				at++
			}
		}
		at = 0
		for _, h := range ts.Histograms {
			if ref.rules.Histograms && h.Timestamp >= ref.minT && h.Timestamp <= ref.maxT {
				if o.Histograms[at].StartTimestamp != h.StartTimestamp {
					t.Fatalf("start %d, want %d", o.Histograms[at].StartTimestamp, h.StartTimestamp)
				}
				at++
			}
		}
		text := func(symbols []string, ref uint32) string {
			if ref == 0 {
				return ""
			}
			return symbols[ref]
		}
		m := ts.Metadata
		if good := func(ref uint32) bool {
			return ref == 0 && (len(symbols) == 0 || utf8.ValidString(symbols[0])) || int(ref) < len(symbols) && utf8.ValidString(symbols[ref])
		}; !ref.rules.Metadata || !good(m.HelpRef) || !good(m.UnitRef) {
			m = writev2.Metadata{}
		}
		if o.Metadata.Type != m.Type || text(got.Symbols, o.Metadata.HelpRef) != text(symbols, m.HelpRef) || text(got.Symbols, o.Metadata.UnitRef) != text(symbols, m.UnitRef) {
			t.Fatalf("metadata %v, want %v", o.Metadata, m)
		}
	}
}

func unrecognised2(r *writev2.Request) string {
	if len(r.XXX_unrecognized) > 0 {
		return "Request"
	}
	for _, ts := range r.Timeseries {
		if len(ts.XXX_unrecognized) > 0 || len(ts.Metadata.XXX_unrecognized) > 0 {
			return "TimeSeries or Metadata"
		}
		for _, s := range ts.Samples {
			if len(s.XXX_unrecognized) > 0 {
				return "Sample"
			}
		}
		for _, e := range ts.Exemplars {
			if len(e.XXX_unrecognized) > 0 {
				return "Exemplar"
			}
		}
		for _, h := range ts.Histograms {
			if len(h.XXX_unrecognized) > 0 {
				return "Histogram"
			}
			for _, s := range append(h.NegativeSpans, h.PositiveSpans...) {
				if len(s.XXX_unrecognized) > 0 {
					return "BucketSpan"
				}
			}
		}
	}
	return ""
}

// TestLostMetadata: metadata of a series that does not travel are counted, whatever keeps it; an empty message is none.
func TestLostMetadata(t *testing.T) {
	symbols := []string{"", "__name__", "up", "help", "\xff", "tenant", "b"}
	said := writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: 3}
	fresh, old := []writev2.Sample{{Value: 1, Timestamp: testNow}}, []writev2.Sample{{Value: 1, Timestamp: 1}}
	ref := reference{label: "tenant", mode: Allow, rules: Rules{Limits: classicRules.Limits, UTF8Names: true, Histograms: true, Exemplars: true, Metadata: true}, tenants: tenantA()}
	noMetadata := ref
	noMetadata.rules.Metadata = false
	for name, tc := range map[string]struct {
		ref    reference
		series writev2.TimeSeries
		lost   int
	}{
		"it travels":            {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: fresh, Metadata: said}, 0},
		"nothing else":          {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Metadata: said}, 1},
		"nothing at all":        {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}, 0},
		"exemplars only":        {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Exemplars: []writev2.Exemplar{{Timestamp: testNow}}, Metadata: said}, 1},
		"too old":               {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: old, Metadata: said}, 1},
		"no name":               {ref, writev2.TimeSeries{Samples: fresh, Metadata: said}, 1},
		"another tenant's":      {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 5, 6}, Samples: fresh, Metadata: said}, 1},
		"no text":               {ref, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: fresh, Metadata: writev2.Metadata{HelpRef: 4}}, 1},
		"no place in the store": {noMetadata, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: fresh, Metadata: said}, 1},
		"none, and no place":    {noMetadata, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: fresh}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := (&writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{tc.series}}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, res, err := rawTo(t, new(Confiner), src, Order{Proto: V2, Out: V2, Policy: tc.ref.policy(t), MinT: testNow - 600_000, MaxT: testNow, Limit: testLimit})
			if err != nil || res.Dropped[Metadata] != tc.lost {
				t.Errorf("%d lost, want %d: %+v, %v", res.Dropped[Metadata], tc.lost, res, err)
			}
		})
	}
}

// TestOut2DoesNotAllocate, from either protocol.
func TestOut2DoesNotAllocate(t *testing.T) {
	p, c, dst := timingPolicy(t), new(Confiner), make([]byte, 0, 4<<20)
	one := realistic(5000)
	for proto, src := range map[Protocol][]byte{V1: one, V2: symbolized(t, one)} {
		if got := testing.AllocsPerRun(20, func() {
			if _, res, err := c.Confine(dst, src, Order{Proto: proto, Out: V2, Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}); err != nil || res.Samples != 5000 {
				t.Fatal(err)
			}
		}); got > 0 {
			t.Errorf("from %d: %v allocations", proto, got)
		}
	}
}

// TestOut2Table: a request of 1.0 with more texts than a table may have is too long for 2.0, not cut short.
func TestOut2Table(t *testing.T) {
	var in prompb.WriteRequest
	for i := range maxSymbols/10 + 1 {
		ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Samples: []prompb.Sample{{Timestamp: testNow}}}
		for k := range 10 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: fmt.Sprintf("a%d", k), Value: fmt.Sprintf("%d_%d", i, k)})
		}
		in.Timeseries = append(in.Timeseries, ts)
	}
	src, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rawTo(t, new(Confiner), src, Order{Out: V2, Policy: timingPolicy(t), MaxT: math.MaxInt64, Limit: testLimit}); err != ErrTooLong {
		t.Error(err)
	}
}
