package remotewrite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// TestSeriesHashIsFixed: replicas of every version must agree, so these numbers, which another program made from the description,
// never change.
func TestSeriesHashIsFixed(t *testing.T) {
	for _, tc := range []struct {
		tenant string
		labels []Label
		want   uint64
	}{
		{"", nil, 0x964cd17551550f38},
		{"a", []Label{{"__name__", "up"}}, 0xc49cacd27b8077c6},
		{"a", []Label{{"__name__", "up"}, {"instance", "10.0.0.1:9090"}, {"job", "node"}}, 0x207bfea4c5899026},
		{"b", []Label{{"__name__", "up"}, {"instance", "10.0.0.1:9090"}, {"job", "node"}}, 0x83fb2acc9d68e05b},
	} {
		if got := SeriesHash(tc.tenant, tc.labels); got != tc.want {
			t.Errorf("%q %v: %#x, want %#x", tc.tenant, tc.labels, got, tc.want)
		}
	}
}

// parts makes a test's split: by the hash, and for half of the hashes by the time, too, as while a member comes or goes.
func parts(n int) Split {
	return Split{Parts: n, Part: func(series uint64, ms int64) int {
		if series&1 == 1 && ms >= testNow {
			series += 1 << 33
		}
		return int(series >> 32 % uint64(n))
	}}
}

// TestPartsAgainstWhole: the parts of a request are together what it is as a whole, each sample is in the part of its series'
// hash and its time, and the counts are right.
func TestPartsAgainstWhole(t *testing.T) {
	for i, ref := range policies() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := ref.policy(t)
			c, whole := new(Confiner), new(Confiner)
			g := generator{rand.New(rand.NewPCG(4, uint64(i)))}
			for k := range rounds(400) {
				src := g.neighbours(1 + g.IntN(60))
				if k%2 == 0 {
					src = g.request()
				}
				o := Order{Policy: p, MinT: ref.minT, MaxT: ref.maxT, Limit: testLimit}
				if k%3 == 0 { // some series are not admitted
					o.Seed, o.Admit = testSeed, func(_ int, id uint64) (Reason, bool) { return ActiveSeries, id>>20%4 != 0 }
				}
				checkParts(t, c, whole, &ref, o, src, parts(1+g.IntN(4)))
			}
		})
	}
}

func checkParts(t testing.TB, c, whole *Confiner, ref *reference, o Order, src []byte, s Split) {
	t.Helper()
	out, res, err := rawTo(t, whole, src, o)
	res.Tenants = slices.Clone(res.Tenants)
	var blocks []Block
	var got Result
	var partErr error
	for room := 64; ; room *= 4 {
		dsts := make([][]byte, s.Parts)
		for i := range dsts {
			dsts[i] = make([]byte, 0, room)
		}
		if blocks, got, partErr = c.ConfineParts(dsts, src, o, s); !errors.Is(partErr, ErrShort) {
			break
		}
	}
	if (err == nil) != (partErr == nil) {
		t.Fatalf("whole: %v, parts: %v", err, partErr)
	}
	if err != nil {
		return
	}
	if got.Samples != res.Samples || got.Histograms != res.Histograms || got.Dropped != res.Dropped || !slices.Equal(got.Tenants, res.Tenants) {
		t.Fatalf("parts %+v, whole %+v", got, res)
	}
	var want prompb.WriteRequest
	if err := want.Unmarshal(out); err != nil {
		t.Fatal(err)
	}
	var in []string
	for part, b := range blocks {
		dec, err := snappy.Decode(nil, b.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		var r prompb.WriteRequest
		if err := r.Unmarshal(dec); err != nil {
			t.Fatal(err)
		}
		samples := 0
		for _, ts := range r.Timeseries {
			for _, smp := range ts.Samples {
				samples++
				if at := s.Part(hashOf(ref, ts), smp.Timestamp); at != part {
					t.Fatalf("%v at %d is in part %d, not %d", ts.Labels, smp.Timestamp, part, at)
				}
			}
		}
		if b.Series != len(r.Timeseries) || !ref.rules.Classic && b.Samples != samples+histogramsIn(r) {
			t.Fatalf("part %d counts %d series and %d samples; has %d and %d", part, b.Series, b.Samples, len(r.Timeseries), samples)
		}
		in = append(in, points(r)...)
	}
	all := points(want)
	slices.Sort(in)
	slices.Sort(all)
	if !slices.Equal(in, all) {
		t.Fatalf("parts hold\n%s\nthe whole\n%s", strings.Join(in, "\n"), strings.Join(all, "\n"))
	}
}

// hashOf is the hash of a series that came out, without the labels that the gateway set.
func hashOf(ref *reference, ts prompb.TimeSeries) uint64 {
	var labels []Label
	tenant := ""
	enforced := map[string]bool{}
	for _, tn := range ref.tenants {
		for _, l := range tn.Labels {
			enforced[l.Name] = true
		}
	}
	for _, l := range ts.Labels {
		if l.Name == ref.label {
			tenant = l.Value
		}
		if !enforced[l.Name] {
			labels = append(labels, Label{l.Name, l.Value})
		}
	}
	return SeriesHash(tenant, labels)
}

func histogramsIn(r prompb.WriteRequest) (n int) {
	for _, ts := range r.Timeseries {
		n += len(ts.Histograms)
	}
	return n
}

// points are the samples, histograms and exemplars of r, each with its series, as text.
func points(r prompb.WriteRequest) (out []string) {
	for _, ts := range r.Timeseries {
		name := fmt.Sprint(ts.Labels)
		for _, s := range ts.Samples {
			out = append(out, fmt.Sprint(name, " ", s.Timestamp, " ", s.Value))
		}
		for _, h := range ts.Histograms {
			out = append(out, fmt.Sprint(name, " ", h.String()))
		}
		for _, e := range ts.Exemplars {
			out = append(out, fmt.Sprint(name, " ", e.String()))
		}
	}
	return out
}

// TestPartsDoNotAllocate: dividing a steady request costs no more allocations than its parts.
func TestPartsDoNotAllocate(t *testing.T) {
	src := realistic(5000)
	p := timingPolicy(t)
	s := parts(3)
	dsts := make([][]byte, s.Parts)
	for i := range dsts {
		dsts[i] = make([]byte, 0, len(src))
	}
	var c Confiner
	if got := testing.AllocsPerRun(20, func() {
		if _, _, err := c.ConfineParts(dsts, src, Order{Policy: p, MinT: testNow - 1, MaxT: testNow + 1, Limit: testLimit}, s); err != nil {
			t.Fatal(err)
		}
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestSharesAreEven: targets spread evenly over the parts.
func TestSharesAreEven(t *testing.T) {
	const n, targets = 8, 40_000
	s, share := parts(n), [n]int{}
	for i := range targets {
		share[s.Part(SeriesHash("a", []Label{{"instance", fmt.Sprintf("10.0.%d.%d:9090", i/250, i%250)}, {"job", "node"}}), 0)]++
	}
	for part, got := range share {
		if got < targets/n*95/100 || got > targets/n*105/100 {
			t.Errorf("part %d: %d of %d", part, got, targets)
		}
	}
}
