package remotewrite

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// The 2.0 wire, as the remote-write 2.0 specification gives it:
//
//	Request        22 len symbol*                    |  2a len TimeSeries*
//	TimeSeries     0a packed label refs, in pairs    |  12 Sample*  |  1a Histogram*  |  22 Exemplar*  |  2a Metadata
//	Sample         09 value | 10 timestamp | 18 start timestamp

// symbol is one entry of the table, and what is known of it so far, so that a text used by many series is judged once.
type symbol struct {
	start, end uint32
	number     uint32 // in the table that comes out, if that is 2.0; 0: it has none yet
	before     uint32 // 1 + a symbol that sorts before this one; 0: none is known
	facts      uint8
	rank       uint8 // as label.rank; with factName
}

const (
	factName   = 1 << iota // it may be a label's name
	factHit                // it is an enforced name
	factMetric             // it is __name__
	factValue              // it may be a label's value
	factNamed              // it may be the value of __name__
	factLoose              // it is a name that does not decide where a series goes
)

// maxSymbols bounds the table's own memory, 20 bytes an entry; a batch of 10,000 series has some thousands.
const maxSymbols = 1 << 20

// table reads the symbols of the request src.
func (c *Confiner) table(src []byte) error {
	c.symbols = c.symbols[:0]
	for at := 0; at < len(src); {
		f, after, err := next(src, at, len(src))
		if err != nil {
			return err
		}
		if f.number == 4 {
			if err := f.want(wireBytes); err != nil {
				return err
			}
			if len(c.symbols) == maxSymbols {
				return &SyntaxError{at, "a symbol beyond the first 1,048,576"}
			}
			c.symbols = append(c.symbols, symbol{start: uint32(f.start), end: uint32(f.end)})
		}
		at = after
	}
	return nil
}

// readRefs adds the references of the field f, packed or single, to refs.
func readRefs(refs *[]uint32, src []byte, f *field) error {
	switch f.wire {
	case wireVarint:
		*refs = addRef(*refs, f.num)
	case wireBytes:
		for p := f.start; p < f.end; {
			v, q := uvarint(src, p, f.end)
			if q == 0 {
				return &SyntaxError{p, "a broken varint"}
			}
			*refs = addRef(*refs, v)
			p = q
		}
	default:
		return &SyntaxError{f.start, "a wrong wire type"}
	}
	return nil
}

// addRef adds a reference, up to the first that is too many. One beyond 32 bits becomes one that no table has.
func addRef(refs []uint32, v uint64) []uint32 {
	if len(refs) > 2*maxCollected {
		return refs
	}
	return append(refs, uint32(min(v, math.MaxUint32)))
}

// request2 confines a 2.0 request.
func (c *Confiner) request2() error {
	if err := c.table(c.src); err != nil {
		return err
	}
	for at := 0; at < len(c.src); {
		f, after, err := next(c.src, at, len(c.src))
		if err != nil {
			return err
		}
		switch f.number {
		case 1, 2, 3: // reserved, since 1.0 holds its data there; left out, all of it would be lost and the sender told success
			return &SyntaxError{at, "a field of remote write 1.0, announced as 2.0,"}
		case 4: // read by table
		case 5:
			if err := f.want(wireBytes); err != nil {
				return err
			}
			if err := c.series2(f.start, f.end); err != nil {
				return err
			}
		default:
			c.res.Unknown++
		}
		at = after
	}
	return nil
}

// series2 judges the 2.0 TimeSeries in src[at:end) and appends what is kept of it.
func (c *Confiner) series2(at, end int) error {
	c.points, c.refs, c.side, c.tally = c.points[:0], c.refs[:0], c.side[:0], tally{}
	c.cur, c.base, c.table2.meta = c.cur[:0], 0, metadata2{}
	c.whole, c.ordered, c.followed, c.isBad, c.known, c.summed, c.identified = false, true, false, false, false, false, false
	for p := at; p < end; {
		if _, after, ok := short(c.src, p, end); ok && c.src[p] == tagSample { // none of the labels
			p = after
			continue
		}
		f, after, err := next(c.src, p, end)
		if err != nil {
			return err
		}
		if f.number == 1 {
			if err := readRefs(&c.refs, c.src, &f); err != nil {
				return err
			}
		}
		p = after
	}
	c.resolve()
	c.settle()
	if err := c.judge(at, end); err != nil {
		return err
	}
	return c.finish()
}

// resolve makes cur of refs.
func (c *Confiner) resolve() {
	if len(c.refs) > 2*maxCollected {
		c.drop(TooManyLabels)
		return
	}
	if len(c.refs)%2 != 0 {
		c.drop(InvalidSymbol)
		return
	}
	for _, ref := range c.refs {
		if int(ref) >= len(c.symbols) {
			c.drop(InvalidSymbol)
			return
		}
	}
	for i := 0; i < len(c.refs); i += 2 {
		name, value := &c.symbols[c.refs[i]], &c.symbols[c.refs[i+1]]
		l := label{name: name.start, nameLen: name.end - name.start, value: value.start, valueLen: value.end - value.start}
		wanted := uint8(factValue)
		if name.facts&factMetric != 0 {
			wanted = factNamed
		}
		if name.facts&factName == 0 || value.facts&wanted == 0 {
			c.cur = append(c.cur, l)
			c.judgeLabel(i / 2)
			c.learn(name, value, &c.cur[i/2])
			continue
		}
		l.rank, l.hit, l.metric, l.loose = name.rank, name.facts&factHit != 0, name.facts&factMetric != 0, name.facts&factLoose != 0
		c.cur = append(c.cur, l)
		if i > 0 && name.before != c.refs[i-2]+1 {
			if bytes.Compare(c.nameOf(&c.cur[i/2-1]), c.nameOf(&l)) >= 0 {
				c.ordered = false
			} else if !c.cur[i/2-1].sideName {
				name.before = c.refs[i-2] + 1
			}
		}
	}
}

// learn notes what judgeLabel found of two symbols; nothing while the series is bad, for it does not say of which, and nothing
// of escaped ones.
func (c *Confiner) learn(name, value *symbol, l *label) {
	if c.isBad || l.valueLen == 0 || l.sideName || l.sideValue {
		return
	}
	name.facts |= factName
	name.rank = l.rank
	if l.hit {
		name.facts |= factHit
	}
	if l.loose {
		name.facts |= factLoose
	}
	value.facts |= factValue
	if l.metric {
		name.facts |= factMetric
		value.facts |= factNamed
	}
}

// exemplarText2 reports that the labels of an exemplar of a 2.0 request are there and are text, and that those of any are not
// too many for one that comes out.
func (c *Confiner) exemplarText2(f *field) bool {
	if !c.v2 {
		if !c.out2 {
			return true
		}
		c.exemplarPairs(f.start, f.end)
		return len(c.table2.pairs) <= 2*maxCollected
	}
	c.exemplarRefs(f.start, f.end)
	if len(c.exemplar)%2 != 0 || len(c.exemplar) > 2*maxCollected {
		return false
	}
	for _, ref := range c.exemplar {
		if int(ref) >= len(c.symbols) || !utf8.Valid(c.text2(ref)) {
			return false
		}
	}
	return true
}

func (c *Confiner) text2(ref uint32) []byte {
	s := &c.symbols[ref]
	return c.src[s.start:s.end]
}

// exemplarRefs gathers the label references of the accepted exemplar src[at:end) in exemplar, and returns its value and time.
func (c *Confiner) exemplarRefs(at, end int) (value uint64, ts int64) {
	c.exemplar = c.exemplar[:0]
	for at < end {
		f, after, _ := next(c.src, at, end)
		switch f.number {
		case 1:
			_ = readRefs(&c.exemplar, c.src, &f)
		case 2:
			value = binary.LittleEndian.Uint64(c.src[f.start:])
		case 3:
			ts = int64(f.num)
		}
		at = after
	}
	return value, ts
}

// exemplarSize2 is the length of a 2.0 exemplar's payload in 1.0. In a 1.0 Exemplar, value and time have the tags 11 and 18.
func (c *Confiner) exemplarSize2(pt *point) int {
	n := sampleBody(c.exemplarRefs(int(pt.start), int(pt.end)))
	for i := 0; i < len(c.exemplar); i += 2 {
		body := pairBody(len(c.text2(c.exemplar[i])), len(c.text2(c.exemplar[i+1])))
		n += 1 + uvarintLen(body) + body
	}
	return n
}

func (c *Confiner) emitExemplar2(pt *point) {
	c.dst = appendTagged(c.dst, tagExemplar, c.exemplarSize2(pt))
	value, ts := c.exemplarRefs(int(pt.start), int(pt.end))
	for i := 0; i < len(c.exemplar); i += 2 {
		c.dst = appendLabel(c.dst, c.text2(c.exemplar[i]), c.text2(c.exemplar[i+1]))
	}
	if value != 0 {
		c.dst = binary.LittleEndian.AppendUint64(append(c.dst, 0x11), value)
	}
	if ts != 0 {
		c.dst = binary.AppendUvarint(append(c.dst, 0x18), uint64(ts))
	}
}
