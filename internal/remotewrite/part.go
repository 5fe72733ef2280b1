package remotewrite

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Split divides a request among the members of an upstream.
type Split struct {
	Parts int // at least 1
	// Part is the part, from 0 to Parts-1, of a sample at ms (Unix milliseconds) of a series with that hash.
	Part func(series uint64, ms int64) int
}

// Block is the part of a request for one member.
type Block struct {
	Bytes   []byte // a snappy block; of nothing if Series is 0
	Series  int
	Samples int // float samples and histogram samples
}

var errSplit = errors.New("remotewrite: only a request of 1.0 can be divided")

// ConfineParts is Confine with what comes out divided by s: block i lies within the capacity of dsts[i], of which there are
// s.Parts. Order.Limit bounds each. The blocks are valid until the next call, beyond their bytes, which are the caller's.
func (c *Confiner) ConfineParts(dsts [][]byte, src []byte, o Order, s Split) ([]Block, Result, error) {
	if o.Out != V1 || s.Parts != len(dsts) || s.Parts < 1 {
		return nil, Result{}, errSplit
	}
	if c.division = nil; s.Parts > 1 {
		c.dividing = s
		c.division = &c.dividing
	}
	res, err := c.confine(dsts, src, o)
	if err != nil {
		return nil, Result{}, err
	}
	return c.blocks, res, nil
}

// turn makes part the one that is written to.
func (c *Confiner) turn(part int) {
	if part != c.part {
		c.parts[c.part] = c.output
		c.output, c.part = c.parts[part], part
	}
}

// route makes the part of a sample at ms of the series in hand, which belongs to tenant, the one that is written to.
func (c *Confiner) route(tenant int, ms int64) {
	if c.division != nil {
		c.turn(c.division.Part(c.hash(tenant), ms))
	}
}

// emitParts emits the series in hand, which may have samples of several parts.
func (c *Confiner) emitParts(tenant int) error {
	all, hash := c.points, c.hash(tenant)
	if len(all) == 1 && (!all[0].copied || all[0].samples(c.src) == 1) {
		c.turn(c.division.Part(hash, c.time(&all[0])))
		return c.emit(tenant)
	}
	// The points one by one, and those of one part after those of another.
	c.divided = c.divided[:0]
	for _, pt := range all {
		if !pt.copied {
			c.divided = append(c.divided, pt)
			continue
		}
		for at := pt.start; at < pt.end; {
			end := at + 2 + uint32(c.src[at+1])
			c.divided = append(c.divided, point{start: at, end: end, kind: pt.kind, copied: true})
			at = end
		}
	}
	c.points = nil
	defer func() { c.points = all[:0] }()
	var mine []point // a series with samples of several parts is rare: it may cost an allocation
	for part := range c.division.Parts {
		mine = mine[:0]
		for i := range c.divided {
			pt := &c.divided[i]
			if c.division.Part(hash, c.time(pt)) != part {
				continue
			}
			if n := len(mine); pt.copied && n > 0 && mine[n-1].copied && mine[n-1].end == pt.start {
				mine[n-1].end = pt.end
				continue
			}
			mine = append(mine, *pt)
		}
		if len(mine) == 0 {
			continue
		}
		c.turn(part)
		c.points = mine
		if err := c.emit(tenant); err != nil {
			return err
		}
	}
	return nil
}

// time is the timestamp of a point that judge has accepted.
func (c *Confiner) time(pt *point) int64 {
	if pt.kind == tagSample {
		one := *pt
		if pt.copied {
			one.start += 2
			one.end = one.start + uint32(c.src[pt.start+1])
		}
		_, ms := c.point(&one)
		return ms
	}
	w, _ := walk(c.src, int(pt.start), int(pt.end), c.fieldsOf(pt.kind))
	return w.timestamp
}

// loose reports a label that does not decide where its series goes: so a histogram stays together, and so do the metrics of
// one target, which repeat one another.
func loose(name []byte) bool {
	switch string(name) {
	case metricName, "le", "quantile":
		return true
	}
	return false
}

// hash is that of the series in hand as a series of tenant: see SeriesHash.
func (c *Confiner) hash(tenant int) uint64 {
	if !c.summed {
		c.sum = 0
		for i := range c.cur {
			c.sum += c.labelHash(&c.cur[i])
		}
		c.summed = true
	}
	return seriesHash(c.p.tenants[tenant].hash, c.sum)
}

// labelHash is what l adds to the sum; 0 for what adds nothing.
func (c *Confiner) labelHash(l *label) uint64 {
	if l.hit || l.loose {
		return 0
	}
	return textHash(textHash(hashSeed, c.nameOf(l)), c.valueOf(l))
}

// stays reports that the last series with value in its label l, and a sample at ms, belongs to the part that is written to,
// and takes its hash for that of the series in hand.
func (c *Confiner) stays(l *label, value []byte) bool {
	sum := c.sum
	if !c.summed {
		return false
	}
	if !l.loose {
		sum += textHash(textHash(hashSeed, c.nameOf(l)), value) - c.labelHash(l)
	}
	if c.division.Part(seriesHash(c.p.tenants[c.last.tenant].hash, sum), c.ms) != c.part {
		return false
	}
	c.sum = sum
	return true
}

// SeriesHash decides where a series goes. It depends on the tenant and on the labels that the client gave, in any order, but not
// on those named __name__, le and quantile, nor on those that the gateway sets. It never changes: replicas of different
// versions must agree on it.
//
// Each label's name and value are folded, eight bytes at a time, little-endian, the rest filled up with zeros, each text
// behind its length; the labels' hashes are added, and the tenant's is folded in. To fold is to multiply by a constant to
// 128 bits and to combine both halves by exclusive or.
func SeriesHash(tenant string, labels []Label) uint64 {
	sum := uint64(0)
	for _, l := range labels {
		if name := []byte(l.Name); !loose(name) {
			sum += textHash(textHash(hashSeed, name), []byte(l.Value))
		}
	}
	return seriesHash(textHash(hashSeed, []byte(tenant)), sum)
}

const (
	hashSeed   = 0x9e3779b97f4a7c15
	hashFactor = 0xd6e8feb86659fd93
)

func seriesHash(tenant, sum uint64) uint64 { return fold(fold(sum, tenant), hashSeed) }

func textHash(h uint64, b []byte) uint64 {
	h = fold(h, uint64(len(b)))
	for ; len(b) >= 8; b = b[8:] {
		h = fold(h, binary.LittleEndian.Uint64(b))
	}
	if len(b) > 0 {
		rest := uint64(0)
		for i, x := range b {
			rest |= uint64(x) << (8 * i)
		}
		h = fold(h, rest)
	}
	return h
}

func fold(h, v uint64) uint64 {
	high, low := bits.Mul64(h^v, hashFactor)
	return high ^ low
}
