package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	gohash "hash"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ErrDenied is the one answer to a credential that is not valid, whether the user is unknown or the password wrong.
var ErrDenied = errors.New("credential denied")

// ErrBusy is a credential that nobody has looked at, since too many others wait for their hash.
var ErrBusy = errors.New("too many credentials wait to be checked")

// Verifier checks credentials against the users of an htpasswd file and remembers those it found valid, so that a
// steady client is hashed once. It is safe for concurrent use.
//
// However many wrong passwords come, a remembered one needs no hash and a right one gets its turn: users and addresses with
// failures have to wait, longer after each, and hashes are computed by turns between sources.
type Verifier struct {
	ttl     time.Duration
	metrics *metrics
	turns   *turns
	backoff *backoff
	macs    sync.Pool // of *mac, all with the process' random key
	cache   *cache

	mu      sync.Mutex
	flights map[cacheKey]*flight
}

// flight is one hash computation and the callers waiting for it.
type flight struct {
	now       time.Time     // when the first caller asked
	done      chan struct{} // closed after err is set
	err       error         // nil: the credential is valid
	abandoned chan struct{} // closed when the last caller left before the computation began

	// Guarded by Verifier.mu.
	waiters int
	started bool
	from    []source // of all callers so far, each once
}

// attempt is one credential to be hashed.
type attempt struct {
	users *Users
	u     *user
	known bool // u is a user, not the decoy
	stale bool // it was found valid before, by the same entry
	name  string
	// password is all of it; key has what u's hash looks at.
	password string
	key      cacheKey
	from     source
	now      time.Time
}

func newVerifier(cfg Config, m *metrics) *Verifier {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	v := &Verifier{
		ttl:     cfg.CacheTTL,
		metrics: m,
		turns:   newTurns(cfg.MaxHashing, cfg.MaxWaiting),
		backoff: newBackoff(cfg.Backoff, func(n int) { m.blamed.Set(float64(n)) }),
		cache:   newCache(cfg.CacheSize, func(n int) { m.cached.Set(float64(n)) }),
		flights: make(map[cacheKey]*flight),
	}
	v.macs.New = func() any { return &mac{h: hmac.New(sha256.New, key)} }
	return v
}

// Verify returns nil if password is that of the user name in users, ErrDenied if not, a *LockedError if name or from have failed
// too often, ErrBusy if too many checks wait, and ctx.Err() if ctx ends while the password waits for its hash. An empty
// password, or one over MaxPassword bytes, is denied unhashed. from is the client's address, if it is known.
//
// A credential found valid is remembered for Config.CacheTTL from now, and only for this user with this stored hash:
// with users of a changed file it is checked afresh. What is found invalid is never remembered. Callers with the same
// credential share one computation, which goes on when they leave, unless all leave before it begins.
//
// Failures hold up neither what is remembered nor what is hashed again because its time is over: nobody can lock a client out
// that was let in before. For all others it makes no difference whether a user exists, or what kind of hash is stored for it:
// a denial costs one hash of every kind that is in the file.
func (v *Verifier) Verify(ctx context.Context, users *Users, name, password string, from netip.Addr, now time.Time) error {
	if password == "" || len(password) > MaxPassword {
		v.metrics.denials.Inc()
		return ErrDenied
	}
	a := attempt{users: users, u: users.byName[name], known: true, name: name, password: password, now: now}
	if a.u == nil {
		a.u, a.known = &users.decoy, false
	}
	a.key = v.key(name, a.u.hash.stored, a.u.hash.significant(password))
	found, valid := v.cache.look(&a.key, now)
	if valid {
		v.metrics.hits.Inc()
		return nil
	}
	a.stale, a.from = found, sourceOf(from)
	return v.check(ctx, &a)
}

// check is Verify for what is not remembered.
func (v *Verifier) check(ctx context.Context, a *attempt) error {
	if err := v.locked(a); err != nil {
		v.metrics.locked.Inc()
		return err
	}
	f := v.join(a)
	if f == nil {
		v.metrics.hits.Inc()
		return nil
	}
	v.metrics.waiting.Inc()
	defer v.metrics.waiting.Dec()
	select {
	case <-f.done:
	case <-ctx.Done():
		v.leave(&a.key, f)
		return ctx.Err()
	}
	switch f.err {
	case nil:
	case ErrDenied:
		v.metrics.denials.Inc()
	case ErrBusy:
		v.metrics.busy.Inc()
	default:
		v.metrics.locked.Inc()
	}
	return f.err
}

// VerifyToken returns the user whose token bearer is in tokens, or ErrDenied; or a *LockedError if it is nobody's and from has failed
// too often. It computes no slow hash.
func (v *Verifier) VerifyToken(tokens *Tokens, bearer string, from netip.Addr, now time.Time) (string, error) {
	if user, ok := tokens.user(bearer); ok {
		v.metrics.tokens.Inc()
		return user, nil
	}
	s := sourceOf(from)
	if _, wait := v.backoff.failures("", s, now); wait > 0 {
		v.metrics.locked.Inc()
		return "", &LockedError{wait}
	}
	v.backoff.failed("", []source{s}, now)
	v.metrics.denials.Inc()
	return "", ErrDenied
}

// Failures are those of the user name and of the address from that are not forgotten.
func (v *Verifier) Failures(name string, from netip.Addr, now time.Time) Failures {
	f, _ := v.backoff.failures(name, sourceOf(from), now)
	return f
}

// Purge frees the remembered credentials whose user is gone from users or has another hash there. Verify with these
// users would not accept them anyhow.
func (v *Verifier) Purge(users *Users) {
	v.cache.keep(func(name, stored string) bool {
		u := users.byName[name]
		return u != nil && u.hash.stored == stored
	})
}

// Forget forgets all failures, as when users or tokens have changed: what failed may be right now.
func (v *Verifier) Forget() { v.backoff.forget() }

// locked is a *LockedError if the attempt must wait.
func (v *Verifier) locked(a *attempt) error {
	if a.stale {
		return nil
	}
	if _, wait := v.backoff.failures(a.name, a.from, a.now); wait > 0 {
		return &LockedError{wait}
	}
	return nil
}

// class is the line that the attempt waits in.
func (v *Verifier) class(a *attempt) class {
	if a.stale {
		return remembered
	}
	if f, _ := v.backoff.failures(a.name, a.from, a.now); f != (Failures{}) {
		return blamed
	}
	return unblamed
}

// join returns the flight for a, started if there is none, or nil if the credential has become cached since the caller
// looked. The caller waits for done, or leaves.
func (v *Verifier) join(a *attempt) *flight {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flights[a.key]; f != nil {
		f.waiters++
		if !slices.Contains(f.from, a.from) {
			f.from = append(f.from, a.from)
		}
		return f
	}
	// A flight caches before it is taken off the map, so nobody can miss both.
	if _, valid := v.cache.look(&a.key, a.now); valid {
		return nil
	}
	f := &flight{now: a.now, done: make(chan struct{}), abandoned: make(chan struct{}), waiters: 1, from: []source{a.from}}
	v.flights[a.key] = f
	w, ok := v.turns.take(v.class(a), a.from)
	if !ok {
		v.endLocked(a.key, f, ErrBusy)
		return f
	}
	go v.fly(*a, f, w)
	return f
}

// endLocked tells the callers of f what came of it.
func (v *Verifier) endLocked(k cacheKey, f *flight, err error) {
	f.err = err
	if v.flights[k] == f {
		delete(v.flights, k)
	}
	close(f.done)
}

// leave ends one caller's wait for f. A flight that nobody waits for any more gives up its place in the queue.
func (v *Verifier) leave(k *cacheKey, f *flight) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && !f.started && v.flights[*k] == f {
		delete(v.flights, *k)
		close(f.abandoned)
	}
}

// fly waits for its turn, computes and tells the callers.
func (v *Verifier) fly(a attempt, f *flight, w *turn) {
	mine := false
	select {
	case mine = <-w.came:
	case <-f.abandoned:
		if v.turns.leave(w) {
			return
		}
		mine = <-w.came
	}
	if mine {
		defer v.turns.done()
	}
	v.mu.Lock()
	f.started = f.waiters > 0 && v.flights[a.key] == f
	started := f.started
	v.mu.Unlock()
	if !started {
		return
	}
	err := ErrBusy
	if mine {
		if err = v.locked(&a); err == nil { // others may have failed while this one waited
			err = v.compute(&a, f)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.endLocked(a.key, f, err)
}

// compute is ErrDenied if the credential is not valid; else it is cached. A denial takes as long whoever the user is.
func (v *Verifier) compute(a *attempt, f *flight) error {
	matched := a.u.hash.matches(a.password)
	v.metrics.hashes.Inc()
	if matched && a.known {
		e := &cached{key: a.key, name: a.name, stored: a.u.hash.stored}
		if v.ttl > 0 {
			e.expires = f.now.Add(v.ttl)
		}
		v.cache.put(e, f.now)
		if !a.stale {
			v.backoff.succeeded(a.name)
		}
		return nil
	}
	for i := range a.users.decoys {
		if d := &a.users.decoys[i]; d.costs() != a.u.hash.costs() {
			d.matches(a.password)
			v.metrics.hashes.Inc()
		}
	}
	v.mu.Lock()
	from := slices.Clone(f.from)
	v.mu.Unlock()
	v.backoff.failed(a.name, from, f.now)
	return ErrDenied
}

// mac computes keys of the cache. message and sum are scratch, here so that a key needs no allocation.
type mac struct {
	h       gohash.Hash
	message []byte
	sum     cacheKey
}

// key returns the HMAC-SHA256 of name, stored and password, each with its length before it.
func (v *Verifier) key(name, stored, password string) cacheKey {
	m := v.macs.Get().(*mac)
	b := m.message[:0]
	for _, s := range [...]string{name, stored, password} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	m.h.Reset()
	m.h.Write(b)
	m.h.Sum(m.sum[:0])
	k := m.sum
	clear(b) // no password outlives its request in the pool
	m.message = b
	v.macs.Put(m)
	return k
}
