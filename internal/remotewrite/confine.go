package remotewrite

import (
	"errors"
	"slices"
)

// Confiner confines one request after another. It owns the scratch space of a request under way and is for one goroutine at
// a time; reused, it does not allocate.
type Confiner struct {
	p   *Policy
	src []byte
	output
	minT, maxT int64
	res        Result

	cur        []label // the labels of this series
	base       int     // what cur's offsets count from
	known      bool    // cur describes a well-formed series: its labels stand at base, one after another, canonical
	differed   int     // the first label in which the last series differed from the one before
	oldBase    int     // base of the series before, if this one was followed,
	changed    bool    // whether it has labels of other names,
	runs       []run   // and what of its labels it repeats
	points     []point
	tally      tally
	tenantsBuf []int
	side       []byte   // escaped names of this series
	v2         bool     // the request is a 2.0 one; then, too:
	symbols    []symbol // its table
	refs       []uint32 // the symbols that the labels in hand refer to
	exemplar   []uint32 // those of the exemplar in hand
	classics   classics
	out2       bool   // what comes out is 2.0
	apart      bool   // only exemplars without a sample come out
	division   *Split // nil: all is one part
	dividing   Split
	part       int      // the one that output is of
	parts      []output // the others; that of part is out of date
	blocks     []Block
	divided    []point
	single1    [1][]byte
	ms         int64    // the timestamp that single read
	sum        uint64   // of the labels' hashes of cur,
	summed     bool     // if it is known
	order      Order    // of the request in hand
	identity   uint64   // of the series that cur describes,
	identified bool     // if it is known
	table2     symbols2 // its table
	shape
}

// shape is what is known of the series under way.
type shape struct {
	labelsStart, labelsEnd int    // the labels lie here, if whole
	ordered                bool   // labels are sorted, without repeats or empty values
	whole                  bool   // labels are ordered, contiguous and minimal: runs of them may be copied
	followed               bool   // labels were read by what was known of the series before; they are whole and judged
	bad                    Reason // why the series is dropped
	isBad                  bool
	hits                   int  // labels whose name is an enforced one
	split                  int  // labels that sort before the first enforced one
	tenantHit              int  // index in cur of the client's own tenant label, or -1
	named                  bool // __name__ is there
}

// point is a run of samples, or one exemplar or histogram, to be kept.
type point struct {
	start, end uint32
	kind       byte // the tag of the field: tagSample, tagExemplar or tagHistogram
	copied     bool // the bytes [start,end) of src, tags included, are canonical
}

// tally counts what the series in hand carries beside its points.
type tally struct {
	lost       int // samples and histograms outside the window, and histograms that cannot be made classic
	classic    int // histograms that were
	histograms int // native histograms that the store has no place for
	exemplars  int // exemplars that it has no place for, or of a series that is dropped
	metadata   int // fields of metadata, which travel (2.0) if the series does
}

// Tags of TimeSeries and WriteRequest.
const (
	tagSeries    = 0x0a
	tagLabel     = 0x0a
	tagSample    = 0x12
	tagExemplar  = 0x1a
	tagHistogram = 0x22
	tagMetadata  = 0x2a // of the 2.0 TimeSeries
	tagMetadata1 = 0x1a // of the 1.0 WriteRequest
)

var (
	// ErrShort is a block that does not fit its buffer; a larger one may do.
	ErrShort = errors.New("the block needs a larger buffer")
	// ErrTooLong is a confined request over Order.Limit.
	ErrTooLong = errors.New("the confined request is over its limit")

	errNot2 = errors.New("remotewrite: a policy that escapes names or makes histograms classic is for 1.0")
)

// Confine makes the confined form of the decoded request src: every series carries its tenant's labels, and
// only samples within the window remain. It comes as a snappy block that lies within dst's capacity, not always at its
// beginning. dst and src must not overlap. The Result's Tenants slice is valid until the next call.
//
// Errors are *SyntaxError, ErrShort, ErrTooLong and, in mode Reject, *ForeignLabelError; nothing of dst is then of use.
func (c *Confiner) Confine(dst, src []byte, o Order) ([]byte, Result, error) {
	c.division = nil
	c.single1[0] = dst
	res, err := c.confine(c.single1[:], src, o)
	c.single1[0] = nil
	if err != nil {
		return nil, Result{}, err
	}
	block := c.blocks[0].Bytes
	clear(c.blocks)
	return block, res, nil
}

// confine confines src into dsts, one for each part, and makes blocks of them.
func (c *Confiner) confine(dsts [][]byte, src []byte, o Order) (Result, error) {
	c.src, c.p, c.minT, c.maxT, c.v2, c.out2, c.apart, c.order = src, o.Policy, o.MinT, o.MaxT, o.Proto == V2, o.Out == V2, o.Apart, o
	c.res = Result{Tenants: slices.Grow(c.tenantsBuf[:0], len(c.p.tenants))[:len(c.p.tenants)]}
	clear(c.res.Tenants)
	c.known, c.blocks = false, c.blocks[:0]
	err := c.all(dsts, o)
	res := c.res
	c.tenantsBuf = c.res.Tenants
	c.trim()
	c.p, c.src, c.res, c.division, c.dividing, c.order = nil, nil, Result{}, nil, Split{}, Order{}
	return res, err
}

// all confines the request in hand.
func (c *Confiner) all(dsts [][]byte, o Order) error {
	if n := len(dsts); n > len(c.parts) {
		c.parts = append(c.parts, make([]output, n-len(c.parts))...)
	}
	for i := range dsts {
		c.turn(i)
		if err := c.begin(dsts[i], o); err != nil {
			return err
		}
	}
	c.turn(0)
	if c.out2 {
		if c.p.rules.Escape || c.p.rules.Classic {
			return errNot2
		}
		c.beginSymbols()
	}
	var err error
	if c.v2 {
		err = c.request2()
	} else {
		err = c.request()
	}
	if err == nil && c.out2 {
		err = c.emitSymbols()
	}
	if err != nil {
		return err
	}
	for i := range dsts {
		c.turn(i)
		b, err := c.end()
		if err != nil {
			return err
		}
		c.blocks = append(c.blocks, Block{b, c.kept.series, c.kept.samples})
	}
	return nil
}

func (c *Confiner) request() error {
	for at := 0; at < len(c.src); {
		if c.src[at] == tagSeries {
			if body, after, ok := short(c.src, at, len(c.src)); ok {
				if err := c.series(body, after); err != nil {
					return err
				}
				at = after
				continue
			}
		}
		f, after, err := next(c.src, at, len(c.src))
		if err != nil {
			return err
		}
		switch f.number {
		case 1:
			if err := f.want(wireBytes); err != nil {
				return err
			}
			if err := c.series(f.start, f.end); err != nil {
				return err
			}
		case 3:
			if err := f.want(wireBytes); err != nil {
				return err
			}
			if err := c.metadata1(&f); err != nil {
				return err
			}
		case 4, 5: // what 2.0 holds its data in; left out, all of it would be lost and the sender told success
			return &SyntaxError{at, "a field of remote write 2.0, announced as 1.0,"}
		default:
			c.res.Unknown++
		}
		at = after
	}
	return nil
}

// metadata1 keeps an entry of 1.0 metadata, or counts it as left out.
func (c *Confiner) metadata1(f *field) error {
	if c.out2 || c.apart || !c.p.rules.Metadata || c.p.chosen < 0 {
		return c.metadata(f, metadataFields)
	}
	w, err := walk(c.src, f.start, f.end, metadataFields)
	if err != nil {
		return err
	}
	c.res.Unknown += w.unknown
	if !w.text {
		c.res.Dropped[Metadata]++
		return nil
	}
	c.dst = appendTagged(c.dst, tagMetadata1, knownSize(c.src, f.start, f.end, metadataFields))
	c.dst = appendKnown(c.dst, c.src, f.start, f.end, metadataFields)
	c.res.Metadata++
	if len(c.dst) >= blockSize {
		return c.flush(false)
	}
	return nil
}

// metadata checks the message f and counts it as left out.
func (c *Confiner) metadata(f *field, fields schema) error {
	w, err := walk(c.src, f.start, f.end, fields)
	c.res.Unknown += w.unknown
	c.res.Dropped[Metadata]++
	return err
}

// series judges the TimeSeries in src[at:end) and appends what is kept of it.
func (c *Confiner) series(at, end int) error {
	if c.known && c.last.known && c.last.base == c.base && len(c.dst) == 0 && !c.plain && !c.apart && c.differed < len(c.cur) {
		if c.lane(at, end, c.differed) || c.differed > 0 && c.lane(at, end, 0) {
			return nil
		}
	}
	c.points, c.side, c.tally = c.points[:0], c.side[:0], tally{}
	// What survey found of the series before still holds where no label came or went.
	c.labelsStart, c.whole, c.ordered, c.followed, c.isBad = at, true, true, false, false
	at, err := c.labels(at, end)
	if err != nil {
		return err
	}
	c.labelsEnd = at
	if c.followed && c.single(at, end) {
		if c.hits == 0 && c.p.chosen >= 0 && c.p.single && !c.out2 && !c.apart {
			if why, ok := c.admitted(c.p.chosen); !ok {
				c.points = append(c.points, point{start: uint32(at), end: uint32(end), kind: tagSample, copied: true})
				c.refuse(why)
				return nil
			}
			c.route(c.p.chosen, c.ms)
			c.add(c.p.chosen, 1)
			return c.usual(c.p.chosen, at, end)
		}
		c.points = append(c.points, point{start: uint32(at), end: uint32(end), kind: tagSample, copied: true})
		return c.finish()
	}
	if err := c.lateLabels(at, end); err != nil {
		return err
	}
	if !c.followed {
		c.settle()
	}
	if err := c.judge(at, end); err != nil {
		return err
	}
	c.known = c.whole && !c.isBad
	return c.finish()
}

// finish gives the judged series its tenant and appends it.
func (c *Confiner) finish() error {
	if c.isBad {
		return nil
	}
	tenant, err := c.tenant()
	if err != nil {
		return err
	}
	if c.isBad { // the client's tenant label was refused
		return nil
	}
	if len(c.points) > 0 {
		if why, ok := c.admitted(tenant); !ok {
			c.refuse(why)
			return nil
		}
	}
	if c.p.rules.Classic && !c.p.rules.Histograms {
		if err := c.histograms(tenant); err != nil {
			return err
		}
	}
	c.leaveOut()
	switch {
	case len(c.points) == 0:
		c.res.Dropped[Metadata] += c.tally.metadata
	case c.out2:
		c.emit2(tenant)
	case c.division != nil:
		if err := c.emitParts(tenant); err != nil {
			return err
		}
	default:
		if err := c.emit(tenant); err != nil {
			return err
		}
	}
	if len(c.dst) >= blockSize {
		return c.flush(false)
	}
	return nil
}

// lateLabels reads the labels that legally follow other fields: every label is to be known before a sample is judged.
func (c *Confiner) lateLabels(at, end int) error {
	// Series that end in samples of the common shape, which is nearly all, are seen through at a hop a sample.
	for at+1 < end && c.src[at] == tagSample && c.src[at+1] < 0x80 {
		at += 2 + int(c.src[at+1])
	}
	for at < end {
		f, after, err := next(c.src, at, end)
		if err != nil {
			return err
		}
		if f.number == 1 {
			if err := f.want(wireBytes); err != nil {
				return err
			}
			c.whole, c.ordered, c.followed, c.known, c.summed, c.identified = false, false, false, false, false, false
			if err := c.oneLabel(at, f.start, f.end); err != nil {
				return err
			}
		}
		at = after
	}
	return nil
}

// drop marks the whole series as dropped for the first reason found.
func (c *Confiner) drop(r Reason) {
	if !c.isBad {
		c.bad, c.isBad = r, true
	}
}

// count books n points as dropped for r, and keeps the first as the example.
func (c *Confiner) count(r Reason, n int, ts int64) {
	if c.res.Dropped[r] == 0 {
		c.res.Examples[r] = Example{Series: c.text(), Timestamp: ts}
	}
	c.res.Dropped[r] += n
}

// tenant chooses the tenant of the series in hand, or drops the series.
func (c *Confiner) tenant() (int, error) {
	if c.tenantHit < 0 {
		if c.p.chosen < 0 {
			c.refuse(NoTenant)
		}
		return c.p.chosen, nil
	}
	switch c.p.mode {
	case Reject:
		return 0, &ForeignLabelError{Label: c.p.label, Series: c.text()}
	case Allow:
		l := &c.cur[c.tenantHit]
		i, ok := c.p.byName[string(c.valueOf(l))]
		if !ok {
			c.refuse(ForeignTenant)
		}
		return i, nil
	default:
		return c.p.chosen, nil
	}
}

// refuse drops the judged series: what was counted as kept or out of the window becomes dropped for r.
func (c *Confiner) refuse(r Reason) {
	c.drop(r)
	n := 0
	for _, pt := range c.points {
		switch pt.kind {
		case tagSample:
			n += pt.samples(c.src)
		case tagHistogram:
			n++
		default:
			c.tally.exemplars++
		}
	}
	c.points = c.points[:0]
	c.lose(n)
}

// lose counts the series in hand as dropped, with n samples and histograms and what is in the tally.
func (c *Confiner) lose(n int) {
	c.count(c.bad, n+c.tally.histograms, 0)
	c.res.Dropped[Metadata] += c.tally.metadata
	if n := c.tally.exemplars; n > 0 {
		c.count(InvalidExemplar, n, 0)
	}
}
