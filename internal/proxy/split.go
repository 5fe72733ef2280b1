package proxy

import "slices"

// Split says which member owns which series, as of one moment: rendezvous hashing over the members that are fit for writes. It
// is immutable and safe for concurrent use. Every gateway with the same members gives the same answers, whatever its version,
// as they depend on nothing but the series' hash, the sample's time and the members' URLs.
type Split struct {
	members []*member  // that own a series at some time, sorted by URL
	eras    []splitEra // newest first
}

// splitEra is an era, laid out for quick look-up.
type splitEra struct {
	from   int64
	hashes []uint64 // of its members
	parts  []int    // their places in Split.members
}

func newSplit(eras []era) Split {
	var s Split
	for _, e := range eras {
		for _, m := range e.members {
			if !slices.Contains(s.members, m) {
				s.members = append(s.members, m)
			}
		}
	}
	slices.SortFunc(s.members, byURL)
	for _, e := range eras {
		to := splitEra{from: e.from}
		for _, m := range e.members {
			to.hashes = append(to.hashes, m.hash)
			to.parts = append(to.parts, slices.Index(s.members, m))
		}
		s.eras = append(s.eras, to)
	}
	return s
}

func (s *Split) same(t *Split) bool {
	return slices.Equal(s.members, t.members) && slices.EqualFunc(s.eras, t.eras, func(a, b splitEra) bool {
		return a.from == b.from && slices.Equal(a.parts, b.parts)
	})
}

// Parts is the most parts that a batch falls into: parts are numbered from 0 to Parts-1. 0: no member is known.
func (s *Split) Parts() int { return len(s.members) }

// Part is the number of the part that a sample belongs to. series is a hash of all the labels of its series, as they reach the
// store, all 64 bits evenly used; ms is its time in Unix milliseconds. Parts must not be 0.
//
// The samples of a series belong to one part but while a member comes, comes back or leaves: then those before a bound of
// Config.Handover belong to one, and those from it on perhaps to another.
func (s *Split) Part(series uint64, ms int64) int {
	e := &s.eras[0]
	for i := 1; ms < e.from; i++ { // the last begins at the beginning of time
		e = &s.eras[i]
	}
	part, most := e.parts[0], score(series, e.hashes[0])
	for i := 1; i < len(e.hashes); i++ {
		if n := score(series, e.hashes[i]); n > most {
			part, most = e.parts[i], n
		}
	}
	return part
}

// owner is the member that Part numbers, or nil if there is none.
func (s *Split) owner(series uint64, ms int64) *member {
	if len(s.members) == 0 {
		return nil
	}
	return s.members[s.Part(series, ms)]
}

// has says that m owns something.
func (s *Split) has(m *member) bool { return slices.Contains(s.members, m) }

// Split is who owns what now. A batch must be split by one Split, and sent with the same.
func (p *Pool) Split() *Split { return &p.table.Load().split }
