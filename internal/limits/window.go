package limits

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// WindowConfig is how far a sample's timestamp may lie from the gateway's clock; M3 calls the two sides bufferPast and
// bufferFuture.
//
// A side that is auto (kind m3 only) is learnt from the coordinators' namespace registry. Which limit wins: that of the raw
// namespace (upstream.namespace), unless aggregated namespaces exist beside it and the downsampler's limit of that side is
// set below and is tighter. Where that is not set, the raw namespace's wins alone: M3 stores a sample raw that its downsampler
// refuses, and only the aggregated copies lack it. Samples beyond the buffers are refused even where M3 would take them as
// cold writes; write a duration to send those.
//
// Until a side that is auto has been learnt once, there is no window, and writes are answered 503: a guess wider than the
// store's limit would lose samples that the store acknowledges. Afterwards the last value stays in use whatever happens to the
// store. A registry that comes to say less is followed at once, one that comes to say more at the next start of the gateway:
// M3's database nodes take a namespace's limits when they start, so the registry can be ahead of them.
type WindowConfig struct {
	// Past is a duration or auto. Default 10m.
	Past Side `yaml:"past" unit:"duration"`
	// Future is a duration or auto. Default 10m.
	Future Side `yaml:"future" unit:"duration"`
	// DownsamplerPast is how old a sample the coordinators' downsampler takes; M3's default is 15s for a resolution below 30s.
	// Only beside past: auto. Default 0: it does not narrow the window.
	DownsamplerPast time.Duration `yaml:"downsampler_past"`
	// DownsamplerFuture is how far ahead it takes samples: 60s. Only beside future: auto. Default 0: it does not narrow the window.
	DownsamplerFuture time.Duration `yaml:"downsampler_future"`
}

// Side is one side of the window as configured: a duration, or auto.
type Side struct {
	Auto  bool
	Fixed time.Duration // 0 if Auto
}

// UnmarshalText reads "auto" or what time.ParseDuration reads. The error says what to write.
func (s *Side) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*s = Side{Auto: true}
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("write auto, or a number and a unit, such as 10m or 1h30m")
	}
	*s = Side{Fixed: d}
	return nil
}

// tenYears is more than any store keeps open to writes.
const tenYears = 10 * 365 * 24 * time.Hour

// Auto says that a side is the store's to say.
func (c *WindowConfig) Auto() bool { return c.Past.Auto || c.Future.Auto }

func (c *WindowConfig) check(bad func(field, problem string)) {
	for _, f := range []struct {
		name        string
		side        Side
		downsampler time.Duration
	}{{"past", c.Past, c.DownsamplerPast}, {"future", c.Future, c.DownsamplerFuture}} {
		if d := f.side.Fixed; !f.side.Auto && (d <= 0 || d > tenYears) {
			bad("window."+f.name, fmt.Sprintf("%v cannot be a window; use the namespace's bufferPast or bufferFuture, as 10m, or auto", d))
		}
		switch d := f.downsampler; {
		case d < 0 || d > tenYears:
			bad("window.downsampler_"+f.name, fmt.Sprintf("%v cannot be a limit; use the downsampler's, as 15s, or remove it", d))
		case d > 0 && !f.side.Auto:
			bad("window.downsampler_"+f.name, fmt.Sprintf("narrows only what auto learns; set window.%[1]s: auto, or write the tighter limit as window.%[1]s and remove this", f.name))
		}
	}
}

// Store is what a store says of its own limits.
type Store struct {
	Namespace    string // the raw one, whose limits follow
	Past, Future time.Duration
	// Aggregated says that a downsampler with limits of its own sees the samples, too.
	Aggregated bool
}

// Reach is a window in force: how far before and after now a timestamp may lie.
type Reach struct {
	Past, Future time.Duration
	// PastFrom and FutureFrom say where each comes from, in words for the operator.
	PastFrom, FutureFrom string
}

// Window is the span of sample timestamps that are accepted, both ends included, in Unix milliseconds.
type Window struct{ Min, Max int64 }

// At is the window at now.
func (r Reach) At(now time.Time) Window {
	return Window{Min: now.Add(-r.Past).UnixMilli(), Max: now.Add(r.Future).UnixMilli()}
}

func (r Reach) String() string {
	return fmt.Sprintf("from %v ago (%s) to %v ahead (%s)", r.Past, r.PastFrom, r.Future, r.FutureFrom)
}

// Edges holds the Reach in force. Reach may be called at any time; one goroutine at a time may call Learn and Learnt.
type Edges struct {
	config WindowConfig
	learnt *Store
	reach  atomic.Pointer[Reach]
}

// NewEdges has the window of c, which is known at once if no side is auto.
func NewEdges(c WindowConfig) *Edges {
	e := &Edges{config: c}
	if !c.Auto() {
		e.reach.Store(new(c.reach(Store{})))
	}
	return e
}

// Reach is the window in force; false: it is not known yet, and no sample may be judged.
func (e *Edges) Reach() (Reach, bool) {
	if r := e.reach.Load(); r != nil {
		return *r, true
	}
	return Reach{}, false
}

// Learn takes what the store says now. held: it says more than it once did, and the narrower limit stays in use.
func (e *Edges) Learn(s Store) (held bool) {
	if old := e.learnt; old != nil {
		held = s.Past > old.Past || s.Future > old.Future
		s.Past, s.Future = min(s.Past, old.Past), min(s.Future, old.Future)
	}
	e.learnt = &s
	e.reach.Store(new(e.config.reach(s)))
	return held
}

// Learnt is what the store said, as far as it is followed; false: nothing yet.
func (e *Edges) Learnt() (Store, bool) {
	if e.learnt == nil {
		return Store{}, false
	}
	return *e.learnt, true
}

// reach is the window of c before a store that says s.
func (c *WindowConfig) reach(s Store) (r Reach) {
	r.Past, r.PastFrom = c.Past.in(s, "past", "bufferPast", s.Past, c.DownsamplerPast)
	r.Future, r.FutureFrom = c.Future.in(s, "future", "bufferFuture", s.Future, c.DownsamplerFuture)
	return r
}

// in is the duration that s means and where it comes from: key is the side's name in the configuration, theirs the store's.
func (s Side) in(store Store, key, theirs string, raw, downsampler time.Duration) (time.Duration, string) {
	switch {
	case !s.Auto:
		return s.Fixed, "limits.window." + key
	case store.Aggregated && downsampler > 0 && downsampler < raw:
		return downsampler, "limits.window.downsampler_" + key
	}
	return raw, fmt.Sprintf("%s of namespace %q", theirs, store.Namespace)
}
