package auth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func backingOff(edit func(*BackoffConfig)) *Verifier {
	return testVerifier(func(c *Config) {
		c.Backoff = Defaults().Backoff
		if edit != nil {
			edit(&c.Backoff)
		}
	})
}

// attempted is what a check comes to: "ok", "denied", or the wait.
func attempted(t *testing.T, v *Verifier, users *Users, name, password string, from netip.Addr, now time.Time) string {
	t.Helper()
	err := v.Verify(t.Context(), users, name, password, from, now)
	var locked *LockedError
	switch {
	case err == nil:
		return "ok"
	case err == ErrDenied:
		return "denied"
	case errors.As(err, &locked):
		return locked.Wait.String()
	}
	return err.Error()
}

// Under, at and over the limit, and after each wait.
func TestUserBacksOff(t *testing.T) {
	users := testUsers(t, "alice", "secret", "bob", "secret")
	for _, name := range []string{"alice", "nobody"} { // a user that does not exist is held up alike
		v := backingOff(func(c *BackoffConfig) { c.UserFailures, c.AddressFailures, c.Longest = 3, 0, 8*time.Second })
		now, n := testNow, 0
		try := func(want string) {
			t.Helper()
			n++ // from as many addresses
			from := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			if got := attempted(t, v, users, name, "wrong", from, now); got != want {
				t.Errorf("%s, attempt %d: %s, want %s", name, n, got, want)
			}
		}
		try("denied")
		try("denied")
		try("denied") // the third, and from here on
		for _, wait := range []time.Duration{1, 2, 4, 8, 8} {
			wait *= time.Second
			try(wait.String())
			now = now.Add(wait - 1)
			try("1ns") // what was refused unseen has not made it longer
			now = now.Add(1)
			try("denied")
		}
		if got := attempted(t, v, users, "bob", "secret", testClient, now); got != "ok" {
			t.Errorf("bob: %s", got)
		}
		now = now.Add(8 * time.Second)
		if name == "alice" {
			if got := attempted(t, v, users, name, "secret", testClient, now); got != "ok" {
				t.Errorf("the right password after the wait: %s", got)
			}
			if f := v.Failures(name, testClient, now); f.User != 0 {
				t.Errorf("%d failures after it", f.User)
			}
			continue
		}
		now = now.Add(8 * time.Second) // twice the longest since the last failure
		if f := v.Failures(name, testClient, now); f.User != 0 {
			t.Errorf("%d failures were not forgotten", f.User)
		}
		try("denied")
		try("denied")
	}
}

// Who fails less often than once in a fifth of the longest wait is never held up.
func TestRareFailuresCostNothing(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	v := backingOff(func(c *BackoffConfig) { c.UserFailures, c.AddressFailures = 3, 3 })
	now := testNow
	for i := range 100 {
		for range 2 {
			if got := attempted(t, v, users, "alice", "wrong", testClient, now); got != "denied" {
				t.Fatalf("%d: %s", i, got)
			}
		}
		now = now.Add(2 * time.Minute)
	}
	if f := v.Failures("alice", testClient, now); f != (Failures{}) {
		t.Errorf("%+v", f)
	}
}

func TestAddressBacksOff(t *testing.T) {
	users := testUsers(t, "alice", "secret", "bob", "secret")
	v := backingOff(func(c *BackoffConfig) { c.UserFailures, c.AddressFailures = 0, 3 })
	for i, from := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"} {
		if got := attempted(t, v, users, fmt.Sprint("user", i), "wrong", netip.MustParseAddr(from), testNow); got != "denied" {
			t.Errorf("%s: %s", from, got)
		}
	}
	for from, want := range map[string]string{
		"2001:db8::4": "1s", "2001:db8:0:1::1": "ok", // the next network
		"192.0.2.1": "ok", "::ffff:192.0.2.1": "ok",
	} {
		if got := attempted(t, v, testUsers(t, "carol", "secret"), "carol", "secret", netip.MustParseAddr(from), testNow); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	if got := attempted(t, v, users, "bob", "secret", netip.MustParseAddr("2001:db8::4"), testNow.Add(time.Second)); got != "ok" {
		t.Errorf("after the wait: %s", got)
	}
	// An account of his own does not clear an attacker's address.
	if f := v.Failures("bob", netip.MustParseAddr("2001:db8::9"), testNow); f != (Failures{0, 3}) {
		t.Errorf("%+v", f)
	}
}

// A client that was let in before goes on, whatever others do to its name and address, even when its password is due to be hashed again.
func TestLockedUserKeepsWorking(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	v := backingOff(nil)
	verify(t, v, users, "alice", "secret", testNow, nil)
	for range 100 {
		attempted(t, v, users, "alice", "wrong", testClient, testNow)
	}
	if got := attempted(t, v, users, "alice", "other", testClient, testNow); got == "denied" || got == "ok" {
		t.Fatalf("not locked: %s", got)
	}
	verify(t, v, users, "alice", "secret", testNow, nil)
	later := testNow.Add(10 * time.Minute)
	for range 100 {
		attempted(t, v, users, "alice", "wrong", testClient, later)
	}
	verify(t, v, users, "alice", "secret", later, nil)
	if f := v.Failures("alice", testClient, later); f.User == 0 {
		t.Error("the hash of a remembered password has cleared an attacker's failures")
	}
	v.Forget()
	if f := v.Failures("alice", testClient, later); f != (Failures{}) {
		t.Errorf("%+v", f)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	const size = 100
	b := newBackoff(BackoffConfig{UserFailures: 3, AddressFailures: 3, First: time.Second, Longest: time.Minute, Entries: size}, func(int) {})
	steady := sourceOf(testClient)
	for range 5 {
		b.failed("attacked", []source{steady}, testNow)
	}
	for i := range 100 * size {
		b.failed(fmt.Sprint("user", i), []source{sourceOf(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}))}, testNow.Add(time.Duration(i)))
		if n := max(len(b.users.of), len(b.sources.of)); n > size {
			t.Fatalf("%d entries", n)
		}
	}
	// What is never repeated has pushed out its like.
	if f, wait := b.failures("attacked", steady, testNow); f != (Failures{5, 5}) || wait != 4*time.Second {
		t.Errorf("%+v, %v", f, wait)
	}
}

// Identical wrong passwords at once are one hash and one failure of each source.
func TestSharedFailure(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v := backingOff(nil)
		for range v.turns.free {
			v.turns.take(unblamed, source{})
		}
		other := netip.MustParseAddr("198.51.100.7")
		for i := range 40 {
			from := testClient
			if i%2 == 0 {
				from = other
			}
			go v.Verify(t.Context(), users, "alice", "wrong", from, testNow)
		}
		synctest.Wait()
		v.turns.done()
		synctest.Wait()
		if f, g := v.Failures("alice", testClient, testNow), v.Failures("", other, testNow); f != (Failures{1, 1}) || g != (Failures{0, 1}) {
			t.Errorf("%+v, %+v", f, g)
		}
	})
}

// Attempts that waited while others failed are not hashed any more.
func TestLockedWhileWaiting(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v := backingOff(func(c *BackoffConfig) { c.UserFailures = 3 })
		v.turns.free = 0
		ended := map[string]int{}
		got := make(chan string, 50)
		for i := range 50 {
			go func() { got <- attempted(t, v, users, "alice", fmt.Sprint("guess", i), testClient, testNow) }()
		}
		synctest.Wait()
		v.turns.done()
		for range 50 {
			ended[<-got]++
		}
		if ended["denied"] != 3 || ended["1s"] != 47 {
			t.Errorf("%v", ended)
		}
	})
}

// TestTurns: who gets the next turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns(1, 1000)
		q.take(unblamed, source{})
		var order []string
		add := func(c class, from byte, n int) {
			for range n {
				w, ok := q.take(c, sourceOf(netip.AddrFrom4([4]byte{10, 0, 0, from})))
				if !ok {
					t.Fatal("no room")
				}
				go func() {
					if <-w.came {
						order = append(order, fmt.Sprint(c, "/", from))
					}
				}()
			}
		}
		add(blamed, 1, 100)
		add(unblamed, 2, 5)
		add(unblamed, 3, 1)
		add(remembered, 4, 2)
		for range 110 {
			q.done()
			synctest.Wait()
		}
		want := "0/4 0/4 1/3 1/2 1/2 2/1 1/2 1/2 1/2 2/1 2/1"
		if got := strings.Join(order[:11], " "); got != want || q.waiting != 0 || q.free != 2 {
			t.Errorf("order %s, want %s; %d wait, %d free", got, want, q.waiting, q.free)
		}
	})
}

// TestTurnsMakeRoom: a full queue sends away the newest of who has most, of the lowest class.
func TestTurnsMakeRoom(t *testing.T) {
	q := newTurns(1, 4)
	q.take(unblamed, source{})
	take := func(c class, from byte) (*turn, bool) {
		return q.take(c, sourceOf(netip.AddrFrom4([4]byte{10, 0, 0, from})))
	}
	sent := func(w *turn) bool {
		select {
		case mine := <-w.came:
			return !mine
		default:
			return false
		}
	}
	var held []*turn
	for range 4 {
		w, _ := take(blamed, 1)
		held = append(held, w)
	}
	if _, ok := take(blamed, 1); ok {
		t.Error("more of the same")
	}
	if _, ok := take(blamed, 2); !ok || !sent(held[3]) || q.waiting != 4 {
		t.Error("another source has no place")
	}
	if _, ok := take(unblamed, 3); !ok || !sent(held[2]) {
		t.Error("what is unblamed has no place")
	}
	for range 3 {
		if _, ok := take(remembered, 4); !ok {
			t.Error("what is remembered has no place")
		}
	}
	if _, ok := take(blamed, 5); ok || q.waiting != 4 {
		t.Errorf("blamed pushes others out; %d wait", q.waiting)
	}
	if q.leave(held[3]) || q.leave(held[1]) {
		t.Error("left a place that is gone")
	}
}

func TestFullQueueIsBusy(t *testing.T) {
	users := testUsers(t, "alice", "secret")
	synctest.Test(t, func(t *testing.T) {
		v := testVerifier(func(c *Config) { c.MaxHashing, c.MaxWaiting = 1, 2 })
		v.turns.free = 0
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 10)
		for i := range 10 {
			go func() { got <- v.Verify(ctx, users, "alice", fmt.Sprint(i), testClient, testNow) }()
		}
		synctest.Wait()
		for range 8 {
			if err := <-got; err != ErrBusy {
				t.Errorf("%v", err)
			}
		}
		cancel()
		synctest.Wait()
		if v.turns.waiting != 0 || value(t, v.metrics.busy) != 8 {
			t.Errorf("%d wait", v.turns.waiting)
		}
	})
}

// TestDenialsTakeAlike: how long a denial takes tells nothing of a user. The times of two kinds of denial, which come in random
// order, are compared in pairs: whichever is longer must be a matter of chance. To show that the comparison sees a difference, one
// that there would be without the further hashes is measured too.
func TestDenialsTakeAlike(t *testing.T) {
	var file strings.Builder
	for name, stored := range map[string]string{"bcrypt": goodBcrypt, "apr1": goodAPR1, "sha1": goodSHA, "sha512": goodSHA512} {
		fmt.Fprintf(&file, "%s:%s\n", name, stored)
	}
	users, err := ParseHtpasswd("htpasswd", []byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	v := testVerifier(nil)
	bare := *users
	bare.decoys = nil
	kinds := []string{"nobody", "bcrypt", "apr1", "sha1", "sha512"}
	rounds, tolerance := 150, .2 // six deviations of what chance makes of 0.5
	if raceEnabled {
		rounds, tolerance = 60, .3
	}
	took := map[string][]time.Duration{}
	for i := range rounds {
		for _, k := range rand.Perm(len(kinds) + 2) {
			name, in := "", users
			if k < len(kinds) {
				name = kinds[k]
			} else {
				name, in = []string{"sha1", "sha512"}[k-len(kinds)], &bare
			}
			begun := time.Now()
			err := v.Verify(t.Context(), in, name, fmt.Sprint("wrong", i), testClient, testNow)
			d := time.Since(begun)
			if err != ErrDenied {
				t.Fatal(err)
			}
			if in == &bare {
				name += ", bare"
			}
			took[name] = append(took[name], d)
		}
	}
	longer := func(a, b string) float64 {
		n := 0.0
		for _, x := range took[a] {
			for _, y := range took[b] {
				switch {
				case x > y:
					n++
				case x == y:
					n += .5
				}
			}
		}
		return n / float64(rounds*rounds)
	}
	for _, name := range kinds[1:] {
		p := longer(name, "nobody")
		t.Logf("%-8s median %v, longer than an unknown user's in %.0f%%", name, median(took[name]), 100*p)
		if p < .5-tolerance || p > .5+tolerance {
			t.Errorf("a denial of %s takes longer than one of an unknown user in %.0f%% of all pairs", name, 100*p)
		}
	}
	if p := longer("sha512, bare", "sha1, bare"); p <= .5+tolerance { // it must fail where there is something to see
		t.Errorf("the comparison is blind: what takes longer by far is longer in %.0f%%", 100*p)
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
