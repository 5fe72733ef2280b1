package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var (
	testNow    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testClient = netip.MustParseAddr("192.0.2.1")
)

func testVerifier(edit func(*Config)) *Verifier {
	c := Defaults()
	c.Backoff.UserFailures, c.Backoff.AddressFailures = 0, 0 // see backoff_test.go
	if edit != nil {
		edit(&c)
	}
	return NewVerifier(c, prometheus.NewRegistry())
}

// testUsers parses user, password pairs hashed at the lowest cost.
func testUsers(tb testing.TB, pairs ...string) *Users {
	tb.Helper()
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		h, err := HashPassword(pairs[i+1], minBcryptCost)
		if err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", pairs[i], h)
	}
	users, err := ParseHtpasswd("htpasswd", []byte(b.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return users
}

func value(tb testing.TB, m prometheus.Metric) int {
	tb.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		tb.Fatal(err)
	}
	return int(d.GetCounter().GetValue() + d.GetGauge().GetValue())
}

type counts struct{ hits, hashes, denials, cached, waiting int }

func checkCounts(tb testing.TB, v *Verifier, want counts) {
	tb.Helper()
	m := v.metrics
	got := counts{value(tb, m.hits), value(tb, m.hashes), value(tb, m.denials), value(tb, m.cached), value(tb, m.waiting)}
	if got != want {
		tb.Errorf("counted %+v, want %+v", got, want)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if want.waiting == 0 && len(v.flights) != 0 {
		tb.Errorf("%d flights left", len(v.flights))
	}
}

// linked returns the number of entries in the chains, after checking them against the ring.
func linked(tb testing.TB, c *cache) int {
	tb.Helper()
	n := 0
	for i := range c.buckets {
		for e := c.buckets[i].Load(); e != nil; e = e.next.Load() {
			if c.bucket(&e.key) != &c.buckets[i] || e.slot >= len(c.ring) || c.ring[e.slot] != e || c.find(&e.key) != e {
				tb.Errorf("entry of %s is misplaced", e.name)
			}
			n++
		}
	}
	if n != len(c.ring) || n > c.size {
		tb.Errorf("%d entries in the chains, %d in the ring of %d", n, len(c.ring), c.size)
	}
	return n
}

func verify(tb testing.TB, v *Verifier, users *Users, name, password string, now time.Time, want error) {
	tb.Helper()
	if err := v.Verify(tb.Context(), users, name, password, testClient, now); err != want {
		tb.Errorf("Verify(%.20q, %.20q) = %v, want %v", name, password, err, want)
	}
}

func TestSteadyClientIsHashedOnce(t *testing.T) {
	v := testVerifier(nil)
	users := testUsers(t, "alice", "secret")
	for range 1000 {
		verify(t, v, users, "alice", "secret", testNow, nil)
	}
	checkCounts(t, v, counts{hits: 999, hashes: 1, cached: 1})
}

func TestDenials(t *testing.T) {
	v := testVerifier(nil)
	users := testUsers(t, "alice", "secret", "bob", "other")
	verify(t, v, users, "alice", "secret", testNow, nil)
	for i, tc := range [][2]string{{"alice", "Secret"}, {"alice", "other"}, {"bob", "secret"}, {"carol", "secret"}, {"", "secret"}, {"ALICE", "secret"}} {
		for range 2 { // the second time too: neither verdict is remembered
			verify(t, v, users, tc[0], tc[1], testNow, ErrDenied)
		}
		// Every denial costs one hash, whether the user exists or not.
		checkCounts(t, v, counts{hashes: 1 + 2*(i+1), denials: 2 * (i + 1), cached: 1})
	}
	verify(t, v, users, "alice", "secret", testNow, nil)
}

// The stored hash and the password are the decoy's, but its user is in no file.
func TestDecoyLetsNobodyIn(t *testing.T) {
	v := testVerifier(nil)
	users := testUsers(t, "alice", "secret")
	users.decoy.hash = users.byName["alice"].hash // as if somebody had found its password
	verify(t, v, users, "carol", "secret", testNow, ErrDenied)
	verify(t, v, users, "", "secret", testNow, ErrDenied)
	verify(t, v, users, "alice", "secret", testNow, nil)
	checkCounts(t, v, counts{hashes: 3, denials: 2, cached: 1})
}

func TestPasswordLength(t *testing.T) {
	v := testVerifier(nil)
	long := strings.Repeat("0123456789abcdef", 16) // 256 bytes
	users := testUsers(t, "alice", long[:72])
	sha, err := ParseHtpasswd("htpasswd", []byte("alice:"+goodSHA512))
	if err != nil {
		t.Fatal(err)
	}

	verify(t, v, users, "alice", "", testNow, ErrDenied)
	verify(t, v, users, "alice", long+strings.Repeat("x", MaxPassword), testNow, ErrDenied)
	checkCounts(t, v, counts{denials: 2})
	// bcrypt looks at 72 bytes, so these are one credential and take one entry of the cache.
	verify(t, v, users, "alice", long, testNow, nil)
	verify(t, v, users, "alice", long[:73], testNow, nil)
	verify(t, v, users, "alice", long[:72], testNow, nil)
	checkCounts(t, v, counts{hits: 2, hashes: 1, denials: 2, cached: 1})
	verify(t, v, users, "alice", long[:71], testNow, ErrDenied)
	verify(t, v, sha, "alice", strings.Repeat("x", MaxPassword), testNow, ErrDenied)
	checkCounts(t, v, counts{hits: 2, hashes: 3, denials: 4, cached: 1})
}

func TestChangedEntryDeniesOldPassword(t *testing.T) {
	v := testVerifier(func(c *Config) { c.CacheTTL = 0 })
	before := testUsers(t, "alice", "old", "bob", "same", "carol", "gone")
	for _, c := range [][2]string{{"alice", "old"}, {"bob", "same"}, {"carol", "gone"}} {
		verify(t, v, before, c[0], c[1], testNow, nil)
	}
	after := testUsers(t, "alice", "new")
	after.byName["bob"] = before.byName["bob"]

	verify(t, v, after, "alice", "old", testNow, ErrDenied)
	verify(t, v, after, "carol", "gone", testNow, ErrDenied)
	verify(t, v, after, "bob", "same", testNow, nil)
	verify(t, v, after, "alice", "new", testNow, nil)
	checkCounts(t, v, counts{hits: 1, hashes: 6, denials: 2, cached: 4})

	v.Purge(after)
	checkCounts(t, v, counts{hits: 1, hashes: 6, denials: 2, cached: 2})
	verify(t, v, after, "alice", "new", testNow, nil)
	verify(t, v, after, "bob", "same", testNow, nil)
	verify(t, v, after, "alice", "old", testNow, ErrDenied)
	checkCounts(t, v, counts{hits: 3, hashes: 7, denials: 3, cached: 2})
	if n := linked(t, v.cache); n != 2 {
		t.Errorf("%d keys", n)
	}
}

// The same password hashed anew, with another salt, is another entry.
func TestRehashedEntryIsCheckedAfresh(t *testing.T) {
	v := testVerifier(nil)
	verify(t, v, testUsers(t, "alice", "secret"), "alice", "secret", testNow, nil)
	verify(t, v, testUsers(t, "alice", "secret"), "alice", "secret", testNow, nil)
	checkCounts(t, v, counts{hashes: 2, cached: 2})
}

func TestTTL(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	v := testVerifier(func(c *Config) { c.CacheTTL = time.Minute })
	verify(t, v, users, "alice", "secret", testNow, nil)
	verify(t, v, users, "alice", "secret", testNow.Add(time.Minute-1), nil)
	checkCounts(t, v, counts{hits: 1, hashes: 1, cached: 1})
	verify(t, v, users, "alice", "secret", testNow.Add(time.Minute), nil) // from verification, not from the last hit
	checkCounts(t, v, counts{hits: 1, hashes: 2, cached: 1})
	verify(t, v, users, "alice", "secret", testNow.Add(2*time.Minute-1), nil)
	checkCounts(t, v, counts{hits: 2, hashes: 2, cached: 1})

	v = testVerifier(func(c *Config) { c.CacheTTL = 0 })
	verify(t, v, users, "alice", "secret", testNow, nil)
	verify(t, v, users, "alice", "secret", testNow.AddDate(20, 0, 0), nil)
	checkCounts(t, v, counts{hits: 1, hashes: 1, cached: 1})
}

func TestCacheIsBoundedAndKeepsTheUsed(t *testing.T) {
	const size = 8
	v := testVerifier(func(c *Config) { c.CacheSize = size })
	var pairs []string
	for i := range 3 * size {
		pairs = append(pairs, fmt.Sprint("user", i), "secret")
	}
	users := testUsers(t, pairs...)
	for i := range 3 * size {
		verify(t, v, users, fmt.Sprint("user", i), "secret", testNow, nil)
		verify(t, v, users, "user0", "secret", testNow, nil) // in use all the time
		if n := linked(t, v.cache); n != min(i+1, size) {
			t.Fatalf("%d keys after %d users", n, i+1)
		}
	}
	checkCounts(t, v, counts{hits: 3 * size, hashes: 3 * size, cached: size})

	// An expired entry goes first, used or not.
	later := testNow.Add(time.Hour)
	verify(t, v, users, "user1", "secret", later, nil)
	verify(t, v, users, "user1", "secret", later, nil)
	checkCounts(t, v, counts{hits: 3*size + 1, hashes: 3*size + 1, cached: size})
}

func TestCacheOfOne(t *testing.T) {
	v := testVerifier(func(c *Config) { c.CacheSize = 1 })
	users := testUsers(t, "alice", "a", "bob", "b")
	for range 3 {
		for range 2 {
			verify(t, v, users, "alice", "a", testNow, nil)
		}
		for range 2 {
			verify(t, v, users, "bob", "b", testNow, nil)
		}
	}
	checkCounts(t, v, counts{hits: 6, hashes: 6, cached: 1})
}

// closedGate returns a verifier that computes one hash at a time, and none before open is called.
func closedGate() (v *Verifier, open func()) {
	v = testVerifier(func(c *Config) { c.MaxHashing = 1 })
	if _, ok := v.turns.take(unblamed, source{}); !ok {
		panic("no turn")
	}
	return v, v.turns.done
}

func TestConcurrentFirstChecksShareOneHash(t *testing.T) {
	for _, tc := range []struct {
		name, password string
		err            error
		after          counts
	}{
		{"alice", "secret", nil, counts{hashes: 1, cached: 1}},
		{"alice", "wrong", ErrDenied, counts{hashes: 1, denials: 100}},
		{"carol", "secret", ErrDenied, counts{hashes: 1, denials: 100}},
	} {
		users := testUsers(t, "alice", "secret")
		synctest.Test(t, func(t *testing.T) {
			v, open := closedGate()
			for range 100 {
				go verify(t, v, users, tc.name, tc.password, testNow, tc.err)
			}
			synctest.Wait()
			checkCounts(t, v, counts{waiting: 100})
			open()
			synctest.Wait()
			checkCounts(t, v, tc.after)
		})
	}
}

func TestDifferentChecksWaitAtTheGate(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v, open := closedGate()
		for i := range 20 {
			go verify(t, v, users, "alice", fmt.Sprint("guess", i), testNow, ErrDenied)
			go verify(t, v, users, fmt.Sprint("user", i), "secret", testNow, ErrDenied)
		}
		synctest.Wait()
		checkCounts(t, v, counts{waiting: 40})
		open()
		synctest.Wait()
		checkCounts(t, v, counts{hashes: 40, denials: 40})
		if v.turns.free != 1 || v.turns.waiting != 0 {
			t.Error("the gate is not free")
		}
	})
}

func TestCallerLeaves(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v, open := closedGate()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { first <- v.Verify(ctx, users, "alice", "secret", testClient, testNow) }()
		synctest.Wait()
		go verify(t, v, users, "alice", "secret", testNow, nil)
		synctest.Wait()
		cancel()
		if err := <-first; err != context.Canceled {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		checkCounts(t, v, counts{waiting: 1})
		open()
		synctest.Wait()
		checkCounts(t, v, counts{hashes: 1, cached: 1})
	})
}

// When all callers leave before the gate opens, their place in the queue is free again and nothing is computed.
func TestAllCallersLeaveTheQueue(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v, open := closedGate()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 10 {
			go func() {
				if err := v.Verify(ctx, users, "alice", "secret", testClient, testNow); err != context.DeadlineExceeded {
					t.Errorf("got %v", err)
				}
			}()
		}
		<-ctx.Done()
		synctest.Wait()
		checkCounts(t, v, counts{})
		open()
		synctest.Wait()
		checkCounts(t, v, counts{})
		verify(t, v, users, "alice", "secret", testNow, nil)
		checkCounts(t, v, counts{hashes: 1, cached: 1})
	})
}

// Once begun, a computation ends and is remembered although nobody waits for it.
func TestAllCallersLeaveTheComputation(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v := testVerifier(nil)
		u := users.byName["alice"]
		k := v.key("alice", u.hash.stored, "secret")
		f := &flight{now: testNow, done: make(chan struct{}), abandoned: make(chan struct{}), started: true}
		v.flights[k] = f
		a := &attempt{users: users, u: u, known: true, name: "alice", password: "secret", key: k, now: testNow}
		if v.join(a) != f {
			t.Fatal("not the flight under way")
		}
		v.leave(&k, f)
		select {
		case <-f.abandoned:
			t.Fatal("abandoned under way")
		default:
		}
		delete(v.flights, k)

		f = v.join(a)
		for started := false; !started; {
			v.mu.Lock()
			started = f.started
			v.mu.Unlock()
		}
		v.leave(&k, f)
		<-f.done
		checkCounts(t, v, counts{hashes: 1, cached: 1})
		if v.join(a) != nil {
			t.Error("not cached")
		}
	})
}

// While files are swapped under load, each check answers for the users it was given.
func TestSwapUnderLoad(t *testing.T) {
	v := testVerifier(func(c *Config) { c.CacheSize = 3 })
	files := []*Users{testUsers(t, "alice", "p0", "bob", "q0"), testUsers(t, "alice", "p1", "carol", "r1"), testUsers(t, "alice", "p2")}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 60 {
				at, password := (g+i)%3, (g+i/3)%3
				err := v.Verify(t.Context(), files[at], "alice", fmt.Sprint("p", password), testClient, testNow)
				if (err == nil) != (at == password) || err != nil && !errors.Is(err, ErrDenied) {
					t.Errorf("file %d, password %d: %v", at, password, err)
				}
				if i%10 == 0 {
					v.Purge(files[at])
				}
			}
		})
	}
	wg.Wait()
	linked(t, v.cache)
}

// Readers see a key that is renewed all the time, whatever comes and goes beside it in its chain.
func TestCacheUnderLoad(t *testing.T) {
	const size = 4
	c := newCache(size, func(int) {})
	key := func(i int) (k cacheKey) { k[9] = byte(i); return k } // one bucket for all
	steady := key(0)
	c.put(&cached{key: steady, name: "steady"}, testNow)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if !c.hit(&steady, testNow) {
					t.Error("missed")
					return
				}
			}
		})
	}
	for i := range 5_000 {
		c.put(&cached{key: steady, name: "steady"}, testNow)
		c.put(&cached{key: key(1 + i%2), name: "other"}, testNow)
		if i%7 == 0 {
			c.keep(func(name, _ string) bool { return name == "steady" })
		}
	}
	close(done)
	wg.Wait()
	linked(t, c)
}

func TestKeySeparatesItsParts(t *testing.T) {
	v := testVerifier(nil)
	seen := make(map[cacheKey][3]string)
	for _, p := range [][3]string{{"ab", "c", "d"}, {"a", "bc", "d"}, {"a", "b", "cd"}, {"abc", "", "d"}, {"", "abc", "d"}, {"ab", "cd", ""}, {"ab", "c", "d\x00"}, {"ab", "c\x00", "d"}} {
		k := v.key(p[0], p[1], p[2])
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have one key", p, other)
		}
		if k != v.key(p[0], p[1], p[2]) {
			t.Errorf("%q has two keys", p)
		}
		seen[k] = p
	}
	if v.key("a", "b", "c") == testVerifier(nil).key("a", "b", "c") {
		t.Error("two verifiers have one secret")
	}
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewVerifier(Defaults(), reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := "m3gateway_auth_busy_total m3gateway_auth_cache_hits_total m3gateway_auth_cached_credentials m3gateway_auth_denials_total " +
		"m3gateway_auth_failing_entries m3gateway_auth_hashes_total m3gateway_auth_locked_total m3gateway_auth_tokens_accepted_total m3gateway_auth_waiting_checks"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHitAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	v := testVerifier(nil)
	users := testUsers(t, "alice", "correct horse battery")
	verify(t, v, users, "alice", "correct horse battery", testNow, nil)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if v.Verify(ctx, users, "alice", "correct horse battery", testClient, testNow) != nil {
			t.Fatal("denied")
		}
	}); n > 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	header := []string{"Basic " + b64("alice:correct horse battery")}
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, ok := BasicCredential(header); !ok {
			t.Fatal("not ok")
		}
	}); n > 2 {
		t.Errorf("reading a credential allocates %v times", n)
	}
}

func BenchmarkVerifyHit(b *testing.B) {
	v := testVerifier(nil)
	users := testUsers(b, "alice", "correct horse battery")
	verify(b, v, users, "alice", "correct horse battery", testNow, nil)
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v.Verify(b.Context(), users, "alice", "correct horse battery", testClient, testNow) != nil {
				b.Fatal("denied")
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		ctx := b.Context()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if v.Verify(ctx, users, "alice", "correct horse battery", testClient, testNow) != nil {
					b.Error("denied")
				}
			}
		})
	})
}

func BenchmarkBasicCredential(b *testing.B) {
	header := []string{"Basic " + b64("alice:correct horse battery")}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := BasicCredential(header); !ok {
			b.Fatal("not ok")
		}
	}
}

// BenchmarkHash is what a first check costs by kind.
func BenchmarkHash(b *testing.B) {
	bcrypt10, err := HashPassword("secret", DefaultCost)
	if err != nil {
		b.Fatal(err)
	}
	for name, stored := range map[string]string{"bcrypt-5": strings.Replace(goodBcrypt, "$04$", "$05$", 1), "bcrypt-10": bcrypt10, "apr1": goodAPR1, "SHA": goodSHA, "sha256-5000": goodSHA256, "sha512-5000": goodSHA512} {
		b.Run(name, func(b *testing.B) {
			h, err := parseHash(stored)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				h.matches("secret")
			}
		})
	}
}
