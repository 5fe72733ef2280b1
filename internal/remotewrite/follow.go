package remotewrite

import (
	"bytes"
	"slices"
)

// follow reads the labels from at on by what is known of the series before, and returns where they end.
//
// Neighbouring series share most labels. What is byte-equal to the same stretch of the last well-formed series has been
// judged there: such stretches are found by comparing bytes, and cur, which describes that series, is brought up to date in
// place. A label that differs is judged alone. Whatever is not plainly well-formed ends in false: then cur is of no more
// use, and the series is to be read from its beginning without help.
func (c *Confiner) follow(at, end int) (after int, ok bool) {
	f := follower{c: c, start: at, p: at, old: c.base}
	for {
		f.same(end)
		if f.p == end || c.src[f.p] != tagLabel {
			break
		}
		if !f.differing(end) {
			return 0, false
		}
	}
	if f.i < len(c.cur) {
		c.cur, f.changed = c.cur[:f.i], true
	}
	c.base = at
	if f.changed {
		if c.survey(); !c.named || len(c.cur) > c.p.rules.Limits.Labels {
			return 0, false
		}
	}
	c.followed = true
	return f.p, true
}

// follower is a series half followed: cur[:i] describes the new series up to p, with offsets from start; cur[i:] still
// describes the old one, with offsets from old.
type follower struct {
	c             *Confiner
	i             int
	start, p, old int
	changed       bool // labels came or went
	differed      bool // a label was not the old one
}

// differs notes that label i is not the old one.
func (f *follower) differs() {
	if !f.differed {
		f.differed, f.c.differed = true, f.i
	}
}

// same takes over the labels from p on for as long as they are the old ones.
func (f *follower) same(end int) {
	c := f.c
	if f.p == f.start && c.differed < len(c.cur) {
		// It is mostly the label that differed last time that differs again: the name from one metric to the next, le within
		// a histogram.
		if c.differed == 0 {
			return
		}
		if f.equal(c.differed, end) {
			f.take(c.differed)
			return
		}
	}
	if f.i < len(c.cur) && f.equal(len(c.cur), end) {
		f.take(len(c.cur))
		return
	}
	k := f.i
	for p := f.p; k < len(c.cur); k++ {
		o := &c.cur[k]
		size := int(o.size)
		if size > end-p || !bytes.Equal(c.src[p:p+size], c.src[f.old+int(o.at):][:size]) {
			break
		}
		p += size
	}
	f.take(k)
}

// equal reports that the labels cur[i:k] stand at p.
func (f *follower) equal(k, end int) bool {
	c := f.c
	from, last := f.old+int(c.cur[f.i].at), &c.cur[k-1]
	size := f.old + int(last.at+last.size) - from
	return size <= end-f.p && bytes.Equal(c.src[f.p:f.p+size], c.src[from:from+size])
}

// take moves the labels cur[i:k] to p.
func (f *follower) take(k int) {
	if k == f.i {
		return
	}
	c := f.c
	if shift := uint32(f.p-f.start) - c.cur[f.i].at; shift != 0 { // modulo 2^32: a shift back is one, too
		for i := f.i; i < k; i++ {
			c.cur[i].at += shift
		}
	}
	last := &c.cur[k-1]
	f.p = f.start + int(last.at+last.size)
	f.i = k
}

// differing judges the label at p, which is not the one that stood here before.
func (f *follower) differing(end int) bool {
	c := f.c
	s, p := c.src, f.p
	body, after, ok := short(s, p, end)
	if !ok {
		return false
	}
	l := label{at: uint32(p - f.start), size: uint32(after - p)}
	if !c.common(&l, p, body, after) || l.valueLen == 0 || int(l.valueLen) > c.p.rules.Limits.ValueBytes {
		return false
	}
	name := s[p+int(l.name) : p+int(l.name+l.nameLen)]
	value := s[p+int(l.value) : p+int(l.value+l.valueLen)]
	for f.i < len(c.cur) {
		o := &c.cur[f.i]
		oldName := s[f.old+int(o.at+o.name):][:o.nameLen]
		cmp := bytes.Compare(name, oldName)
		if cmp == 0 { // another value of the same name
			oldValue := s[f.old+int(o.at+o.value):][:o.valueLen]
			if !bytes.Equal(value, oldValue) {
				if !c.another(value, oldValue, o.metric) {
					return false
				}
				f.differs()
			}
			o.at, o.size, o.name, o.value, o.valueLen = l.at, l.size, l.name, l.value, l.valueLen
			f.i++
			f.p = after
			return true
		}
		if cmp < 0 {
			break
		}
		f.differs()
		c.cur = slices.Delete(c.cur, f.i, f.i+1) // that label is gone
		f.changed = true
	}
	return f.insert(&l, name, value)
}

// insert puts a label with a name of its own before cur[i].
func (f *follower) insert(l *label, name, value []byte) bool {
	c := f.c
	if f.i > 0 {
		b := &c.cur[f.i-1]
		if bytes.Compare(c.src[f.start+int(b.at+b.name):][:b.nameLen], name) >= 0 {
			return false
		}
	}
	base := c.base
	c.base = f.start // labelProblem reads l, which counts from the new series
	_, bad := c.labelProblem(l)
	c.base = base
	l.metric = string(name) == metricName
	if bad || l.metric && !c.validName(value, true) {
		return false
	}
	f.differs()
	c.place(l, name)
	c.cur = slices.Insert(c.cur, f.i, *l)
	f.i++
	f.p += int(l.size)
	f.changed = true
	return true
}

// another judges a value that takes the place of old, which is well-formed.
func (c *Confiner) another(value, old []byte, metric bool) bool {
	if !metric || c.p.rules.UTF8Names {
		return validText(value)
	}
	// A metric name is judged byte by byte, and names that follow one another begin alike.
	return len(value) > 0 && classic(value[commonPrefix(value, old):], true) && nameClass[value[0]]&digit == 0
}
