package proxy

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bare is a Pool with members that nobody probes, at a fixed time; they are out until judge says otherwise. Owners change at once.
func bare(t testing.TB, change func(*Config), urls ...string) *Pool {
	t.Helper()
	cfg := Defaults()
	cfg.URLs, cfg.Handover = urls, 0
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, readyIf200, func() time.Time { return time.Unix(0, 0) }, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range p.static {
		m := p.newMember(u, "")
		m.leave = func() {}
		p.list = append(p.list, m)
	}
	slices.SortFunc(p.list, byURL)
	p.settle(p.now())
	return p
}

// judge makes m fit, or unfit for a reason, as a probe does.
func judge(p *Pool, m *member, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for o := range ops {
		m.sides[o].fault = why
	}
	p.settleLocked(p.now())
}

func TestRendezvous(t *testing.T) {
	urls := []string{"http://a:7201", "http://b:7201", "http://c:7201", "http://d:7201"}
	list := func(urls ...string) *Pool {
		p := bare(t, nil, urls...)
		for _, m := range p.list {
			judge(p, m, "")
		}
		return p
	}
	ask := func(p *Pool, key string, tried ...*member) *member {
		return p.pick(&Request{Key: key, Write: true}, tried, time.Unix(0, 0))
	}
	four, three := list(urls...), list(urls[:3]...)
	reversed := slices.Clone(urls)
	slices.Reverse(reversed)
	other := list(reversed...)
	count := map[string]int{}
	const keys = 40000
	for i := range keys {
		key := fmt.Sprint("tenant-", i)
		home := ask(four, key).url
		count[home]++
		if ask(other, key).url != home {
			t.Fatalf("%s: replicas disagree", key)
		}
		if after := ask(three, key).url; home != urls[3] && after != home {
			t.Fatalf("%s moved from %s to %s though its member stayed", key, home, after)
		}
	}
	for _, u := range urls {
		if c := count[u]; c < keys/4*95/100 || c > keys/4*105/100 {
			t.Errorf("%s has %d of %d keys", u, c, keys)
		}
	}
	// The mapping is part of the contract between versions: replicas are never all replaced at once.
	for key, want := range map[string]string{"alpha": "http://b:7201", "beta": "http://a:7201", "gamma": "http://d:7201", "acme": "http://d:7201"} {
		if got := ask(four, key).url; got != want {
			t.Errorf("%s -> %s, was %s", key, got, want)
		}
	}
	// The next best takes over while the best is out, and gives the key back.
	home := ask(four, "alpha")
	judge(four, home, "test")
	if m := ask(four, "alpha"); m == home || m != ask(four, "alpha", home) {
		t.Errorf("took over: %s", m.url)
	}
	judge(four, home, "")
	if ask(four, "alpha") != home {
		t.Error("not given back")
	}
	if m := ask(four, "alpha", four.list...); m != nil {
		t.Error("a member that was tried already")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	p := start(t, nil, "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")
	now := time.Now()
	for _, key := range []string{"tenant-1", ""} {
		r := &Request{Key: key, Write: true}
		if n := testing.AllocsPerRun(1000, func() { p.pick(r, nil, now) }); n != 0 {
			t.Errorf("key %q: %v allocations", key, n)
		}
	}
}

func TestLeastLoadedOfTwo(t *testing.T) {
	p := bare(t, func(c *Config) { c.SlowStart = 0 }, "http://busy:1", "http://idle:1")
	busy, idle := p.list[0], p.list[1]
	pick := func(tried ...*member) *member { return p.pick(get(), tried, time.Unix(0, 0)) }
	busy.inFlight.Store(5)
	for range 100 {
		if pick() != idle {
			t.Fatal("picked the busy one")
		}
	}
	if pick(idle) != busy || pick(busy, idle) != nil {
		t.Error("tried members are not passed over")
	}
	idle.inFlight.Store(5)
	count := map[*member]int{}
	for range 1000 {
		count[pick()]++
	}
	if count[idle] < 300 || count[busy] < 300 {
		t.Errorf("equal load, unequal share: %d, %d", count[idle], count[busy])
	}
}
