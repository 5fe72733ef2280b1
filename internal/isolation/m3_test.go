package isolation

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"m3gateway/internal/gatewaytest"
)

// TestRealM3 is the promise before real coordinators: M3_COORDINATOR_URLS holds their base URLs with commas between, or
// M3_COORDINATOR_URL one. There is one store, so the answers of before and after the crowd's writes are compared; every query
// says its time, and none reaches back to the aggregated namespaces, whose data comes late.
func TestRealM3(t *testing.T) {
	urls := cmp.Or(os.Getenv("M3_COORDINATOR_URLS"), os.Getenv("M3_COORDINATOR_URL"))
	if urls == "" {
		t.Skip("neither M3_COORDINATOR_URLS nor M3_COORDINATOR_URL is set")
	}
	plainParser()
	total := number(t, "M3GATEWAY_ISOLATION_REQUESTS", realRequests)
	w := &real{seed: number(t, "M3GATEWAY_ISOLATION_SEED", 1), base: time.Now().Truncate(time.Second), tally: newTally(), asked: make([]asked, total)}
	w.prefix = fmt.Sprintf("run%d-", time.Now().UnixNano())
	w.gate = newGate(t, "m3", w.prefix, strings.Split(urls, ",")...)
	gatewaytest.Until(t, "the coordinators are ready", func() bool { return w.gate.Admin("GET", "/readyz").Status == http.StatusOK })

	w.gate.fill(t, "m3", w.base)
	w.wait(t, userOne, stored(own(false)))
	w.each(t, func(a *asked) error {
		for range 3 {
			x, err := w.gate.ask(&a.r)
			if err != nil {
				return err
			}
			a.before = append(a.before, x)
		}
		return nil
	})
	for n := range crowd() {
		list := foreign(crowd()[n], false)
		for _, body := range batches(list, w.base, n+1) {
			w.gate.put(t, crowdUser(n), body)
		}
		w.wait(t, crowdUser(n), stored(list))
	}
	var mu sync.Mutex
	var found []*asked
	w.each(t, func(a *asked) error {
		same, err := w.again(a)
		if err == nil && !same {
			mu.Lock()
			found = append(found, a)
			mu.Unlock()
		}
		return err
	})
	for i, a := range found {
		if i < enough {
			t.Errorf("the answer depends on other tenants (seed %d, request %d):\n%s\nbefore: %d %v %.600s\nafter:  %d %v %.600s", w.seed, a.n, &a.r,
				a.before[0].status, a.before[0].header, a.before[0].plain(), a.after.status, a.after.header, a.after.plain())
		}
	}
	t.Logf("seed %d, %d requests, each before and after; %d answers that the store did not repeat before; %d differences\n%s", w.seed, total, w.tally.loose, len(found), w.tally.table())
	w.tally.healthy(t, leastFull("m3"))
}

// realRequests are asked of a real coordinator, by default.
const realRequests = 3000

// real is one gateway before coordinators.
type real struct {
	gate   *gate
	prefix string
	seed   uint64
	base   time.Time
	tally  *tally
	asked  []asked
}

// asked is a request and what was said to it.
type asked struct {
	n      uint64
	r      request
	before []answer
	after  answer
}

// wait returns once user finds that many series.
func (w *real) wait(t *testing.T, user string, n int) {
	t.Helper()
	want := fmt.Sprintf(`"%d"]`, n)
	path := fmt.Sprintf("/api/v1/query?time=%d&query=", w.base.Unix()) + url.QueryEscape(`count({__name__=~".+"})`)
	gatewaytest.Until(t, user+" finds its series", func() bool { return strings.Contains(w.gate.Get(user, path).Body, want) })
}

// stored is how many of the series M3 keeps: it has no native histograms.
func stored(list []series) int {
	n := 0
	for _, s := range list {
		if s.course != native {
			n++
		}
	}
	return n
}

// each calls f for all requests, several at a time.
func (w *real) each(t *testing.T, f func(a *asked) error) {
	t.Helper()
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		failed atomic.Pointer[error]
	)
	for range 4 {
		wg.Go(func() {
			for failed.Load() == nil {
				n := int(next.Add(1) - 1)
				if n >= len(w.asked) {
					return
				}
				a := &w.asked[n]
				if a.r.method == "" {
					write := newWriter("m3", w.prefix, w.base, w.seed, uint64(n))
					write.timed = true
					a.n, a.r = uint64(n), write.request()
				}
				if err := f(a); err != nil {
					err = fmt.Errorf("request %d: %s: %w", n, &a.r, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}

// again reports whether the answer is one of those of before; what was not repeated then may be so in other words.
func (w *real) again(a *asked) (bool, error) {
	texts, values, series := map[string]bool{}, map[string]bool{}, map[string]bool{}
	repeats := true
	for i := range a.before {
		x := &a.before[i]
		repeats = repeats && equal(*x, a.before[0])
		texts[x.canonical()] = true
		v, list := x.measured()
		values[v] = true
		for _, s := range list {
			series[s] = true
		}
	}
	for n := range 20 {
		y, err := w.gate.ask(&a.r)
		if err != nil {
			return false, err
		}
		a.after = y
		if bytes.Contains(y.plain(), []byte(secret)) {
			break
		}
		v, list := y.measured()
		alike := texts[y.canonical()] || values[v] && !slices.ContainsFunc(list, func(s string) bool { return !series[s] })
		if slices.ContainsFunc(a.before, func(x answer) bool { return equal(x, y) }) || alike {
			w.tally.count(a.r.what, &y, n > 0 || !repeats)
			return true, nil
		}
	}
	w.tally.count(a.r.what, &a.after, false)
	return false, nil
}
