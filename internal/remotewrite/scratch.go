package remotewrite

// maxKeptPoints bounds the scratch space that outlives a request: one odd request does not stay resident.
const maxKeptPoints = 1 << 16

// trim lets go of scratch space that one odd request needed.
func (c *Confiner) trim() {
	if cap(c.points) > maxKeptPoints {
		c.points = nil
	}
	if cap(c.symbols) > maxKeptPoints {
		c.symbols = nil
	}
	if cap(c.refs)+cap(c.exemplar) > maxKeptPoints {
		c.refs, c.exemplar = nil, nil
	}
	if t := &c.table2; cap(t.slots) > 4*maxKeptPoints || cap(t.pairs) > maxKeptPoints || cap(t.labels)+cap(t.body) > 8*blockSize {
		*t = symbols2{}
	}
	if cap(c.runs) > maxKeptPoints {
		c.runs = nil
	}
	if cap(c.side) > blockSize {
		c.side = nil
	}
	if h := &c.classics; cap(h.buckets)+cap(h.custom)+cap(h.pos.spans)+cap(h.neg.spans)+cap(h.labels)/32 > maxKeptPoints {
		*h = classics{}
	}
	for i := range c.parts {
		c.turn(i)
		if c.out = nil; cap(c.dst) > 8*blockSize {
			c.dst = nil
		}
	}
	c.turn(0)
	if cap(c.divided) > maxKeptPoints {
		c.divided = nil
	}
}
