package remotewrite

// admitted asks Order.Admit for the series in hand as one of tenant.
func (c *Confiner) admitted(tenant int) (Reason, bool) {
	if c.order.Admit == nil {
		return 0, true
	}
	c.identify(tenant)
	return c.order.Admit(tenant, c.identity)
}

// identify makes identity that of the series which cur describes, as one of tenant. Labels that the series before had are not
// hashed again.
func (c *Confiner) identify(tenant int) {
	if c.identified {
		return
	}
	c.identity, c.identified = 0, true
	for i := range c.cur {
		l := &c.cur[i]
		if l.id == 0 {
			l.id = c.labelID(tenant, l, c.valueOf(l))
		}
		c.identity += l.id
	}
}

// labelID is what label l with that value adds to the identity; 0 for one that the gateway sets.
func (c *Confiner) labelID(tenant int, l *label, value []byte) uint64 {
	if l.hit && c.p.tenants[tenant].fields[l.rank] != nil {
		return 0
	}
	return textHash(textHash(hashSeed^c.order.Seed, c.nameOf(l)), value)
}

// admitsLike asks Order.Admit for the series that is the last one but for the value of label l; if it is admitted, identity is that
// one's.
func (c *Confiner) admitsLike(l *label, value []byte) bool {
	c.identify(c.last.tenant)
	id := c.labelID(c.last.tenant, l, value)
	identity := c.identity - l.id + id
	if _, ok := c.order.Admit(c.last.tenant, identity); !ok {
		return false
	}
	l.id, c.identity = id, identity
	return true
}

// SeriesIdentity is what Order.Admit is told of a series of the 1.0 or 2.0 request with these labels, of which none is one that the
// gateway sets.
func SeriesIdentity(seed uint64, labels []Label) uint64 {
	sum := uint64(0)
	for _, l := range labels {
		if l.Value != "" {
			sum += textHash(textHash(hashSeed^seed, []byte(l.Name)), []byte(l.Value))
		}
	}
	return sum
}
