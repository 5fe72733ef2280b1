package query

import (
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// printer writes an expression as text that both dialects parse, each selector with the tenant matcher.
// It names each node type and each field that changes the meaning of one; what it does not name, it refuses.
type printer struct {
	c         *Confiner
	scope     confinement
	buf       []byte
	depth     int
	selectors int
	matchers  int
}

func (p *printer) expr(e parser.Expr) error {
	// bound has counted the tokens that nest; this is the bound on our own stack.
	p.depth++
	if p.depth > p.c.limits.MaxNodes+2 {
		return refuse("query is nested too deep")
	}
	err := p.node(e)
	p.depth--
	return err
}

func (p *printer) node(e parser.Expr) error {
	switch n := e.(type) {
	case *parser.AggregateExpr:
		return p.aggregate(n)
	case *parser.BinaryExpr:
		return p.binary(n)
	case *parser.Call:
		return p.call(n)
	case *parser.DurationExpr:
		return unsupported("a duration expression")
	case *parser.MatrixSelector:
		return p.matrix(n)
	case *parser.NumberLiteral:
		p.buf = appendNumber(p.buf, n.Val)
		return nil
	case *parser.ParenExpr:
		return p.parens(n.Expr)
	case *parser.StepInvariantExpr:
		return p.expr(n.Expr)
	case *parser.StringLiteral:
		p.buf = strconv.AppendQuoteToASCII(p.buf, n.Val)
		return nil
	case *parser.SubqueryExpr:
		return p.subquery(n)
	case *parser.UnaryExpr:
		if n.Op != parser.ADD && n.Op != parser.SUB {
			return unsupported("unary operator " + n.Op.String())
		}
		p.text(n.Op.String())
		return p.expr(n.Expr)
	case *parser.VectorSelector:
		if err := p.selector(n); err != nil {
			return err
		}
		return p.modifiers(n.Timestamp, n.StartOrEnd, n.OriginalOffset, n.OriginalOffsetExpr)
	default:
		return unsupported("this kind of expression")
	}
}

func (p *printer) text(s string) { p.buf = append(p.buf, s...) }

func (p *printer) parens(list ...parser.Expr) error {
	p.text("(")
	for i, e := range list {
		if i > 0 {
			p.text(", ")
		}
		if err := p.expr(e); err != nil {
			return err
		}
	}
	p.text(")")
	return nil
}

func (p *printer) aggregate(n *parser.AggregateExpr) error {
	if !aggregators[n.Op] {
		return unsupported("aggregation " + n.Op.String() + "()")
	}
	p.text(n.Op.String())
	switch {
	case n.Without:
		p.text(" without ")
	case len(n.Grouping) > 0:
		p.text(" by ")
	}
	if n.Without || len(n.Grouping) > 0 {
		if err := p.grouping(n.Grouping); err != nil {
			return err
		}
		p.text(" ")
	}
	if n.Param != nil {
		return p.parens(n.Param, n.Expr)
	}
	return p.parens(n.Expr)
}

func (p *printer) binary(n *parser.BinaryExpr) error {
	if in231, known := binaryOps[n.Op]; !known || p.c.dialect == PromQL231 && !in231 {
		return unsupported("operator " + n.Op.String())
	}
	if err := p.expr(n.LHS); err != nil {
		return err
	}
	p.text(" ")
	p.text(n.Op.String())
	if n.ReturnBool {
		p.text(" bool")
	}
	if n.VectorMatching != nil {
		if err := p.matching(n.VectorMatching); err != nil {
			return err
		}
	}
	p.text(" ")
	return p.expr(n.RHS)
}

func (p *printer) matching(m *parser.VectorMatching) error {
	if m.FillValues.LHS != nil || m.FillValues.RHS != nil {
		return unsupported("the fill modifier")
	}
	group := ""
	switch m.Card {
	case parser.CardOneToOne, parser.CardManyToMany:
	case parser.CardManyToOne:
		group = " group_left "
	case parser.CardOneToMany:
		group = " group_right "
	default:
		return unsupported("this vector matching")
	}
	if m.On || len(m.MatchingLabels) > 0 || group != "" {
		if m.On {
			p.text(" on ")
		} else {
			p.text(" ignoring ")
		}
		if err := p.grouping(m.MatchingLabels); err != nil {
			return err
		}
	}
	if group == "" {
		return nil
	}
	p.text(group)
	return p.grouping(m.Include)
}

// grouping writes a parenthesised list of label names.
func (p *printer) grouping(names []string) error {
	p.text("(")
	for i, name := range names {
		if i > 0 {
			p.text(", ")
		}
		switch {
		case classicName(name) && bareGroupingName(name):
			p.text(name)
		case p.c.dialect == PromQL231:
			return unsupported("label name " + strconv.QuoteToASCII(name) + " in a grouping")
		case name == "" || !utf8.ValidString(name):
			return refuse("%q is not a label name", name)
		default:
			p.buf = strconv.AppendQuoteToASCII(p.buf, name)
		}
	}
	p.text(")")
	return nil
}

func (p *printer) call(n *parser.Call) error {
	if n.Func == nil {
		return unsupported("this function")
	}
	name, err := p.c.dialect.functionName(n.Func.Name)
	if err != nil {
		return err
	}
	p.text(name)
	return p.parens(n.Args...)
}

func (p *printer) matrix(n *parser.MatrixSelector) error {
	vs, ok := n.VectorSelector.(*parser.VectorSelector)
	if !ok {
		return unsupported("a range over something other than a selector")
	}
	if err := p.selector(vs); err != nil {
		return err
	}
	if n.RangeExpr != nil {
		return unsupported("a duration expression")
	}
	p.text("[")
	if err := p.duration(n.Range); err != nil {
		return err
	}
	p.text("]")
	return p.modifiers(vs.Timestamp, vs.StartOrEnd, vs.OriginalOffset, vs.OriginalOffsetExpr)
}

func (p *printer) subquery(n *parser.SubqueryExpr) error {
	if err := p.expr(n.Expr); err != nil {
		return err
	}
	if n.RangeExpr != nil || n.StepExpr != nil {
		return unsupported("a duration expression")
	}
	p.text("[")
	if err := p.duration(n.Range); err != nil {
		return err
	}
	p.text(":")
	if n.Step != 0 {
		if err := p.duration(n.Step); err != nil {
			return err
		}
	}
	p.text("]")
	return p.modifiers(n.Timestamp, n.StartOrEnd, n.OriginalOffset, n.OriginalOffsetExpr)
}

// selector writes name{matchers}, and is the only thing that does.
func (p *printer) selector(n *parser.VectorSelector) error {
	switch {
	case n.Anchored:
		return unsupported("the anchored modifier")
	case n.Smoothed:
		return unsupported("the smoothed modifier")
	case n.BypassEmptyMatcherCheck:
		return unsupported("the label selector of info()")
	}
	ms := n.LabelMatchers
	if n.Name != "" {
		// The parser puts the matcher for a name before the braces last.
		last := len(ms) - 1
		if last < 0 || ms[last].Name != metricLabel || ms[last].Type != labels.MatchEqual || ms[last].Value != n.Name {
			return unsupported("this metric name")
		}
		ms = ms[:last]
		p.text(n.Name)
	}
	return p.braces(ms, n.Name != "")
}

// braces writes {matchers} with the tenant matcher last, so that the client's own are ANDed with it.
// bare allows the braces of an unconfined selector to be left out if empty.
func (p *printer) braces(ms []*labels.Matcher, bare bool) error {
	p.selectors++
	p.matchers += len(ms)
	if p.selectors > p.c.limits.MaxSelectors {
		return refuse("query has more than %d selectors", p.c.limits.MaxSelectors)
	}
	if p.matchers > p.c.limits.MaxMatchers {
		return refuse("query has more than %d label matchers", p.c.limits.MaxMatchers)
	}
	if len(p.buf)+len(p.scope.text) > p.c.limits.MaxOutputBytes {
		return refuse("query with its tenant matchers is longer than the limit of %d bytes", p.c.limits.MaxOutputBytes)
	}
	if p.scope.all && bare && len(ms) == 0 {
		return nil
	}
	p.text("{")
	for _, m := range ms {
		if m == nil || m.Name == "" || !utf8.ValidString(m.Name) {
			return refuse("a label matcher has no valid label name")
		}
		if p.c.dialect == PromQL231 && !classicName(m.Name) {
			return unsupported("label name " + strconv.QuoteToASCII(m.Name))
		}
		p.buf = appendMatcher(p.buf, m.Name, m.Type, m.Value)
		p.text(",")
	}
	if p.scope.all {
		if len(ms) > 0 {
			p.buf = p.buf[:len(p.buf)-1]
		}
	} else {
		p.text(p.scope.text)
	}
	p.text("}")
	return nil
}

// modifiers writes what may follow a selector or subquery.
func (p *printer) modifiers(at *int64, startOrEnd parser.ItemType, offset time.Duration, offsetExpr *parser.DurationExpr) error {
	if p.c.dialect == PromQL231 && (at != nil || startOrEnd != 0) {
		return unsupported("the @ modifier")
	}
	switch {
	case at != nil:
		// Beyond this the parser's floating-point seconds lose milliseconds.
		if *at > 1<<53 || *at < -1<<53 {
			return refuse("the timestamp of an @ modifier is out of bounds")
		}
		p.text(" @ ")
		p.buf = strconv.AppendFloat(p.buf, float64(*at)/1000, 'f', 3, 64)
	case startOrEnd == parser.START:
		p.text(" @ start()")
	case startOrEnd == parser.END:
		p.text(" @ end()")
	case startOrEnd != 0:
		return unsupported("this @ modifier")
	}
	switch {
	case offsetExpr != nil:
		return unsupported("a duration expression")
	case offset == 0:
		return nil
	case offset < 0 && p.c.dialect == PromQL231:
		return unsupported("a negative offset")
	case offset < 0:
		p.text(" offset -")
		return p.duration(-offset)
	default:
		p.text(" offset ")
		return p.duration(offset)
	}
}

// duration writes d with one unit: a form that every PromQL parses, whatever the client wrote ([300], [0h5m]).
func (p *printer) duration(d time.Duration) error {
	// Parsing goes through floating-point seconds, which is up to some nanoseconds off for long durations.
	ms := d.Round(time.Millisecond)
	if d <= 0 || ms <= 0 || (d-ms).Abs() > time.Microsecond {
		return unsupported("a duration that is not a positive number of milliseconds")
	}
	unit, suffix := time.Millisecond, "ms"
	switch {
	case ms%time.Hour == 0:
		unit, suffix = time.Hour, "h"
	case ms%time.Minute == 0:
		unit, suffix = time.Minute, "m"
	case ms%time.Second == 0:
		unit, suffix = time.Second, "s"
	}
	p.buf = strconv.AppendInt(p.buf, int64(ms/unit), 10)
	p.text(suffix)
	return nil
}

// appendNumber appends v in the shortest decimal form that parses back to v. Infinity has no plus sign, because
// +Inf ^ 2 would parse as a sign before a power.
func appendNumber(dst []byte, v float64) []byte {
	if math.IsInf(v, 1) {
		return append(dst, "Inf"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// appendMatcher appends one label matcher. Strings are ASCII: the lexer refuses some characters unless escaped.
func appendMatcher(dst []byte, name string, typ labels.MatchType, value string) []byte {
	dst = slices.Grow(dst, len(name)+len(value)+4)
	if classicName(name) {
		dst = append(dst, name...)
	} else {
		dst = strconv.AppendQuoteToASCII(dst, name)
	}
	dst = append(dst, typ.String()...)
	return strconv.AppendQuoteToASCII(dst, value)
}
