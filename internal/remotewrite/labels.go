package remotewrite

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// label is one label of a series: offsets into the request, whose length limits.Config bounds far below 4 GiB.
type label struct {
	start, end      uint32 // the whole field, tag included
	name, nameEnd   uint32
	value, valueEnd uint32
	rank            uint8 // how many of the policy's enforced names sort before this name
	hit             bool  // the name is enforced name number rank
	metric          bool  // the name is __name__
}

// labels reads the labels from at on, until end or another field, and returns where it stopped.
//
// Neighbouring series share most labels. What is byte-equal to the same stretch of the last well-formed series has been
// judged there: such stretches are found by comparing words, and their labels taken over, moved to this place.
func (c *Confiner) labels(at, end int) (int, error) {
	j := 0 // index in prev of the label that may stand at `at`
	for at < end && c.src[at] == tagLabel {
		if j < len(c.prev) {
			base := int(c.prev[j].start)
			run := commonPrefix(c.src[at:end], c.src[base:c.prevEnd])
			if k := c.takeOver(j, at-base, base+run); k > j {
				at += int(c.prev[k-1].end) - base
				j = k
				continue
			}
		}
		f, after, err := next(c.src, at, end)
		if err != nil {
			return 0, err
		}
		if err := c.oneLabel(at, f.start, f.end); err != nil {
			return 0, err
		}
		j = c.resync(j)
		at = after
	}
	return at, nil
}

// takeOver appends prev[j:k], moved by shift, for the largest k with prev[k-1].end <= limit, and returns k.
func (c *Confiner) takeOver(j, shift, limit int) int {
	k := j
	for k < len(c.prev) && int(c.prev[k].end) <= limit {
		k++
	}
	if k == j {
		return j
	}
	if len(c.cur) > 0 && c.seam != j-1 {
		// The label before this stretch is not the one that stood there; within the stretch the order is known.
		last := &c.cur[len(c.cur)-1]
		if bytes.Compare(c.src[last.name:last.nameEnd], c.src[c.prev[j].name:c.prev[j].nameEnd]) >= 0 {
			c.whole = false
		}
	}
	at, by := len(c.cur), uint32(shift) // modulo 2^32: a shift back is one, too
	c.cur = append(c.cur, c.prev[j:k]...)
	for i := at; i < len(c.cur); i++ {
		l := &c.cur[i]
		l.start += by
		l.end += by
		l.name += by
		l.nameEnd += by
		l.value += by
		l.valueEnd += by
		c.named = c.named || l.metric
		if l.hit {
			c.enforcedName(i)
		}
	}
	c.seam = k - 1
	return k
}

// resync finds where in prev the label after the last one of cur may stand, given that it was looked for at j.
func (c *Confiner) resync(j int) int {
	l := &c.cur[len(c.cur)-1]
	name := c.src[l.name:l.nameEnd]
	for k := j; k < len(c.prev); k++ {
		switch bytes.Compare(c.src[c.prev[k].name:c.prev[k].nameEnd], name) {
		case 0:
			c.seam = k
			return k + 1
		case 1:
			c.seam = -1
			return k
		}
	}
	c.seam = -1
	return len(c.prev)
}

const metricName = "__name__"

// maxCollected bounds the labels held of one series, whatever their number on the wire.
const maxCollected = 10_000

// oneLabel reads and judges the Label in src[body:end), whose field begins at start.
func (c *Confiner) oneLabel(start, body, end int) error {
	l := label{start: uint32(start), end: uint32(end)}
	s := c.src
	canonical := false
	// The shape that senders write: 0a len name 12 len value, lengths below 128, nothing else.
	if n := end - body; n >= 2 && s[body] == 0x0a && s[body+1] < 0x80 {
		v := body + 2 + int(s[body+1])
		if v+2 <= end && s[v] == 0x12 && s[v+1] < 0x80 && v+2+int(s[v+1]) == end {
			l.name, l.nameEnd, l.value, l.valueEnd = uint32(body+2), uint32(v), uint32(v+2), uint32(end)
			canonical = body-start == 1+uvarintLen(n)
		}
	}
	if !canonical {
		var err error
		if canonical, err = c.anyLabel(&l, body); err != nil {
			return err
		}
	}
	c.whole = c.whole && canonical
	if len(c.cur) == maxCollected {
		c.drop(TooManyLabels)
		return nil
	}
	c.cur = append(c.cur, l)
	c.judgeLabel(len(c.cur) - 1)
	return nil
}

// anyLabel reads a Label in any legal encoding; canonical reports that it is the shape that appendLabel writes.
func (c *Confiner) anyLabel(l *label, body int) (canonical bool, err error) {
	end := int(l.end)
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
	l.name, l.nameEnd, l.value, l.valueEnd = uint32(name), uint32(nameEnd), uint32(value), uint32(valueEnd)
	n := labelBody(l)
	return name < value && valueEnd == end && body+n == end && body-int(l.start) == 1+uvarintLen(n), nil
}

// judgeLabel checks label i of cur by itself and its place after the one before it.
func (c *Confiner) judgeLabel(i int) {
	l := &c.cur[i]
	name, value := c.src[l.name:l.nameEnd], c.src[l.value:l.valueEnd]
	if i > 0 {
		if before := &c.cur[i-1]; bytes.Compare(c.src[before.name:before.nameEnd], name) >= 0 {
			c.whole = false
		}
	}
	lim := &c.p.rules.Limits
	switch {
	case len(name) > lim.NameBytes || len(value) > lim.ValueBytes:
		c.drop(LabelTooLong)
	case !c.validName(name, false):
		c.drop(InvalidLabelName)
	case !validText(value):
		c.drop(InvalidUTF8)
	}
	for _, prefix := range c.p.rules.Reserved {
		if len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix {
			c.drop(ReservedLabel)
		}
	}
	if len(value) == 0 {
		c.whole = false // the same as absent: settle removes it
		return
	}
	if string(name) == metricName {
		l.metric, c.named = true, true
		if !c.validName(value, true) {
			c.drop(InvalidMetricName)
		}
	}
	for int(l.rank) < len(c.p.names) {
		cmp := bytes.Compare(c.p.nameBytes[l.rank], name)
		l.hit = cmp == 0
		if cmp >= 0 {
			break
		}
		l.rank++
	}
	if l.hit {
		c.enforcedName(i)
	}
}

// enforcedName notes that label i of cur bears an enforced name.
func (c *Confiner) enforcedName(i int) {
	c.hits++
	if c.p.names[c.cur[i].rank] == c.p.label {
		c.tenantHit = i
	}
}

// settle brings the labels into canonical order, without empty values, and judges the set.
func (c *Confiner) settle() {
	if !c.whole {
		c.cur = slices.DeleteFunc(c.cur, func(l label) bool { return l.value == l.valueEnd })
		slices.SortStableFunc(c.cur, func(a, b label) int {
			return bytes.Compare(c.src[a.name:a.nameEnd], c.src[b.name:b.nameEnd])
		})
		c.hits, c.tenantHit = 0, -1
		for i := range c.cur {
			if i > 0 && bytes.Equal(c.src[c.cur[i-1].name:c.cur[i-1].nameEnd], c.src[c.cur[i].name:c.cur[i].nameEnd]) {
				c.drop(DuplicateLabel)
			}
			if c.cur[i].hit {
				c.enforcedName(i)
			}
		}
	}
	if len(c.cur) > c.p.rules.Limits.Labels {
		c.drop(TooManyLabels)
	}
	if !c.named {
		c.drop(InvalidMetricName)
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
		b = append(b, cut(c.src[l.name:l.nameEnd])...)
		b = append(b, '=')
		b = strconv.AppendQuote(b, string(cut(c.src[l.value:l.valueEnd])))
		if len(b) > exampleBytes-2 {
			return strings.ToValidUTF8(string(b[:exampleBytes-4]), "?") + "…}"
		}
	}
	return strings.ToValidUTF8(string(append(b, '}')), "?")
}

// cut bounds what of a label is looked at for an example.
func cut(b []byte) []byte { return b[:min(len(b), exampleBytes)] }

// Classes of bytes in classic names.
const (
	letter = 1 << iota // may stand anywhere in a label name
	digit              // anywhere but first
	colon              // in metric names
)

var nameClass = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = letter, letter
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = digit
	}
	t['_'], t[':'] = letter, colon
	return t
}()

// validName checks a label's name or, with metric set, the value of __name__.
func (c *Confiner) validName(name []byte, metric bool) bool {
	if len(name) == 0 {
		return false
	}
	if c.p.rules.UTF8Names {
		return validText(name)
	}
	allowed := uint8(letter | digit)
	if metric {
		allowed |= colon
	}
	for _, b := range name {
		if nameClass[b]&allowed == 0 {
			return false
		}
	}
	return nameClass[name[0]]&digit == 0
}

// validText reports UTF-8; plain ASCII, which nearly all labels are, is seen eight bytes at a time.
func validText(b []byte) bool {
	const high = 0x8080808080808080
	n := len(b)
	if n >= 8 {
		acc := binary.LittleEndian.Uint64(b[n-8:])
		for i := 0; i+8 < n; i += 8 {
			acc |= binary.LittleEndian.Uint64(b[i:])
		}
		return acc&high == 0 || utf8.Valid(b)
	}
	var acc byte
	for _, x := range b {
		acc |= x
	}
	return acc < 0x80 || utf8.Valid(b)
}
