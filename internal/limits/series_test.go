package limits

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func hashes(seed uint64, n int) []uint64 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]uint64, n)
	for i := range out {
		out[i] = r.Uint64()
	}
	return out
}

func take(s *Series, now time.Time, h ...uint64) (taken, total, fresh int) {
	b := s.At(now)
	for _, one := range h {
		switch b.Take(one) {
		case SeriesTaken:
			taken++
		case TooManyTotal:
			total++
		case TooManyNew:
			fresh++
		}
	}
	return taken, total, fresh
}

// Under, at and over the limit; active series go on; after the window there is room again.
func TestActiveSeries(t *testing.T) {
	const window = 16 * time.Minute
	var s Series
	now := time.Unix(1_800_000_000, 0).Truncate(window / windowParts)
	s.configure(100, 0, window, now)
	h := hashes(1, 200)
	if a, b, c := take(&s, now, h[:60]...); a != 60 || b+c != 0 {
		t.Fatal(a, b, c)
	}
	if a, b, _ := take(&s, now, h[:150]...); a != 100 || b != 50 {
		t.Fatal(a, b)
	}
	if n, away := s.Active(now); n != 100 || math.Abs(float64(away-50)) > 5 {
		t.Errorf("%d active, %d away", n, away)
	}
	now = now.Add(window / 2)
	if a, b, _ := take(&s, now, h[:20]...); a != 20 || b != 0 { // these stay in view
		t.Fatal(a, b)
	}
	if a, b, _ := take(&s, now.Add(window/2-1), h[100:]...); a != 0 || b != 100 {
		t.Errorf("before the window is over: %d taken", a)
	}
	now = now.Add(window/2 + window/windowParts)
	if n, _ := s.Active(now); n != 20 {
		t.Errorf("%d active after the window", n)
	}
	if a, b, _ := take(&s, now, h[100:]...); a != 80 || b != 20 {
		t.Errorf("after the window: %d taken, %d not", a, b)
	}
	// After any number of parts of the window, among them those after which the marks repeat, all is gone.
	for _, parts := range []int{9, 255, 256, 1000} {
		now = now.Add(time.Duration(parts) * window / windowParts)
		if n, away := s.Active(now); n != 0 || parts > 255 && away != 0 {
			t.Errorf("%d active, %d away after %d parts", n, away, parts)
		}
		if a, _, _ := take(&s, now, h[:100]...); a != 100 {
			t.Errorf("%d taken after %d parts", a, parts)
		}
	}
	s.configure(10, 0, window, now) // a lower limit cuts off none that are active
	if a, b, _ := take(&s, now, h[:101]...); a != 100 || b != 1 {
		t.Errorf("a lower limit: %d taken", a)
	}
	s.configure(200, 0, 2*window, now.Add(time.Minute))
	if n, _ := s.Active(now.Add(time.Minute)); n != 100 {
		t.Errorf("another window: %d active", n)
	}
	s.configure(0, 0, window, now)
	if n, _ := s.Active(now); n != 0 || s.Bytes() != 0 {
		t.Errorf("no limit any more: %d, %d bytes", n, s.Bytes())
	}
}

// New series have a rate, once the first window is over; those that are active go on.
func TestNewSeries(t *testing.T) {
	const window = 8 * time.Minute
	var s Series
	now := time.Unix(1_800_000_000, 0)
	s.configure(10_000, 60, window, now)
	h := hashes(2, 5000)
	if a, b, c := take(&s, now, h[:1000]...); a != 1000 || b+c != 0 {
		t.Fatal(a, b, c) // all is to be learnt
	}
	now = now.Add(window)
	if a, _, c := take(&s, now, h[:1050]...); a != 1050 || c != 0 {
		t.Fatal(a, c)
	}
	if a, _, c := take(&s, now, h[:1060]...); a != 1060 || c != 0 { // at
		t.Fatal(a, c)
	}
	if a, _, c := take(&s, now, h[:1070]...); a != 1060 || c != 10 {
		t.Fatal(a, c)
	}
	if a, _, c := take(&s, now.Add(time.Second), h[:1070]...); a != 1061 || c != 9 {
		t.Fatal(a, c)
	}
	if a, _, c := take(&s, now.Add(10*time.Second), h[:1070]...); a != 1070 || c != 0 {
		t.Fatal(a, c)
	}
}

// Batches at once agree on what is active: no series is counted twice or lost, while the window turns.
func TestSeriesUnderLoad(t *testing.T) {
	var s Series
	now := time.Unix(1_800_000_000, 0)
	s.configure(3000, 0, 8*time.Minute, now)
	h := hashes(3, 5000)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 30 {
				b := s.At(now.Add(time.Duration(i) * 20 * time.Second))
				for k := range h {
					b.Take(h[(k+1000*g)%len(h)])
				}
			}
		})
	}
	wg.Wait()
	later := now.Add(30 * 20 * time.Second)
	n, _ := s.Active(later)
	taken, over, _ := take(&s, later, h...)
	if after, _ := s.Active(later); n > 3000 || taken != 3000 || over != 2000 || after != 3000 {
		t.Errorf("%d active, then %d; %d taken, %d not", n, after, taken, over)
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	var s Series
	s.configure(10_000, 0, time.Minute, start)
	h := hashes(4, 5000)
	take(&s, start, h...)
	if n := testing.AllocsPerRun(10, func() {
		b := s.At(start)
		for _, one := range h {
			b.Take(one)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSeriesMemory: what 10,000 tenants of 1,000 active series take, as the tables have it.
func TestSeriesMemory(t *testing.T) {
	const tenants, each = 10_000, 1000
	all := make([]Series, tenants)
	h := hashes(5, each)
	total := int64(0)
	for i := range all {
		all[i].configure(2*each, 0, 20*time.Minute, start)
		b := all[i].At(start)
		for _, one := range h {
			b.Take(one ^ uint64(i)<<40)
		}
		total += all[i].Bytes()
	}
	t.Logf("%d tenants of %d active series: %.0f MB, %.1f bytes a series", tenants, each, float64(total)/1e6, float64(total)/tenants/each)
	if total > 300e6 {
		t.Errorf("%d bytes", total)
	}
}

func TestSketch(t *testing.T) {
	for _, n := range []int{1, 10, 100, 1000, 3000, 10_000, 100_000, 1_000_000} {
		var s sketch
		for _, h := range hashes(uint64(n), n) {
			s.add(h)
			s.add(h)
		}
		if got := s.count(); math.Abs(float64(got)-float64(n)) > max(1, .12*float64(n)) {
			t.Errorf("%d counted as %d", n, got)
		}
	}
	var s sketch
	if s.count() != 0 || s.bytes() != 0 {
		t.Error("an empty sketch takes memory")
	}
	h := hashes(7, 1000)
	s.turn(5)
	for _, one := range h[:600] {
		s.add(one)
	}
	s.turn(6)
	for _, one := range h[400:] {
		s.add(one)
	}
	if got := s.count(); got < 900 || got > 1100 {
		t.Errorf("of two turns: %d", got)
	}
	s.turn(7)
	if got := s.count(); got < 540 || got > 660 {
		t.Errorf("of the last: %d", got)
	}
	s.turn(9)
	if s.count() != 0 {
		t.Error("kept for ever")
	}
}

func FuzzSeries(f *testing.F) {
	f.Add([]byte{1, 2, 3, 250, 4, 1, 2}, uint8(3))
	f.Add([]byte{9, 9, 9, 255, 255, 9}, uint8(1))
	f.Fuzz(func(t *testing.T, ops []byte, limit uint8) {
		// Against a plain map of when each series was last seen, by parts of the window.
		const window = 8 * time.Minute
		now := time.Unix(1_800_000_000, 0).Truncate(window)
		var s Series
		s.configure(int64(limit)+1, 0, window, now)
		seen := map[byte]time.Time{}
		for i, op := range ops {
			if op >= 200 {
				now = now.Add(time.Duration(op-199) * time.Minute)
				for k, at := range seen {
					if now.Sub(at) > window {
						delete(seen, k)
					}
				}
				continue
			}
			_, known := seen[op]
			want := known || len(seen) <= int(limit)
			if taken, _, _ := take(&s, now, uint64(op)*0x9e3779b97f4a7c15+256); (taken == 1) != want {
				t.Fatalf("step %d: taken %d, want %v", i, taken, want)
			}
			if want {
				seen[op] = now
			}
			if n, _ := s.Active(now); int(n) != len(seen) {
				t.Fatalf("step %d: %d active, want %d", i, n, len(seen))
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s Series
			s.configure(int64(n), 0, time.Hour, start)
			h := hashes(6, n)
			take(&s, start, h...)
			batch := s.At(start)
			i := 0
			for b.Loop() {
				batch.Take(h[i])
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}
