package remotewrite

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
)

// bucket is one bucket of a histogram: the observations in it alone, and its upper bound.
type bucket struct{ upper, count float64 }

// classics turns native histograms into classic series. It is scratch space, reused from one histogram to the next.
type classics struct {
	buckets    []bucket
	neg, pos   side
	custom     []float64
	labels     []byte // the label fields that every series of one histogram shares, in order
	name, le   int    // where in labels __name__ and le belong
	metric     []byte // the histogram's own name
	schema     int32
	count, sum float64
	zero       bucket
	ts         int64
	// Which of the two kinds of counts were sent, and the integer ones, which a float may not hold.
	floats, zeroFloats bool
	whole, zeroWhole   uint64
}

// side is the buckets of one sign: the indices they have, and what is in them.
type side struct {
	spans  []span
	counts []float64
	last   int64  // what integer counts, sent as differences, have come to
	whole  int    // how many of counts are integers: all or none
	sum    uint64 // of integer counts
	broken bool   // an integer count is negative, or sum is beyond 64 bits
}

type span struct {
	offset int32
	length uint32
}

const (
	customSchema                = -53 // bounds are sent with the histogram
	minSchema, maxSchema        = -4, 8
	staleNaN             uint64 = 0x7ff0000000000002 // Prometheus' staleness marker
)

// fractions are 2^(i/256)/2: the bounds of the finest schema within one power of two, of which coarser ones use each second,
// fourth and so on.
var fractions = func() (f [1 << maxSchema]float64) {
	root := big.NewFloat(2).SetPrec(200)
	for range maxSchema {
		root.Sqrt(root)
	}
	x := big.NewFloat(0.5).SetPrec(200)
	for i := range f {
		f[i], _ = x.Float64()
		x.Mul(x, root)
	}
	return f
}()

// histograms emits the native histograms among the points as classic series, and takes them from the points.
func (c *Confiner) histograms(tenant int) error {
	kept, shared := c.points[:0], false
	for _, pt := range c.points {
		if pt.kind != tagHistogram {
			kept = append(kept, pt)
			continue
		}
		h := &c.classics
		ok := h.read(c.src, int(pt.start), int(pt.end)) && h.spread() && h.fits()
		if ok && !shared {
			ok = c.share(&c.p.tenants[tenant])
			shared = ok
		}
		if !ok {
			c.count(InvalidHistogram, 1, h.ts)
			c.tally.lost++
			continue
		}
		c.route(tenant, h.ts)
		if err := c.emitClassic(); err != nil {
			return err
		}
		c.tally.classic++
		c.addHistogram(tenant)
	}
	c.points = kept
	return nil
}

// emitClassic appends the series of the histogram in hand: NAME_bucket for each bucket, with all observations up to its bound
// le, for +Inf too; NAME_sum; NAME_count. The end of a histogram, a staleness marker, ends the last three: it names no buckets.
func (c *Confiner) emitClassic() error {
	h := &c.classics
	total, all := 0.0, h.count
	if math.Float64bits(h.sum) == staleNaN {
		h.buckets, all = h.buckets[:0], h.sum
	}
	for _, b := range h.buckets {
		total += b.count
		if err := c.emitSeries("_bucket", b.upper, total); err != nil {
			return err
		}
	}
	if err := c.emitSeries("_bucket", math.Inf(1), all); err != nil {
		return err
	}
	if err := c.emitSeries("_sum", math.NaN(), h.sum); err != nil {
		return err
	}
	return c.emitSeries("_count", math.NaN(), all)
}

// emitSeries appends one series of the histogram in hand, with the label le unless that is NaN.
func (c *Confiner) emitSeries(suffix string, le, value float64) error {
	h := &c.classics
	var text [32]byte
	bound := text[:0]
	field := 0 // bytes of the label le
	if !math.IsNaN(le) {
		bound = appendBound(bound, le)
		field = 2 + pairBody(len("le"), len(bound))
	}
	name := pairBody(len(metricName), len(h.metric)+len(suffix))
	sample := sampleBody(math.Float64bits(value), h.ts)
	c.dst = appendTagged(c.dst, tagSeries, len(h.labels)+1+uvarintLen(name)+name+field+2+sample)
	c.dst = append(c.dst, h.labels[:h.name]...)
	c.dst = append(appendTagged(appendTagged(c.dst, tagLabel, name), 0x0a, len(metricName)), metricName...)
	c.dst = append(append(appendTagged(c.dst, 0x12, len(h.metric)+len(suffix)), h.metric...), suffix...)
	c.dst = append(c.dst, h.labels[h.name:h.le]...)
	if field > 0 {
		c.dst = appendLabel(c.dst, []byte("le"), bound)
	}
	c.dst = append(c.dst, h.labels[h.le:]...)
	c.dst = appendSample(c.dst, math.Float64bits(value), h.ts)
	c.addSeries()
	if len(c.dst) >= blockSize {
		return c.flush(false)
	}
	return nil
}

// appendBound writes a bound as Prometheus' text format does.
func appendBound(dst []byte, le float64) []byte {
	n := len(dst)
	dst = strconv.AppendFloat(dst, le+0, 'g', -1, 64) // -0 is 0
	if !math.IsInf(le, 0) && !bytes.ContainsAny(dst[n:], "e.") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// share gathers the labels of the series in hand, and those of t; it fails if le is among them.
func (c *Confiner) share(t *tenantFields) bool {
	h := &c.classics
	h.labels, h.name, h.le = h.labels[:0], -1, -1
	place := func(name []byte) {
		if h.name < 0 && string(name) >= metricName {
			h.name = len(h.labels)
		}
		if h.le < 0 && string(name) >= "le" {
			h.le = len(h.labels)
		}
	}
	e := 0
	enforced := func(upTo []byte) { // nil: all of them
		for ; e < len(t.fields) && (upTo == nil || bytes.Compare(c.p.nameBytes[e], upTo) <= 0); e++ {
			if t.fields[e] != nil {
				place(c.p.nameBytes[e])
				h.labels = append(h.labels, t.fields[e]...)
			}
		}
	}
	for i := range c.cur {
		l := &c.cur[i]
		name := c.nameOf(l)
		if string(name) == "le" {
			return false
		}
		enforced(name)
		place(name)
		switch {
		case l.metric:
			h.metric = c.valueOf(l)
		case !l.hit || t.fields[l.rank] == nil:
			h.labels = appendLabel(h.labels, name, c.valueOf(l))
		}
	}
	enforced(nil)
	place([]byte{0xff}) // after every name
	return true
}

// read takes in the histogram src[at:end), which walk has accepted.
func (h *classics) read(src []byte, at, end int) bool {
	h.schema, h.count, h.sum, h.zero, h.ts = 0, 0, 0, bucket{}, 0
	h.floats, h.zeroFloats, h.whole, h.zeroWhole = false, false, 0, 0
	h.neg, h.pos = side{spans: h.neg.spans[:0], counts: h.neg.counts[:0]}, side{spans: h.pos.spans[:0], counts: h.pos.counts[:0]}
	h.custom = h.custom[:0]
	for at < end {
		f, after, _ := next(src, at, end)
		switch f.number {
		case 1:
			h.count, h.whole, h.floats = float64(f.num), f.num, false
		case 2:
			h.count, h.whole, h.floats = fixed64(src, f.start), 0, true
		case 3:
			h.sum = fixed64(src, f.start)
		case 4:
			h.schema = int32(zigzag(f.num))
		case 5:
			h.zero.upper = fixed64(src, f.start)
		case 6:
			h.zero.count, h.zeroWhole, h.zeroFloats = float64(f.num), f.num, false
		case 7:
			h.zero.count, h.zeroWhole, h.zeroFloats = fixed64(src, f.start), 0, true
		case 8:
			h.neg.span(src, &f)
		case 9:
			h.neg.deltas(src, &f)
		case 10:
			h.neg.counts = appendFixed64(h.neg.counts, src, &f)
		case 11:
			h.pos.span(src, &f)
		case 12:
			h.pos.deltas(src, &f)
		case 13:
			h.pos.counts = appendFixed64(h.pos.counts, src, &f)
		case 15:
			h.ts = int64(f.num)
		case 16:
			h.custom = appendFixed64(h.custom, src, &f)
		}
		at = after
	}
	return h.schema == customSchema || h.schema >= minSchema && h.schema <= maxSchema
}

func (s *side) span(src []byte, in *field) {
	var out span
	for at := in.start; at < in.end; {
		f, after, _ := next(src, at, in.end)
		switch f.number {
		case 1:
			out.offset = int32(zigzag(f.num))
		case 2:
			out.length = uint32(f.num)
		}
		at = after
	}
	s.spans = append(s.spans, out)
}

func (s *side) deltas(src []byte, f *field) {
	if f.wire == wireVarint {
		s.delta(f.num)
		return
	}
	for p := f.start; p < f.end; {
		v, q := uvarint(src, p, f.end)
		s.delta(v)
		p = q
	}
}

func (s *side) delta(v uint64) {
	s.last += zigzag(v)
	s.whole++
	s.counts = append(s.counts, float64(s.last))
	s.sum += uint64(s.last)
	s.broken = s.broken || s.last < 0 || s.sum < uint64(s.last)
}

// spread makes the list of buckets, by rising bound, each bound once and finite; it fails where spans and counts disagree or
// bounds do not rise.
func (h *classics) spread() bool {
	h.buckets = h.buckets[:0]
	if h.schema == customSchema {
		for _, upper := range h.custom {
			h.buckets = append(h.buckets, bucket{upper: upper})
		}
		return len(h.neg.counts) == 0 && h.pos.each(func(i int64, n float64) bool {
			if i >= 0 && i < int64(len(h.buckets)) {
				h.buckets[i].count = n
			}
			return i >= 0 && i <= int64(len(h.buckets)) // the last is +Inf's
		}) && h.rising()
	}
	if !h.neg.each(func(i int64, n float64) bool {
		h.buckets = append(h.buckets, bucket{-h.bound(i - 1), n})
		return true
	}) {
		return false
	}
	for i, j := 0, len(h.buckets)-1; i < j; i, j = i+1, j-1 {
		h.buckets[i], h.buckets[j] = h.buckets[j], h.buckets[i]
	}
	h.buckets = append(h.buckets, h.zero)
	return h.pos.each(func(i int64, n float64) bool {
		if upper := h.bound(i); !math.IsInf(upper, 1) {
			h.buckets = append(h.buckets, bucket{upper, n})
		}
		return true
	}) && h.rising()
}

func (h *classics) rising() bool {
	last := math.Inf(-1)
	for _, b := range h.buckets {
		if !(b.upper > last) || math.IsInf(b.upper, 1) { // NaN does not rise either
			return false
		}
		last = b.upper
	}
	return true
}

// fits reports that the counts are a histogram's, as Prometheus judges it: all of them integers or all floats, none negative or no
// number, and integers add up to the count of all, or to no more where the sum is no number. What a schema has no use for must be
// absent. The end of a histogram has no counts to be judged.
func (h *classics) fits() bool {
	if math.Float64bits(h.sum) == staleNaN {
		return true
	}
	if h.schema == customSchema {
		reach := int64(0)
		for _, sp := range h.pos.spans {
			if sp.offset < 0 {
				return false
			}
			reach += int64(sp.offset) + int64(sp.length)
		}
		if reach > int64(len(h.custom))+1 || len(h.neg.spans) > 0 || h.zero != (bucket{}) {
			return false
		}
	} else if len(h.custom) > 0 {
		return false
	}
	if h.zero.count != 0 && h.zeroFloats != h.floats {
		return false
	}
	for _, s := range []*side{&h.neg, &h.pos} {
		if s.broken || len(s.counts) > 0 && s.whole > 0 == h.floats {
			return false
		}
	}
	if h.floats {
		negative := func(n float64) bool { return !(n >= 0) }
		return !negative(h.count) && !negative(h.zero.count) && !slices.ContainsFunc(h.neg.counts, negative) && !slices.ContainsFunc(h.pos.counts, negative)
	}
	sum, over1 := bits.Add64(h.neg.sum, h.pos.sum, 0)
	sum, over2 := bits.Add64(sum, h.zeroWhole, 0)
	return over1+over2 == 0 && (sum == h.whole || sum < h.whole && math.IsNaN(h.sum))
}

// each calls f for every bucket by rising index, until that fails; it fails too if there are not as many buckets as counts, or
// counts of both kinds.
func (s *side) each(f func(i int64, n float64) bool) bool {
	if s.whole > 0 && s.whole < len(s.counts) {
		return false
	}
	i, at := int64(0), 0
	for k, sp := range s.spans {
		if k > 0 && sp.offset < 0 || int64(sp.length) > int64(len(s.counts)-at) {
			return false
		}
		i += int64(sp.offset)
		for range sp.length {
			if !f(i, s.counts[at]) {
				return false
			}
			i, at = i+1, at+1
		}
	}
	return at == len(s.counts)
}

// bound is the upper bound of bucket i of an exponential schema: 2^(i/2^schema). The largest number is one too, so that what
// lies beyond is infinite.
func (h *classics) bound(i int64) float64 {
	frac, exp := 0.5, i<<max(0, -h.schema)+1
	if h.schema > 0 {
		frac, exp = fractions[i&(1<<h.schema-1)<<(maxSchema-h.schema)], i>>h.schema+1
	}
	if frac == 0.5 && exp == 1025 {
		return math.MaxFloat64
	}
	return math.Ldexp(frac, int(exp))
}

func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func fixed64(src []byte, at int) float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(src[at:]))
}

// appendFixed64 appends the values of the field f, packed or single.
func appendFixed64(dst []float64, src []byte, f *field) []float64 {
	for p := f.start; p < f.end; p += 8 {
		dst = append(dst, fixed64(src, p))
	}
	return dst
}
