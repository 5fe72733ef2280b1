package remotewrite

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// run says that n bytes of a series' labels at at are those of the series before at old; both count from the first label.
type run struct{ at, old, n uint32 }

// follow reads the labels from at on by what is known of the series before, and returns where they end.
//
// Neighbouring series share most labels. What is byte-equal to the same stretch of the last well-formed series has been
// judged there: such stretches are found by comparing bytes, and cur, which describes that series, is brought up to date in
// place. A label that differs is judged alone. Whatever is not plainly well-formed ends in false: then cur is of no more
// use, and the series is to be read from its beginning without help.
//
// What repeats the series before is in runs afterwards, in order.
func (c *Confiner) follow(at, end int) (after int, ok bool) {
	c.runs, c.oldBase, c.changed, c.identified = c.runs[:0], c.base, false, false
	f := follower{c: c, start: at, p: at, old: c.base, end: end, differed: -1}
	// It is mostly the label that differed last time that differs again: the name from one metric to the next, le within a
	// histogram.
	guessed := false
	if k := c.differed; k < len(c.cur) {
		size := int(c.cur[k].at)
		if guessed = size <= end-at && bytes.Equal(c.src[at:at+size], c.src[f.old:f.old+size]); guessed && size > 0 {
			c.runs = append(c.runs, run{0, 0, uint32(size)})
			f.i, f.p = k, at+size
		}
	}
	for {
		if !guessed && f.i < len(c.cur) {
			f.same()
		}
		guessed = false
		if f.p == end || c.src[f.p] != tagLabel {
			break
		}
		if !f.differing() {
			return 0, false
		}
	}
	if f.i < len(c.cur) {
		c.cur, c.changed, c.summed = c.cur[:f.i], true, false
	}
	c.base = at
	if f.differed >= 0 {
		c.differed = f.differed
	}
	if c.changed {
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
	end           int // of the series
	differed      int // the first label that is not the old one, or -1
}

// same takes over the labels from p on for as long as they are the old ones; there are old ones left.
func (f *follower) same() {
	c := f.c
	from, last := f.old+int(c.cur[f.i].at), &c.cur[len(c.cur)-1]
	size := f.old + int(last.at+last.size) - from
	if size <= f.end-f.p && bytes.Equal(c.src[f.p:f.p+size], c.src[from:from+size]) {
		f.take(len(c.cur), size)
		return
	}
	size = min(size, f.end-f.p)
	same := commonPrefix(c.src[f.p:f.p+size], c.src[from:from+size])
	k, taken := f.i, 0
	for k < len(c.cur) && taken+int(c.cur[k].size) <= same {
		taken += int(c.cur[k].size)
		k++
	}
	if taken > 0 {
		f.take(k, taken)
	}
}

// take moves the labels cur[i:k], of size bytes, to p.
func (f *follower) take(k, size int) {
	cur := f.c.cur[f.i:k]
	at, old := uint32(f.p-f.start), cur[0].at
	f.repeats(at, old, uint32(size))
	if shift := at - old; shift != 0 { // modulo 2^32: a shift back is one, too
		for i := range cur {
			cur[i].at += shift
		}
	}
	f.p += size
	f.i = k
}

// repeats notes that n bytes at at are those at old.
func (f *follower) repeats(at, old, n uint32) {
	if runs := f.c.runs; len(runs) > 0 {
		if r := &runs[len(runs)-1]; r.at+r.n == at && r.old+r.n == old {
			r.n += n
			return
		}
	}
	f.c.runs = append(f.c.runs, run{at, old, n})
}

// differing judges the label at p, which is not the one that stood here before.
func (f *follower) differing() bool {
	c := f.c
	s, p := c.src, f.p
	body, after, ok := short(s, p, f.end)
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
		if string(name) == string(oldName) {
			oldValue := s[f.old+int(o.at+o.value):][:o.valueLen]
			same := commonPrefix(value, oldValue)
			if same < len(value) || len(oldValue) != len(value) {
				if !c.another(value, same, o.metric) {
					return false
				}
				if c.division != nil && !o.loose && !o.hit {
					c.sum += textHash(textHash(hashSeed, name), value) - textHash(textHash(hashSeed, name), oldValue)
				}
				if f.differed < 0 {
					f.differed = f.i
				}
				o.id = 0
			}
			f.alike(&l, o, same)
			o.at, o.size, o.name, o.value, o.valueLen = l.at, l.size, l.name, l.value, l.valueLen
			f.i++
			f.p = after
			return true
		}
		if bytes.Compare(name, oldName) < 0 {
			break
		}
		if f.differed < 0 {
			f.differed = f.i
		}
		c.summed = c.summed && (o.loose || o.hit)
		c.cur = slices.Delete(c.cur, f.i, f.i+1) // that label is gone
		c.changed = true
	}
	return f.insert(&l, name, value)
}

// alike notes what of the label l, which has the name of o, is the same; same is the length of what both values begin with.
func (f *follower) alike(l, o *label, same int) {
	switch {
	case l.name != o.name || l.value != o.value: // lengths of as many bytes?
	case l.size == o.size:
		f.repeats(l.at, o.at, l.value+uint32(same))
	default:
		f.repeats(l.at, o.at, 1)
		const framed = 2 // the tag of the name and its length
		f.repeats(l.at+l.name-framed, o.at+o.name-framed, framed+l.nameLen+1)
		if same >= shortestCopy {
			f.repeats(l.at+l.value, o.at+o.value, uint32(same))
		}
	}
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
	if f.differed < 0 {
		f.differed = f.i
	}
	c.place(l, name)
	c.summed = c.summed && (l.loose || l.hit)
	c.cur = slices.Insert(c.cur, f.i, *l)
	f.i++
	f.p += int(l.size)
	c.changed = true
	return true
}

// another judges a value that takes the place of a well-formed one, with which it has the first same bytes in common.
func (c *Confiner) another(value []byte, same int, metric bool) bool {
	if !metric || c.p.rules.UTF8Names {
		return validText(value)
	}
	// A metric name is judged byte by byte, and names that follow one another begin alike.
	return len(value) > 0 && classic(value[same:], true) && nameClass[value[0]]&digit == 0
}

// commonPrefix is the length of what a and b begin with.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
