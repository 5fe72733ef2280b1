package query

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// strange is a node type that the printer has not heard of.
type strange struct{ parser.Expr }

// The printer's own refusals hold for trees that today's parser does not make.
func TestPrinterRefusesWhatItDoesNotKnow(t *testing.T) {
	up := func() *parser.VectorSelector {
		return &parser.VectorSelector{Name: "up", LabelMatchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")}}
	}
	with := func(edit func(*parser.VectorSelector)) parser.Expr {
		vs := up()
		edit(vs)
		return vs
	}
	for name, e := range map[string]parser.Expr{
		"nil":             nil,
		"unknown":         strange{up()},
		"unknown within":  &parser.ParenExpr{Expr: strange{up()}},
		"unknown in call": &parser.Call{Func: parser.Functions["abs"], Args: parser.Expressions{strange{up()}}},
		"unknown param":   &parser.AggregateExpr{Op: parser.TOPK, Param: strange{up()}, Expr: up()},
		"unknown left":    &parser.BinaryExpr{Op: parser.ADD, LHS: strange{up()}, RHS: up()},
		"unknown right":   &parser.BinaryExpr{Op: parser.ADD, LHS: up(), RHS: strange{up()}},
		"unknown sub":     &parser.SubqueryExpr{Expr: strange{up()}, Range: time.Minute},
		"unknown unary":   &parser.UnaryExpr{Op: parser.SUB, Expr: strange{up()}},
		"unknown range":   &parser.MatrixSelector{VectorSelector: strange{up()}, Range: time.Minute},
		"missing child":   &parser.AggregateExpr{Op: parser.SUM},
		"duration":        &parser.DurationExpr{Op: parser.STEP},
		"no function":     &parser.Call{},
		"unary operator":  &parser.UnaryExpr{Op: parser.MUL, Expr: up()},
		"operator":        &parser.BinaryExpr{Op: parser.AT, LHS: up(), RHS: up()},
		"aggregation":     &parser.AggregateExpr{Op: parser.LIMITK, Expr: up()},
		"cardinality":     &parser.BinaryExpr{Op: parser.ADD, LHS: up(), RHS: up(), VectorMatching: &parser.VectorMatching{Card: 9}},
		"fill":            &parser.BinaryExpr{Op: parser.ADD, LHS: up(), RHS: up(), VectorMatching: &parser.VectorMatching{FillValues: parser.VectorMatchFillValues{RHS: new(float64)}}},
		"range expr":      &parser.MatrixSelector{VectorSelector: up(), Range: time.Minute, RangeExpr: &parser.DurationExpr{}},
		"step expr":       &parser.SubqueryExpr{Expr: up(), Range: time.Minute, StepExpr: &parser.DurationExpr{}},
		"no range":        &parser.MatrixSelector{VectorSelector: up()},
		"@":               with(func(vs *parser.VectorSelector) { vs.StartOrEnd = parser.STEP }),
		"offset expr":     with(func(vs *parser.VectorSelector) { vs.OriginalOffsetExpr = &parser.DurationExpr{} }),
		"anchored":        with(func(vs *parser.VectorSelector) { vs.Anchored = true }),
		"smoothed":        with(func(vs *parser.VectorSelector) { vs.Smoothed = true }),
		"info selector":   with(func(vs *parser.VectorSelector) { vs.BypassEmptyMatcherCheck = true }),
		"nil matcher":     &parser.VectorSelector{LabelMatchers: []*labels.Matcher{nil}},
		"other name":      with(func(vs *parser.VectorSelector) { vs.Name = "down" }),
		"name alone":      &parser.VectorSelector{Name: "up"},
	} {
		for _, s := range []Scope{alice, operator} {
			scope, err := newConfinement(s)
			if err != nil {
				t.Fatal(err)
			}
			p := printer{c: New(PromQL3, DefaultLimits()), scope: scope}
			if err := p.expr(e); err == nil {
				t.Errorf("%s: printed %s", name, p.buf)
			} else {
				wantClientError(t, err)
			}
		}
	}

	scope, err := newConfinement(alice)
	if err != nil {
		t.Fatal(err)
	}
	p := printer{c: New(PromQL3, DefaultLimits()), scope: scope}
	if err := p.expr(&parser.StepInvariantExpr{Expr: up()}); err != nil || string(p.buf) != `up{tenant="a"}` {
		t.Errorf("a step-invariant expression: %s, %v", p.buf, err)
	}
	var deep parser.Expr = up()
	for range 2000 {
		deep = &parser.ParenExpr{Expr: deep}
	}
	if err := p.expr(deep); err == nil {
		t.Error("a tree deeper than the limits was printed")
	}
}

// The check of the printed text stands on its own: it finds a selector that the printer left open.
func TestVerify(t *testing.T) {
	c := New(PromQL231, DefaultLimits())
	for _, tc := range []struct {
		scope     Scope
		out       string
		selectors int
		want      string // empty: verified
	}{
		{alice, `up{tenant="a"} + holt_winters(up{tenant="a"}[5m], 1, 1)`, 2, ""},
		{operator, `up + up`, 2, ""},
		{two, `up{tenant=~"a\\|b|b\\.c"}`, 1, ""},
		{alice, `up`, 1, "1 of them without"},
		{alice, `up{tenant="b"}`, 1, "1 of them without"},
		{alice, `up{tenant!="a"}`, 1, "1 of them without"},
		{alice, `up{tenant=~"a"}`, 1, "1 of them without"},
		{alice, `up{Tenant="a"}`, 1, "1 of them without"},
		{alice, `up{tenant="a"} + up[5m:]`, 2, "expression must contain only"},
		{alice, `topk(scalar(up), up{tenant="a"})`, 2, "1 of them without"},
		{alice, `up{tenant="a"} or up{tenant="a"}`, 1, "1 selectors printed, 2 found"},
		{alice, `up{tenant="a"}`, 2, "2 selectors printed, 1 found"},
		{two, `up{tenant="a"}`, 1, "1 of them without"},
		{operator, `up`, 2, "2 selectors printed"},
		{alice, `up{tenant="a"`, 1, "parse error"},
	} {
		scope, err := newConfinement(tc.scope)
		if err != nil {
			t.Fatal(err)
		}
		err = c.verify(scope, tc.out, tc.selectors)
		if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("verify(%s): %v, want %q", tc.out, err, tc.want)
		}
	}
	for _, tc := range []struct {
		scope Scope
		out   string
		count int
		ok    bool
	}{
		{alice, `{a="b",tenant="a"}`, 1, true},
		{operator, `{a="b"}`, 1, true},
		{alice, `{a="b",tenant="b"}`, 1, false},
		{alice, `{a="b"}`, 0, false},
		{alice, `{a="b",tenant="a"}`, 2, false},
		{operator, `{}`, 1, false},
		{alice, `{tenant="a"`, 0, false},
	} {
		scope, err := newConfinement(tc.scope)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.verifySelector(scope, tc.out, tc.count); tc.ok != (err == nil) {
			t.Errorf("verifySelector(%s): %v", tc.out, err)
		}
	}
}
