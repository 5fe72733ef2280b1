package remotewrite

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"unicode/utf8"
)

// A 2.0 request comes out with its table behind the series, as the symbols in use are known last: first the empty one, then
// those of the policy, then each text of the client's that a series refers to. Protobuf leaves the order of fields open.
const (
	tagSymbol     = 0x22
	tagSeries2    = 0x2a
	tagHistogram2 = 0x1a
	tagExemplar2  = 0x22
)

// symbols2 is the table of the 2.0 request that comes out.
type symbols2 struct {
	seed   maphash.Seed
	texts  []text   // in the order of their numbers, after those of the policy
	slots  []uint32 // open addressing: 1 + index in texts; 0: free
	full   bool     // a text found no room
	labels []byte   // the references of the series in hand, packed
	pairs  []text   // the names and values of the exemplar in hand
	body   []byte   // its payload
	meta   metadata2
}

// text is a stretch of the request.
type text struct{ start, end uint32 }

// metadata2 is what the metadata of one 2.0 series say; help and unit are symbols of the request that came in.
type metadata2 struct{ kind, help, unit uint64 }

// beginSymbols empties the table.
func (c *Confiner) beginSymbols() {
	t := &c.table2
	if t.slots == nil {
		t.seed, t.slots = maphash.MakeSeed(), make([]uint32, 1<<10)
	}
	clear(t.slots)
	t.texts, t.full = t.texts[:0], false
}

// number is the number of symbol ref of the 2.0 request in the table.
func (c *Confiner) number(ref uint32) uint32 {
	s := &c.symbols[ref]
	if s.number == 0 && s.start < s.end {
		s.number = c.addText(text{s.start, s.end})
	}
	return s.number
}

// addText gives the text the next number, or 0 if there is none.
func (c *Confiner) addText(at text) uint32 {
	t := &c.table2
	if len(t.texts) == maxSymbols {
		t.full = true
		return 0
	}
	t.texts = append(t.texts, at)
	return uint32(len(c.p.symbols) + len(t.texts))
}

// intern is the number of src[at.start:at.end) in the table.
func (c *Confiner) intern(at text) uint32 {
	if at.start == at.end {
		return 0
	}
	if c.v2 { // the text is one of its symbols, which lie one behind the other
		i, _ := slices.BinarySearchFunc(c.symbols, at.start, func(s symbol, start uint32) int { return cmp.Compare(s.start, start) })
		return c.number(uint32(i))
	}
	t := &c.table2
	if 2*len(t.texts) >= len(t.slots) {
		t.slots = append(t.slots, t.slots...)
		clear(t.slots)
		for i, old := range t.texts {
			t.slots[c.slot(old)] = uint32(i) + 1
		}
	}
	s := c.slot(at)
	if t.slots[s] == 0 {
		if c.addText(at) == 0 {
			return 0
		}
		t.slots[s] = uint32(len(t.texts))
	}
	return uint32(len(c.p.symbols)) + t.slots[s]
}

// slot is where the text has its slot, or the free one where it belongs.
func (c *Confiner) slot(at text) int {
	t := &c.table2
	key := c.src[at.start:at.end]
	s := int(maphash.Bytes(t.seed, key)) & (len(t.slots) - 1)
	for ; t.slots[s] != 0; s = (s + 1) & (len(t.slots) - 1) {
		old := t.texts[t.slots[s]-1]
		if bytes.Equal(c.src[old.start:old.end], key) {
			break
		}
	}
	return s
}

// emitSymbols appends the table.
func (c *Confiner) emitSymbols() error {
	if c.table2.full {
		return ErrTooLong
	}
	c.dst = append(c.dst, tagSymbol, 0)
	for _, s := range c.p.symbols {
		c.dst = append(appendTagged(c.dst, tagSymbol, len(s)), s...)
	}
	for _, at := range c.table2.texts {
		c.dst = append(appendTagged(c.dst, tagSymbol, int(at.end-at.start)), c.src[at.start:at.end]...)
		if len(c.dst) >= blockSize {
			if err := c.flush(false); err != nil {
				return err
			}
		}
	}
	return nil
}

// emit2 appends the series in hand, with the labels of tenant, in 2.0.
func (c *Confiner) emit2(tenant int) {
	t := &c.p.tenants[tenant]
	c.packLabels(t)
	labels, meta := c.table2.labels, c.metadataSize2()
	size := 1 + uvarintLen(len(labels)) + len(labels) + meta
	for i := range c.points {
		size += c.pointSize2(&c.points[i])
	}
	c.dst = appendTagged(c.dst, tagSeries2, size)
	c.dst = append(appendTagged(c.dst, 0x0a, len(labels)), labels...)
	for i := range c.points {
		c.emitPoint2(&c.points[i], tenant)
	}
	if meta > 0 {
		c.emitMetadata2(meta)
	}
	c.res.Series++
}

// packLabels gathers the references of the labels in hand and those of t, merged by name; a client's label of an enforced
// name is left out.
func (c *Confiner) packLabels(t *tenantFields) {
	e := 0
	packed := c.table2.labels[:0]
	for i := 0; ; i++ {
		for ; e < len(t.fields) && (i == len(c.cur) || int(c.cur[i].rank) > e || c.cur[i].hit && int(c.cur[i].rank) == e); e++ {
			if t.fields[e] != nil {
				packed = binary.AppendUvarint(packed, uint64(1+e))
				packed = binary.AppendUvarint(packed, uint64(t.values[e]))
			}
		}
		if i == len(c.cur) {
			break
		}
		l := &c.cur[i]
		if l.hit && t.fields[l.rank] != nil {
			continue
		}
		if c.v2 && c.ordered { // cur is as it was sent
			packed = binary.AppendUvarint(packed, uint64(c.number(c.refs[2*i])))
			packed = binary.AppendUvarint(packed, uint64(c.number(c.refs[2*i+1])))
			continue
		}
		at := uint32(c.base) + l.at
		packed = binary.AppendUvarint(packed, uint64(c.intern(text{at + l.name, at + l.name + l.nameLen})))
		packed = binary.AppendUvarint(packed, uint64(c.intern(text{at + l.value, at + l.value + l.valueLen})))
	}
	c.table2.labels = packed
}

// pointSize2 is the number of bytes that emitPoint2 appends for pt.
func (c *Confiner) pointSize2(pt *point) int {
	n := 0
	switch {
	case pt.copied:
		return int(pt.end - pt.start)
	case pt.kind == tagSample:
		n = sampleBody(c.point(pt)) + startSize(c.startOf(pt))
	case pt.kind == tagExemplar:
		n = c.exemplar2(pt)
	default:
		n = knownSize(c.src, int(pt.start), int(pt.end), c.fieldsOf(pt.kind))
	}
	return 1 + uvarintLen(n) + n
}

func (c *Confiner) emitPoint2(pt *point, tenant int) {
	switch {
	case pt.kind == tagExemplar:
		n := c.exemplar2(pt)
		c.dst = append(appendTagged(c.dst, tagExemplar2, n), c.table2.body...)
		c.res.Exemplars++
		return
	case pt.kind == tagHistogram:
		fields := c.fieldsOf(pt.kind)
		c.dst = appendTagged(c.dst, tagHistogram2, knownSize(c.src, int(pt.start), int(pt.end), fields))
		c.dst = appendKnown(c.dst, c.src, int(pt.start), int(pt.end), fields)
		c.res.Histograms++
		c.res.Tenants[tenant]++
		return
	case pt.copied:
		c.dst = append(c.dst, c.src[pt.start:pt.end]...)
	default:
		value, ts := c.point(pt)
		start := c.startOf(pt)
		c.dst = appendSample(c.dst, value, ts)
		if start != 0 {
			c.dst[len(c.dst)-sampleBody(value, ts)-1] += byte(startSize(start)) // the length of at most 31 bytes
			c.dst = binary.AppendUvarint(append(c.dst, 0x18), start)
		}
	}
	n := pt.samples(c.src)
	c.res.Samples += n
	c.res.Tenants[tenant] += n
}

// leaveOut counts what the store has no place for in the series in hand. The exemplars of a series of which all else is lost go
// with that: they would stand there without the sample that they belong to. In 2.0 a series must have a sample or a histogram, but
// senders of both protocols put exemplars into series of their own: those are for a request of 1.0 beside it.
func (c *Confiner) leaveOut() {
	t := &c.tally
	if t.histograms > 0 {
		c.count(NativeHistogram, t.histograms, 0)
	}
	alone := t.classic == 0 && !slices.ContainsFunc(c.points, func(p point) bool { return p.kind != tagExemplar })
	why := Exemplar
	switch {
	case alone && t.lost > 0:
		why = InvalidExemplar
		t.exemplars += len(c.points)
		c.points = c.points[:0]
	case alone && c.out2:
		c.res.Apart += len(c.points)
		c.points = c.points[:0]
	case !alone && c.apart:
		c.points = c.points[:0]
	}
	if t.exemplars > 0 {
		c.count(why, t.exemplars, 0)
	}
}

// startOf is the start timestamp of the accepted sample pt of a 2.0 request.
func (c *Confiner) startOf(pt *point) (start uint64) {
	for at := int(pt.start); c.v2 && at < int(pt.end); {
		f, after, _ := next(c.src, at, int(pt.end))
		if f.number == 3 {
			start = f.num
		}
		at = after
	}
	return start
}

func startSize(start uint64) int {
	if start == 0 {
		return 0
	}
	return 1 + uvarintLen64(start)
}

// exemplar2 makes body the payload of the accepted exemplar pt, and returns its length.
func (c *Confiner) exemplar2(pt *point) int {
	t := &c.table2
	var value uint64
	var ts int64
	if c.v2 {
		value, ts = c.exemplarRefs(int(pt.start), int(pt.end))
		t.pairs = t.pairs[:0]
		for _, ref := range c.exemplar {
			t.pairs = append(t.pairs, text{c.symbols[ref].start, c.symbols[ref].end})
		}
	} else {
		value, ts = c.exemplarPairs(int(pt.start), int(pt.end))
	}
	size := 0
	for _, at := range t.pairs {
		size += uvarintLen(int(c.intern(at)))
	}
	t.body = t.body[:0]
	if size > 0 {
		t.body = appendTagged(t.body, 0x0a, size)
	}
	for _, at := range t.pairs {
		t.body = binary.AppendUvarint(t.body, uint64(c.intern(at)))
	}
	if value != 0 {
		t.body = binary.LittleEndian.AppendUint64(append(t.body, 0x11), value)
	}
	if ts != 0 {
		t.body = binary.AppendUvarint(append(t.body, 0x18), uint64(ts))
	}
	return len(t.body)
}

// exemplarPairs gathers the labels of the 1.0 exemplar src[at:end), which walk has accepted, in pairs, up to the first that is
// too many.
func (c *Confiner) exemplarPairs(at, end int) (value uint64, ts int64) {
	c.table2.pairs = c.table2.pairs[:0]
	for at < end {
		f, after, _ := next(c.src, at, end)
		switch f.number {
		case 1:
			if len(c.table2.pairs) > 2*maxCollected {
				break
			}
			var l label
			unknown := c.res.Unknown
			_, _ = c.anyLabel(&l, f.start, f.start, f.end)
			c.res.Unknown = unknown // counted when it was judged
			name, value := uint32(f.start)+l.name, uint32(f.start)+l.value
			c.table2.pairs = append(c.table2.pairs, text{name, name + l.nameLen}, text{value, value + l.valueLen})
		case 2:
			value = binary.LittleEndian.Uint64(c.src[f.start:])
		case 3:
			ts = int64(f.num)
		}
		at = after
	}
	return value, ts
}

// keepMetadata2 takes the metadata of the series in hand, or counts them as left out. Senders put an empty message where they
// know none.
func (c *Confiner) keepMetadata2(f *field) error {
	if f.start == f.end {
		return nil
	}
	if !c.out2 || !c.p.rules.Metadata {
		return c.metadata(f, metadata2Fields)
	}
	w, err := walk(c.src, f.start, f.end, metadata2Fields)
	if err != nil {
		return err
	}
	c.res.Unknown += w.unknown
	m := c.table2.meta
	for at := f.start; at < f.end; {
		f, after, _ := next(c.src, at, f.end)
		switch f.number {
		case 1:
			m.kind = f.num
		case 3:
			m.help = uint64(uint32(f.num))
		case 4:
			m.unit = uint64(uint32(f.num))
		}
		at = after
	}
	for _, ref := range []uint64{m.help, m.unit} {
		if ref >= uint64(len(c.symbols)) && ref != 0 || ref < uint64(len(c.symbols)) && !utf8.Valid(c.text2(uint32(ref))) {
			c.res.Dropped[Metadata]++
			return nil
		}
	}
	c.table2.meta = m
	c.tally.metadata++
	return nil
}

// outMetadata2 is the metadata in hand with its references as they come out.
func (c *Confiner) outMetadata2() (kind uint64, help, unit uint32) {
	m := &c.table2.meta
	of := func(ref uint64) uint32 {
		if ref == 0 {
			return 0
		}
		return c.number(uint32(ref))
	}
	return m.kind, of(m.help), of(m.unit)
}

// metadataSize2 is the length of the metadata's payload.
func (c *Confiner) metadataSize2() int {
	kind, help, unit := c.outMetadata2()
	n := 0
	for _, v := range []uint64{kind, uint64(help), uint64(unit)} {
		n += startSize(v)
	}
	if n == 0 {
		return 0
	}
	return 1 + uvarintLen(n) + n
}

// emitMetadata2 appends the metadata of a series as a field of size bytes.
func (c *Confiner) emitMetadata2(size int) {
	kind, help, unit := c.outMetadata2()
	c.dst = append(c.dst, tagMetadata, byte(size-2)) // three varints of at most 10 and 5 bytes
	for i, v := range []uint64{kind, uint64(help), uint64(unit)} {
		if v != 0 {
			c.dst = binary.AppendUvarint(append(c.dst, []byte{0x08, 0x18, 0x20}[i]), v)
		}
	}
}
