package isolation

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"testing"

	"github.com/prometheus/prometheus/prompb"
)

// clock is the gateway's own time in the example of a refused sample.
var clock = regexp.MustCompile(`, now [0-9TZ:.-]+`)

// writes sends the same generated batches of the asker to both gateways, one after the other, after the crowd has written
// the same series with other values. What the asker is told must be the same.
func (w *twins) writes(t *testing.T, round uint64) (found []*difference) {
	t.Helper()
	for n := range uint64(20) {
		random := rand.New(rand.NewPCG(w.seed, 1<<40+round<<20+n))
		body := w.batch(random, round)
		for c := range crowd() {
			if random.IntN(4) == 0 {
				r := writeRequest(crowdUser(c), w.batch(random, round))
				if _, err := w.crowded.ask(&r); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := writeRequest(userOne, body)
		switch random.IntN(8) {
		case 0:
			r.tenant = []string{crowd()[random.IntN(len(crowd()))]}
		case 1:
			r.body = append(r.body, 0)
		case 2:
			r.header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		}
		x, err := w.lone.ask(&r)
		if err != nil {
			t.Fatal(err)
		}
		y, err := w.crowded.ask(&r)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []*answer{&x, &y} {
			if a.body = clock.ReplaceAll(a.body, nil); a.status != http.StatusNoContent {
				a.header.Del("Content-Length") // of a text with the time in it
			}
		}
		if !equal(x, y) {
			found = append(found, &difference{n, r, x, y})
		}
		w.tally.count(r.what, &y, false)
	}
	return found
}

// batch are some samples of series that are there, and of new ones; some too old, some twice, some with labels that are refused.
func (w *twins) batch(random *rand.Rand, round uint64) []byte {
	list := own(w.kind == "prometheus")
	var all []prompb.TimeSeries
	spoilt := random.IntN(3) == 0
	for range 1 + random.IntN(6) {
		n := random.IntN(len(list))
		ts := part(list[n], n, random.IntN(steps), steps, w.base, random.IntN(3))
		shift := []int64{0, 0, 0, 1, 7000, -3_600_000, 3_600_000}[random.IntN(7)]
		if !spoilt {
			shift = 0
		}
		for i := range ts.Samples { // between the samples that are there, or on them
			ts.Samples[i].Timestamp += shift
		}
		what := 3
		if spoilt {
			what = random.IntN(5)
		}
		switch what {
		case 0:
			ts.Labels = append(ts.Labels, prompb.Label{Name: "tenant", Value: crowd()[random.IntN(len(crowd()))]})
		case 1:
			ts.Labels = append(ts.Labels, prompb.Label{Name: []string{"", "job", "a b", "__m3_type__"}[random.IntN(4)], Value: "x"})
		case 2:
		default: // a new one
			ts.Labels = append(ts.Labels, prompb.Label{Name: "round", Value: fmt.Sprint(round, random.IntN(1000))})
		}
		all = append(all, ts)
	}
	return encode(all)
}
