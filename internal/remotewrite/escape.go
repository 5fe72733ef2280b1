package remotewrite

import (
	"strconv"
	"unicode/utf8"
)

// escape brings the name of label l, and the value of __name__, to classic characters by Prometheus' scheme for values in
// names: U__, then each character that may stand, _ doubled, and any other as its code in hex between two _. What is empty,
// no text or too long stays as it is, to be refused.
//
// The scheme keeps apart what was apart, but for a client that sends names of this form itself. A name becomes an enforced
// one only here, before it is compared with them, so that none can be smuggled in.
func (c *Confiner) escape(l *label) {
	name := c.nameOf(l)
	metric := string(name) == metricName
	if from, n, ok := c.escaped(name, false); ok {
		l.name, l.nameLen, l.sideName = from, n, true
	}
	if !metric {
		return
	}
	if from, n, ok := c.escaped(c.valueOf(l), true); ok {
		l.value, l.valueLen, l.sideValue = from, n, true
	}
}

// escaped puts the escaped form of name beside the request; ok is false where name stays as it is.
func (c *Confiner) escaped(name []byte, metric bool) (from, n uint32, ok bool) {
	const most = 4 << 20 // far beyond what limits of labels and their names leave whole
	if len(c.side) > most || len(name) == 0 || len(name) > c.p.rules.Limits.NameBytes || !validText(name) ||
		classic(name, metric) && nameClass[name[0]]&digit == 0 {
		return 0, 0, false
	}
	allowed := uint8(letter | digit)
	if metric {
		allowed |= colon
	}
	start := len(c.side)
	c.side = append(c.side, "U__"...)
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRune(name[i:])
		switch b := name[i]; {
		case b == '_':
			c.side = append(c.side, "__"...)
		case nameClass[b]&allowed != 0 && (i > 0 || nameClass[b]&digit == 0):
			c.side = append(c.side, b)
		default:
			c.side = append(strconv.AppendInt(append(c.side, '_'), int64(r), 16), '_')
		}
		i += size
	}
	return uint32(start), uint32(len(c.side) - start), true
}
