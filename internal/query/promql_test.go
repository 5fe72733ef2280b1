package query

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

var (
	alice    = Scope{Label: "tenant", Tenants: []string{"a"}}
	two      = Scope{Label: "tenant", Tenants: []string{"b.c", "a|b", "b.c"}}
	operator = Scope{All: true}
)

// both dialects print these alike.
func TestPromQLGolden(t *testing.T) {
	const m = `tenant="a"`
	for _, tc := range []struct{ in, want string }{
		{`up`, `up{tenant="a"}`},
		{`up{}`, `up{tenant="a"}`},
		{`up{job="x",}`, `up{job="x",tenant="a"}`},
		{`{job="x"}`, `{job="x",tenant="a"}`},
		{`{__name__=~"up|down"}`, `{__name__=~"up|down",tenant="a"}`},
		{`{"up"}`, `{__name__="up",tenant="a"}`},
		{`{"up","job"="x"}`, `{__name__="up",job="x",tenant="a"}`},
		{`a:b:c`, `a:b:c{tenant="a"}`},
		{"up # {tenant=\"b\"}\n + # comment\n down", `up{tenant="a"} + down{tenant="a"}`},
		{`1+1`, `1 + 1`},
		{`"x"`, `"x"`},
		{`time()`, `time()`},
		{`-up ^ -2`, `-up{tenant="a"} ^ -2`},
		{`- 1 ^ 2`, `-1 ^ 2`},
		{`-(-1)^2`, `-(-1) ^ 2`},
		{`Inf ^ +Inf - -inf * NaN`, `Inf ^ Inf - -Inf * NaN`},
		{`1e300 + 0x1F + 010 + 1_000 + .5 + 1e-7`, `1e+300 + 31 + 8 + 1000 + 0.5 + 1e-07`},
		{`up > bool 5m`, `up{tenant="a"} > bool 300`},
		{`rate(up[5m])`, `rate(up{tenant="a"}[5m])`},
		{`rate(up[300])`, `rate(up{tenant="a"}[5m])`},
		{`rate(up[1h30m] offset 1d)`, `rate(up{tenant="a"}[90m] offset 24h)`},
		{`up offset 1500ms`, `up{tenant="a"} offset 1500ms`},
		{`up offset 0s`, `up{tenant="a"}`},
		{`up[1y1ms]`, `up{tenant="a"}[31536000001ms]`},
		{`max_over_time(rate(up[1m])[1h:])`, `max_over_time(rate(up{tenant="a"}[1m])[1h:])`},
		{`max_over_time((up - down)[1h:30s] offset 2m)`, `max_over_time((up{tenant="a"} - down{tenant="a"})[1h:30s] offset 2m)`},
		{`SUM(up) BY (job, instance)`, `sum by (job, instance) (up{tenant="a"})`},
		{`sum by () (up)`, `sum(up{tenant="a"})`},
		{`sum without () (up)`, `sum without () (up{tenant="a"})`},
		{`sum by ("job") (up)`, `sum by (job) (up{tenant="a"})`},
		{`topk(scalar(k), up)`, `topk(scalar(k{tenant="a"}), up{tenant="a"})`},
		{`quantile(0.9, up)`, `quantile(0.9, up{tenant="a"})`},
		{`count_values("tenant", up)`, `count_values("tenant", up{tenant="a"})`},
		{`a and b or c unless d`, `a{tenant="a"} and b{tenant="a"} or c{tenant="a"} unless d{tenant="a"}`},
		{`a atan2 b`, `a{tenant="a"} atan2 b{tenant="a"}`},
		{`a + on () b`, `a{tenant="a"} + on () b{tenant="a"}`},
		{`a + ignoring () b`, `a{tenant="a"} + b{tenant="a"}`},
		{`a * on (x, y) group_left (z) b`, `a{tenant="a"} * on (x, y) group_left (z) b{tenant="a"}`},
		{`a * ignoring () group_right b`, `a{tenant="a"} * ignoring () group_right () b{tenant="a"}`},
		{`a == bool on (x) b`, `a{tenant="a"} == bool on (x) b{tenant="a"}`},
		{`absent(up{job="x"})`, `absent(up{job="x",tenant="a"})`},
		{`label_replace(up, "tenant", "b", "", "")`, `label_replace(up{tenant="a"}, "tenant", "b", "", "")`},
		{`label_join(up, "tenant", "-", "a", "b")`, `label_join(up{tenant="a"}, "tenant", "-", "a", "b")`},
		{`histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))`, `histogram_quantile(0.9, sum by (le) (rate(x_bucket{tenant="a"}[5m])))`},
		{`sum + by + start + offset`, `sum{tenant="a"} + by{tenant="a"} + start{tenant="a"} + offset{tenant="a"}`},
		{`up{a='\'"',b=` + "`\\n`" + `}`, `up{a="'\"",b="\\n",tenant="a"}`},
		{`up{a="\ufffd é \x00\xff"}`, `up{a="\ufffd \u00e9 \x00\xff",tenant="a"}`},
		{`{__name__="a.b"}`, `{__name__="a.b",tenant="a"}`},
	} {
		for _, d := range []Dialect{PromQL231, PromQL3} {
			c := New(d, DefaultLimits())
			got, err := c.PromQL(alice, tc.in)
			if err != nil || got != tc.want {
				t.Errorf("dialect %d: PromQL(%s)\n got %s, %v\nwant %s", d, tc.in, got, err, tc.want)
				continue
			}
			if again, err := c.PromQL(alice, got); err != nil || strings.ReplaceAll(again, m+","+m, m) != got {
				t.Errorf("dialect %d: confining %s again gives %s, %v", d, got, again, err)
			}
		}
	}
}

func TestPromQLByDialect(t *testing.T) {
	const lacks = " is not supported by this store"
	for _, tc := range []struct{ in, want231, want3 string }{
		{`up @ 1.5`, "the @ modifier" + lacks, `up{tenant="a"} @ 1.500`},
		{`up[5m] @ start() offset 1m`, "the @ modifier" + lacks, `up{tenant="a"}[5m] @ start() offset 1m`},
		{`max_over_time(up[5m:] @ end())`, "the @ modifier" + lacks, `max_over_time(up{tenant="a"}[5m:] @ end())`},
		{`up offset -1m`, "a negative offset" + lacks, `up{tenant="a"} offset -1m`},
		{`max_over_time(up[5m:] offset -1m)`, "a negative offset" + lacks, `max_over_time(up{tenant="a"}[5m:] offset -1m)`},
		{`up{"a.b"="c"}`, `label name "a.b"` + lacks, `up{"a.b"="c",tenant="a"}`},
		{`sum by ("a.b") (up)`, `label name "a.b" in a grouping` + lacks, `sum by ("a.b") (up{tenant="a"})`},
		{`sum by ("without") (up)`, `label name "without" in a grouping` + lacks, `sum by ("without") (up{tenant="a"})`},
		{`a + on ("NaN") b`, `label name "NaN" in a grouping` + lacks, `a{tenant="a"} + on ("NaN") b{tenant="a"}`},
		{`sum by (a:b) (up)`, `label name "a:b" in a grouping` + lacks, `sum by ("a:b") (up{tenant="a"})`},
		{`day_of_year()`, "function day_of_year()" + lacks, `day_of_year()`},
		{`first_over_time(up[5m])`, "function first_over_time()" + lacks, `first_over_time(up{tenant="a"}[5m])`},
		{`histogram_count(up)`, "function histogram_count()" + lacks, `histogram_count(up{tenant="a"})`},
		{`up </ 3`, "operator </" + lacks, `up{tenant="a"} </ 3`},
		{`holt_winters(up[5m], 0.1, 0.2)`, `holt_winters(up{tenant="a"}[5m], 0.1, 0.2)`, `unknown function with name "holt_winters"`},
		{"holt_winters #(\n (holt_winters{x=\"holt_winters(\"}[5m], 0.1, 0.2)", `holt_winters(holt_winters{x="holt_winters(",tenant="a"}[5m], 0.1, 0.2)`, "unknown function"},
		{`double_exponential_smoothing(up[5m], 0.1, 0.2)`, `holt_winters(up{tenant="a"}[5m], 0.1, 0.2)`, "is not enabled"},
		{`holt_winters(up, 0.1, 0.2)`, `in call to function "holt_winters"`, "unknown function"},
		{`info(up)`, "function info()" + lacks, `function "info" is not enabled`},
		{`info(up, {tenant="b"})`, "function info()" + lacks, `function "info" is not enabled`},
		{`mad_over_time(up[5m])`, "function mad_over_time()" + lacks, "is not enabled"},
		{`ts_of_max_over_time(up[5m])`, "function ts_of_max_over_time()" + lacks, "is not enabled"},
		{`sort_by_label(up, "a")`, "function sort_by_label()" + lacks, "is not enabled"},
		{`step()`, "function step()" + lacks, "is not enabled"},
		{`limitk(1, up)`, "aggregation limitk()" + lacks, "is experimental"},
		{`limit_ratio(0.5, up)`, "aggregation limit_ratio()" + lacks, "is experimental"},
		{`up anchored`, "the anchored modifier" + lacks, "anchored modifier is experimental"},
		{`rate(up[5m] smoothed)`, "the smoothed modifier" + lacks, "smoothed modifier is experimental"},
		{`a + fill (0) b`, "the fill modifier" + lacks, "fill modifiers are experimental"},
		{`a + fill_left (0) b`, "the fill modifier" + lacks, "fill modifiers are experimental"},
		{`rate(up[5m * 2])`, "a duration expression" + lacks, "experimental duration expression is not enabled"},
		{`up offset step()`, "a duration expression" + lacks, "experimental duration expression is not enabled"},
		{`max_over_time(up[5m:step()])`, "a duration expression" + lacks, "experimental duration expression is not enabled"},
		{`up{a="b" or c="d"}`, `unexpected`, `unexpected`},
		{`{}`, "at least one non-empty matcher", "at least one non-empty matcher"},
		{`{tenant=~".*"}`, "at least one non-empty matcher", "at least one non-empty matcher"},
		{``, "no expression found", "no expression found"},
		{`up{a=~"("}`, "missing closing )", "missing closing )"},
		{`up[0.0004]`, "a duration that is not a positive number of milliseconds", "a duration that is not a positive number of milliseconds"},
		{`up{""="x"}`, "no valid label name", "no valid label name"},
		{`up{"\xff"="x"}`, "no valid label name", "no valid label name"},
		{`up @ 1e18`, "the @ modifier", "timestamp of an @ modifier is out of bounds"},
		{`up up`, "unexpected identifier", "unexpected identifier"},
		{`unknown_function(up)`, "unknown function", "unknown function"},
	} {
		for d, want := range map[Dialect]string{PromQL231: tc.want231, PromQL3: tc.want3} {
			got, err := New(d, DefaultLimits()).PromQL(alice, tc.in)
			if err != nil {
				got = wantClientError(t, err)
				if !strings.Contains(got, want) {
					t.Errorf("dialect %d: PromQL(%s)\n  got error %s\nwant %s", d, tc.in, got, want)
				}
			} else if got != want {
				t.Errorf("dialect %d: PromQL(%s)\n got %s\nwant %s", d, tc.in, got, want)
			}
		}
	}
}

func wantClientError(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("error %v is not the client's", err)
		return ""
	}
	if len(e.Msg) == 0 || len(e.Msg) > maxErrorBytes || strings.ContainsAny(e.Msg, "\r\n\x00") {
		t.Errorf("message is empty, long or of several lines: %q", e.Msg)
	}
	return e.Msg
}

func TestPromQLOfAnOperatorHasNoMatcher(t *testing.T) {
	for in, want := range map[string]string{
		`up`:                      `up`,
		`up{}`:                    `up`,
		`rate({a="b"}[5m])`:       `rate({a="b"}[5m])`,
		`a + fill`:                `a + fill`,
		`sum by (x) (a / on() b)`: `sum by (x) (a / on () b)`,
	} {
		if got, err := New(PromQL231, DefaultLimits()).PromQL(operator, in); err != nil || got != want {
			t.Errorf("PromQL(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
	if _, err := New(PromQL231, DefaultLimits()).PromQL(operator, `up @ 1`); err == nil {
		t.Error("an operator's query skipped the dialect check")
	}
}

func TestPromQLLimits(t *testing.T) {
	small := DefaultLimits()
	small.MaxMatchers = 3
	small.MaxSelectors = 3
	small.MaxOutputBytes = 100
	for _, tc := range []struct {
		limits   Limits
		in, want string
	}{
		{DefaultLimits(), strings.Repeat(" ", 64<<10) + "1", "longer than the limit of 65536"},
		{DefaultLimits(), strings.Repeat("(", 30000) + "1" + strings.Repeat(")", 30000), "nested deeper than 100"},
		{DefaultLimits(), strings.Repeat("-", 60000) + "up", "more than 1000 operators"},
		{DefaultLimits(), strings.Repeat("1+", 30000) + "1", "more than 1000 operators"},
		{DefaultLimits(), "up" + strings.Repeat("[1m:1m]", 5000), "more than 1000 operators"},
		{DefaultLimits(), strings.Repeat("u or ", 600) + "u", "more than 500 selectors"},
		{DefaultLimits(), `up{a=~"` + strings.Repeat("x", 20000) + `"}`, "longer than the limit of 16384"},
		{DefaultLimits(), `up{a=~"` + strings.Repeat("x{1000}", 200) + `"}`, "larger than the limit of 100000 instructions"},
		{DefaultLimits(), `up{a!~'` + strings.Repeat(`x\x7b1000}`, 200) + `'}`, "larger than the limit of 100000 instructions"},
		{DefaultLimits(), "up{a=~`" + strings.Repeat(`\pL`, 1000) + "`}", "larger than the limit of 100000 instructions"},
		{DefaultLimits(), `up{` + strings.Repeat(`a=~"(x{10}){100}y{900}",`, 100) + `}`, "larger than the limit of 100000 instructions"},
		{small, `up{a="1",b="2",c="3",d="4"}`, "more than 3 label matchers"},
		{small, `a+b+c+d`, "more than 3 selectors"},
		{small, `a{x="` + strings.Repeat("x", 100) + `"}+b`, "longer than the limit of 100 bytes"},
	} {
		_, err := New(PromQL3, tc.limits).PromQL(alice, tc.in)
		if err == nil {
			t.Errorf("%.40s… was accepted", tc.in)
		} else if msg := wantClientError(t, err); !strings.Contains(msg, tc.want) {
			t.Errorf("%.40s…: got %q, want %q", tc.in, msg, tc.want)
		}
	}
	deepest := strings.Repeat("-", 890) + strings.Repeat("(", 100) + "up" + strings.Repeat(")", 100)
	if _, err := New(PromQL3, DefaultLimits()).PromQL(alice, deepest); err != nil {
		t.Errorf("the deepest query: %v", err)
	}
}

// A new function, aggregation or operator of the parser is refused until somebody has added it to the tables.
func TestTablesCoverTheParser(t *testing.T) {
	for name, f := range parser.Functions {
		if _, listed := functions[name]; listed == f.Experimental {
			t.Errorf("function %s: listed %v, experimental %v", name, listed, f.Experimental)
		}
	}
	for name := range functions {
		if parser.Functions[name] == nil {
			t.Errorf("the parser has no function %s", name)
		}
	}
	for typ := range parser.ItemTypeStr {
		if typ.IsAggregator() && aggregators[typ] == typ.IsExperimentalAggregator() {
			t.Errorf("aggregation %s: listed %v", typ, aggregators[typ])
		}
		// These are operators to the lexer only.
		if typ == parser.EQL_REGEX || typ == parser.NEQ_REGEX || typ == parser.AT {
			continue
		}
		if _, listed := binaryOps[typ]; typ.IsOperator() && !listed {
			t.Errorf("operator %s is not listed", typ)
		}
	}
	n := 0
	for _, in231 := range functions {
		if in231 {
			n++
		}
	}
	if n != 65 { // Prometheus 2.31 has 66 functions, with holt_winters.
		t.Errorf("%d functions of Prometheus 2.31", n)
	}
}

// bareGroupingName agrees with the parser about every word that it may read otherwise.
func TestBareGroupingNames(t *testing.T) {
	p := PromQL3.newParser()
	for _, word := range append(parser.Keywords(), "inf", "NaN", "job", "Without") {
		_, err := p.ParseExpr("sum by (" + word + ") (up)")
		if bareGroupingName(word) != (err == nil) {
			t.Errorf("by (%s): %v", word, err)
		}
	}
}
