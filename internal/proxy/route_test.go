package proxy

import (
	"fmt"
	"slices"
	"testing"
)

func TestRendezvous(t *testing.T) {
	urls := []string{"http://a:7201", "http://b:7201", "http://c:7201", "http://d:7201"}
	list := func(urls ...string) *Pool {
		p := &Pool{}
		var members []*member
		for _, u := range urls {
			members = append(members, &member{url: u, hash: hash(u)})
		}
		p.members.Store(&members)
		return p
	}
	four, three := list(urls...), list(urls[:3]...)
	reversed := slices.Clone(urls)
	slices.Reverse(reversed)
	other := list(reversed...)
	count := map[string]int{}
	const keys = 40000
	for i := range keys {
		key := fmt.Sprint("tenant-", i)
		home := four.pick(key, nil).url
		count[home]++
		if other.pick(key, nil).url != home {
			t.Fatalf("%s: replicas disagree", key)
		}
		if after := three.pick(key, nil).url; home != urls[3] && after != home {
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
		if got := four.pick(key, nil).url; got != want {
			t.Errorf("%s -> %s, was %s", key, got, want)
		}
	}
	// The next best takes over while the best is out, and gives the key back.
	home := four.pick("alpha", nil)
	why := "test"
	home.why.Store(&why)
	if m := four.pick("alpha", nil); m == home || m != four.pick("alpha", []*member{home}) {
		t.Errorf("took over: %s", m.url)
	}
	home.why.Store(nil)
	if four.pick("alpha", nil) != home {
		t.Error("not given back")
	}
	if m := four.pick("alpha", *four.members.Load()); m != nil {
		t.Error("a member that was tried already")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	p := start(t, nil, "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")
	for _, key := range []string{"tenant-1", ""} {
		if n := testing.AllocsPerRun(1000, func() { p.pick(key, nil) }); n != 0 {
			t.Errorf("key %q: %v allocations", key, n)
		}
	}
}

func TestLeastLoadedOfTwo(t *testing.T) {
	p := &Pool{}
	busy, idle := &member{url: "busy"}, &member{url: "idle"}
	busy.inFlight.Store(5)
	members := []*member{busy, idle}
	p.members.Store(&members)
	for range 100 {
		if p.pick("", nil) != idle {
			t.Fatal("picked the busy one")
		}
	}
	if p.pick("", []*member{idle}) != busy || p.pick("", members) != nil {
		t.Error("tried members are not passed over")
	}
	idle.inFlight.Store(5)
	count := map[*member]int{}
	for range 1000 {
		count[p.pick("", nil)]++
	}
	if count[idle] < 300 || count[busy] < 300 {
		t.Errorf("equal load, unequal share: %d, %d", count[idle], count[busy])
	}
}
