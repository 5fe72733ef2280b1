package proxy

import (
	"math/rand/v2"
	"slices"
	"time"
)

// pick chooses the member for the next attempt of a request, or nil if none is left. Members in tried are passed over, and so
// are those that are out, unless all are: a wrong judgement must not turn every request away.
func (p *Pool) pick(r *Request, tried []*member, now time.Time) *member {
	t := p.table.Load()
	o := r.op()
	switch {
	case r.part != nil && len(tried) == 0 && (slices.Contains(t.in[o], r.part) || t.split.has(r.part)):
		return r.part
	case r.part != nil: // always the same one in its place
		return best(t.in[o], mix(r.part.hash), tried)
	case r.Key == "" || r.Write && p.cfg.Routing == ByLoad:
		return p.lessBusy(t.in[o], o, tried, now)
	}
	h := hash(r.Key)
	if len(tried) == 0 {
		if m := t.split.owner(h, now.UnixMilli()); m != nil {
			return m
		}
	}
	return best(t.in[o], h, tried)
}

// best is the member with the highest score for key that was not tried.
func best(members []*member, key uint64, tried []*member) *member {
	var best *member
	var most uint64
	for _, m := range members {
		if slices.Contains(tried, m) {
			continue
		}
		if s := score(key, m.hash); best == nil || s > most {
			best, most = m, s
		}
	}
	return best
}

// lessBusy is the one on which a further request costs less, of two members drawn at random.
func (p *Pool) lessBusy(members []*member, o op, tried []*member, now time.Time) *member {
	var drawn [2]*member
	n := 0
	for _, m := range members {
		if slices.Contains(tried, m) {
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
	usual := p.usual[o].at(now, 0)
	if b.cost(o, now, usual, p.cfg.SlowStart) < a.cost(o, now, usual, p.cfg.SlowStart) {
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

// score is a mix, as FNV spreads a difference in the last byte over too few bits.
func score(key, member uint64) uint64 { return mix(key ^ member) }

// mix is the finalizer of MurmurHash3.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
