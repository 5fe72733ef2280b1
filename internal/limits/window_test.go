package limits

import (
	"strings"
	"testing"
	"time"
)

func TestWindowEndsAreIncluded(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	w := Reach{Past: 10 * time.Minute, Future: time.Minute}.At(now)
	if w.Min != 1_700_000_000_000-600_000 || w.Max != 1_700_000_000_000+60_000 {
		t.Fatalf("%+v", w)
	}
}

func TestSideFromText(t *testing.T) {
	for text, want := range map[string]Side{"auto": {Auto: true}, "10m": {Fixed: 10 * time.Minute}, "1h30m": {Fixed: 90 * time.Minute}, "0": {}, "-5m": {Fixed: -5 * time.Minute}} {
		s := Side{Auto: true, Fixed: 1} // what was there before does not shine through
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "Auto", "automatic", " auto", "10", "10 minutes", "auto 10m"} {
		s := Side{Fixed: 7}
		if err := s.UnmarshalText([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "write auto, or ") || s != (Side{Fixed: 7}) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

// raw is a store without aggregated namespaces.
var raw = Store{Namespace: "default", Past: 10 * time.Minute, Future: 5 * time.Minute}

func aggregated(s Store) Store {
	s.Aggregated = true
	return s
}

func TestWhichLimitWins(t *testing.T) {
	auto, hour := Side{Auto: true}, Side{Fixed: time.Hour}
	for name, c := range map[string]struct {
		config WindowConfig
		store  Store
		want   string
	}{
		"fixed, whatever the store says": {WindowConfig{Past: hour, Future: hour}, aggregated(raw), `from 1h0m0s ago (limits.window.past) to 1h0m0s ahead (limits.window.future)`},
		"auto":                           {WindowConfig{Past: auto, Future: auto}, raw, `from 10m0s ago (bufferPast of namespace "default") to 5m0s ahead (bufferFuture of namespace "default")`},
		"one side auto":                  {WindowConfig{Past: auto, Future: hour}, raw, `from 10m0s ago (bufferPast of namespace "default") to 1h0m0s ahead (limits.window.future)`},
		"aggregated, no limit set":       {WindowConfig{Past: auto, Future: auto}, aggregated(raw), `from 10m0s ago (bufferPast of namespace "default") to 5m0s ahead (bufferFuture of namespace "default")`},
		"aggregated, tighter limits": {WindowConfig{Past: auto, Future: auto, DownsamplerPast: 15 * time.Second, DownsamplerFuture: time.Minute}, aggregated(raw),
			`from 15s ago (limits.window.downsampler_past) to 1m0s ahead (limits.window.downsampler_future)`},
		"aggregated, wider limits": {WindowConfig{Past: auto, Future: auto, DownsamplerPast: 20 * time.Minute, DownsamplerFuture: 20 * time.Minute}, aggregated(raw),
			`from 10m0s ago (bufferPast of namespace "default") to 5m0s ahead (bufferFuture of namespace "default")`},
		"limits set, nothing aggregated": {WindowConfig{Past: auto, Future: auto, DownsamplerPast: 15 * time.Second, DownsamplerFuture: time.Minute}, raw,
			`from 10m0s ago (bufferPast of namespace "default") to 5m0s ahead (bufferFuture of namespace "default")`},
	} {
		e := NewEdges(c.config)
		if _, known := e.Reach(); known == (c.config.Past.Auto || c.config.Future.Auto) {
			t.Errorf("%s: known before it was learnt: %v", name, known)
		}
		e.Learn(c.store)
		if r, known := e.Reach(); !known || r.String() != c.want {
			t.Errorf("%s: %v %v, want %s", name, r, known, c.want)
		}
	}
}

// TestOnlyNarrowerIsFollowed: the database nodes may not know yet of wider limits, and would lose what lies between.
func TestOnlyNarrowerIsFollowed(t *testing.T) {
	e := NewEdges(WindowConfig{Past: Side{Auto: true}, Future: Side{Auto: true}, DownsamplerPast: 15 * time.Second})
	if _, ok := e.Learnt(); ok {
		t.Error("learnt nothing yet")
	}
	m := time.Minute
	for i, c := range []struct {
		says         Store
		past, future time.Duration
		held         bool
	}{
		{Store{Past: 10 * m, Future: 10 * m}, 10 * m, 10 * m, false},
		{Store{Past: 10 * m, Future: 10 * m}, 10 * m, 10 * m, false},
		{Store{Past: 5 * m, Future: 10 * m}, 5 * m, 10 * m, false},
		{Store{Past: 20 * m, Future: 2 * m}, 5 * m, 2 * m, true},
		{Store{Past: 20 * m, Future: 2 * m}, 5 * m, 2 * m, true},
		// What only the aggregated copies' limit kept out is stored raw: the coordinators follow such a change at once.
		{Store{Past: 5 * m, Future: 2 * m, Aggregated: true}, 15 * time.Second, 2 * m, false},
		{Store{Past: 5 * m, Future: 2 * m}, 5 * m, 2 * m, false},
	} {
		held := e.Learn(c.says)
		if r, _ := e.Reach(); held != c.held || r.Past != c.past || r.Future != c.future {
			t.Errorf("%d: %v, held %v", i, r, held)
		}
	}
	// A new configuration before the same store starts from what is followed.
	next := NewEdges(WindowConfig{Past: Side{Auto: true}, Future: Side{Fixed: m}})
	s, _ := e.Learnt()
	next.Learn(s)
	if r, _ := next.Reach(); r.Past != 5*m || r.Future != m {
		t.Errorf("%v", r)
	}
}

func TestReachDoesNotAllocate(t *testing.T) {
	e := NewEdges(Defaults().Window)
	now := time.Now()
	var sum int64
	if n := testing.AllocsPerRun(100, func() {
		r, _ := e.Reach()
		sum += r.At(now).Min
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
