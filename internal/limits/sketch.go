package limits

import (
	"math"
	"math/bits"
)

// sketchBits make 1,024 registers, of a byte each: an error of about 3%.
const sketchBits = 10

// sketch counts distinct hashes by HyperLogLog (Flajolet and others, 2007), those of the turn and of the one before it. The zero value
// has seen none, and takes memory once it has seen one.
type sketch struct {
	now, before []uint8
	at          int64
}

// turn begins turn n.
func (s *sketch) turn(n int64) {
	switch {
	case n == s.at:
		return
	case n == s.at+1:
		s.now, s.before = nil, s.now
	default:
		s.now, s.before = nil, nil
	}
	s.at = n
}

func (s *sketch) add(h uint64) {
	if s.now == nil {
		s.now = make([]uint8, 1<<sketchBits)
	}
	// The hash's own bits are an index of a table elsewhere; these are mixed once more (the finalizer of splitmix64).
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	h ^= h >> 31
	r := &s.now[h>>(64-sketchBits)]
	*r = max(*r, uint8(bits.LeadingZeros64(h<<sketchBits|1<<(sketchBits-1)))+1)
}

// count is about how many distinct hashes there were.
func (s *sketch) count() int64 {
	if s.now == nil && s.before == nil {
		return 0
	}
	const m = 1 << sketchBits
	sum, empty := 0.0, 0
	for i := range m {
		r := uint8(0)
		if s.now != nil {
			r = s.now[i]
		}
		if s.before != nil {
			r = max(r, s.before[i])
		}
		if r == 0 {
			empty++
		}
		sum += math.Ldexp(1, -int(r))
	}
	estimate := 0.7213 / (1 + 1.079/m) * m * m / sum
	if estimate <= 2.5*m && empty > 0 { // few: by the registers that are empty
		estimate = m * math.Log(m/float64(empty))
	}
	return int64(math.Round(estimate))
}

func (s *sketch) bytes() int { return cap(s.now) + cap(s.before) }
