package auth

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// cacheKey is an HMAC under the process' random key: it tells nothing of the credential, and nobody outside can
// choose keys that fall together or measure how far a look-up came.
type cacheKey [32]byte

// cache holds verified credentials, at most size of them. When full it evicts by the clock algorithm, which
// approximates least recently used: a hit only sets a bit.
//
// Hits take no lock: even the reader count of an RWMutex is a word all CPUs write, and with it a look-up was slower on
// two CPUs than on one. Writers, one per hash computed, take turns under mu.
type cache struct {
	size    int
	count   func(int)                // told the number of entries whenever it changes
	buckets []atomic.Pointer[cached] // chains of entries; as many as a power of two

	mu   sync.Mutex
	ring []*cached // all entries in the chains
	hand int       // where in ring the next eviction looks first
}

// cached is one entry; what has no atomic type is fixed once it is linked, but for slot.
type cached struct {
	key     cacheKey
	name    string
	stored  string
	expires time.Time // zero: never
	used    atomic.Bool
	next    atomic.Pointer[cached] // left as it is when the entry is unlinked: a reader may stand on it
	slot    int                    // index in cache.ring; guarded by cache.mu
}

func newCache(size int, count func(int)) *cache {
	return &cache{size: size, count: count, buckets: make([]atomic.Pointer[cached], 1<<bits.Len(uint(size)))}
}

func (e *cached) expired(now time.Time) bool {
	return !e.expires.IsZero() && !now.Before(e.expires)
}

func (c *cache) bucket(k *cacheKey) *atomic.Pointer[cached] {
	return &c.buckets[binary.LittleEndian.Uint64(k[:])&uint64(len(c.buckets)-1)]
}

// find returns the entry with key k, or nil.
func (c *cache) find(k *cacheKey) *cached {
	e := c.bucket(k).Load()
	for e != nil && e.key != *k {
		e = e.next.Load()
	}
	return e
}

func (c *cache) hit(k *cacheKey, now time.Time) bool {
	_, valid := c.look(k, now)
	return valid
}

// look reports whether there is an entry with key k, and whether its time is not over yet.
func (c *cache) look(k *cacheKey, now time.Time) (found, valid bool) {
	e := c.find(k)
	if e == nil {
		return false, false
	}
	if e.expired(now) {
		return true, false
	}
	if !e.used.Load() { // a store would take the cache line from the other CPUs at each hit
		e.used.Store(true)
	}
	return true, true
}

// put adds e, in place of the entry with its key if there is one. e is the cache's from here on.
func (c *cache) put(e *cached, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.find(&e.key); old != nil {
		// One store at the old place: a reader on its way down the chain meets one of the two.
		e.slot = old.slot
		c.ring[e.slot] = e
		e.next.Store(old.next.Load())
		c.pointerLocked(old).Store(e)
		return
	}
	if len(c.ring) < c.size {
		e.slot = len(c.ring)
		c.ring = append(c.ring, e)
		c.linkLocked(e)
		c.count(len(c.ring))
		return
	}
	// Two turns are enough for bits nobody sets again; entries in use by then are as good as any.
	for range 2 * len(c.ring) {
		if at := c.ring[c.hand]; at.expired(now) || !at.used.Swap(false) {
			break
		}
		c.hand = (c.hand + 1) % len(c.ring)
	}
	c.unlinkLocked(c.ring[c.hand])
	e.slot = c.hand
	c.ring[c.hand] = e
	c.linkLocked(e)
	c.hand = (c.hand + 1) % len(c.ring)
}

// keep drops every entry for which ok is false.
func (c *cache) keep(ok func(name, stored string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := make([]*cached, 0, len(c.ring))
	for _, e := range c.ring {
		if !ok(e.name, e.stored) {
			c.unlinkLocked(e)
			continue
		}
		e.slot = len(kept)
		kept = append(kept, e)
	}
	c.ring, c.hand = kept, 0
	c.count(len(kept))
}

// linkLocked puts e at the head of its chain.
func (c *cache) linkLocked(e *cached) {
	b := c.bucket(&e.key)
	e.next.Store(b.Load())
	b.Store(e)
}

func (c *cache) unlinkLocked(e *cached) {
	c.pointerLocked(e).Store(e.next.Load())
}

// pointerLocked returns what points to e in its chain.
func (c *cache) pointerLocked(e *cached) *atomic.Pointer[cached] {
	p := c.bucket(&e.key)
	for p.Load() != e {
		p = &p.Load().next
	}
	return p
}
