package remotewrite

import (
	"encoding/binary"
)

// single reports that src[at:end) is what follows the labels of nearly every series: one sample, in the shape that emit writes,
// with a timestamp of six bytes (1971 to 2109), within the window. Anything else is for judge.
func (c *Confiner) single(at, end int) bool {
	const more, last = 0x0000_0080_8080_8080, 0x0000_8000_0000_0000 // the varint goes on after bytes 0 to 4, and ends with byte 5
	s := c.src
	if end-at < 9 || s[at] != tagSample || int(s[at+1]) != end-at-2 {
		return false
	}
	p := at + 2
	if s[p] == 0x09 && end-p == 16 {
		p += 9
	}
	if end-p != 7 || s[p] != 0x10 || p+9 > len(s) {
		return false
	}
	x := binary.LittleEndian.Uint64(s[p+1:])
	if x&(more|last) != more || s[end-1] == 0 {
		return false
	}
	ts := int64(x&0x7f | x>>1&(0x7f<<7) | x>>2&(0x7f<<14) | x>>3&(0x7f<<21) | x>>4&(0x7f<<28) | x>>5&(0x7f<<35))
	c.ms = ts
	return ts >= c.minT && ts <= c.maxT
}

// judge reads every field of the series but the labels from at on, and gathers in points what is to be kept.
func (c *Confiner) judge(at, end int) error {
	lost := 0 // samples and histograms of a series that is dropped
	for at < end {
		if body, after, ok := short(c.src, at, end); ok && c.src[at] == tagSample && after-at < 0x80 && !c.isBad {
			_, ts, canonical, err := c.sample(body, after)
			if err != nil {
				return err
			}
			if c.inWindow(ts) {
				c.keepSample(at, after, body, canonical)
			}
			at = after
			continue
		}
		f, after, err := next(c.src, at, end)
		if err != nil {
			return err
		}
		kind := c.kind(f.number)
		if kind != 0 {
			if err := f.want(wireBytes); err != nil {
				return err
			}
		}
		switch kind {
		case tagSample:
			_, ts, canonical, err := c.sample(f.start, f.end)
			if err != nil {
				return err
			}
			canonical = canonical && f.start-at == 1+uvarintLen(f.end-f.start)
			if c.isBad {
				lost++
			} else if c.inWindow(ts) {
				c.keepSample(at, after, f.start, canonical)
			}
		case tagHistogram, tagExemplar:
			if err := c.histogramOrExemplar(&f, kind, &lost); err != nil {
				return err
			}
		case tagMetadata:
			if err := c.keepMetadata2(&f); err != nil {
				return err
			}
		default:
			if f.number != 1 {
				c.res.Unknown++
			}
		}
		at = after
	}
	if c.isBad {
		c.lose(lost)
	} else if len(c.points) == 0 {
		c.res.Empty++
	}
	return nil
}

// Field numbers of TimeSeries by what they hold; the protocols share those of labels and samples.
var (
	kinds1 = [6]byte{2: tagSample, 3: tagExemplar, 4: tagHistogram}
	kinds2 = [6]byte{2: tagSample, 3: tagHistogram, 4: tagExemplar, 5: tagMetadata}
)

// kind is the tag in a 1.0 TimeSeries of what field number n of the series in hand holds; 0: labels, or nothing known.
func (c *Confiner) kind(n int) byte {
	switch {
	case n >= len(kinds1):
		return 0
	case c.v2:
		return kinds2[n]
	}
	return kinds1[n]
}

func (c *Confiner) histogramOrExemplar(f *field, kind byte, lost *int) error {
	w, err := walk(c.src, f.start, f.end, c.fieldsOf(kind))
	if err != nil {
		return err
	}
	c.res.Unknown += w.unknown
	rules := &c.p.rules
	switch exemplar := kind == tagExemplar; {
	case exemplar && (c.isBad || !rules.Exemplars):
		c.tally.exemplars++
	case c.isBad:
		*lost++
	case !exemplar && !rules.Histograms && !rules.Classic:
		c.tally.histograms++
	case exemplar && (!w.text || !c.exemplarText2(f) || w.timestamp < c.minT || w.timestamp > c.maxT):
		c.count(InvalidExemplar, 1, w.timestamp) // an exemplar's labels and time are no part of the series: it is lost alone
	case exemplar || c.inWindow(w.timestamp):
		c.points = append(c.points, point{start: uint32(f.start), end: uint32(f.end), kind: kind})
	}
	return nil
}

// inWindow books the point at ts as dropped if it lies outside the window.
func (c *Confiner) inWindow(ts int64) bool {
	switch {
	case ts < c.minT:
		c.count(TooOld, 1, ts)
	case ts > c.maxT:
		c.count(TooNew, 1, ts)
	default:
		return true
	}
	c.tally.lost++
	return false
}

// sample reads the Sample in src[at:end); canonical reports that it has the shape that emit writes.
func (c *Confiner) sample(at, end int) (value uint64, ts int64, canonical bool, err error) {
	s := c.src
	p := at
	if end-p >= 9 && s[p] == 0x09 {
		value = binary.LittleEndian.Uint64(s[p+1:])
		p += 9
	}
	if p == end {
		return value, 0, true, nil
	}
	if s[p] == 0x10 {
		if t, q := uvarint(s, p+1, end); q == end {
			return value, int64(t), t != 0 && q-p-1 == uvarintLen64(t), nil
		}
	}
	value, ts = 0, 0
	for at < end {
		f, after, err := next(s, at, end)
		if err != nil {
			return 0, 0, false, err
		}
		switch f.number {
		case 1:
			if err := f.want(wireFixed64); err != nil {
				return 0, 0, false, err
			}
			value = binary.LittleEndian.Uint64(s[f.start:])
		case 2:
			if err := f.want(wireVarint); err != nil {
				return 0, 0, false, err
			}
			ts = int64(f.num)
		case 3:
			if !c.v2 {
				c.res.Unknown++
				break
			}
			if err := f.want(wireVarint); err != nil { // the start timestamp of 2.0 has no place in 1.0
				return 0, 0, false, err
			}
		default:
			c.res.Unknown++
		}
		at = after
	}
	return value, ts, false, nil
}

func uvarintLen64(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// keepSample adds the sample field src[start:end), whose payload begins at body, to the points; canonical neighbours make one
// run.
func (c *Confiner) keepSample(start, end, body int, canonical bool) {
	if n := len(c.points); canonical && n > 0 && c.points[n-1].copied && c.points[n-1].end == uint32(start) {
		c.points[n-1].end = uint32(end)
		return
	}
	if canonical {
		body = start
	}
	c.points = append(c.points, point{start: uint32(body), end: uint32(end), kind: tagSample, copied: canonical})
}

// samples is the number of samples in the point, of kind tagSample.
func (p *point) samples(src []byte) int {
	if !p.copied {
		return 1
	}
	n := 0
	for at := p.start; at < p.end; n++ {
		at += 2 + uint32(src[at+1]) // canonical samples have at most 20 bytes
	}
	return n
}

// emit appends the series in hand, with the labels of tenant, to dst.
func (c *Confiner) emit(tenant int) error {
	t := &c.p.tenants[tenant]
	if pt := &c.points[0]; len(c.points) == 1 && c.p.single && c.whole && c.hits == 0 && pt.copied && int(pt.start) == c.labelsEnd {
		c.add(tenant, pt.samples(c.src))
		return c.usual(tenant, int(pt.start), int(pt.end))
	}
	size := c.labelsSize(t)
	for i := range c.points {
		size += c.pointSize(&c.points[i])
	}
	c.dst = appendTagged(c.dst, tagSeries, size)
	c.emitLabels(t)
	for i := range c.points {
		c.emitPoint(&c.points[i], tenant)
	}
	c.addSeries()
	return nil
}

// add books n float samples as kept.
func (c *Confiner) add(tenant, n int) {
	c.res.Samples += n
	c.res.Tenants[tenant] += n
	c.output.kept.samples += n
}

// addHistogram books a histogram sample as kept.
func (c *Confiner) addHistogram(tenant int) {
	c.res.Histograms++
	c.res.Tenants[tenant]++
	c.output.kept.samples++
}

// addSeries books a series as kept.
func (c *Confiner) addSeries() {
	c.res.Series++
	c.output.kept.series++
}

func (c *Confiner) labelsSize(t *tenantFields) int {
	size := t.size
	if c.whole && c.hits == 0 {
		return size + c.labelsEnd - c.labelsStart
	}
	for i := range c.cur {
		l := &c.cur[i]
		if l.hit && t.fields[l.rank] != nil {
			continue
		}
		if c.whole {
			size += int(l.size)
			continue
		}
		n := labelBody(l)
		size += 1 + uvarintLen(n) + n
	}
	return size
}

// labelBody is the length of l's canonical payload.
func labelBody(l *label) int {
	return pairBody(int(l.nameLen), int(l.valueLen))
}

// pairBody is the length of a Label's payload for a name and a value of those lengths.
func pairBody(name, value int) int {
	return 1 + uvarintLen(name) + name + 1 + uvarintLen(value) + value
}

// emitLabels appends the labels of the series and those of t, merged by name; a client's label of an enforced name is cut.
func (c *Confiner) emitLabels(t *tenantFields) {
	i := 0
	for e, f := range t.fields {
		if f == nil {
			continue
		}
		from := i
		for i < len(c.cur) && (int(c.cur[i].rank) < e || int(c.cur[i].rank) == e && !c.cur[i].hit) {
			i++
		}
		c.copyLabels(from, i)
		c.dst = append(c.dst, f...)
		if i < len(c.cur) && c.cur[i].hit && int(c.cur[i].rank) == e {
			i++
		}
	}
	c.copyLabels(i, len(c.cur))
}

func (c *Confiner) copyLabels(from, to int) {
	if from == to {
		return
	}
	if c.whole {
		last := &c.cur[to-1]
		c.dst = append(c.dst, c.src[c.base+int(c.cur[from].at):c.base+int(last.at+last.size)]...)
		return
	}
	for i := from; i < to; i++ {
		l := &c.cur[i]
		c.dst = appendLabel(c.dst, c.nameOf(l), c.valueOf(l))
	}
}

// pointSize is the number of bytes that emitPoint appends for pt.
func (c *Confiner) pointSize(pt *point) int {
	switch {
	case pt.copied:
		return int(pt.end - pt.start)
	case pt.kind == tagSample:
		n := sampleBody(c.point(pt))
		return 2 + n
	case c.v2 && pt.kind == tagExemplar:
		n := c.exemplarSize2(pt)
		return 1 + uvarintLen(n) + n
	default:
		n := knownSize(c.src, int(pt.start), int(pt.end), c.fieldsOf(pt.kind))
		return 1 + uvarintLen(n) + n
	}
}

// point reads back a sample that judge has already accepted.
func (c *Confiner) point(pt *point) (value uint64, ts int64) {
	unknown := c.res.Unknown
	value, ts, _, _ = c.sample(int(pt.start), int(pt.end))
	c.res.Unknown = unknown // counted when it was judged
	return value, ts
}

func sampleBody(value uint64, ts int64) int {
	n := 0
	if value != 0 {
		n += 9
	}
	if ts != 0 {
		n += 1 + uvarintLen64(uint64(ts))
	}
	return n
}

// appendSample appends a Sample as a field of TimeSeries.
func appendSample(dst []byte, value uint64, ts int64) []byte {
	dst = append(dst, tagSample, byte(sampleBody(value, ts)))
	if value != 0 {
		dst = binary.LittleEndian.AppendUint64(append(dst, 0x09), value)
	}
	if ts != 0 {
		dst = binary.AppendUvarint(append(dst, 0x10), uint64(ts))
	}
	return dst
}

func (c *Confiner) emitPoint(pt *point, tenant int) {
	switch pt.kind {
	case tagSample:
		n := 1
		if pt.copied {
			n = pt.samples(c.src)
			c.dst = append(c.dst, c.src[pt.start:pt.end]...)
		} else {
			value, ts := c.point(pt)
			c.dst = appendSample(c.dst, value, ts)
		}
		c.add(tenant, n)
	case tagExemplar:
		c.res.Exemplars++
		if c.v2 {
			c.emitExemplar2(pt)
			return
		}
		c.emitKnown(pt)
	default:
		c.emitKnown(pt)
		c.addHistogram(tenant)
	}
}

// emitKnown appends a point field by field.
func (c *Confiner) emitKnown(pt *point) {
	fields := c.fieldsOf(pt.kind)
	c.dst = appendTagged(c.dst, pt.kind, knownSize(c.src, int(pt.start), int(pt.end), fields))
	c.dst = appendKnown(c.dst, c.src, int(pt.start), int(pt.end), fields)
}

// fieldsOf is the schema of a point that is no float sample.
func (c *Confiner) fieldsOf(kind byte) schema {
	switch {
	case kind == tagHistogram && c.v2 && c.out2:
		return histogram2Fields
	case kind == tagHistogram && c.v2:
		return histogram21Fields
	case kind == tagHistogram:
		return histogramFields
	case c.v2:
		return exemplar2Fields
	}
	return exemplarFields
}
