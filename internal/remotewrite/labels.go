package remotewrite

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// label is one label of a series. Offsets are 32 bits wide: limits.Config bounds a request far below 4 GiB.
type label struct {
	at, size        uint32 // the whole field, tag included; at counts from Confiner.base
	name, nameLen   uint32 // the name; counts from at
	value, valueLen uint32
	id              uint64 // what it adds to the series' identity; 0: not known
	rank            uint8  // how many of the policy's enforced names sort before this name
	hit             bool   // the name is enforced name number rank
	metric          bool   // the name is __name__
	loose           bool   // the name does not decide where the series goes
	// The name, the value, or both are escaped: they lie in Confiner.side, and name and value count from its beginning.
	sideName, sideValue bool
}

const metricName = "__name__"

// maxCollected bounds the labels held of one series, whatever their number on the wire.
const maxCollected = 10_000

func (c *Confiner) nameOf(l *label) []byte {
	if l.sideName {
		return c.side[l.name : l.name+l.nameLen]
	}
	p := c.base + int(l.at) + int(l.name)
	return c.src[p : p+int(l.nameLen)]
}

func (c *Confiner) valueOf(l *label) []byte {
	if l.sideValue {
		return c.side[l.value : l.value+l.valueLen]
	}
	p := c.base + int(l.at) + int(l.value)
	return c.src[p : p+int(l.valueLen)]
}

// labels reads the labels from at on, until end or another field, and returns where it stopped.
func (c *Confiner) labels(at, end int) (int, error) {
	if c.known {
		if after, ok := c.follow(at, end); ok {
			return after, nil
		}
	}
	c.known, c.followed, c.summed, c.identified = false, false, false, false
	c.cur, c.base = c.cur[:0], at
	for at < end && c.src[at] == tagLabel {
		f, after, err := next(c.src, at, end)
		if err != nil {
			return 0, err
		}
		if err := c.oneLabel(at, f.start, f.end); err != nil {
			return 0, err
		}
		at = after
	}
	return at, nil
}

// oneLabel reads and judges the Label in src[body:end), whose field begins at start.
func (c *Confiner) oneLabel(start, body, end int) error {
	l := label{at: uint32(start - c.base), size: uint32(end - start)}
	if !c.common(&l, start, body, end) {
		canonical, err := c.anyLabel(&l, start, body, end)
		if err != nil {
			return err
		}
		c.whole = c.whole && canonical
	}
	if len(c.cur) == maxCollected {
		c.drop(TooManyLabels)
		return nil
	}
	c.cur = append(c.cur, l)
	c.judgeLabel(len(c.cur) - 1)
	return nil
}

// common reads the Label in src[body:end), whose field begins at start, if it has the shape that appendLabel writes with
// every length in one byte but the value's, which may take two; l gets its name and value.
func (c *Confiner) common(l *label, start, body, end int) bool {
	s := c.src
	n := end - body
	if n < 4 || s[body] != 0x0a || s[body+1] >= 0x80 || body-start != 1+uvarintLen(n) {
		return false
	}
	v := body + 2 + int(s[body+1])
	if v+2 > end || s[v] != 0x12 {
		return false
	}
	from, size := v+2, int(s[v+1])
	if size >= 0x80 {
		if v+3 > end || s[v+2] == 0 || s[v+2] >= 0x80 {
			return false
		}
		from, size = v+3, size&0x7f|int(s[v+2])<<7
	}
	if from+size != end {
		return false
	}
	l.name, l.nameLen = uint32(body+2-start), uint32(s[body+1])
	l.value, l.valueLen = uint32(from-start), uint32(size)
	return true
}

// anyLabel reads a Label in any legal encoding; canonical reports that it is the shape that appendLabel writes.
func (c *Confiner) anyLabel(l *label, start, body, end int) (canonical bool, err error) {
	name, nameEnd, value, valueEnd := body, body, body, body
	for at := body; at < end; {
		f, after, err := next(c.src, at, end)
		if err != nil {
			return false, err
		}
		switch f.number {
		case 1:
			name, nameEnd = f.start, f.end
		case 2:
			value, valueEnd = f.start, f.end
		default:
			c.res.Unknown++
		}
		if f.number <= 2 {
			if err := f.want(wireBytes); err != nil {
				return false, err
			}
		}
		at = after
	}
	l.name, l.nameLen = uint32(name-start), uint32(nameEnd-name)
	l.value, l.valueLen = uint32(value-start), uint32(valueEnd-value)
	n := labelBody(l)
	return name < value && valueEnd == end && body+n == end && body-start == 1+uvarintLen(n), nil
}

// judgeLabel checks label i of cur by itself and its place after the one before it.
func (c *Confiner) judgeLabel(i int) {
	l := &c.cur[i]
	if c.p.rules.Escape {
		if c.escape(l); l.sideName || l.sideValue {
			c.whole = false
		}
	}
	name := c.nameOf(l)
	if i > 0 && bytes.Compare(c.nameOf(&c.cur[i-1]), name) >= 0 {
		c.ordered = false
	}
	if why, bad := c.labelProblem(l); bad {
		c.drop(why)
	}
	if l.valueLen == 0 {
		c.ordered = false // the same as absent: settle removes it
		return
	}
	l.metric = string(name) == metricName
	if l.metric && !c.validName(c.valueOf(l), true) {
		c.drop(InvalidMetricName)
	}
	c.place(l, name)
}

// labelProblem is what is wrong with a label by itself.
func (c *Confiner) labelProblem(l *label) (Reason, bool) {
	lim := &c.p.rules.Limits
	name := c.nameOf(l)
	switch {
	case len(name) > lim.NameBytes || int(l.valueLen) > lim.ValueBytes:
		return LabelTooLong, true
	case !c.validName(name, false):
		return InvalidLabelName, true
	case !validText(c.valueOf(l)):
		return InvalidUTF8, true
	}
	for _, prefix := range c.p.rules.Reserved {
		if len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix {
			return ReservedLabel, true
		}
	}
	return 0, false
}

// place finds where name stands among the enforced names.
func (c *Confiner) place(l *label, name []byte) {
	l.loose = loose(name)
	for _, enforced := range c.p.nameBytes {
		cmp := bytes.Compare(enforced, name)
		if l.hit = cmp == 0; cmp >= 0 {
			return
		}
		l.rank++
	}
}

// settle brings the labels of a series that was not followed into canonical order, without empty values, and judges the set.
func (c *Confiner) settle() {
	if !c.ordered {
		c.whole = false
		c.cur = slices.DeleteFunc(c.cur, func(l label) bool { return l.valueLen == 0 })
		slices.SortStableFunc(c.cur, func(a, b label) int { return bytes.Compare(c.nameOf(&a), c.nameOf(&b)) })
		for i := 1; i < len(c.cur); i++ {
			if bytes.Equal(c.nameOf(&c.cur[i-1]), c.nameOf(&c.cur[i])) {
				c.drop(DuplicateLabel)
			}
		}
	}
	c.survey()
	if len(c.cur) > c.p.rules.Limits.Labels {
		c.drop(TooManyLabels)
	}
	if !c.named {
		c.drop(InvalidMetricName)
	}
}

// survey notes what is to be known of the set of labels.
func (c *Confiner) survey() {
	c.named, c.hits, c.tenantHit, c.split = false, 0, -1, 0
	for i := range c.cur {
		l := &c.cur[i]
		if l.rank == 0 && !l.hit {
			c.split = i + 1
		}
		c.named = c.named || l.metric
		if l.hit {
			c.hits++
			if c.p.names[l.rank] == c.p.label {
				c.tenantHit = i
			}
		}
	}
}

// text is the series in hand as an operator would write it, cut to exampleBytes.
func (c *Confiner) text() string {
	b := []byte{'{'}
	for i := range c.cur {
		l := &c.cur[i]
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, cut(c.nameOf(l))...)
		b = append(b, '=')
		b = strconv.AppendQuote(b, string(cut(c.valueOf(l))))
		if len(b) > exampleBytes-2 {
			return strings.ToValidUTF8(string(b[:exampleBytes-4]), "?") + "…}"
		}
	}
	return strings.ToValidUTF8(string(append(b, '}')), "?")
}

// cut bounds what of a label is looked at for an example.
func cut(b []byte) []byte { return b[:min(len(b), exampleBytes)] }
