package remotewrite

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// realistic is a request as a Prometheus sends it: families of one target after another, histograms among them, one sample
// a series.
func realistic(n int) []byte {
	var r prompb.WriteRequest
	for i := 0; len(r.Timeseries) < n; i++ {
		for f := 0; f < 60 && len(r.Timeseries) < n; f++ {
			labels := func(name string, extra ...string) []prompb.Label {
				pairs := []string{"__name__", name, "cluster", "production-eu-1", "container", "server", "endpoint", "http-metrics",
					"instance", fmt.Sprintf("10.12.%d.%d:9090", i%256, i%200), "job", "monitoring/prometheus", "namespace", "monitoring",
					"node", fmt.Sprintf("worker-%03d", i%40), "pod", fmt.Sprintf("prometheus-server-%d", i)}
				pairs = append(pairs, extra...)
				var out []prompb.Label
				for k := 0; k < len(pairs); k += 2 {
					out = append(out, prompb.Label{Name: pairs[k], Value: pairs[k+1]})
				}
				return out
			}
			switch f % 3 {
			case 0:
				r.Timeseries = append(r.Timeseries, prompb.TimeSeries{Labels: labels(fmt.Sprintf("prometheus_engine_thing_%d_total", f), "zone", "a"), Samples: []prompb.Sample{{Value: float64(i), Timestamp: testNow}}})
			case 1:
				for _, code := range []string{"200", "400", "500"} {
					r.Timeseries = append(r.Timeseries, prompb.TimeSeries{Labels: labels(fmt.Sprintf("http_requests_%d_total", f), "verb", "GET", "xcode", code), Samples: []prompb.Sample{{Value: 0, Timestamp: testNow}}})
				}
			case 2:
				for b := range 11 {
					l := labels(fmt.Sprintf("request_duration_%d_seconds_bucket", f))
					l = append(l[:6:6], append([]prompb.Label{{Name: "le", Value: fmt.Sprint(float64(b) / 8)}}, l[6:]...)...)
					r.Timeseries = append(r.Timeseries, prompb.TimeSeries{Labels: l, Samples: []prompb.Sample{{Value: 3.5, Timestamp: testNow}}})
				}
			}
		}
	}
	r.Timeseries = r.Timeseries[:n]
	b, err := r.Marshal()
	if err != nil {
		panic(err)
	}
	return b
}

func timingPolicy(t testing.TB) *Policy {
	p, err := NewPolicy("tenant", Override, Rules{Limits: Limits{NameBytes: 1024, ValueBytes: 32 << 10, Labels: 512}, Reserved: []string{"__m3", "__rollup__"}}, tenantA())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// BenchmarkConfine includes the encoding, which goes on piece by piece.
func BenchmarkConfine(b *testing.B) {
	src := realistic(5000)
	p := timingPolicy(b)
	dst := make([]byte, 0, 2*len(src))
	var c Confiner
	b.ReportAllocs()
	b.SetBytes(5000) // MB/s reads as million series a second
	for b.Loop() {
		if _, res, err := c.Confine(dst, src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}); err != nil || res.Samples != 5000 {
			b.Fatal(err, res.Samples)
		}
	}
}

// BenchmarkConfineAdmit is BenchmarkConfine with each series' identity asked for.
func BenchmarkConfineAdmit(b *testing.B) {
	src := realistic(5000)
	p := timingPolicy(b)
	dst := make([]byte, 0, 2*len(src))
	var c Confiner
	var sum uint64
	admit := func(_ int, id uint64) (Reason, bool) { sum += id; return 0, true }
	b.ReportAllocs()
	b.SetBytes(5000)
	for b.Loop() {
		if _, res, err := c.Confine(dst, src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit, Admit: admit, Seed: 7}); err != nil || res.Samples != 5000 {
			b.Fatal(err, res.Samples)
		}
	}
}

// BenchmarkFloor is the codec's own cost over the same request.
func BenchmarkFloor(b *testing.B) {
	body := snappy.Encode(nil, realistic(5000))
	n, _ := snappy.DecodedLen(body)
	dec, enc := make([]byte, n), make([]byte, snappy.MaxEncodedLen(n))
	b.SetBytes(5000)
	for b.Loop() {
		d, err := snappy.Decode(dec, body)
		if err != nil {
			b.Fatal(err)
		}
		snappy.Encode(enc, d)
	}
}

// BenchmarkStructs does the same job by unmarshalling.
func BenchmarkStructs(b *testing.B) {
	src := realistic(5000)
	ref := policies()[0]
	for b.Loop() {
		var in prompb.WriteRequest
		if err := in.Unmarshal(src); err != nil {
			b.Fatal(err)
		}
		out := ref.confine(in)
		if _, err := out.req.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(5000)
}

// TestConfineDoesNotAllocate: the cost of a steady request does not grow with its series.
func TestConfineDoesNotAllocate(t *testing.T) {
	for _, n := range []int{10, 5000} {
		src := realistic(n)
		p := timingPolicy(t)
		dst := make([]byte, 0, 2*len(src)+headerRoom)
		var c Confiner
		if got := testing.AllocsPerRun(20, func() {
			if _, _, err := c.Confine(dst, src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}); err != nil {
				t.Fatal(err)
			}
		}); got > 0 {
			t.Errorf("%d series: %v allocations", n, got)
		}
	}
}

// BenchmarkConfineParts is BenchmarkConfine with the batch divided among members, as a pool divides it.
func BenchmarkConfineParts(b *testing.B) {
	src := realistic(5000)
	p := timingPolicy(b)
	for _, n := range []int{1, 2, 8} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			dsts := make([][]byte, n)
			for i := range dsts {
				dsts[i] = make([]byte, 0, 2*len(src))
			}
			split := Split{Parts: n, Part: func(h uint64, _ int64) int { return int(h % uint64(n)) }}
			var c Confiner
			b.ReportAllocs()
			b.SetBytes(5000)
			for b.Loop() {
				if _, res, err := c.ConfineParts(dsts, src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}, split); err != nil || res.Samples != 5000 {
					b.Fatal(err, res.Samples)
				}
			}
		})
	}
}
