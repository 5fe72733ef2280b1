package proxy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// replica is a Pool of these members, all fit, whose owners change at once.
func replica(t testing.TB, urls ...string) *Pool {
	p := bare(t, nil, urls...)
	for _, m := range p.list {
		judge(p, m, "")
	}
	return p
}

func coordinators(n int) []string {
	var urls []string
	for i := range n {
		urls = append(urls, fmt.Sprintf("http://m3coordinator-%d.m3coordinator.m3.svc:7201", i))
	}
	return urls
}

// url is who owns a series, by the Split that a batch is made with.
func (s *Split) url(series uint64, ms int64) string { return s.members[s.Part(series, ms)].url }

// Any two gateways with the same members give a series to the same one, in whatever order and however they came to know them.
func TestSplitIsTheSameEverywhere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 9; n++ {
		urls := coordinators(n)
		first := replica(t, urls...).Split()
		for range 5 {
			random.Shuffle(n, func(i, j int) { urls[i], urls[j] = urls[j], urls[i] })
			other := replica(t, urls...)
			for range 3 { // members that went and came back leave no trace
				m := other.list[random.IntN(n)]
				judge(other, m, "out")
				judge(other, m, "")
			}
			for range 2000 {
				series, ms := random.Uint64(), random.Int64()
				if a, b := first.url(series, ms), other.Split().url(series, ms); a != b {
					t.Fatalf("%d members: series %x is %s's and %s's", n, series, a, b)
				}
			}
		}
	}
}

// The mapping is a part of the contract between versions, of the gateway and of Go: replicas are never all replaced at once.
func TestSplitIsPinned(t *testing.T) {
	s := replica(t, coordinators(5)...).Split()
	var got []int
	for i := range uint64(24) {
		got = append(got, s.Part(i*0x9e3779b97f4a7c15, 0))
	}
	want := []int{4, 0, 3, 4, 0, 4, 4, 0, 4, 4, 4, 4, 0, 0, 0, 4, 0, 4, 2, 4, 0, 2, 1, 1}
	if !slices.Equal(got, want) {
		t.Errorf("%v, was %v", got, want)
	}
}

// A member that comes or goes moves its own series and no others, and its share is what it should be: within a fifth.
func TestSplitMovesLittle(t *testing.T) {
	const series = 50_000
	random := rand.New(rand.NewPCG(3, 4))
	hashes := make([]uint64, series)
	for i := range hashes {
		hashes[i] = random.Uint64()
	}
	worst := 0.0
	for n := 2; n <= 12; n++ {
		all := replica(t, coordinators(n)...)
		before := all.Split()
		count := map[string]int{}
		for _, h := range hashes {
			count[before.url(h, 0)]++
		}
		for _, gone := range all.list {
			judge(all, gone, "out")
			after, moved := all.Split(), 0
			for _, h := range hashes {
				a, b := before.url(h, 0), after.url(h, 0)
				if a != b {
					moved++
					if a != gone.url {
						t.Fatalf("%d members: a series of %s moved to %s as %s went", n, a, b, gone.url)
					}
				}
			}
			judge(all, gone, "")
			ideal := float64(series) / float64(n)
			worst = max(worst, float64(moved)/ideal, float64(count[gone.url])/ideal)
			if float64(moved) > 1.2*ideal || moved != count[gone.url] {
				t.Errorf("%d members: %d series of %d moved as %s went, which had %d", n, moved, series, gone.url, count[gone.url])
			}
		}
	}
	t.Logf("at most %.3f times the ideal share moved", worst)
}

// minutes is a Pool at a time that a test sets, which hands over at whole minutes.
type minutes struct {
	*Pool
	clock time.Time
}

func newMinutes(t *testing.T, urls ...string) *minutes {
	m := &minutes{clock: time.Unix(1_800_000_000, 0).Add(17 * time.Second)} // a whole minute and 17 s
	m.Pool = bare(t, func(c *Config) { c.Handover = time.Minute }, urls...)
	m.now = func() time.Time { return m.clock }
	for _, x := range m.list {
		judge(m.Pool, x, "")
	}
	return m
}

// by is the last character of the host that owns some series at these seconds after the whole minute.
func (m *minutes) by(hash uint64, seconds ...float64) string {
	var out string
	for _, s := range seconds {
		at := time.Unix(1_800_000_000, 0).Add(time.Duration(s * float64(time.Second)))
		url := m.Split().url(hash, at.UnixMilli())
		out += url[len("http://") : len("http://")+1]
	}
	return out
}

// A member that comes, or comes back, owns its series from a whole minute on, by the samples' own time; until then, and for late
// samples also after, they are whose they were.
func TestHandover(t *testing.T) {
	m := newMinutes(t, "http://a:1", "http://b:1", "http://c:1")
	c := m.list[2]
	ofC := uint64(0)
	for m.by(ofC, 0) != "c" {
		ofC++
	}
	judge(m.Pool, c, "gone") // at once, and for late samples too: nobody can give it any
	heir := m.by(ofC, 17)
	if got := m.by(ofC, -300, 0, 17, 300); got != heir+heir+heir+heir || heir == "c" {
		t.Fatalf("after it went: %s", got)
	}
	m.clock = m.clock.Add(120 * time.Second) // 2:17
	judge(m.Pool, c, "")
	want := heir + heir + heir + "ccc"
	if got := m.by(ofC, 0, 137, 179.999, 180, 181, 1000); got != want {
		t.Errorf("back at 2:17: %s, want %s", got, want)
	}
	if s := m.State(); len(s.Handovers) != 1 || s.Handovers[0].From.Unix() != 1_800_000_180 || len(s.Handovers[0].Members) != 3 || s.Members[2].Writes.State != "waiting" {
		t.Errorf("%+v", s)
	}
	m.clock = m.clock.Add(60 * time.Second) // 3:17
	m.settle(m.clock)
	if got := m.by(ofC, 0, 137, 179.999, 180, 181, 1000); got != want {
		t.Errorf("at 3:17: %s, want %s", got, want)
	}
	if s := m.State(); s.Members[2].Writes.State != "in" {
		t.Errorf("%+v", s.Members[2])
	}
	m.clock = m.clock.Add(eraKept) // no sample is as late as that
	if m.settle(m.clock); len(m.eras) != 1 || m.by(ofC, 0, 1000) != "cc" {
		t.Errorf("%d eras, %s", len(m.eras), m.by(ofC, 0, 1000))
	}
}

// Less than handoverLead before a whole minute it is the next one, so that replicas agree that saw a member come a little apart.
func TestHandoverIsKnownBefore(t *testing.T) {
	for second, want := range map[int]int64{0: 60, 17: 60, 49: 60, 50: 60, 51: 120, 59: 120} {
		m := newMinutes(t, "http://a:1", "http://b:1")
		judge(m.Pool, m.list[1], "gone")
		m.clock = m.clock.Add(10*time.Minute + time.Duration(second-17)*time.Second)
		judge(m.Pool, m.list[1], "")
		if got := m.eras[0].from/1000 - 1_800_000_600; got != want {
			t.Errorf("at second %d: from second %d on", second, got)
		}
	}
}

// A member that the name no longer has keeps what it owns until a whole minute, and what is late for longer, if it is well.
func TestLeavingHandsOver(t *testing.T) {
	m := newMinutes(t, "http://a:1", "http://b:1", "http://c:1")
	m.clock = m.clock.Add(10 * time.Minute)
	m.settle(m.clock)
	c := m.list[2]
	ofC := uint64(0)
	for m.by(ofC, 0) != "c" {
		ofC++
	}
	left := false
	c.leave = func() { left = true }
	m.update(t.Context(), m.static[:2], "")
	at := func(s float64) float64 { return 600 + s }
	got := m.by(ofC, at(0), at(17), at(59.9), at(60), at(300))
	if got[:3] != "ccc" || got[3] == 'c' || got[3] != got[4] || left {
		t.Errorf("leaving: %s, left %v", got, left)
	}
	if in := urlsOf(m.table.Load().in[reading]); len(in) != 2 {
		t.Errorf("it is still read from: %v", in)
	}
	if s := m.State(); !s.Members[2].Leaving {
		t.Errorf("%+v", s.Members[2])
	}
	m.clock = m.clock.Add(2 * time.Minute)
	if m.settle(m.clock); left {
		t.Error("left before late samples are over")
	}
	m.clock = m.clock.Add(eraKept)
	if m.settle(m.clock); !left || len(m.list) != 2 {
		t.Errorf("left %v, %d members", left, len(m.list))
	}

	// One that dies while it leaves is gone at once, and one that comes back has never left.
	m = newMinutes(t, "http://a:1", "http://b:1", "http://c:1")
	m.clock = m.clock.Add(10 * time.Minute)
	m.settle(m.clock)
	left = false
	m.list[2].leave = func() { left = true }
	m.update(t.Context(), m.static[:2], "")
	judge(m.Pool, m.list[2], "dead")
	if got := m.by(ofC, at(17)); !left || len(m.list) != 2 || got == "c" {
		t.Errorf("dead: left %v, %d members, %s", left, len(m.list), got)
	}
	m = newMinutes(t, "http://a:1", "http://b:1", "http://c:1")
	m.clock = m.clock.Add(10 * time.Minute)
	m.settle(m.clock)
	m.update(t.Context(), m.static[:2], "")
	m.update(t.Context(), m.static, "")
	if got := m.by(ofC, at(17), at(60), at(300)); got != "ccc" || len(m.eras) != 1 {
		t.Errorf("back before it left: %s, %d eras", got, len(m.eras))
	}
}

// When all members are replaced, the old ones own everything until one of the new is fit, and then until a whole minute.
func TestAllReplaced(t *testing.T) {
	m := newMinutes(t, "http://a:1", "http://b:1")
	m.clock = m.clock.Add(10 * time.Minute)
	m.settle(m.clock)
	before := m.by(7, 600)
	next, err := parseURLs([]string{"http://c:1", "http://d:1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range next { // as update does, but for their probes
		x := m.newMember(u, "")
		x.leave = func() {}
		m.list = append(m.list, x)
	}
	m.update(t.Context(), next, "")
	if got := m.by(7, 617, 660, 1000); got != before+before+before || len(m.list) != 4 {
		t.Errorf("nobody new is fit: %s", got)
	}
	m.clock = m.clock.Add(2 * time.Minute)
	judge(m.Pool, m.list[2], "")
	if got := m.by(7, 737, 779.9, 780); got != before+before+"c" {
		t.Errorf("one is fit: %s", got)
	}
}

// When all are out, all are used, and what is found fit within a round of probes counts as having been there all along.
func TestPanicOfWrites(t *testing.T) {
	m := newMinutes(t, "http://a:1", "http://b:1", "http://c:1")
	m.clock = m.clock.Add(10 * time.Minute)
	m.settle(m.clock)
	var hashes []uint64
	var before []string
	for i := range uint64(200) {
		hashes, before = append(hashes, mix(i)), append(before, m.by(mix(i), 617))
	}
	same := func() bool {
		for i, h := range hashes {
			if m.by(h, 617) != before[i] {
				return false
			}
		}
		return true
	}
	for i := range 3 {
		if i > 0 && same() {
			t.Error("nothing moved")
		}
		judge(m.Pool, m.list[i], "database gone")
	}
	if !same() || !m.State().Writes.Panic {
		t.Error("panic moved something")
	}
	m.clock = m.clock.Add(time.Minute)
	for _, x := range m.list {
		judge(m.Pool, x, "")
		m.clock = m.clock.Add(2 * time.Second)
	}
	if !same() || len(m.eras) != 1 {
		t.Errorf("after the panic: %d eras", len(m.eras))
	}
}

// Whatever comes and goes, there is an owner for every sample, who is fit if anyone is; eras are in order and few; and members
// that are never out and never leave keep every sample that is theirs.
func TestErasHoldTogether(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	urls := coordinators(5)
	for range 100 {
		m := newMinutes(t, urls...)
		constant := m.list[random.IntN(5)]
		alone := func(h uint64) bool { return best(m.list, h, nil) == constant }
		for range 60 {
			m.clock = m.clock.Add(time.Duration(random.IntN(40)) * time.Second)
			x := m.list[random.IntN(len(m.list))]
			if x != constant {
				why := ""
				if random.IntN(2) == 0 {
					why = "out"
				}
				judge(m.Pool, x, why)
			}
			m.settle(m.clock)
			if len(m.eras) == 0 || m.eras[len(m.eras)-1].from != math.MinInt64 || len(m.eras) > 14 {
				t.Fatalf("%+v", m.eras)
			}
			for i := 1; i < len(m.eras); i++ {
				if m.eras[i].from >= m.eras[i-1].from || m.eras[i-1].from%60_000 != 0 {
					t.Fatalf("%+v", m.eras)
				}
			}
			for range 20 {
				h, ms := random.Uint64(), m.clock.UnixMilli()+random.Int64N(1_800_000)-900_000
				owner := m.Split().owner(h, ms)
				if !owner.sides[writing].fit || alone(h) && owner != constant {
					t.Fatalf("series %x at %d is %s's", h, ms, owner.url)
				}
			}
		}
	}
}

func TestSplitDoesNotAllocate(t *testing.T) {
	p := replica(t, coordinators(8)...)
	if n := testing.AllocsPerRun(1000, func() { p.Split().Part(12345, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSplit(b *testing.B) {
	for _, n := range []int{1, 2, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := replica(b, coordinators(n)...).Split()
			h := uint64(1)
			for b.Loop() {
				h = h*0x9e3779b97f4a7c15 + uint64(s.Part(h, 1))
			}
		})
	}
}
