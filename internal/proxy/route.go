package proxy

import (
	"math/rand/v2"
	"slices"
)

// pick chooses the member for the next attempt of a request with this key, or nil if none is left. Members in tried are
// passed over, and so are unhealthy ones unless all are: a wrong probe must not turn every request away.
func (p *Pool) pick(key string, tried []*member) *member {
	members := *p.members.Load()
	panicking := !slices.ContainsFunc(members, (*member).healthy)
	if key == "" {
		return leastLoadedOfTwo(members, tried, panicking)
	}
	var best *member
	var most uint64
	h := hash(key)
	for _, m := range members {
		if (!panicking && !m.healthy()) || slices.Contains(tried, m) {
			continue
		}
		if s := score(h, m.hash); best == nil || s > most {
			best, most = m, s
		}
	}
	return best
}

// leastLoadedOfTwo is the one with fewer requests in flight of two usable members drawn at random.
func leastLoadedOfTwo(members, tried []*member, panicking bool) *member {
	var drawn [2]*member
	n := 0
	for _, m := range members {
		if (!panicking && !m.healthy()) || slices.Contains(tried, m) {
			continue
		}
		n++
		if n <= 2 {
			drawn[n-1] = m
		} else if i := rand.IntN(n); i < 2 {
			drawn[i] = m
		}
	}
	if n < 2 {
		return drawn[0]
	}
	a, b := drawn[0], drawn[1]
	if rand.IntN(2) == 0 {
		a, b = b, a
	}
	if b.inFlight.Load() < a.inFlight.Load() {
		return b
	}
	return a
}

// hash (FNV-1a, 64 bits) and score are a rendezvous hash: the member with the highest score of (key, member) has the key,
// so that one that comes or goes moves only its own keys. They depend on nothing but the key and the member's URL;
// replicas of the gateway agree without talking, so neither may change between versions.
func hash(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}

// score mixes with the finalizer of MurmurHash3, as FNV spreads a difference in the last byte over too few bits.
func score(key, member uint64) uint64 {
	x := key ^ member
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
