package query

import (
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// Reach is what an expression reads beside the moment that it is evaluated for. Times are in milliseconds. The store's
// look-back delta, some minutes, is left out.
type Reach struct {
	// Back is how long before the moment of evaluation the oldest sample may lie; with an @ end() that is measured from the
	// start, which is no nearer.
	Back int64
	// Oldest is the earliest time since 1970 that an @ modifier leads to, if Fixed.
	Oldest int64
	Fixed  bool
	// Longest is the most time that one selector reads for one moment: its range and those of the subqueries around it.
	Longest int64

	grids []grid
}

// grid is the points that a subquery computes.
type grid struct {
	span, step int64
	moves      bool // the time that the query spans comes to it
}

// OldestOf is the oldest time that the expression touches when it is evaluated from start on.
func (r *Reach) OldestOf(start int64) int64 {
	if r.Fixed {
		return min(start-r.Back, r.Oldest)
	}
	return start - r.Back
}

// SubqueryPoints is the most points of one series that a subquery computes when the expression is evaluated over span.
func (r *Reach) SubqueryPoints(span int64) int64 {
	var most int64
	for _, g := range r.grids {
		s := g.span
		if g.moves {
			s += span
		}
		most = max(most, s/g.step)
	}
	return most
}

// unnamedStep stands for the step of a subquery that names none: the store's evaluation interval, one minute by default.
const unnamedStep = 60_000

// farMS bounds sums of durations, which come from the client: 34,865 years.
const farMS = 1 << 50

func clampMS(ms int64) int64 { return min(max(ms, -farMS), farMS) }

// place is where in time a part of an expression is evaluated.
type place struct {
	at    int64 // since 1970, if fixed
	fixed bool  // by an @ modifier
	moves bool  // with the steps of the query
	back  int64 // before at, or before the moment of the query
	span  int64 // how much of back is ranges
}

// move is p as seen by something with an @ modifier, an offset and a range.
func (p place) move(at *int64, startOrEnd parser.ItemType, offset, length time.Duration) place {
	switch {
	case at != nil:
		p = place{at: clampMS(*at), fixed: true}
	case startOrEnd != 0:
		p = place{}
	}
	p.span = clampMS(p.span + length.Milliseconds())
	p.back = clampMS(p.back + offset.Milliseconds() + length.Milliseconds())
	return p
}

// add widens r by what e, which the printer knows, reads at p.
func (r *Reach) add(e parser.Node, p place) {
	switch n := e.(type) {
	case *parser.SubqueryExpr:
		p = p.move(n.Timestamp, n.StartOrEnd, n.OriginalOffset, n.Range)
		g := grid{span: p.span, step: n.Step.Milliseconds(), moves: p.moves}
		if g.step <= 0 {
			g.step = unnamedStep
		}
		r.grids = append(r.grids, g)
		r.add(n.Expr, p)
	case *parser.MatrixSelector:
		vs, _ := n.VectorSelector.(*parser.VectorSelector)
		r.read(p.move(vs.Timestamp, vs.StartOrEnd, vs.OriginalOffset, n.Range))
	case *parser.VectorSelector:
		r.read(p.move(n.Timestamp, n.StartOrEnd, n.OriginalOffset, 0))
	default:
		for child := range parser.ChildrenIter(e) {
			r.add(child, p)
		}
	}
}

// read takes a selector at p into account.
func (r *Reach) read(p place) {
	r.Longest = max(r.Longest, p.span)
	switch {
	case !p.fixed:
		r.Back = max(r.Back, p.back)
	case !r.Fixed || p.at-p.back < r.Oldest:
		r.Oldest, r.Fixed = p.at-p.back, true
	}
}
