package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	gohash "hash"
	"sync"
	"time"
)

// ErrDenied is the one answer to a credential that is not valid, whether the user is unknown or the password wrong.
var ErrDenied = errors.New("credential denied")

// Verifier checks credentials against the users of an htpasswd file and remembers those it found valid, so that a
// steady client is hashed once. It is safe for concurrent use.
type Verifier struct {
	ttl     time.Duration
	metrics *metrics
	gate    chan struct{} // holds one value for each hash being computed
	macs    sync.Pool     // of *mac, all with the process' random key
	cache   *cache

	mu      sync.Mutex
	flights map[cacheKey]*flight
}

// flight is one hash computation and the callers waiting for it.
type flight struct {
	now       time.Time     // when the first caller asked
	done      chan struct{} // closed after valid is set
	valid     bool
	abandoned chan struct{} // closed when the last caller left before the computation began

	// Guarded by Verifier.mu.
	waiters int
	started bool
}

func newVerifier(cfg Config, m *metrics) *Verifier {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	v := &Verifier{
		ttl:     cfg.CacheTTL,
		metrics: m,
		gate:    make(chan struct{}, cfg.MaxHashing),
		cache:   newCache(cfg.CacheSize, func(n int) { m.cached.Set(float64(n)) }),
		flights: make(map[cacheKey]*flight),
	}
	v.macs.New = func() any { return &mac{h: hmac.New(sha256.New, key)} }
	return v
}

// Verify returns nil if password is that of the user name in users, ErrDenied if not, and ctx.Err() if ctx ends while
// the password waits for its hash. An empty password, or one over MaxPassword bytes, is denied unhashed.
//
// A credential found valid is remembered for Config.CacheTTL from now, and only for this user with this stored hash:
// with users of a changed file it is checked afresh. What is found invalid is never remembered. Callers with the same
// credential share one computation, which goes on when they leave, unless all leave before it begins.
// An unknown user takes the same way as a wrong password, with a hash that no password matches.
func (v *Verifier) Verify(ctx context.Context, users *Users, name, password string, now time.Time) error {
	if password == "" || len(password) > MaxPassword {
		v.metrics.denials.Inc()
		return ErrDenied
	}
	u := users.byName[name]
	known := u != nil
	if !known {
		u = &users.decoy
	}
	password = u.hash.significant(password)
	k := v.key(name, u.hash.stored, password)
	if v.cache.hit(&k, now) {
		v.metrics.hits.Inc()
		return nil
	}
	f := v.join(&k, u, known, password, now)
	if f == nil {
		v.metrics.hits.Inc()
		return nil
	}
	v.metrics.waiting.Inc()
	defer v.metrics.waiting.Dec()
	select {
	case <-f.done:
	case <-ctx.Done():
		v.leave(&k, f)
		return ctx.Err()
	}
	if !f.valid {
		v.metrics.denials.Inc()
		return ErrDenied
	}
	return nil
}

// Purge frees the remembered credentials whose user is gone from users or has another hash there. Verify with these
// users would not accept them anyhow.
func (v *Verifier) Purge(users *Users) {
	v.cache.keep(func(name, stored string) bool {
		u := users.byName[name]
		return u != nil && u.hash.stored == stored
	})
}

// join returns the flight for k, started if there is none, or nil if the credential has become cached since the caller
// looked. The caller waits for done, or leaves.
func (v *Verifier) join(k *cacheKey, u *user, known bool, password string, now time.Time) *flight {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flights[*k]; f != nil {
		f.waiters++
		return f
	}
	// A flight caches before it is taken off the map, so nobody can miss both.
	if v.cache.hit(k, now) {
		return nil
	}
	f := &flight{now: now, done: make(chan struct{}), abandoned: make(chan struct{}), waiters: 1}
	v.flights[*k] = f
	go v.fly(*k, f, u, known, password)
	return f
}

// leave ends one caller's wait for f. A flight that nobody waits for any more gives up its place in the queue.
func (v *Verifier) leave(k *cacheKey, f *flight) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && !f.started {
		delete(v.flights, *k)
		close(f.abandoned)
	}
}

// fly waits for the gate, computes one hash and tells the callers.
func (v *Verifier) fly(k cacheKey, f *flight, u *user, known bool, password string) {
	select {
	case v.gate <- struct{}{}:
		defer func() { <-v.gate }()
	case <-f.abandoned:
		return
	}
	v.mu.Lock()
	f.started = f.waiters > 0
	started := f.started
	v.mu.Unlock()
	if !started {
		return
	}

	matched := u.hash.matches(password)
	v.metrics.hashes.Inc()
	f.valid = matched && known
	if f.valid {
		e := &cached{key: k, name: u.name, stored: u.hash.stored}
		if v.ttl > 0 {
			e.expires = f.now.Add(v.ttl)
		}
		v.cache.put(e, f.now)
	}
	v.mu.Lock()
	delete(v.flights, k)
	v.mu.Unlock()
	close(f.done)
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
