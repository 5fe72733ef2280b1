package remotewrite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// downgrade is the reference's translation to 1.0; bad names the series, and exemplars, whose references are broken.
func downgrade(in *writev2.Request) (out prompb.WriteRequest, bad map[int]bool, lostExemplars int) {
	bad = map[int]bool{}
	resolve := func(refs []uint32) (labels []prompb.Label, ok bool) {
		if len(refs)%2 != 0 {
			return nil, false
		}
		for i := 0; i < len(refs); i += 2 {
			if int(refs[i]) >= len(in.Symbols) || int(refs[i+1]) >= len(in.Symbols) {
				return nil, false
			}
			labels = append(labels, prompb.Label{Name: in.Symbols[refs[i]], Value: in.Symbols[refs[i+1]]})
		}
		return labels, true
	}
	for i, ts := range in.Timeseries {
		labels, ok := resolve(ts.LabelsRefs)
		bad[i] = !ok
		s := prompb.TimeSeries{Labels: labels}
		for _, x := range ts.Samples {
			s.Samples = append(s.Samples, prompb.Sample{Value: x.Value, Timestamp: x.Timestamp})
		}
		for _, x := range ts.Exemplars {
			l, ok := resolve(x.LabelsRefs)
			if !ok {
				lostExemplars++
				l = []prompb.Label{{Name: "\xff"}} // no text either
			}
			s.Exemplars = append(s.Exemplars, prompb.Exemplar{Labels: l, Value: x.Value, Timestamp: x.Timestamp})
		}
		for _, x := range ts.Histograms {
			h := prompb.Histogram{
				Sum: x.Sum, Schema: x.Schema, ZeroThreshold: x.ZeroThreshold, NegativeDeltas: x.NegativeDeltas, NegativeCounts: x.NegativeCounts,
				PositiveDeltas: x.PositiveDeltas, PositiveCounts: x.PositiveCounts, ResetHint: prompb.Histogram_ResetHint(x.ResetHint), Timestamp: x.Timestamp, CustomValues: x.CustomValues,
			}
			switch n := x.Count.(type) {
			case *writev2.Histogram_CountInt:
				h.Count = &prompb.Histogram_CountInt{CountInt: n.CountInt}
			case *writev2.Histogram_CountFloat:
				h.Count = &prompb.Histogram_CountFloat{CountFloat: n.CountFloat}
			}
			switch n := x.ZeroCount.(type) {
			case *writev2.Histogram_ZeroCountInt:
				h.ZeroCount = &prompb.Histogram_ZeroCountInt{ZeroCountInt: n.ZeroCountInt}
			case *writev2.Histogram_ZeroCountFloat:
				h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: n.ZeroCountFloat}
			}
			for _, sp := range x.PositiveSpans {
				h.PositiveSpans = append(h.PositiveSpans, prompb.BucketSpan{Offset: sp.Offset, Length: sp.Length})
			}
			for _, sp := range x.NegativeSpans {
				h.NegativeSpans = append(h.NegativeSpans, prompb.BucketSpan{Offset: sp.Offset, Length: sp.Length})
			}
			s.Histograms = append(s.Histograms, h)
		}
		out.Timeseries = append(out.Timeseries, s)
	}
	return out, bad, lostExemplars
}

// check2 compares Confine of a 2.0 request with the reference.
func check2(t testing.TB, c *Confiner, ref *reference, p *Policy, src []byte) {
	t.Helper()
	out, res, err := raw(t, c, src, V2, p, ref.minT, ref.maxT)
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		if syntax.Offset < 0 || syntax.Offset > len(src) {
			t.Fatalf("offset %d of %d", syntax.Offset, len(src))
		}
		return
	}
	var in writev2.Request
	oracleErr := in.Unmarshal(src)
	var foreign *ForeignLabelError
	refused := errors.As(err, &foreign)
	if oracleErr != nil && refused {
		return
	}
	if oracleErr != nil {
		t.Fatalf("accepted what the oracle refuses: %v", oracleErr)
	}
	plain, bad, _ := downgrade(&in)
	// Series with broken references are judged apart: they are lost, and what they carry is counted.
	var good prompb.WriteRequest
	lost, exemplars := 0, 0
	for i, ts := range plain.Timeseries {
		if !bad[i] {
			good.Timeseries = append(good.Timeseries, ts)
			continue
		}
		lost += len(ts.Samples) + len(ts.Histograms)
		exemplars += len(ts.Exemplars)
	}
	want := ref.confine(good)
	if refused != want.foreign {
		t.Fatalf("err %v, reference foreign=%v", err, want.foreign)
	}
	if refused {
		return
	}
	var got prompb.WriteRequest
	if err := got.Unmarshal(out); err != nil {
		t.Fatalf("prompb refuses the output: %v", err)
	}
	if where := unrecognised(&got); where != "" {
		t.Fatalf("unknown bytes in %s", where)
	}
	if !equal(got, want.req) {
		t.Fatalf("got\n%v\nwant\n%v", got.String(), want.req.String())
	}
	if res.Samples != want.samples || res.Histograms != want.histograms || res.Exemplars != want.exemplars || res.Series != want.series {
		t.Fatalf("counts %+v, want %+v", res, want)
	}
	want.dropped[InvalidSymbol] += lost
	want.dropped[InvalidExemplar] += exemplars
	for r := range Reasons {
		if Reason(r) == Metadata { // counted by field, which the decoded form does not tell
			continue
		}
		if res.Dropped[r] != want.dropped[Reason(r)] {
			t.Fatalf("dropped for %v: %d, want %d", Reason(r), res.Dropped[r], want.dropped[Reason(r)])
		}
	}
	checkOut2(t, c, ref, p, src, V2, want, func() (series []writev2.TimeSeries) {
		for i, ts := range in.Timeseries {
			if alone := ref.confine(prompb.WriteRequest{Timeseries: plain.Timeseries[i : i+1]}); !bad[i] && alone.samples+alone.histograms > 0 {
				series = append(series, ts)
			}
		}
		return series
	}, in.Symbols...)
}

// upgradeHistogram is h in 2.0, with a start timestamp.
func upgradeHistogram(h prompb.Histogram) writev2.Histogram {
	spans := func(in []prompb.BucketSpan) (out []writev2.BucketSpan) {
		for _, s := range in {
			out = append(out, writev2.BucketSpan{Offset: s.Offset, Length: s.Length})
		}
		return out
	}
	out := writev2.Histogram{
		Sum: h.Sum, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, ResetHint: writev2.Histogram_ResetHint(h.ResetHint), Timestamp: h.Timestamp, StartTimestamp: 5,
		NegativeSpans: spans(h.NegativeSpans), NegativeDeltas: h.NegativeDeltas, NegativeCounts: h.NegativeCounts,
		PositiveSpans: spans(h.PositiveSpans), PositiveDeltas: h.PositiveDeltas, PositiveCounts: h.PositiveCounts, CustomValues: h.CustomValues,
	}
	switch n := h.Count.(type) {
	case *prompb.Histogram_CountInt:
		out.Count = &writev2.Histogram_CountInt{CountInt: n.CountInt}
	case *prompb.Histogram_CountFloat:
		out.Count = &writev2.Histogram_CountFloat{CountFloat: n.CountFloat}
	}
	switch n := h.ZeroCount.(type) {
	case *prompb.Histogram_ZeroCountInt:
		out.ZeroCount = &writev2.Histogram_ZeroCountInt{ZeroCountInt: n.ZeroCountInt}
	case *prompb.Histogram_ZeroCountFloat:
		out.ZeroCount = &writev2.Histogram_ZeroCountFloat{ZeroCountFloat: n.ZeroCountFloat}
	}
	return out
}

// upgrade makes a 2.0 request of a 1.0 one, with some of what only 2.0 has.
func (g generator) upgrade(src []byte) []byte {
	var in prompb.WriteRequest
	if err := in.Unmarshal(src); err != nil {
		return src // broken bytes stay broken
	}
	table := writev2.NewSymbolTable()
	refs := func(labels []prompb.Label) (out []uint32) {
		for _, l := range labels {
			out = append(out, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		if g.IntN(20) == 0 {
			out = append(out, 7)
		}
		if g.IntN(20) == 0 && len(out) > 0 {
			out[g.IntN(len(out))] = uint32(g.IntN(1 << 20))
		}
		return out
	}
	var out writev2.Request
	for _, ts := range in.Timeseries {
		n := writev2.TimeSeries{LabelsRefs: refs(ts.Labels)}
		for _, s := range ts.Samples {
			n.Samples = append(n.Samples, writev2.Sample{Value: s.Value, Timestamp: s.Timestamp, StartTimestamp: int64(g.IntN(2)) * 99})
		}
		for _, e := range ts.Exemplars {
			n.Exemplars = append(n.Exemplars, writev2.Exemplar{LabelsRefs: refs(e.Labels), Value: e.Value, Timestamp: e.Timestamp})
		}
		for _, h := range ts.Histograms {
			n.Histograms = append(n.Histograms, upgradeHistogram(h))
		}
		if g.IntN(2) == 0 {
			n.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: table.Symbolize(g.pick("help", "", "bad\xff")), UnitRef: uint32(g.IntN(12))}
		}
		out.Timeseries = append(out.Timeseries, n)
	}
	out.Symbols = table.Symbols()
	b, err := out.Marshal()
	if err != nil {
		panic(err)
	}
	switch g.IntN(8) {
	case 0:
		b = append(b, 0x7a, 2, 'h', 'i')
	case 1:
		if len(b) > 0 {
			b[g.IntN(len(b))] ^= byte(1 << g.IntN(8))
		}
	case 2:
		b = b[:g.IntN(len(b)+1)]
	case 3: // a symbol after the series that use it
		b = append(b, 0x22, 3, 'n', 'e', 'w')
	}
	return b
}

func TestConfine2AgainstReference(t *testing.T) {
	for i, ref := range policies() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := ref.policy(t)
			var c Confiner
			g := generator{rand.New(rand.NewPCG(2, uint64(i)))}
			for range rounds(4000) {
				check2(t, &c, &ref, p, g.upgrade(g.request()))
			}
		})
	}
}

func FuzzConfine2(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(8, 8))}
	seeds := 0
	for i := range 200 {
		f.Add(g.upgrade(g.request()), uint8(i))
		seeds++
	}
	if seeds == 0 {
		f.Fatal("empty corpus")
	}
	refs := policies()
	var compiled []*Policy
	for i := range refs {
		compiled = append(compiled, refs[i].policy(f))
	}
	f.Fuzz(func(t *testing.T, src []byte, which uint8) {
		i := int(which) % len(refs)
		check2(t, new(Confiner), &refs[i], compiled[i], src)
	})
}

// TestConfine2Limit: references to long symbols cannot make more of a small request than the limit.
func TestConfine2Limit(t *testing.T) {
	p := timingPolicy(t)
	long := string(slices.Repeat([]byte{'v'}, 30_000))
	in := writev2.Request{Symbols: []string{"", "__name__", "up", "a", long}}
	for range 2000 {
		in.Timeseries = append(in.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: testNow}}})
	}
	src, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var c Confiner
	dst := make([]byte, 0, 64<<20)
	for limit, want := range map[int]error{59_000_000: ErrTooLong, 65_000_000: nil} {
		if _, _, err := c.Confine(dst, src, Order{Proto: V2, Policy: p, MaxT: testNow, Limit: limit}); !errors.Is(err, want) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestConfine2DoesNotAllocate(t *testing.T) {
	src := symbolized(t, realistic(5000))
	p := timingPolicy(t)
	var c Confiner
	dst := make([]byte, 0, 2*len(src))
	if got := testing.AllocsPerRun(20, func() {
		if _, res, err := c.Confine(dst, src, Order{Proto: V2, Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}); err != nil || res.Samples != 5000 {
			t.Fatal(err)
		}
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// symbolized is a 1.0 request of one sample a series in 2.0.
func symbolized(t *testing.T, src []byte) []byte {
	var in prompb.WriteRequest
	if err := in.Unmarshal(src); err != nil {
		t.Fatal(err)
	}
	table := writev2.NewSymbolTable()
	var out writev2.Request
	for _, ts := range in.Timeseries {
		n := writev2.TimeSeries{Samples: []writev2.Sample{{Value: 1, Timestamp: testNow}}}
		for _, l := range ts.Labels {
			n.LabelsRefs = append(n.LabelsRefs, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		out.Timeseries = append(out.Timeseries, n)
	}
	out.Symbols = table.Symbols()
	src, err := out.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return src
}
