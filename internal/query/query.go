package query

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// Limits bounds what one request may make this package and the store do. All are required; start from DefaultLimits.
type Limits struct {
	MaxQueryBytes  int // an expression, or all match[] of a request together
	MaxOutputBytes int // a confined expression, or all confined match[] together
	MaxDepth       int // nesting of parentheses and brackets
	MaxNodes       int // operators, parentheses and brackets of an expression
	MaxSelectors   int // selectors of an expression, match[] of a request, queries of a remote read
	MaxMatchers    int // label matchers of a request, without the tenant's; grouping labels of a remote-read hint
	MaxRegexBytes  int // the text of one regular expression
	MaxRegexSize   int // the instructions that all regular expressions of a request compile to, about
}

// DefaultLimits returns bounds that are far above what dashboards send.
func DefaultLimits() Limits {
	return Limits{
		MaxQueryBytes:  64 << 10,
		MaxOutputBytes: 512 << 10,
		MaxDepth:       100,
		MaxNodes:       1000,
		MaxSelectors:   500,
		MaxMatchers:    2000,
		MaxRegexBytes:  16 << 10,
		MaxRegexSize:   100_000,
	}
}

// Confiner rewrites queries for stores of one dialect. It is safe for concurrent use.
type Confiner struct {
	dialect Dialect
	limits  Limits
	parser  parser.Parser
	memo    memo
}

// New returns a Confiner for stores that speak dialect.
func New(dialect Dialect, limits Limits) *Confiner {
	return &Confiner{dialect: dialect, limits: limits, parser: dialect.newParser()}
}

// PromQL returns expr with the matcher of s in every selector, printed anew in the Confiner's dialect. Comments vanish;
// numbers and durations are normalised. An unconfined scope gets the same checks and printing, without a matcher.
// An *Error is the client's mistake.
func (c *Confiner) PromQL(s Scope, expr string) (string, error) {
	q, err := c.Query(s, expr)
	return q.Text, err
}

// Query is a confined expression.
type Query struct {
	Text  string
	Reach Reach
}

// Query is PromQL that also says how far the expression reaches.
func (c *Confiner) Query(s Scope, expr string) (Query, error) {
	scope, err := newConfinement(s)
	if err != nil {
		return Query{}, err
	}
	if q, ok := c.memo.find(scope.text, expr); ok {
		return q, nil
	}
	q, err := c.confine(scope, expr)
	if err == nil {
		c.memo.add(scope.text, expr, q)
	}
	return q, err
}

// confine is Query without a memory.
func (c *Confiner) confine(scope confinement, expr string) (Query, error) {
	tree, err := c.read(expr)
	if err != nil {
		return Query{}, err
	}
	p := printer{c: c, scope: scope, buf: make([]byte, 0, 2*len(expr)+64)}
	if err := p.expr(tree); err != nil {
		return Query{}, err
	}
	q := Query{Text: string(p.buf)}
	if err := c.verify(scope, q.Text, p.selectors); err != nil {
		return Query{}, fmt.Errorf("verifying a confined query: %w", err)
	}
	q.Reach.add(tree, place{moves: true})
	return q, nil
}

// read parses a client's expression within the limits.
func (c *Confiner) read(expr string) (parser.Expr, error) {
	if len(expr) > c.limits.MaxQueryBytes {
		return nil, refuse("query of %d bytes is longer than the limit of %d", len(expr), c.limits.MaxQueryBytes)
	}
	if err := c.bound(expr); err != nil {
		return nil, err
	}
	tree, err := c.parse(expr)
	if err != nil {
		return nil, c.parseError("query", err)
	}
	return tree, nil
}

// Format returns expr, which nothing is added to, in the parser's own layout, with line breaks. An *Error is the client's
// mistake: it is held to the same limits as an expression that runs.
func (c *Confiner) Format(expr string) (string, error) {
	tree, err := c.read(expr)
	if err != nil {
		return "", err
	}
	if c.dialect == PromQL231 {
		parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
			if call, ok := n.(*parser.Call); ok && call.Func.Name == smoothingName3 {
				f := *call.Func // the parser's own is shared
				f.Name = smoothingName231
				call.Func = &f
			}
			return nil
		})
	}
	return tree.Pretty(0), nil
}

func (c *Confiner) parse(expr string) (parser.Expr, error) {
	if c.dialect == PromQL231 {
		expr = inParserWords(expr)
	}
	return c.parser.ParseExpr(expr)
}

// parseError makes the parser's message the client's, in the words of Prometheus' API and of the client's dialect.
func (c *Confiner) parseError(param string, err error) error {
	msg := err.Error()
	if c.dialect == PromQL231 {
		msg = strings.ReplaceAll(msg, smoothingName3, smoothingName231)
	}
	return refuse("invalid parameter %q: %s", param, msg)
}

// verify parses out, the very text that the store is going to parse, and checks by the parser's own walk that it has as
// many selectors as were printed and the tenant matcher in each. Its errors are faults of this package, not the client's.
func (c *Confiner) verify(scope confinement, out string, selectors int) error {
	tree, err := c.parse(out)
	if err != nil {
		return errors.New(oneLine(err.Error()))
	}
	found, outside := 0, 0
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok {
			found++
			if !scope.holds(vs.LabelMatchers) {
				outside++
			}
		}
		return nil
	})
	if found != selectors || outside != 0 {
		return fmt.Errorf("%d selectors printed, %d found, %d of them without the tenant matcher", selectors, found, outside)
	}
	return nil
}

// everySeries selects all series of an unconfined scope in both dialects.
const everySeries = `{__name__!=""}`

// Selectors returns the values of match[] with the matcher of s in each, printed anew in the Confiner's dialect.
// {} and no value at all mean all series of the scope. The result has at least one entry, and one per match if there
// are any. An *Error is the client's mistake.
func (c *Confiner) Selectors(s Scope, matches []string) ([]string, error) {
	scope, err := newConfinement(s)
	if err != nil {
		return nil, err
	}
	if len(matches) == 0 {
		matches = []string{"{}"}
	}
	if len(matches) > c.limits.MaxSelectors {
		return nil, refuse("request has more than %d match[] parameters", c.limits.MaxSelectors)
	}
	size := 0
	for _, m := range matches {
		size += len(m)
	}
	if size > c.limits.MaxQueryBytes {
		return nil, refuse("match[] parameters of %d bytes are longer than the limit of %d", size, c.limits.MaxQueryBytes)
	}
	p := printer{c: c, scope: scope}
	out := make([]string, 0, len(matches))
	for _, m := range matches {
		if err := c.bound(m); err != nil {
			return nil, err
		}
		ms, err := c.parser.ParseMetricSelector(m)
		if err != nil {
			return nil, c.parseError("match[]", err)
		}
		if scope.all && len(ms) == 0 {
			out = append(out, everySeries)
			continue
		}
		start := len(p.buf)
		if err := p.braces(ms, false); err != nil {
			return nil, err
		}
		confined := string(p.buf[start:])
		if err := c.verifySelector(scope, confined, len(ms)); err != nil {
			return nil, fmt.Errorf("verifying a confined match[]: %w", err)
		}
		out = append(out, confined)
	}
	return out, nil
}

// verifySelector is verify for one selector made of the client's count of matchers and the tenant's.
func (c *Confiner) verifySelector(scope confinement, out string, count int) error {
	ms, err := c.parser.ParseMetricSelector(out)
	if err != nil {
		return errors.New(oneLine(err.Error()))
	}
	if !scope.all {
		count++
	}
	if len(ms) != count || !scope.holds(ms) {
		return fmt.Errorf("%d matchers found, %d printed, or none of them the tenant's", len(ms), count)
	}
	return nil
}
