package remotewrite

import (
	"encoding/binary"
	"math/bits"
)

// The common shape is what nearly every series has: its labels whole, none of them an enforced one, one label to be set, and
// one run of canonical samples right behind them.

// emitted is where the last series of the common shape stands in what comes out, and in the request.
type emitted struct {
	known       bool
	tenant      int
	base        int // its labels in the request
	sample, end int // its samples there
	split       int // where among its labels the tenant's stands, counted from base
	size        int // of its payload in what comes out
	pos         int // it, there
	labels      int // its first label, there
}

// whole is the length of what comes out, with tag and length.
func (e *emitted) whole() int { return e.labels - e.pos + e.size }

// A stretch of series that do not repeat one another is written out and searched for repeats as a whole. It ends with enough
// series that do, and begins with one that does not, unless many did before: credit counts them.
const (
	enoughCredit = 4
	oddPrice     = 8 // of a single one that does not
	maxCredit    = 64
)

// maxElements is the longest series that is written as elements, with its tag and length.
const maxElements = 1 << 14

// usual appends the series in hand, of the common shape, whose samples are src[at:end), to what comes out.
//
// If it is known to repeat most of the series of that shape before it, by what follow has compared, it becomes elements of the
// block at once, and is not written out first to be searched for what repeats.
func (c *Confiner) usual(tenant, at, end int) error {
	t := &c.p.tenants[tenant]
	labels := at - c.labelsStart
	size := labels + t.size + end - at
	now := emitted{known: true, tenant: tenant, base: c.labelsStart, sample: at, end: end, split: labels, size: size, pos: c.length + len(c.dst)}
	if c.split < len(c.cur) {
		now.split = int(c.cur[c.split].at)
	}
	now.labels = now.pos + 1 + uvarintLen(size)
	repeats, err := c.repeats(&now)
	if err != nil {
		return err
	}
	if repeats {
		if c.length = now.pos + now.whole(); c.length > c.limit {
			return ErrTooLong
		}
		c.repeat(&now)
	} else {
		split := c.labelsStart + now.split
		c.dst = appendTagged(c.dst, tagSeries, size)
		c.dst = append(c.dst, c.src[c.labelsStart:split]...)
		c.dst = append(c.dst, t.fields[0]...)
		c.dst = append(c.dst, c.src[split:end]...)
	}
	c.last = now
	c.addSeries()
	if len(c.dst) >= blockSize {
		return c.flush(false)
	}
	return nil
}

// repeats decides whether the series now, which is the one in hand, is to be written as elements, and makes ready for it.
func (c *Confiner) repeats(now *emitted) (bool, error) {
	last, samples := &c.last, now.end-now.sample
	if !c.followed || !last.known || last.base != c.oldBase || last.tenant != now.tenant || c.plain ||
		now.whole() > maxElements || now.pos+now.whole()-last.pos > maxDist {
		c.credit = 0
		return false, nil
	}
	fresh := now.sample - now.base
	for i := range c.runs {
		fresh -= int(c.runs[i].n)
	}
	if fresh+samples <= now.size/3 {
		c.credit = min(c.credit+1, maxCredit)
	} else {
		c.credit -= oddPrice
	}
	if c.credit < 0 || len(c.dst) > 0 && c.credit < enoughCredit {
		c.credit = max(c.credit, 0)
		return false, nil
	}
	if len(c.dst) > 0 {
		if err := c.flush(true); err != nil {
			return false, err
		}
	}
	// At most: what is fresh, the samples and the head; what each run can add in tags, and in bytes too few for a copy, of three
	// pieces; the tags of a copy's further pieces.
	if !c.room(fresh + samples + 24*(len(c.runs)+2) + now.size/16) {
		return false, ErrShort
	}
	return true, nil
}

// repeat writes the series now, which is the one in hand, as elements.
func (c *Confiner) repeat(now *emitted) {
	c.head(now.size, now.pos-c.last.pos)
	if c.changed {
		c.repeatChanged(now)
	} else {
		c.repeatLabels(now)
	}
	c.repeatSamples(now)
}

// head writes the tag and length of a series whose payload has size bytes, dist bytes behind the series before.
func (c *Confiner) head(size, dist int) {
	w := &c.elements
	if w.size > 0 && w.dist == dist {
		if size == c.last.size {
			w.size += 1 + uvarintLen(size)
			return
		}
		w.size++
	} else {
		w.byte(tagSeries)
	}
	for ; size >= 0x80; size >>= 7 {
		w.byte(byte(size) | 0x80)
	}
	w.byte(byte(size))
}

// repeatLabels writes labels that have the names of those of the series before.
func (c *Confiner) repeatLabels(now *emitted) {
	last := &c.last
	size := c.p.tenants[now.tenant].size
	done := 0                        // of the labels
	dist := now.labels - last.labels // of the labels before the tenant's; behind it, as much
	ahead := now.split
	for i := range c.runs {
		r := &c.runs[i]
		at, n := int(r.at), int(r.n)
		if ahead < at && ahead >= done { // labels on either side of the tenant's differ
			c.freshen(now.base+done, ahead-done)
			c.copied(size, dist+now.split-last.split)
			done, ahead = ahead, -1
		}
		if at > done {
			c.freshen(now.base+done, at-done)
		}
		done = at + n
		if ahead >= at && ahead <= done {
			n += size
			ahead = -1
		}
		c.copyOrFresh(now.base+at, n, dist+at-int(r.old))
	}
	if end := now.sample - now.base; ahead >= done || end > done {
		if ahead >= done {
			c.freshen(now.base+done, ahead-done)
			c.copied(size, dist+now.split-last.split)
			done = ahead
		}
		c.freshen(now.base+done, end-done)
	}
}

// repeatChanged is repeatLabels where labels came or went.
func (c *Confiner) repeatChanged(now *emitted) {
	last := &c.last
	size := c.p.tenants[now.tenant].size
	done, behind := 0, 0 // behind is the size of the tenant's label, once it is written
	tenantLabel := func() {
		c.copied(size, now.labels+now.split-last.labels-last.split)
		behind = size
	}
	for _, r := range c.runs {
		at, old, n := int(r.at), int(r.old), int(r.n)
		if behind == 0 && now.split < at {
			c.freshen(now.base+done, now.split-done)
			done = now.split
			tenantLabel()
		}
		c.freshen(now.base+done, at-done)
		for n > 0 {
			if behind == 0 && now.split == at {
				tenantLabel()
			}
			k := n
			if behind == 0 && now.split < at+n {
				k = now.split - at
			}
			oldBehind := 0
			if old >= last.split {
				oldBehind = size
			} else if last.split < old+k {
				k = last.split - old
			}
			c.copyOrFresh(now.base+at, k, now.labels+at+behind-last.labels-old-oldBehind)
			at, old, n = at+k, old+k, n-k
		}
		done = at
	}
	if behind == 0 {
		c.freshen(now.base+done, now.split-done)
		done = now.split
		tenantLabel()
	}
	c.freshen(now.base+done, now.sample-now.base-done)
}

// timeSize is the length of a sample's time stamp, from 1971 to 2109, with its tag.
const timeSize = 7

// repeatSamples writes the samples of the series now. What repeats in them is as far from the end in both series.
func (c *Confiner) repeatSamples(now *emitted) {
	last := &c.last
	s := c.src
	at, n, old, oldN := now.sample, now.end-now.sample, last.sample, last.end-last.sample
	dist := now.pos + now.whole() - last.pos - last.whole()
	same := 0 // at the end
	if n >= timeSize && oldN >= timeSize && string(s[now.end-timeSize:now.end]) == string(s[last.end-timeSize:last.end]) {
		same = timeSize
	}
	if n == 18 && oldN == 18 && s[at+2] == 0x09 && s[old+2] == 0x09 {
		// The low bytes of a value, which come first, are 0 in small whole numbers; its highest is the same in values of one size.
		x := binary.LittleEndian.Uint64(s[at+3:]) ^ binary.LittleEndian.Uint64(s[old+3:])
		front := 3 + bits.TrailingZeros64(x)/8
		if x == 0 {
			front = 11
		}
		c.copyOrFresh(at, front, dist)
		if same > 0 && x != 0 {
			same += bits.LeadingZeros64(x) / 8
		}
		c.freshen(at+front, 18-front-same)
	} else if n == oldN && n > timeSize && s[at+1] == s[old+1] {
		c.copyOrFresh(at, 2, dist)
		c.freshen(at+2, n-2-same)
	} else {
		c.freshen(at, n-same)
	}
	if same > 0 {
		c.copied(same, dist)
	}
}
