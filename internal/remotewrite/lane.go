package remotewrite

// maxLane bounds what is fresh in a series that lane takes, so that every literal has a tag of one byte.
const maxLane = 56

// lane takes the whole TimeSeries in src[at:end) if it is what most series are: the last one once more, of the common shape,
// but for the value of label k, and with one sample. It judges what differs, writes the series as elements, and brings cur up
// to date. If it is another one, nothing has happened. It does in one go what follow and usual do for all: two thirds of
// all series come this way, and it halves their cost.
func (c *Confiner) lane(at, end, k int) bool {
	s, last, l := c.src, &c.last, &c.cur[k]
	// The labels before, the label, the labels behind.
	ahead, base, name := int(l.at), c.base, int(l.nameLen)+3 // the name with its tag and length, and the value's tag
	p, old := at+ahead, base+ahead
	v := p + 2 + name + 1
	if l.name != 4 || v >= end || string(s[p+2:v-1]) != string(s[old+2:old+2+name]) || string(s[at:p+1]) != string(s[base:old+1]) {
		return false
	}
	n, grown := int(s[v-1]), int(s[v-1])-int(l.valueLen)
	q, oldTail := v+n, old+int(l.size)
	tail := last.sample - oldTail
	if n == 0 || n > maxLane || name+1+n >= 0x80 || int(s[p+1]) != name+1+n || int(l.value) != 3+name || n > c.p.rules.Limits.ValueBytes || tail < shortestCopy {
		return false
	}
	e := q + tail
	if e > end || string(s[q:e]) != string(s[oldTail:last.sample]) || !c.single(e, end) {
		return false
	}
	same := commonPrefix(s[v:q], s[old+int(l.value):][:l.valueLen])
	if !c.another(s[v:q], same, l.metric) {
		return false
	}
	const headLen = 3 // of both series
	t := c.p.tenants[last.tenant].size
	size, pos := end-at+t, c.length
	dist := pos - last.pos
	if min(size, last.size) < 1<<7 || max(size, last.size) >= 1<<14 || dist+size+headLen > maxDist || pos+headLen+size > c.limit || !c.room(size/8+128) {
		return false
	}
	if (c.division != nil || c.order.Admit != nil) && !c.passes(l, s[v:q]) {
		return false
	}
	if c.literal > 0 {
		c.endLiteral()
	}
	split := last.split
	if split <= ahead {
		ahead += t
	} else {
		tail, split = tail+t, split+grown
	}
	c.head(size, dist)
	c.copyOrFresh(p, ahead+1, dist)
	if grown == 0 {
		c.copyOrFresh(p+1, 1+name+1+same, dist)
	} else {
		c.byte(s[p+1])
		c.copied(name, dist)
		c.byte(byte(n))
		c.copyOrFresh(v, same, dist)
	}
	c.freshen(v+same, n-same)
	now := emitted{known: true, tenant: last.tenant, base: at, sample: e, end: end, split: split, size: size, pos: pos, labels: pos + headLen}
	c.copied(tail, dist+grown)
	c.repeatSamples(&now)
	*last = now
	c.took(k, n, size+headLen)
	return true
}

// passes reports that the last series with value in its label l is admitted and belongs to the part that is written to.
func (c *Confiner) passes(l *label, value []byte) bool {
	if c.division != nil && !c.stays(l, value) {
		return false
	}
	if c.order.Admit != nil && !c.admitsLike(l, value) {
		c.summed = false // stays has gone ahead
		return false
	}
	return true
}

// took brings up to date what is known of the last series, after lane has written one of whole bytes with n bytes in the value
// of label k.
func (c *Confiner) took(k, n, whole int) {
	l := &c.cur[k]
	if grown := uint32(n) - l.valueLen; grown != 0 { // modulo 2^32
		l.size += grown
		l.valueLen = uint32(n)
		for i := k + 1; i < len(c.cur); i++ {
			c.cur[i].at += grown
		}
	}
	c.base, c.differed = c.last.base, k
	c.length += whole
	c.credit = min(c.credit+1, maxCredit)
	c.add(c.last.tenant, 1)
	c.addSeries()
}
