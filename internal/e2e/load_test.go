//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/faultnet"
)

// slowAnswer is how long an answer takes that counts as trouble.
const slowAnswer = time.Second

const (
	// writerPace is between the writes of a sender, unless told otherwise.
	writerPace = 100 * time.Millisecond
	// seriesOfWriter is how many series it has, each with a sample in each of its batches.
	seriesOfWriter = 8
)

// load is writers that send a new batch again and again, each to series of its own, and repeat what is not acknowledged, and a
// reader.
type load struct {
	writers []*writer
	reads   []timed
	stop    chan struct{}
	once    sync.Once
	work    sync.WaitGroup
}

// writer is a sender of some series, whose samples at one time are equal. Its fields are for one goroutine until the load has
// ended, but where they say otherwise.
type writer struct {
	pace    time.Duration
	heard   atomic.Int64 // for all: when the last batch was sent that was acknowledged; Unix nanoseconds
	client  client
	metric  string
	sent    map[int64]string // value by time in ms
	acked   map[int64]string
	answers []timed
}

// timed is a request and its answer.
type timed struct {
	at     time.Time
	took   time.Duration
	status int // 0: no answer came
}

// startLoad begins; it ends with the test at the latest.
func startLoad(t *testing.T, c client, writers int, pace time.Duration) *load {
	l := &load{stop: make(chan struct{})}
	for i := range writers {
		w := &writer{pace: pace, client: c, metric: fmt.Sprintf("steady_%d", i), sent: map[int64]string{}, acked: map[int64]string{}}
		l.writers = append(l.writers, w)
		l.work.Go(func() { w.run(l.stop) })
	}
	l.work.Go(func() {
		for l.pause(2 * pace) {
			began := time.Now()
			status, _, err := c.do(http.MethodGet, "/api/v1/query?"+url.Values{"query": {"steady_0"}}.Encode(), "", nil)
			if err != nil {
				status = 0
			}
			l.reads = append(l.reads, timed{began, time.Since(began), status})
		}
	})
	t.Cleanup(l.end)
	return l
}

func (l *load) pause(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// end stops the writers, each after its answer.
func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.work.Wait()
}

func (w *writer) run(stop <-chan struct{}) {
	for n := 0; ; n++ {
		ms := time.Now().UnixMilli()
		w.sent[ms] = strconv.Itoa(n)
		var batch prompb.WriteRequest
		for i := range seriesOfWriter {
			batch.Timeseries = append(batch.Timeseries, prompb.TimeSeries{
				Labels:  []prompb.Label{{Name: "__name__", Value: w.metric}, {Name: "n", Value: strconv.Itoa(i)}},
				Samples: []prompb.Sample{{Timestamp: ms, Value: float64(n)}},
			})
		}
		body, err := batch.Marshal()
		if err != nil {
			panic(err)
		}
		for again := true; again; {
			began := time.Now()
			status, _, err := w.client.do(http.MethodPost, "/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, body)))
			if err != nil {
				status = 0
			}
			w.answers = append(w.answers, timed{began, time.Since(began), status})
			if status/100 == 2 {
				w.acked[ms] = w.sent[ms]
				w.heard.Store(began.UnixNano())
			}
			again = status == 0 || status/100 == 5
			select {
			case <-stop:
				return
			case <-time.After(w.pace):
			}
		}
	}
}

// statuses are the writes by their answers' status.
func (l *load) statuses() map[int]int {
	out := map[int]int{}
	for _, w := range l.writers {
		for _, a := range w.answers {
			out[a.status]++
		}
	}
	return out
}

// acknowledgedSince waits until each writer has had a batch acknowledged that it sent after begun.
func (l *load) acknowledgedSince(begun time.Time) error {
	deadline := time.Now().Add(patience)
	for _, w := range l.writers {
		for w.heard.Load() < begun.UnixNano() {
			if time.Now().After(deadline) {
				return fmt.Errorf("nothing of %s was acknowledged for %v", w.metric, patience)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// writtenTo is how many writes each member has had, by the index of the proxy before it.
func writtenTo(t *testing.T, g *gateway, proxies []*faultnet.Proxy) []int {
	t.Helper()
	resp, err := http.Get(g.admin + "/upstreams")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var pool struct {
		Members []struct {
			URL    string
			Writes struct{ Requests int }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&pool); err != nil {
		t.Fatal(err)
	}
	written := make([]int, len(proxies))
	for _, m := range pool.Members {
		if i := slices.IndexFunc(proxies, func(p *faultnet.Proxy) bool { return m.URL == "http://"+p.Addr() }); i >= 0 {
			written[i] = m.Writes.Requests
		}
	}
	return written
}

// percentile of how long answers took, in ms.
func percentile(answers []timed, p float64) float64 {
	if len(answers) == 0 {
		return 0
	}
	var took []time.Duration
	for _, a := range answers {
		took = append(took, a.took)
	}
	slices.Sort(took)
	return float64(took[min(len(took)-1, int(float64(len(took))*p))].Microseconds()) / 1000
}

// row is a line of the table: what senders saw of a fault that began and ended then. LOST stands for what is not known yet.
func (l *load) row(name string, struck, lifted time.Time) string {
	var before, during []timed
	requests, acked, failed := 0, 0, 0
	var trouble time.Time // the end of the last answer that was bad or slow
	for _, w := range l.writers {
		acked += len(w.acked)
		requests += len(w.answers)
		for i, a := range w.answers {
			end := a.at.Add(a.took)
			if end.Before(struck) {
				if i > 0 { // the first waited for the password to be hashed
					before = append(before, a)
				}
				continue
			}
			during = append(during, a)
			if a.status/100 != 2 {
				failed++
			}
			if (a.status/100 != 2 || a.took > slowAnswer) && end.After(trouble) {
				trouble = end
			}
		}
	}
	recovered := "at once"
	switch {
	case trouble.After(lifted):
		recovered = fmt.Sprintf("+%.1f s", trouble.Sub(lifted).Seconds()) // after its end
	case !trouble.IsZero():
		recovered = fmt.Sprintf("%.1f s", trouble.Sub(struck).Seconds())
	}
	badReads := 0
	for _, r := range l.reads {
		if r.status != 200 {
			badReads++
		}
	}
	return fmt.Sprintf("%-44s %9d %6d %7s %7d %10s %7.0f ms %7.0f ms %6.0f ms %d/%d\n", name, requests, acked, "LOST", failed, recovered,
		percentile(before, .99), percentile(during, .99), percentile(during, 1), badReads, len(l.reads))
}
