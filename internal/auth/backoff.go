package auth

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"time"
)

// LockedError is an attempt that was not looked at, since there were too many failures of its user or from its address.
type LockedError struct {
	// Wait is how long a further attempt has to wait, more than 0.
	Wait time.Duration
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("too many failed attempts; try again in %v", e.Wait)
}

// Failures are what an attempt's user and its address have to answer for.
type Failures struct{ User, Address int }

// source is the network that attempts are counted by: one IPv4 address, or one IPv6 network of 64 bits, of which a client has all
// addresses to choose from. The zero value stands for what has no address.
type source struct{ netip.Prefix }

func sourceOf(a netip.Addr) source {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // a is the zero Addr
		return source{}
	}
	return source{p}
}

// backoff counts failed attempts by user and by source. It is safe for concurrent use.
type backoff struct {
	seed           maphash.Seed // nobody outside can choose names that fall together
	users, sources tallies
	entries        func(int) // told the number of entries whenever it changes
	mu             sync.Mutex
	first, longest time.Duration
}

// tallies is a bounded table of failures.
type tallies struct {
	after int // failures that cost no time; 0: none ever does
	size  int
	of    map[uint64]tally
}

// tally is what one user or source has to answer for. While it does not have to wait, a failure is forgiven for each fifth of
// BackoffConfig.Longest: who fails now and then, as a probe does, is never held up.
type tally struct {
	n     float64   // failures, when the last one came
	last  time.Time // of the failures
	until time.Time // attempts have to wait
}

// left are the failures that are not forgiven by now.
func (e tally) left(now time.Time, longest time.Duration) float64 {
	if now.Sub(e.last) >= 2*longest {
		return 0
	}
	idle := e.last
	if e.until.After(idle) {
		idle = e.until
	}
	return max(0, e.n-max(0, 5*now.Sub(idle).Seconds()/longest.Seconds()))
}

func newBackoff(cfg BackoffConfig, entries func(int)) *backoff {
	return &backoff{
		seed: maphash.MakeSeed(), first: cfg.First, longest: cfg.Longest, entries: entries,
		users:   tallies{after: cfg.UserFailures, size: cfg.Entries, of: map[uint64]tally{}},
		sources: tallies{after: cfg.AddressFailures, size: cfg.Entries, of: map[uint64]tally{}},
	}
}

func (b *backoff) user(name string) uint64   { return maphash.String(b.seed, name) }
func (b *backoff) source(from source) uint64 { return maphash.Comparable(b.seed, from) }

// failures are those of name and from at now, and how long the two must wait; 0: not at all.
func (b *backoff) failures(name string, from source, now time.Time) (Failures, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u, userWait := b.users.at(b.user(name), now, b.longest)
	s, sourceWait := b.sources.at(b.source(from), now, b.longest)
	return Failures{u, s}, max(userWait, sourceWait)
}

// at is the number of failures under k that are not forgiven, and the time to wait.
func (t *tallies) at(k uint64, now time.Time, longest time.Duration) (int, time.Duration) {
	e := t.of[k]
	return int(math.Ceil(e.left(now, longest))), max(0, e.until.Sub(now))
}

// failed counts a failure of name, once, and from each of the sources.
func (b *backoff) failed(name string, from []source, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(&b.users, b.user(name), now)
	for _, s := range from {
		b.add(&b.sources, b.source(s), now)
	}
	b.entries(len(b.users.of) + len(b.sources.of))
}

func (b *backoff) add(t *tallies, k uint64, now time.Time) {
	e, ok := t.of[k]
	if !ok && len(t.of) >= t.size {
		t.makeRoom()
	}
	e.n = e.left(now, b.longest) + 1
	e.last = now
	if n := int(math.Ceil(e.n)); t.after > 0 && n >= t.after {
		wait := b.longest
		if doublings := n - t.after; doublings < 40 && b.first<<doublings < b.longest {
			wait = b.first << doublings
		}
		e.until = now.Add(wait)
	}
	t.of[k] = e
}

// makeRoom drops one of a few entries, in no order: the one that matters least, as it has the fewest failures, and of those the
// oldest. So who fills the table with names that he never repeats pushes out his own.
func (t *tallies) makeRoom() {
	const looked = 16
	var worst uint64
	n := 0
	for k, e := range t.of {
		if w := t.of[worst]; n == 0 || e.n < w.n || e.n == w.n && e.last.Before(w.last) {
			worst = k
		}
		if n++; n == looked {
			break
		}
	}
	delete(t.of, worst)
}

// succeeded forgets the failures of name: who knows the password has mistyped it. Those of the source stay, since an attacker may have
// an account too.
func (b *backoff) succeeded(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.users.of, b.user(name))
	b.entries(len(b.users.of) + len(b.sources.of))
}

// forget forgets everything.
func (b *backoff) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.users.of)
	clear(b.sources.of)
	b.entries(0)
}
