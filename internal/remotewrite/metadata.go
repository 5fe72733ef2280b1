package remotewrite

import "strings"

// MetricMetadata is what a write says of a metric.
type MetricMetadata struct {
	// Metric is the name of its family, as the store has it.
	Metric     []byte
	Type       string // as /api/v1/metadata spells it
	Help, Unit []byte
}

// metadataTypes are the types by their number, which both protocols share.
var metadataTypes = [...]string{"unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"}

// EachMetadata calls visit for what the decoded request src, which Confine has accepted, says of its metrics. What it is given
// lies in src or is valid until visit returns. It is apart from Confine, since most requests of 1.0 have no metadata; those of
// 2.0 repeat it with every series, where one of neighbours of the same name is enough.
func (p *Policy) EachMetadata(src []byte, proto Protocol, visit func(MetricMetadata)) {
	m := metadataWalk{c: Confiner{p: p}, src: src, visit: visit}
	if proto == V2 {
		m.requests2()
		return
	}
	for at := 0; at < len(src); {
		f, after, err := next(src, at, len(src))
		if err != nil {
			return
		}
		if f.number == 3 && f.wire == wireBytes {
			m.entry1(f.start, f.end)
		}
		at = after
	}
}

type metadataWalk struct {
	c     Confiner // lends its escaping
	src   []byte
	visit func(MetricMetadata)

	symbols [][]byte
	refs    []uint32
	last    []byte // the name of the series before
}

// entry1 visits a MetricMetadata of 1.0.
func (m *metadataWalk) entry1(at, end int) {
	var (
		out  MetricMetadata
		kind uint64
	)
	for at < end {
		f, after, err := next(m.src, at, end)
		if err != nil {
			return
		}
		text := m.src[f.start:f.end]
		switch f.number {
		case 1:
			kind = uint64(uint32(f.num))
		case 2:
			out.Metric = text
		case 4:
			out.Help = text
		case 5:
			out.Unit = text
		}
		at = after
	}
	m.say(out, kind)
}

// say visits out if the store can have a metric of that name.
func (m *metadataWalk) say(out MetricMetadata, kind uint64) {
	out.Type = metadataTypes[0]
	if kind < uint64(len(metadataTypes)) {
		out.Type = metadataTypes[kind]
	}
	if !m.c.validName(out.Metric, true) {
		if !m.c.p.rules.Escape {
			return
		}
		m.c.side = m.c.side[:0]
		from, n, ok := m.c.escaped(out.Metric, true)
		if !ok {
			return
		}
		out.Metric = m.c.side[from : from+n]
	}
	m.visit(out)
}

// requests2 visits the metadata of a 2.0 request's series.
func (m *metadataWalk) requests2() {
	for at := 0; at < len(m.src); {
		f, after, err := next(m.src, at, len(m.src))
		if err != nil {
			return
		}
		if f.number == 4 && len(m.symbols) < maxSymbols {
			m.symbols = append(m.symbols, m.src[f.start:f.end])
		}
		at = after
	}
	for at := 0; at < len(m.src); {
		f, after, err := next(m.src, at, len(m.src))
		if err != nil {
			return
		}
		if f.number == 5 {
			m.series2(f.start, f.end)
		}
		at = after
	}
}

func (m *metadataWalk) text(ref uint64) []byte {
	if ref < uint64(len(m.symbols)) {
		return m.symbols[ref]
	}
	return nil
}

func (m *metadataWalk) series2(at, end int) {
	var (
		out  MetricMetadata
		kind uint64
		said bool
	)
	m.refs = m.refs[:0]
	for at < end {
		f, after, err := next(m.src, at, end)
		if err != nil {
			return
		}
		switch f.number {
		case 1:
			if readRefs(&m.refs, m.src, &f) != nil {
				return
			}
		case 5:
			said = true
			for p := f.start; p < f.end; {
				g, next, err := next(m.src, p, f.end)
				if err != nil {
					return
				}
				switch g.number {
				case 1:
					kind = uint64(uint32(g.num))
				case 3:
					out.Help = m.text(uint64(uint32(g.num)))
				case 4:
					out.Unit = m.text(uint64(uint32(g.num)))
				}
				p = next
			}
		}
		at = after
	}
	if !said || kind == 0 && len(out.Help) == 0 && len(out.Unit) == 0 {
		return
	}
	for i := 0; i+1 < len(m.refs); i += 2 {
		if string(m.text(uint64(m.refs[i]))) == metricName {
			out.Metric = m.text(uint64(m.refs[i+1]))
		}
	}
	if string(out.Metric) == string(m.last) {
		return
	}
	m.last = out.Metric
	out.Metric = family(out.Metric, kind)
	m.say(out, kind)
}

// family is the name of the family that a series of that name and type belongs to: 2.0 names the series.
func family(name []byte, kind uint64) []byte {
	var ends []string
	switch kind {
	case 3, 4: // histogram, gaugehistogram
		ends = []string{"_bucket", "_count", "_sum"}
	case 5: // summary
		ends = []string{"_count", "_sum"}
	}
	for _, end := range ends {
		if n := len(name) - len(end); n > 0 && strings.HasSuffix(string(name[n:]), end) {
			return name[:n]
		}
	}
	return name
}
