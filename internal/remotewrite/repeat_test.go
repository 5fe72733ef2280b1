package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
)

// neighbours is a request in which each series is the one before it but for something: the value of a label or of several,
// labels that came or went, a sample of another kind.
func (g generator) neighbours(n int) []byte {
	var r prompb.WriteRequest
	now := prompb.TimeSeries{
		Labels: []prompb.Label{{Name: "__name__", Value: "http_requests_total"}, {Name: "instance", Value: "10.0.0.1:9090"}, {Name: "job", Value: "node"},
			{Name: "pod", Value: strings.Repeat("p", g.IntN(200)) + "p"}, {Name: "zone", Value: "eu"}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: testNow}},
	}
	for range n {
		now.Labels = append([]prompb.Label(nil), now.Labels...)
		switch k := g.IntN(len(now.Labels)); g.IntN(12) {
		case 0, 1, 2:
			now.Labels[0].Value = g.pick("a", "up", "http_requests_total", "http_requests_failed_total", "http_request_duration_seconds_bucket", "http_request_duration_seconds_sum", "0bad", "b.c")
		case 3, 4, 5:
			now.Labels[k].Value = g.pick("x", "xy", "10.0.0.2:9090", "10.0.0.1:9091", strings.Repeat("v", 60), strings.Repeat("v", 126), strings.Repeat("v", 140))
		case 6:
			for i := range now.Labels[1:] {
				now.Labels[1+i].Value = fmt.Sprint(g.IntN(1000))
			}
		case 7: // a label more, in its place or in a wrong one
			l := prompb.Label{Name: g.pick("a", "le", "tenan", "tenanu", "zz", "Z", "tenant"), Value: g.pick("0.5", "1", "a")}
			at := 0
			for at < len(now.Labels) && now.Labels[at].Name < l.Name {
				at++
			}
			if g.IntN(10) == 0 {
				at = k
			}
			now.Labels = append(now.Labels[:at:at], append([]prompb.Label{l}, now.Labels[at:]...)...)
		case 8, 9:
			if len(now.Labels) > 2 && k > 0 {
				now.Labels = append(now.Labels[:k:k], now.Labels[k+1:]...)
			}
		}
		switch g.IntN(8) {
		case 0:
			now.Samples = []prompb.Sample{{Value: g.value(), Timestamp: g.timestamp()}}
		case 1:
			now.Samples = []prompb.Sample{{Value: g.Float64(), Timestamp: testNow + int64(g.IntN(3))}}
		case 2:
			now.Samples = []prompb.Sample{{Value: float64(g.IntN(1 << 20)), Timestamp: testNow}, {Value: 0, Timestamp: testNow + 1}}
		case 3:
			now.Samples = []prompb.Sample{{Value: 0, Timestamp: testNow}}
		case 4, 5:
			now.Samples = []prompb.Sample{{Value: float64(g.IntN(100)), Timestamp: testNow}}
		}
		now.Histograms = nil
		if g.IntN(20) == 0 {
			now.Histograms = []prompb.Histogram{g.histogram()}
		}
		r.Timeseries = append(r.Timeseries, now)
	}
	b, err := r.Marshal()
	if err != nil {
		panic(err)
	}
	if g.IntN(4) == 0 {
		return g.reencode(b)
	}
	return b
}

// TestNeighboursAgainstReference: what is written as repeats of the series before decodes to what the reference says, under
// every policy, with values as long as a series may have.
func TestNeighboursAgainstReference(t *testing.T) {
	for i, ref := range policies() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := ref.policy(t)
			var c Confiner
			g := generator{rand.New(rand.NewPCG(2, uint64(i)))}
			for range rounds(300) {
				check(t, &c, &ref, p, g.neighbours(1+g.IntN(120)))
			}
		})
	}
}

// TestFarNeighbours: series whose distance or length no copy can reach.
func TestFarNeighbours(t *testing.T) {
	ref := reference{label: "tenant", tenants: tenantA(), minT: testNow, maxT: testNow,
		rules: Rules{Limits: Limits{NameBytes: 1024, ValueBytes: 1 << 17, Labels: 512}}}
	p := ref.policy(t)
	for _, n := range []int{100, 5_000, 8_000, 16_000, 17_000, 40_000, 70_000} {
		var r prompb.WriteRequest
		for i := range 12 {
			ts := series(testNow, "__name__", fmt.Sprint("m", i), "big", strings.Repeat("x", n), "job", "j")
			r.Timeseries = append(r.Timeseries, ts)
		}
		src, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		check(t, new(Confiner), &ref, p, src)
	}
}

// TestAllFresh: series that share nothing are searched as a whole.
func TestAllFresh(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 3))}
	var r prompb.WriteRequest
	for range 2000 {
		ts := series(testNow, "__name__", fmt.Sprintf("m_%x", g.Uint64()))
		for k := range 6 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: fmt.Sprintf("l%d", k), Value: fmt.Sprintf("%x%x", g.Uint64(), g.Uint64())})
		}
		r.Timeseries = append(r.Timeseries, ts)
	}
	src, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ref := reference{label: "tenant", rules: classicRules, tenants: tenantA(), minT: testNow, maxT: testNow}
	p := ref.policy(t)
	check(t, new(Confiner), &ref, p, src)
	out, _, err := raw(t, new(Confiner), src, V1, p, ref.minT, ref.maxT)
	if err != nil {
		t.Fatal(err)
	}
	block, _, err := new(Confiner).Confine(make([]byte, 0, len(src)), src, Order{Policy: p, MinT: testNow, MaxT: testNow, Limit: testLimit})
	if searched := len(Encode(out)); err != nil || len(block) > searched+searched/50 {
		t.Errorf("%d bytes, by a search %d; %v", len(block), searched, err)
	}
}

// TestLongName: a label whose length grows to two bytes is not taken for one whose length has one.
func TestLongName(t *testing.T) {
	ref := reference{label: "tenant", tenants: tenantA(), minT: testNow, maxT: testNow, rules: Rules{Limits: Limits{NameBytes: 1024, ValueBytes: 1024, Labels: 512}}}
	p := ref.policy(t)
	for n := range 60 {
		var r prompb.WriteRequest
		for i := range 8 {
			r.Timeseries = append(r.Timeseries, series(testNow, "__name__", "m", strings.Repeat("n", 80), strings.Repeat("v", 1+(n+i*7)%60), "z", strings.Repeat("z", 100)))
		}
		src, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		check(t, new(Confiner), &ref, p, src)
	}
}
