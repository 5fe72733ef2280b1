package remotewrite

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

// classicSeries is the reference of the native histogram h as classic series, nil if it cannot be; buckets are gone through
// by Prometheus' own code.
func classicSeries(ls []prompb.Label, h prompb.Histogram) (out []prompb.TimeSeries) {
	if slices.ContainsFunc(ls, func(l prompb.Label) bool { return l.Name == "le" }) {
		return nil
	}
	f := &histogram.FloatHistogram{
		Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, Sum: h.Sum, CustomValues: h.CustomValues,
		ZeroCount: h.GetZeroCountFloat() + float64(h.GetZeroCountInt()), Count: h.GetCountFloat() + float64(h.GetCountInt()),
	}
	var ok1, ok2 bool
	f.PositiveSpans, f.PositiveBuckets, ok1 = refSide(h.PositiveSpans, h.PositiveDeltas, h.PositiveCounts)
	f.NegativeSpans, f.NegativeBuckets, ok2 = refSide(h.NegativeSpans, h.NegativeDeltas, h.NegativeCounts)
	custom := h.Schema == -53
	if !refFits(h) {
		return nil
	}
	if !ok1 || !ok2 || !custom && (h.Schema < -4 || h.Schema > 8) {
		return nil
	}
	type bucket struct{ upper, count float64 }
	var buckets []bucket
	if custom {
		if len(f.NegativeBuckets) > 0 {
			return nil
		}
		for _, c := range h.CustomValues {
			buckets = append(buckets, bucket{c, 0})
		}
		at := 0
		for i := int64(0); len(f.PositiveSpans) > 0; f.PositiveSpans = f.PositiveSpans[1:] {
			i += int64(f.PositiveSpans[0].Offset)
			for range f.PositiveSpans[0].Length {
				if i < 0 || i > int64(len(buckets)) {
					return nil
				}
				if i < int64(len(buckets)) {
					buckets[i].count = f.PositiveBuckets[at]
				}
				i, at = i+1, at+1
			}
		}
	} else {
		for it := f.NegativeReverseBucketIterator(); it.Next(); {
			buckets = append(buckets, bucket{-refBound(h.Schema, it.At().Index-1), it.At().Count})
		}
		buckets = append(buckets, bucket{h.ZeroThreshold, f.ZeroCount})
		for it := f.PositiveBucketIterator(); it.Next(); {
			if upper := refBound(h.Schema, it.At().Index); !math.IsInf(upper, 1) {
				buckets = append(buckets, bucket{upper, it.At().Count})
			}
		}
	}
	for i, b := range buckets {
		if math.IsNaN(b.upper) || math.IsInf(b.upper, 0) || i > 0 && b.upper <= buckets[i-1].upper {
			return nil
		}
	}
	if value.IsStaleNaN(h.Sum) {
		buckets, f.Count = nil, h.Sum
	}
	emit := func(suffix, le string, v float64) {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: v, Timestamp: h.Timestamp}}}
		for _, l := range ls {
			if l.Name == "__name__" {
				l.Value += suffix
			}
			ts.Labels = append(ts.Labels, l)
		}
		if le != "" {
			ts.Labels = append(ts.Labels, prompb.Label{Name: "le", Value: le})
		}
		slices.SortFunc(ts.Labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, ts)
	}
	total := 0.0
	for _, b := range buckets {
		total += b.count
		emit("_bucket", labels.FormatOpenMetricsFloat(b.upper), total)
	}
	emit("_bucket", "+Inf", f.Count)
	emit("_sum", "", h.Sum)
	emit("_count", "", f.Count)
	return out
}

// refFits is Prometheus' own judgement of the counts. What it lets pass is left: a float that is no number, counts of the other
// kind, which it does not look at, and integers of which the sum is beyond 64 bits.
func refFits(h prompb.Histogram) bool {
	if value.IsStaleNaN(h.Sum) {
		return true
	}
	if h.IsFloatHistogram() {
		f := h.ToFloatHistogram()
		noNumber := slices.ContainsFunc(slices.Concat(f.NegativeBuckets, f.PositiveBuckets, []float64{f.Count, f.ZeroCount}), math.IsNaN)
		return f.Validate() == nil && !noNumber && len(h.NegativeDeltas)+len(h.PositiveDeltas) == 0 && h.GetZeroCountInt() == 0
	}
	sum := new(big.Int).SetUint64(h.GetZeroCountInt())
	for _, deltas := range [][]int64{h.NegativeDeltas, h.PositiveDeltas} {
		n := int64(0)
		for _, d := range deltas {
			n += d
			sum.Add(sum, big.NewInt(n))
		}
	}
	return h.ToIntHistogram().Validate() == nil && sum.IsUint64() && len(h.NegativeCounts)+len(h.PositiveCounts) == 0 && h.GetZeroCountFloat() == 0
}

// refBound is 2^(i/2^schema), rounded once.
func refBound(schema, i int32) float64 {
	x := new(big.Float).SetMantExp(big.NewFloat(1), int(i)).SetPrec(300)
	for range max(0, -schema) {
		x.Mul(x, x)
	}
	for range max(0, schema) {
		x.Sqrt(x)
	}
	f, _ := x.Float64()
	if x.Cmp(big.NewFloat(math.MaxFloat64)) > 0 && x.Cmp(new(big.Float).SetMantExp(big.NewFloat(1), 1024)) <= 0 {
		return math.MaxFloat64
	}
	return f
}

func refSide(in []prompb.BucketSpan, deltas []int64, counts []float64) (spans []histogram.Span, buckets []float64, ok bool) {
	if len(deltas) > 0 && len(counts) > 0 {
		return nil, nil, false
	}
	n, sum := 0, int64(0)
	for i, s := range in {
		if i > 0 && s.Offset < 0 || s.Length > 1000 { // no test's histogram has more
			return nil, nil, false
		}
		n += int(s.Length)
		spans = append(spans, histogram.Span{Offset: s.Offset, Length: s.Length})
	}
	for _, d := range deltas {
		sum += d
		buckets = append(buckets, float64(sum))
	}
	buckets = append(buckets, counts...)
	return spans, buckets, n == len(buckets)
}

// histogram is any histogram: mostly whole, of each schema, with integers or floats; now and then broken.
func (g generator) histogram() prompb.Histogram {
	h := prompb.Histogram{
		Sum: g.value(), Schema: int32(g.IntN(13)) - 4, ZeroThreshold: 1e-128, ResetHint: prompb.Histogram_GAUGE, Timestamp: g.timestamp(),
	}
	floats := g.IntN(3) == 0
	whole, all := uint64(g.IntN(3)), 0.5
	if floats {
		h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: 0.5}
	} else {
		h.ZeroCount = &prompb.Histogram_ZeroCountInt{ZeroCountInt: whole}
	}
	side := func() (spans []prompb.BucketSpan, deltas []int64, counts []float64) {
		last := int64(0)
		for k := range g.IntN(3) {
			s := prompb.BucketSpan{Offset: int32(g.IntN(4)), Length: uint32(g.IntN(4))}
			if k == 0 {
				s.Offset = []int32{-3, 0, 5, 300, -300, 1020}[g.IntN(6)]
			}
			spans = append(spans, s)
			for range s.Length {
				if floats {
					counts = append(counts, float64(g.IntN(100))/4)
					all += counts[len(counts)-1]
				} else {
					n := int64(g.IntN(9))
					deltas = append(deltas, n-last)
					last = n
					whole += uint64(n)
				}
			}
		}
		return spans, deltas, counts
	}
	h.PositiveSpans, h.PositiveDeltas, h.PositiveCounts = side()
	h.NegativeSpans, h.NegativeDeltas, h.NegativeCounts = side()
	if g.IntN(8) == 0 {
		h.NegativeSpans, h.NegativeDeltas, h.NegativeCounts = nil, nil, nil
		h.Schema, h.CustomValues = -53, []float64{0.5, 1, 2.5, 10, 1e9}[:1+g.IntN(5)]
		h.PositiveSpans, h.PositiveDeltas, h.PositiveCounts = []prompb.BucketSpan{{Offset: int32(g.IntN(2)), Length: 2}}, []int64{3, -1}, nil
		h.ZeroThreshold, h.ZeroCount = 0, nil
		whole, floats = 5, false
	}
	h.Count = &prompb.Histogram_CountInt{CountInt: whole}
	if floats {
		h.Count = &prompb.Histogram_CountFloat{CountFloat: all}
	}
	switch g.IntN(16) {
	case 0: // floats that may be negative or no number
		h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: g.value()}
	case 1:
		h.Count = &prompb.Histogram_CountFloat{CountFloat: g.value()}
	case 2:
		h.PositiveCounts = append(h.PositiveCounts, 1)
	case 3:
		h.Schema = []int32{-5, 9, -53, 52}[g.IntN(4)]
	case 4:
		h.ZeroThreshold = g.value()
	case 5:
		h.Count = &prompb.Histogram_CountInt{CountInt: whole + uint64(g.IntN(3)) - 1}
	case 6:
		if n := len(h.PositiveDeltas); n > 0 {
			h.PositiveDeltas[g.IntN(n)] += []int64{-9, 1, math.MaxInt64}[g.IntN(3)]
		} else if n := len(h.PositiveCounts); n > 0 {
			h.PositiveCounts[g.IntN(n)] = g.value()
		}
	case 7:
		h.CustomValues = append(h.CustomValues, 1e10)
	}
	return h
}

// TestBounds: the bounds of every schema are exact, and Prometheus' own but for the last digits.
func TestBounds(t *testing.T) {
	for schema := int32(minSchema); schema <= maxSchema; schema++ {
		h := classics{schema: schema}
		for i := int32(-3000); i <= 3000; i++ {
			f := &histogram.FloatHistogram{Schema: schema, PositiveSpans: []histogram.Span{{Offset: i, Length: 1}}, PositiveBuckets: []float64{1}}
			it := f.PositiveBucketIterator()
			it.Next()
			got, exact, near := h.bound(int64(i)), refBound(schema, i), it.At().Upper
			if got != exact || got != near && !(math.Abs(got/near-1) < 1e-15) {
				t.Fatalf("schema %d, bucket %d: %v, want %v, about %v", schema, i, got, exact, near)
			}
		}
	}
}

// TestClassic shows the series that one histogram becomes.
func TestClassic(t *testing.T) {
	ref := reference{label: "tenant", rules: classicRules, tenants: tenantA()}
	ref.rules.Classic = true
	for name, tc := range map[string]struct {
		in   prompb.Histogram
		want string
	}{
		"exponential": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 10}, Sum: 7, ZeroThreshold: 0.25, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 2},
			NegativeSpans: []prompb.BucketSpan{{Offset: 1, Length: 1}}, NegativeDeltas: []int64{1},
			PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 2}, {Offset: 1, Length: 1}}, PositiveDeltas: []int64{3, -1, 0},
		}, "bucket{-1.0} 1, bucket{0.25} 3, bucket{1.0} 6, bucket{2.0} 8, bucket{8.0} 10, bucket{+Inf} 10, sum 7, count 10"},
		"custom bounds": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 6}, Sum: 3.5, Schema: -53, CustomValues: []float64{0.5, 1, 30},
			PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 1}, {Offset: 2, Length: 1}}, PositiveDeltas: []int64{4, -2},
		}, "bucket{0.5} 4, bucket{1.0} 4, bucket{30.0} 4, bucket{+Inf} 6, sum 3.5, count 6"},
		"empty":         {prompb.Histogram{ZeroThreshold: 0.5}, "bucket{0.5} 0, bucket{+Inf} 0, sum 0, count 0"},
		"the end of it": {prompb.Histogram{Sum: math.Float64frombits(value.StaleNaN)}, "bucket{+Inf} NaN, sum NaN, count NaN"},
		"the end of it, with counts that do not fit": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 9}, Sum: math.Float64frombits(value.StaleNaN),
		}, "bucket{+Inf} NaN, sum NaN, count NaN"},
		"an observation that is no number": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 4}, Sum: math.NaN(), PositiveSpans: []prompb.BucketSpan{{Length: 1}}, PositiveDeltas: []int64{3},
		}, "bucket{0.0} 0, bucket{1.0} 3, bucket{+Inf} 4, sum NaN, count 4"},
		"more than its buckets hold": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 99}, PositiveSpans: []prompb.BucketSpan{{Length: 5}}, PositiveDeltas: []int64{1, 2, 1, 3, 1},
		}, ""},
		"less than its buckets hold": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, PositiveSpans: []prompb.BucketSpan{{Length: 5}}, PositiveDeltas: []int64{1, 2, 1, 3, 1},
		}, ""},
		"less than its buckets hold, and a sum that is no number": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, Sum: math.NaN(), PositiveSpans: []prompb.BucketSpan{{Length: 1}}, PositiveDeltas: []int64{2},
		}, ""},
		"a negative bucket": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, PositiveSpans: []prompb.BucketSpan{{Length: 2}}, PositiveDeltas: []int64{5, -9},
		}, ""},
		"a negative bucket of floats": {prompb.Histogram{
			Count: &prompb.Histogram_CountFloat{CountFloat: 1}, NegativeSpans: []prompb.BucketSpan{{Length: 2}}, NegativeCounts: []float64{5, -9},
		}, ""},
		"a bucket that is no number": {prompb.Histogram{
			Count: &prompb.Histogram_CountFloat{CountFloat: 1}, PositiveSpans: []prompb.BucketSpan{{Length: 1}}, PositiveCounts: []float64{math.NaN()},
		}, ""},
		"a negative count": {prompb.Histogram{Count: &prompb.Histogram_CountFloat{CountFloat: -1}}, ""},
		"a negative zero bucket": {prompb.Histogram{
			Count: &prompb.Histogram_CountFloat{CountFloat: 1}, ZeroCount: &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: -1},
		}, ""},
		"counts beyond 64 bits": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 2}, PositiveSpans: []prompb.BucketSpan{{Length: 3}},
			PositiveDeltas: []int64{math.MaxInt64, 0, -math.MaxInt64 + 1},
		}, ""},
		"floats among integers": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, PositiveSpans: []prompb.BucketSpan{{Length: 1}}, PositiveCounts: []float64{1},
		}, ""},
		"a span before the custom bounds": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, Schema: -53, CustomValues: []float64{1},
			PositiveSpans: []prompb.BucketSpan{{Offset: -1}, {Offset: 1, Length: 1}}, PositiveDeltas: []int64{1},
		}, ""},
		"a zero bucket beside custom bounds": {prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 1}, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1}, Schema: -53, CustomValues: []float64{1},
		}, ""},
		"no room for its counts": {prompb.Histogram{PositiveDeltas: []int64{1}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.in.Timestamp = testNow
			in := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "x"}, {Name: "job", Value: "j"}}, Histograms: []prompb.Histogram{tc.in}}
			got, res, err := confine(t, ref, in)
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, ts := range got.Timeseries {
				name, le := strings.TrimPrefix(ts.Labels[0].Value, "x_"), ""
				if ts.Labels[2].Name == "le" {
					le = "{" + ts.Labels[2].Value + "}"
				}
				text = append(text, fmt.Sprintf("%s%s %v", name, le, ts.Samples[0].Value))
				if n := len(ts.Labels); ts.Labels[1].Value != "j" || ts.Labels[n-1].Value != "a" || ts.Samples[0].Timestamp != testNow {
					t.Error(ts.String())
				}
			}
			if s := strings.Join(text, ", "); s != tc.want {
				t.Errorf("got  %s\nwant %s", s, tc.want)
			}
			if kept := tc.want != ""; kept != (res.Histograms == 1) || kept == (res.Dropped[InvalidHistogram] == 1) {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestClassicDoesNotAllocate once its scratch space has grown.
func TestClassicDoesNotAllocate(t *testing.T) {
	ref := reference{label: "tenant", rules: Rules{Limits: classicRules.Limits, Classic: true}, tenants: tenantA()}
	g := generator{rand.New(rand.NewPCG(5, 5))}
	var in prompb.WriteRequest
	for range 500 {
		h := g.histogram()
		h.Timestamp = testNow
		in.Timeseries = append(in.Timeseries, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "x"}}, Histograms: []prompb.Histogram{h}})
	}
	src, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p, c, dst := ref.policy(t), new(Confiner), make([]byte, 0, 4<<20)
	if got := testing.AllocsPerRun(20, func() {
		if _, res, err := c.Confine(dst, src, Order{Policy: p, MinT: testNow, MaxT: testNow, Limit: testLimit}); err != nil || res.Histograms == 0 {
			t.Fatal(err, res)
		}
	}); got > 4 { // the example of the one reason
		t.Errorf("%v allocations", got)
	}
}
