package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// coordinator takes every write, and answers for its namespaces as told.
type coordinator struct {
	URL string

	mu       sync.Mutex
	registry func(http.ResponseWriter, *http.Request)
	asked    int // for the registry
	writes   int
}

func newCoordinator(t *testing.T, registry func(http.ResponseWriter, *http.Request)) *coordinator {
	c := &coordinator{registry: registry}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaytest.Probed(w, r) {
			return
		}
		switch r.URL.Path {
		case "/api/v1/services/m3db/namespace":
			if r.Method != http.MethodGet || r.URL.RawQuery != "" || r.ContentLength > 0 {
				t.Errorf("asked by %s %s", r.Method, r.URL)
			}
			c.mu.Lock()
			c.asked++
			answer := c.registry
			c.mu.Unlock()
			answer(w, r)
		case "/api/v1/prom/remote/write":
			c.mu.Lock()
			c.writes++
			c.mu.Unlock()
		default:
			_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
		}
	}))
	t.Cleanup(srv.Close)
	c.URL = srv.URL
	return c
}

// set changes what is answered, and returns how many questions came before.
func (c *coordinator) set(registry func(http.ResponseWriter, *http.Request)) (asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.registry = registry
	return c.asked
}

// say is set, and returns once such an answer was given and a further question has come.
func (c *coordinator) say(t *testing.T, registry func(http.ResponseWriter, *http.Request)) {
	t.Helper()
	at := c.set(registry)
	gatewaytest.Until(t, "the coordinator is asked again", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.asked >= at+3
	})
}

func (c *coordinator) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// namespaces answers with the raw namespace and, if aggregated, one beside it.
func namespaces(past, future time.Duration, aggregated bool) func(http.ResponseWriter, *http.Request) {
	const one = `%q:{"retentionOptions":{"bufferFutureNanos":"%d","bufferPastNanos":"%d"},"aggregationOptions":{"aggregations":[{"aggregated":%v}]}}`
	text := fmt.Sprintf(one, "default", future.Nanoseconds(), past.Nanoseconds(), false)
	if aggregated {
		text += "," + fmt.Sprintf(one, "agg_10s_30d", time.Hour.Nanoseconds(), time.Hour.Nanoseconds(), true)
	}
	return answers(http.StatusOK, `{"registry":{"namespaces":{`+text+`}}}`)
}

func answers(status int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func startAuto(t *testing.T, c *coordinator, window string) *gatewaytest.Gateway {
	return gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice"}, Kind: "m3", Upstreams: []string{c.URL}, UpstreamExtra: "  max_attempts: 2",
		Extra: "limits: {window: {" + window + "}}",
	})
}

// aged writes a sample of that age.
func aged(g *gatewaytest.Gateway, age time.Duration) gatewaytest.Answer {
	return g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(time.Now().Add(-age), 1, "__name__", "up")})
}

// takes asserts that samples up to past old and future ahead are taken, within a few seconds, and no others.
func takes(t *testing.T, g *gatewaytest.Gateway, past, future time.Duration) {
	t.Helper()
	const about = 4 * time.Second
	for age, says := range map[time.Duration]string{past - about: "", past + about: fmt.Sprintf("older than %v", past), -future + about: "", -future - about: fmt.Sprintf("more than %v ahead", future)} {
		if a := aged(g, age); (a.Status == 204) != (says == "") || !strings.Contains(a.Body, says) {
			t.Errorf("%v old: %+v, want %q", age, a, says)
		}
	}
	m := g.Admin("GET", "/metrics").Body
	for _, line := range []string{
		fmt.Sprintf("m3gateway_limits_window_past_seconds %v\n", past.Seconds()),
		fmt.Sprintf("m3gateway_limits_window_future_seconds %v\n", future.Seconds()),
	} {
		if !strings.Contains(m, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

// notLearnt asserts that nothing is written, and that the sender is told to come back.
func notLearnt(t *testing.T, g *gatewaytest.Gateway, c *coordinator) {
	t.Helper()
	before := c.written()
	for _, age := range []time.Duration{0, time.Hour} {
		if a := aged(g, age); a.Status != 503 || a.Header.Get("Retry-After") == "" || !strings.Contains(a.Body, "not learnt yet") {
			t.Errorf("%v old: %+v", age, a)
		}
	}
	if a := g.Admin("GET", "/readyz"); a.Status != 503 || !strings.Contains(a.Body, "limits.window") {
		t.Errorf("ready: %+v", a)
	}
	if m := g.Admin("GET", "/metrics").Body; !strings.Contains(m, "m3gateway_limits_window_past_seconds NaN\n") {
		t.Error("the metrics show a window")
	}
	if c.written() != before {
		t.Error("something was written")
	}
}

// TestWindowIsLearnt: nothing is written before the store's limits are known; then what it says holds, and what it said last
// holds when it says nothing usable any more.
func TestWindowIsLearnt(t *testing.T) {
	c := newCoordinator(t, answers(500, `{"status":"error","error":"x"}`))
	g := startAuto(t, c, "past: auto, future: auto")
	notLearnt(t, g, c)
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("reads need no window: %+v", a)
	}
	if m := g.Admin("GET", "/metrics").Body; !strings.Contains(m, "m3gateway_app_window_learnt_timestamp_seconds 0\n") {
		t.Error("learnt nothing, says when")
	}
	c.say(t, namespaces(10*time.Minute, 5*time.Minute, false))
	takes(t, g, 10*time.Minute, 5*time.Minute)
	if a := g.Admin("GET", "/readyz"); a.Status != 200 {
		t.Errorf("ready: %+v", a)
	}
	if m := g.Admin("GET", "/metrics").Body; strings.Contains(m, "m3gateway_app_window_learnt_timestamp_seconds 0\n") {
		t.Error("learnt, does not say when")
	}
	if log := g.Log.String(); !strings.Contains(log, `none yet: writes are answered 503`) || !strings.Contains(log, `from 10m0s ago (bufferPast of namespace \"default\") to 5m0s ahead (bufferFuture of namespace \"default\")`) {
		t.Errorf("log:\n%s", log)
	}

	for _, useless := range []func(http.ResponseWriter, *http.Request){
		answers(500, ""), answers(404, "404 page not found"), answers(200, "<html>"), answers(200, `{"registry":{"namespaces":{}}}`), answers(301, ""),
		answers(200, strings.Repeat(" ", 5<<20)),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		c.say(t, useless)
		takes(t, g, 10*time.Minute, 5*time.Minute)
	}
	c.say(t, namespaces(time.Minute, 2*time.Minute, false))
	takes(t, g, time.Minute, 2*time.Minute)
	c.say(t, namespaces(time.Hour, time.Hour, false)) // not before a restart of everything
	takes(t, g, time.Minute, 2*time.Minute)
}

// TestWindowOfADownsampler: its limits narrow the window where they are set, and where there is one.
func TestWindowOfADownsampler(t *testing.T) {
	c := newCoordinator(t, namespaces(10*time.Minute, 10*time.Minute, true))
	g := startAuto(t, c, "past: auto, future: auto, downsampler_past: 15s, downsampler_future: 1m")
	takes(t, g, 15*time.Second, time.Minute)
	c.say(t, namespaces(10*time.Minute, 10*time.Minute, false))
	takes(t, g, 10*time.Minute, 10*time.Minute)
	c.say(t, namespaces(10*time.Minute, 10*time.Minute, true))
	takes(t, g, 15*time.Second, time.Minute)
	edit(t, g, "downsampler_past: 15s, downsampler_future: 1m", "downsampler_past: 30s")
	if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
		t.Fatalf("%+v", a)
	}
	takes(t, g, 30*time.Second, 10*time.Minute)
}

// TestReloadKeepsWhatWasLearnt, from the same store; of another store nothing is known.
func TestReloadKeepsWhatWasLearnt(t *testing.T) {
	c := newCoordinator(t, namespaces(10*time.Minute, 10*time.Minute, false))
	g := startAuto(t, c, "past: auto, future: auto")
	takes(t, g, 10*time.Minute, 10*time.Minute)
	c.say(t, answers(500, ""))
	reload := func(old, now string) {
		t.Helper()
		edit(t, g, old, now)
		if a := g.Admin("POST", "/-/reload"); a.Status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	reload("future: auto", "future: 1m")
	takes(t, g, 10*time.Minute, time.Minute)
	reload("max_attempts: 2", "max_attempts: 1")
	notLearnt(t, g, c)
	reload("past: auto", "past: 1h")
	takes(t, g, time.Hour, time.Minute)
	c.set(namespaces(2*time.Minute, 2*time.Minute, false)) // nobody asks now
	reload("past: 1h", "past: auto")
	takes(t, g, 2*time.Minute, time.Minute)
}

// TestStartDoesNotWaitForASlowStore: the gateway serves reads while a store takes its time to say which window it has.
func TestStartDoesNotWaitForASlowStore(t *testing.T) {
	t.Parallel()
	let := make(chan struct{})
	answer := namespaces(10*time.Minute, 10*time.Minute, false)
	c := newCoordinator(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-let:
		case <-r.Context().Done():
		}
		answer(w, r)
	})
	g := startAuto(t, c, "past: auto, future: auto")
	notLearnt(t, g, c)
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	close(let)
	gatewaytest.Until(t, "the gateway is ready", func() bool { return g.Admin("GET", "/readyz").Status == 200 })
	takes(t, g, 10*time.Minute, 10*time.Minute)
}

// TestSlowUpload: a sample is judged when it is there, not when its request began. In between it may grow too old for the store.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	c := newCoordinator(t, answers(500, ""))
	g := startAuto(t, c, "past: 1s, future: 1m")
	at := time.Now()
	body := gatewaytest.Encode(t, []prompb.TimeSeries{gatewaytest.Series(at, 1, "__name__", "up")})
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(body[:1])
		time.Sleep(time.Until(at.Add(1100 * time.Millisecond)))
		_, _ = w.Write(body[1:])
		_ = w.Close()
	}()
	req := g.Request("alice", http.MethodPost, "/api/v1/write", nil)
	req.Body, req.GetBody, req.ContentLength = r, nil, int64(len(body))
	if a := g.Do(req); a.Status != 400 || !strings.Contains(a.Body, "too_old 1") || c.written() != 0 {
		t.Errorf("%+v, %d written", a, c.written())
	}
}
