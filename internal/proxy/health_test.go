package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestProbesTakeOutAndIn(t *testing.T) {
	var down atomic.Bool
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() && r.URL.Path == probePath {
			w.WriteHeader(500)
			return
		}
		_, _ = io.WriteString(w, "flaky")
	}))
	t.Cleanup(flaky.Close)
	good := server(t, says("good"))
	p := start(t, func(c *Config) { c.HealthInterval = 5 * time.Millisecond }, flaky.URL, good.URL)
	key := keyOf(t, p, flaky.URL)
	ask := func() string {
		a, err := p.Do(t.Context(), post("x", key))
		if err != nil {
			t.Fatal(err)
		}
		return read(t, a)
	}
	healthy := func() int {
		n := 0
		for _, m := range p.Members() {
			if m.Healthy != (m.Why == "") {
				t.Errorf("%+v", m)
			}
			if m.Healthy {
				n++
			}
		}
		return n
	}
	if healthy() != 2 || ask() != "flaky" || !p.Ready() {
		t.Fatalf("%+v", p.Members())
	}
	down.Store(true)
	eventually(t, "out", func() bool { return healthy() == 1 })
	if ask() != "good" || !p.Ready() {
		t.Error("a member that is out was used")
	}
	down.Store(false)
	eventually(t, "in again", func() bool { return healthy() == 2 })
	if ask() != "flaky" {
		t.Error("its keys did not come back")
	}
}

func TestAllOutAllUsed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == probePath {
			w.WriteHeader(500)
			return
		}
		_, _ = io.WriteString(w, "good")
	}))
	t.Cleanup(s.Close)
	p := start(t, nil, s.URL)
	if p.Ready() {
		t.Error("ready")
	}
	a, err := p.Do(t.Context(), post("x", "k"))
	if err != nil {
		t.Fatal(err)
	}
	if read(t, a) != "good" {
		t.Error("not used")
	}
}

func TestRefusedIsOutUntilProbed(t *testing.T) {
	url, good := refusing(t), server(t, says("good"))
	p := start(t, nil, url, good.URL)
	allHealthy(p)
	for i, want := range []int{2, 1} {
		a, err := p.Do(t.Context(), post("x", keyOf(t, p, []string{url, good.URL}[i])))
		if err != nil {
			t.Fatal(err)
		}
		read(t, a)
		if a.Attempts != want {
			t.Errorf("request %d: %d attempts", i, a.Attempts)
		}
	}
	if i := slices.IndexFunc(p.Members(), func(m MemberState) bool { return m.URL == url }); p.Members()[i].Healthy {
		t.Error("still in")
	}
}

// A request that makes a member hang up causes a probe, which finds the member well.
func TestResetAsksTheMember(t *testing.T) {
	var probes atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != probePath {
			panic(http.ErrAbortHandler)
		}
		probes.Add(1)
	}))
	t.Cleanup(s.Close)
	cfg := func(c *Config) { c.HealthInterval = 200 * time.Millisecond }
	p := start(t, cfg, s.URL)
	before := probes.Load()
	if _, err := p.Do(t.Context(), post("x", "k")); kindOf(err) != Reset {
		t.Fatal(err)
	}
	if !p.Ready() {
		t.Error("taken out without a probe")
	}
	eventually(t, "a probe", func() bool { return probes.Load() > before })
}

func TestProbeAnswersAreJudged(t *testing.T) {
	release := make(chan struct{})
	for name, h := range map[string]http.HandlerFunc{
		"too long": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 100<<10)) },
		"hung":     func(w http.ResponseWriter, r *http.Request) { <-release },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"cut": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(200)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			if name == "hung" {
				t.Cleanup(func() { close(release) })
			}
			p := start(t, func(c *Config) { c.HealthTimeout = 50 * time.Millisecond }, s.URL)
			if m := p.Members()[0]; m.Healthy || m.Why == "" || m.Why == "not probed yet" {
				t.Errorf("%+v", m)
			}
		})
	}
}
