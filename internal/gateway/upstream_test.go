package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// upstream is a store that answers as told and remembers what reached it.
type upstream struct {
	URL string

	mu     sync.Mutex
	left   bool // clients leave, so that a request may break off
	answer http.HandlerFunc
	seen   []seen
}

// seen is one request that reached the store, health probes left out.
type seen struct {
	Method, URI string
	Header      http.Header
	Body        []byte
}

func newUpstream(t testing.TB, answer http.HandlerFunc) *upstream {
	u := &upstream{answer: answer}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaytest.Probed(w, r) {
			return
		}
		body, err := io.ReadAll(r.Body)
		u.mu.Lock()
		if err != nil && !u.left {
			t.Error(err)
		}
		u.seen = append(u.seen, seen{r.Method, r.RequestURI, r.Header.Clone(), body})
		answer := u.answer
		u.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	u.URL = srv.URL
	return u
}

// say changes the answer from now on.
func (u *upstream) say(status int, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// take returns what was seen since the last call.
func (u *upstream) take() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.seen
	u.seen = nil
	return out
}

// batch decodes a write that reached the store.
func (s seen) batch(t testing.TB) prompb.WriteRequest {
	t.Helper()
	raw, err := snappy.Decode(nil, s.Body)
	if err != nil {
		t.Fatal(err)
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	return req
}

const noData = `{"status":"success","data":[]}`

func ok(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, noData)
}
