package limits

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func workers(weights map[string]int64) map[string]*Tenant {
	ts := NewTenants()
	cfg := Defaults()
	cfg.Tenants = map[string]TenantConfig{}
	var names []string
	for name, weight := range weights {
		one := cfg.Of("")
		one.Weight = weight
		cfg.Tenants[name] = one
		names = append(names, name)
	}
	slices.Sort(names)
	ts.Configure(&cfg, names, 1, start)
	out := map[string]*Tenant{}
	for _, name := range names {
		out[name] = ts.Of(name)
	}
	return out
}

// TestTurns: with one place, whose work is done in which order, for who came how: "a1x3" are three requests of tenant a that cost 1.
func TestTurns(t *testing.T) {
	for _, tc := range []struct {
		name    string
		weights map[string]int64
		come    string
		want    string
	}{
		{"one tenant, in the order of coming", map[string]int64{"a": 1}, "a3x1 a1x1 a2x1", "a3 a1 a2"},
		{"two tenants, by turns", map[string]int64{"a": 1, "b": 1}, "a1x6 b1x3", "a1 b1 a1 b1 a1 b1 a1 a1 a1"},
		{"by cost", map[string]int64{"a": 1, "b": 1}, "a3x3 b1x6", "a3 b1 b1 b1 a3 b1 b1 b1 a3"},
		{"by weight", map[string]int64{"a": 1, "b": 3}, "a3x3 b3x6", "a3 b3 b3 b3 a3 b3 b3 b3 a3"},
		{"a newcomer beside many", map[string]int64{"a": 1, "b": 1, "c": 1}, "a1x3 b1x3 c1x1", "a1 b1 c1 a1 b1 a1 b1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tenants := workers(tc.weights)
				turns := NewTurns(1)
				var mu sync.Mutex
				var order []string
				all := strings.Fields(tc.come)
				for _, group := range all {
					var cost, n int64
					if _, err := fmt.Sscanf(group[1:], "%dx%d", &cost, &n); err != nil {
						t.Fatal(err)
					}
					for range n {
						go func() {
							if err := turns.Take(t.Context(), tenants[group[:1]], cost); err != nil {
								t.Error(err)
							}
							mu.Lock()
							order = append(order, fmt.Sprintf("%s%d", group[:1], cost))
							mu.Unlock()
							time.Sleep(time.Second)
							turns.Done()
						}()
						synctest.Wait()
					}
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if got := strings.Join(order, " "); got != tc.want {
					t.Errorf("%s, want %s", got, tc.want)
				}
				if turns.free != 1 || len(turns.queue) != 0 {
					t.Errorf("left over: %d free, %d wait", turns.free, len(turns.queue))
				}
			})
		})
	}
}

// TestShareOfTurns: as long as all have work waiting, each does its share of it by weight, to within two pieces of each tenant, whatever the
// costs, and no place is ever idle.
func TestShareOfTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weights := map[string]int64{"a": 1, "b": 2, "c": 5}
		tenants := workers(weights)
		turns := NewTurns(4)
		done := map[string]int64{}
		var mu sync.Mutex
		const most = 50
		for name, tenant := range tenants {
			for range 400 {
				cost := 1 + rand.Int64N(most)
				go func() {
					if turns.Take(t.Context(), tenant, cost) != nil {
						return
					}
					time.Sleep(time.Duration(cost) * time.Millisecond)
					mu.Lock()
					done[name] += cost
					mu.Unlock()
					turns.Done()
				}()
			}
		}
		time.Sleep(2 * time.Second) // c alone has work for 2.5 s of four places
		mu.Lock()
		total := done["a"] + done["b"] + done["c"]
		if total < 4*2000-4*most {
			t.Errorf("%d of 8000 done: places were idle", total)
		}
		for name, weight := range weights {
			if want := total * weight / 8; done[name] < want-8*most || done[name] > want+8*most {
				t.Errorf("%s: %d of %d, want %d", name, done[name], total, want)
			}
		}
		mu.Unlock()
		time.Sleep(time.Minute)
	})
}

// TestTurnsOfTheGone: who goes away while waiting is passed over, and nothing is lost.
func TestTurnsOfTheGone(t *testing.T) {
	tenants := workers(map[string]int64{"a": 1, "b": 1, "c": 1})
	turns := NewTurns(2)
	var wg sync.WaitGroup
	var mu sync.Mutex
	under := 0
	for i := range 30 {
		wg.Go(func() {
			for range 300 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(100*time.Microsecond))
				if turns.Take(ctx, tenants[string(rune('a'+i%3))], 1) == nil {
					mu.Lock()
					if under++; under > 2 {
						t.Error("more places than there are")
					}
					mu.Unlock()
					mu.Lock()
					under--
					mu.Unlock()
					turns.Done()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if turns.free != 2 || len(turns.queue) != 0 {
		t.Errorf("left over: %d free, %d wait", turns.free, len(turns.queue))
	}
	for name, x := range tenants {
		if len(x.turn.waiting) != 0 {
			t.Errorf("%s: %d wait", name, len(x.turn.waiting))
		}
	}
}

func TestTurnsAllocateNothing(t *testing.T) {
	a := workers(map[string]int64{"a": 1})["a"]
	turns := NewTurns(1)
	if n := testing.AllocsPerRun(100, func() {
		if turns.Take(t.Context(), a, 100) == nil {
			turns.Done()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
