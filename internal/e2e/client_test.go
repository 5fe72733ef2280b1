//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// client speaks Prometheus' API, to the gateway as a user or to a server directly.
type client struct {
	http           *http.Client
	base           string // URL
	user, password string // no user: no credentials
}

func (c client) do(method, path, contentType string, body io.Reader) (status int, answer []byte, err error) {
	req, err := http.NewRequest(method, c.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	switch contentType {
	case "":
	case "application/x-protobuf":
		req.Header.Set("Content-Encoding", "snappy")
		fallthrough
	default:
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// api sends params in the URL or, for POST, as a form, and returns the data of a successful answer.
func (c client) api(method, path string, params url.Values) (json.RawMessage, error) {
	var body io.Reader
	contentType := ""
	if method == http.MethodPost {
		body, contentType = strings.NewReader(params.Encode()), "application/x-www-form-urlencoded"
	} else {
		path += "?" + params.Encode()
	}
	status, answer, err := c.do(method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	var envelope struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || status != http.StatusOK || envelope.Status != "success" {
		return nil, fmt.Errorf("%s %s: status %d, %s", method, path, status, answer)
	}
	return envelope.Data, nil
}

// result is one series of an answer to a query.
type result struct {
	Metric map[string]string
	Value  point
	Values []point
}

// point is a sample as the API writes it.
type point struct {
	ms    int64
	value string
}

func (p *point) UnmarshalJSON(b []byte) error {
	var seconds float64
	if err := json.Unmarshal(b, &[]any{&seconds, &p.value}); err != nil {
		return err
	}
	p.ms = int64(math.Round(seconds * 1000))
	return nil
}

// query evaluates promQL at one time; a range selector gives the samples as stored.
func (c client) query(promQL string, at time.Time) ([]result, error) {
	data, err := c.api(http.MethodGet, "/api/v1/query", url.Values{"query": {promQL}, "time": {seconds(at)}})
	if err != nil {
		return nil, err
	}
	var r struct{ Result []result }
	return r.Result, json.Unmarshal(data, &r)
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// remoteRead reads the samples of the last ten minutes that match.
func (c client) remoteRead(path string, at time.Time, matchers ...*prompb.LabelMatcher) (map[string][]prompb.Sample, error) {
	body, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{
		StartTimestampMs: at.Add(-10 * time.Minute).UnixMilli(),
		EndTimestampMs:   at.UnixMilli(),
		Matchers:         matchers,
	}}}).Marshal()
	if err != nil {
		return nil, err
	}
	status, answer, err := c.do(http.MethodPost, path, "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, body)))
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("remote read: status %d, %s", status, answer)
	}
	decoded, err := snappy.Decode(nil, answer)
	if err != nil {
		return nil, err
	}
	var resp prompb.ReadResponse
	if err := resp.Unmarshal(decoded); err != nil {
		return nil, err
	}
	read := map[string][]prompb.Sample{}
	for _, r := range resp.Results {
		for _, ts := range r.Timeseries {
			read[fmt.Sprint(ts.Labels)] = ts.Samples
		}
	}
	return read, nil
}

// counter writes known values to one series and remembers which of them were acknowledged.
type counter struct {
	client client
	metric string

	mu       sync.Mutex
	last     int64            // timestamp of the last sample
	sent     map[int64]string // value by timestamp in ms
	acked    map[int64]string
	statuses map[int]int // answers by status; 0: none came
	stop     chan struct{}
	stopped  chan struct{}
}

// count starts a counter; it stops with the test at the latest.
func count(t *testing.T, c client, metric string) *counter {
	s := &counter{
		client: c, metric: metric,
		sent: map[int64]string{}, acked: map[int64]string{}, statuses: map[int]int{},
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go func() {
		defer close(s.stopped)
		for n := 0; ; n++ {
			select {
			case <-s.stop:
				return
			case <-time.After(10 * time.Millisecond):
				s.write(n)
			}
		}
	}()
	t.Cleanup(func() { s.end() })
	return s
}

// end stops the writing.
func (s *counter) end() {
	s.mu.Lock()
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.mu.Unlock()
	<-s.stopped
}

func (s *counter) write(n int) {
	ts := max(time.Now().UnixMilli(), s.last+1)
	s.last = ts
	value := strconv.Itoa(n)
	s.mu.Lock()
	s.sent[ts] = value
	s.mu.Unlock()
	status := 0
	if body, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: s.metric}},
		Samples: []prompb.Sample{{Timestamp: ts, Value: float64(n)}},
	}}}).Marshal(); err == nil {
		status, _, _ = s.client.do(http.MethodPost, "/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, body)))
	}
	s.mu.Lock()
	s.statuses[status]++
	if status/100 == 2 {
		s.acked[ts] = value
	}
	s.mu.Unlock()
}

// acknowledged is how many samples were.
func (s *counter) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// moreAcknowledged waits until n further samples were acknowledged.
func (s *counter) moreAcknowledged(t *testing.T, n int) {
	t.Helper()
	want := s.acknowledged() + n
	eventually(t, "writing known values", func() error {
		if got := s.acknowledged(); got < want {
			s.mu.Lock()
			defer s.mu.Unlock()
			return fmt.Errorf("%d samples acknowledged, want %d; answers by status %v", got, want, s.statuses)
		}
		return nil
	})
}

// moreRefused waits until n further samples were answered 5xx.
func (s *counter) moreRefused(t *testing.T, n int) {
	t.Helper()
	refused := func() (sum int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for status, times := range s.statuses {
			if status/100 == 5 {
				sum += times
			}
		}
		return sum
	}
	want := refused() + n
	eventually(t, "writing while the upstream is down", func() error {
		if got := refused(); got < want {
			return fmt.Errorf("%d writes answered 5xx, want %d", got, want)
		}
		return nil
	})
}

// verify reads everything back through c: what was acknowledged must be there, and nothing that was never sent.
func (s *counter) verify(t *testing.T, c client, selector string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	results, err := c.query(selector+"[30m]", time.Now().Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 {
		t.Fatalf("%s: %d series, want one", selector, len(results))
	}
	stored := map[int64]string{}
	for _, p := range results[0].Values {
		if s.sent[p.ms] != p.value {
			t.Errorf("%s: read %s at %d, sent was %q", selector, p.value, p.ms, s.sent[p.ms])
		}
		stored[p.ms] = p.value
	}
	lost := 0
	for _, ts := range slices.Sorted(maps.Keys(s.acked)) {
		if stored[ts] != s.acked[ts] {
			lost++
			t.Logf("%s: acknowledged %s at %d, read back %q", selector, s.acked[ts], ts, stored[ts])
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d of %d acknowledged samples are lost", selector, lost, len(s.acked))
	}
	t.Logf("%s: %d sent, %d acknowledged, %d stored; answers by status %v", selector, len(s.sent), len(s.acked), len(stored), s.statuses)
}
