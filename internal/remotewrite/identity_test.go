package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

const testSeed = 0x1234_5678_9abc_def1

// identityOf is what Admit is to be told of a series that came out, and the tenant whose it is.
func identityOf(ref *reference, ts prompb.TimeSeries) (tenant int, id uint64) {
	for _, l := range ts.Labels {
		if l.Name == ref.label {
			tenant = slices.IndexFunc(ref.tenants, func(t TenantLabels) bool { return t.Tenant == l.Value })
		}
	}
	var given []Label
	for _, l := range ts.Labels {
		if !slices.ContainsFunc(ref.tenants[tenant].Labels, func(e Label) bool { return e.Name == l.Name }) {
			given = append(given, Label{l.Name, l.Value})
		}
	}
	return tenant, SeriesIdentity(testSeed, given)
}

// TestAdmit: Admit is asked for every series that is kept, by its identity, whatever way it takes through the walk; a series that it
// refuses is dropped with all its samples, and nothing else is.
func TestAdmit(t *testing.T) {
	for i, ref := range policies() {
		ref.rules.Classic = false // one native histogram is many series
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := ref.policy(t)
			g := generator{rand.New(rand.NewPCG(9, uint64(i)))}
			for k := range 100 {
				src := g.neighbours(1 + g.IntN(60))
				if k%2 == 0 {
					src = g.request()
				}
				checkAdmit(t, &ref, p, src, g.IntN(4))
			}
		})
	}
}

// checkAdmit admits the series of which a hash has a bit, among so many, that is not 0; none is all.
func checkAdmit(t testing.TB, ref *reference, p *Policy, src []byte, among int) {
	t.Helper()
	admits := func(id uint64) bool { return among == 0 || id>>20%uint64(among+1) != 0 }
	series := func(o Order) ([]string, map[[2]uint64]int, Result, error) {
		var c Confiner
		o.Policy, o.MinT, o.MaxT, o.Limit = p, ref.minT, ref.maxT, testLimit
		block, res, err := c.Confine(make([]byte, 0, 4*len(src)+1<<16), src, o)
		if err != nil {
			return nil, nil, res, err
		}
		dec, err := snappy.Decode(nil, block)
		if err != nil {
			t.Fatal(err)
		}
		var out prompb.WriteRequest
		if err := out.Unmarshal(dec); err != nil {
			t.Fatal(err)
		}
		var text []string
		kept := map[[2]uint64]int{}
		for _, ts := range out.Timeseries {
			tenant, id := identityOf(ref, ts)
			kept[[2]uint64{uint64(tenant), id}]++
			if admits(id) || o.Admit != nil {
				text = append(text, ts.String())
			}
		}
		return text, kept, res, nil
	}
	want, all, before, err := series(Order{})
	if err != nil {
		return
	}
	asked := map[[2]uint64]int{}
	got, _, after, err := series(Order{Seed: testSeed, Admit: func(tenant int, id uint64) (Reason, bool) {
		asked[[2]uint64{uint64(tenant), id}]++
		return ActiveSeries, admits(id)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("kept\n%q\nwant\n%q", got, want)
	}
	for k := range all {
		if asked[k] == 0 {
			t.Fatalf("nobody asked for %v", k)
		}
	}
	if len(asked) < len(all) || after.Samples+after.Histograms+after.Dropped[ActiveSeries] < before.Samples+before.Histograms {
		t.Fatalf("asked for %d of %d; %+v, before %+v", len(asked), len(all), after, before)
	}
	if n := after.Dropped[ActiveSeries]; n > 0 && after.Examples[ActiveSeries].Series == "" {
		t.Fatal("no example")
	}
}

// Equal series have one identity in both protocols, and whatever the tenant.
func TestIdentityOfProtocols(t *testing.T) {
	p := timingPolicy(t)
	src := realistic(300)
	var req prompb.WriteRequest
	if err := req.Unmarshal(src); err != nil {
		t.Fatal(err)
	}
	ids := func(proto Protocol, src []byte) (out []uint64) {
		var c Confiner
		_, _, err := c.Confine(make([]byte, 0, 1<<20), src, Order{Proto: proto, Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit, Seed: testSeed,
			Admit: func(_ int, id uint64) (Reason, bool) { out = append(out, id); return 0, true }})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var want []uint64
	for _, ts := range req.Timeseries {
		var labels []Label
		for _, l := range ts.Labels {
			labels = append(labels, Label{l.Name, l.Value})
		}
		want = append(want, SeriesIdentity(testSeed, labels))
	}
	if got := ids(V1, src); !slices.Equal(got, want) {
		t.Error("1.0 differs")
	}
	table := writev2.NewSymbolTable()
	var two writev2.Request
	for _, ts := range req.Timeseries {
		out := writev2.TimeSeries{Samples: []writev2.Sample{{Value: 1, Timestamp: testNow}}}
		for _, l := range ts.Labels {
			out.LabelsRefs = append(out.LabelsRefs, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		two.Timeseries = append(two.Timeseries, out)
	}
	two.Symbols = table.Symbols()
	body, err := two.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(V2, body); !slices.Equal(got, want) {
		t.Error("2.0 differs")
	}
	if SeriesIdentity(1, []Label{{"a", "b"}}) == SeriesIdentity(2, []Label{{"a", "b"}}) || SeriesIdentity(1, []Label{{"a", "a"}}) == SeriesIdentity(1, []Label{{"b", "b"}}) {
		t.Error("different series are alike")
	}
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	src := realistic(5000)
	p := timingPolicy(t)
	dst := make([]byte, 0, len(src))
	var c Confiner
	n := 0
	admit := func(int, uint64) (Reason, bool) { n++; return 0, true }
	if got := testing.AllocsPerRun(20, func() {
		if _, _, err := c.Confine(dst, src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit, Admit: admit, Seed: testSeed}); err != nil {
			t.Fatal(err)
		}
	}); got > 0 || n < 5000 {
		t.Errorf("%v allocations, %d series", got, n)
	}
}
