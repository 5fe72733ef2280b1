package query

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// generator writes random well-typed PromQL in a client's various spellings.
type generator struct {
	*rand.Rand
	dialect Dialect
}

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

// gap is what may stand between two tokens.
func (g generator) gap() string {
	return g.pick("", " ", " ", "\t\n", " # up{tenant=\"b\"} or \n ", "#\"\n")
}

func (g generator) label() string {
	return g.pick("job", "instance", "le", "tenant", "tenant", "on", "by", "sum", "bool", "group_left", "offset", "__tenant__", "Tenant", "_", "a9")
}

func (g generator) matcherName() string {
	if g.IntN(4) == 0 {
		if g.dialect == PromQL3 && g.IntN(2) == 0 {
			return g.pick(`"a.b"`, `'t\u0435nant'`, "`tenant=\"a\"`", `"{"`, `"\ufffd"`, `"9"`)
		}
		return g.pick(`"tenant"`, "`job`", `'without'`, `"inf"`)
	}
	return g.pick(g.label(), "without", "nan")
}

func (g generator) str() string {
	return g.pick(`"x"`, `"x"`, `'x'`, "`x`", `""`, `"a"`, `"b"`, `"\""`, `'"}'`, "`\\`", `"\\"`, `"é\u0430\U0001f600"`, `"\x00\xff\n"`, `"\ufffd"`, `"# {"`, `'" or up{tenant="b'`)
}

func (g generator) matchers(ms ...string) string {
	for range g.IntN(4) {
		switch g.IntN(3) {
		case 0:
			ms = append(ms, g.matcherName()+g.gap()+g.pick("=", "!=")+g.gap()+g.str())
		default:
			ms = append(ms, g.matcherName()+g.pick("=~", "!~")+g.pick(`"a|b"`, `".*"`, `".+"`, `"a.+"`, `'[0-9]{2}x'`, `"(?i)A"`, `"^a$"`))
		}
	}
	return g.gap() + strings.Join(ms, g.gap()+","+g.gap()) + g.gap()
}

func (g generator) selector() string {
	switch g.IntN(6) {
	case 0:
		return `{` + g.matchers(`__name__=~"u.*"`) + g.pick("", ",") + `}`
	case 1:
		return `{` + g.pick(`"up"`, `"tenant"`, `"sum"`, `"nan"`, `"a.b"`) + g.gap() + `}`
	case 2:
		return g.pick("up", "a:b", "sum", "by", "start", "offset", "fill", "step", "holt_winters", "tenant", "UP")
	default:
		return g.pick("up", "a:b", "sum", "OR", "holt_winters") + g.gap() + `{` + g.matchers() + `}`
	}
}

func (g generator) dur() string {
	return g.pick("5m", "1h30m", "90s", "1d", "1w", "1y2w", "1500ms", "300", "0.5", "1_0", "0x10")
}

func (g generator) after() string {
	s := ""
	if g.dialect == PromQL3 {
		s = g.pick("", "", " @ 1.5", " @ start()", " @ end()", " @ -3")
	}
	switch g.IntN(4) {
	case 0:
		s += " offset " + g.dur()
	case 1:
		if g.dialect == PromQL3 {
			s += " offset -" + g.dur()
		}
	}
	return s
}

func (g generator) scalar(depth int) string {
	if depth <= 0 {
		return g.pick("1", "-1", "0.5", "+Inf", "NaN", "1e10", "0x1F", "5m", "- 2", "1e-9", "1_000", "time()", "pi ( )")
	}
	switch g.IntN(5) {
	case 0:
		return "scalar(" + g.vector(depth-1) + ")"
	case 1:
		return "(" + g.gap() + g.scalar(depth-1) + ")"
	case 2:
		return g.scalar(depth-1) + g.pick(" + ", " - ", "^", "*", " % ", " atan2 ", " > bool ") + g.scalar(depth-1)
	case 3:
		return g.pick("-", "+", "- ") + g.scalar(depth-1)
	default:
		return g.scalar(0)
	}
}

func (g generator) matrix(depth int) string {
	if depth <= 0 || g.IntN(2) == 0 {
		return g.selector() + g.gap() + "[" + g.pick("", " ") + g.dur() + "]" + g.after()
	}
	return "(" + g.vector(depth-1) + ")[" + g.dur() + ":" + g.pick("", "1m", "30") + "]" + g.after()
}

func (g generator) labelList() string {
	var names []string
	for range g.IntN(3) {
		name := g.label()
		if g.dialect == PromQL3 && g.IntN(4) == 0 {
			name = g.pick(`"without"`, `"a.b"`, `'inf'`, `"tenant"`, "a:b")
		}
		names = append(names, name)
	}
	return g.gap() + "(" + strings.Join(names, ",") + ")"
}

func (g generator) vector(depth int) string {
	if depth <= 0 {
		return g.selector() + g.after()
	}
	v := func() string { return g.gap() + g.vector(depth-1) + g.gap() }
	s := func() string { return g.scalar(depth - 2) }
	switch g.IntN(16) {
	case 0, 1:
		return g.pick("rate", "increase", "max_over_time", "absent_over_time", "deriv", "present_over_time") + g.gap() + "(" + g.matrix(depth-1) + ")"
	case 2:
		return g.pick("abs", "absent", "timestamp", "sort_desc", "sgn", "histogram_quantile(0.9, up) + abs") + "(" + v() + ")"
	case 3:
		return g.pick("sum", "MAX", "count", "group", "stddev") + g.pick(" by", " without", " BY") + g.labelList() + "(" + v() + ")"
	case 4:
		return g.pick("sum", "avg", "min") + "(" + v() + ")" + g.pick("", " by"+g.labelList(), " without"+g.labelList())
	case 5:
		return g.pick("topk", "bottomk", "quantile") + "(" + s() + "," + v() + ")"
	case 6:
		return `count_values("tenant", ` + v() + ")"
	case 7, 8:
		return v() + g.pick(" + ", " / ", " ^ ", " == bool ", " > ", " atan2 ", " != ") + g.pick("", "on"+g.labelList(), "ignoring"+g.labelList()) + " (" + v() + ")"
	case 9:
		return v() + g.pick(" and ", " or ", " UNLESS ") + v()
	case 10:
		return v() + " * " + g.pick("on", "ignoring") + " (job)" + g.pick(" group_left", " group_right") + g.pick("", " (tenant)", "()") + " " + v()
	case 11:
		return "label_replace(" + v() + `, "tenant", "$1", "job", "(.*)")`
	case 12:
		return g.pick("-", "+", "--") + v()
	case 13:
		return "(" + v() + ")"
	case 14:
		return "clamp(" + v() + "," + s() + "," + s() + ")"
	default:
		if g.dialect == PromQL231 {
			return "holt_winters" + g.gap() + "(" + g.matrix(depth-1) + ", 0.1, 0.2)"
		}
		return "first_over_time(" + g.matrix(depth-1) + ")"
	}
}

func (g generator) query() string {
	switch depth := g.IntN(6); g.IntN(6) {
	case 0:
		return g.scalar(depth)
	case 1:
		return g.matrix(depth)
	default:
		return g.vector(depth)
	}
}

// sameQuery reports whether out is in with own in every selector and nothing else: each selector of out has own once
// more than its counterpart has, and without that one the parser prints both alike.
func sameQuery(t testing.TB, d Dialect, in, out string, own *labels.Matcher) (selectors int) {
	t.Helper()
	parse := func(s string) parser.Expr {
		if d == PromQL231 {
			s = inParserWords(s)
		}
		tree, err := d.newParser().ParseExpr(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		return tree
	}
	before, after := parse(in), parse(out)
	parser.Inspect(after, func(n parser.Node, _ []parser.Node) error {
		if vs, ok := n.(*parser.VectorSelector); ok {
			selectors++
			at := slices.IndexFunc(vs.LabelMatchers, func(m *labels.Matcher) bool {
				return m.Name == own.Name && m.Type == own.Type && m.Value == own.Value
			})
			if at < 0 {
				t.Fatalf("%s\nbecame %s\nwith a selector without the matcher: %s", in, out, vs)
			}
			vs.LabelMatchers = slices.Delete(vs.LabelMatchers, at, at+1)
		}
		return nil
	})
	parser.Inspect(before, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.NumberLiteral:
			n.Duration = false // 5m is written 300
		// The parser's printer cuts off what is no whole millisecond, ours refuses more than its rounding errors.
		case *parser.MatrixSelector:
			n.Range = n.Range.Round(time.Millisecond)
		case *parser.SubqueryExpr:
			n.Range, n.Step = n.Range.Round(time.Millisecond), n.Step.Round(time.Millisecond)
			n.OriginalOffset = n.OriginalOffset.Round(time.Millisecond)
		case *parser.VectorSelector:
			n.OriginalOffset = n.OriginalOffset.Round(time.Millisecond)
		}
		return nil
	})
	if got, want := after.String(), before.String(); got != want {
		t.Fatalf("%s\nbecame %s\nwhich says %s\ninstead of %s", in, out, got, want)
	}
	return selectors
}

func TestGeneratedQueriesKeepTheirMeaning(t *testing.T) {
	const each = 2000
	for _, d := range []Dialect{PromQL231, PromQL3} {
		for _, s := range []Scope{alice, two} {
			c := New(d, DefaultLimits())
			g := generator{rand.New(rand.NewPCG(uint64(d), uint64(len(s.Tenants)))), d}
			m, err := s.Matcher()
			if err != nil {
				t.Fatal(err)
			}
			own := labels.MustNewMatcher(m.matchType(), m.Name, m.Value)
			accepted, selectors := 0, 0
			refused := map[string]int{}
			for range each {
				in := g.query()
				out, err := c.PromQL(s, in)
				if err != nil {
					refused[kindOf(wantClientError(t, err))]++
					continue
				}
				accepted++
				selectors += sameQuery(t, d, in, out, own)
				again, err := c.PromQL(s, out)
				if err != nil {
					t.Fatalf("%s\nbecame %s\nwhich can't be confined again: %v", in, out, err)
				}
				sameQuery(t, d, out, again, own)
			}
			t.Logf("dialect %d, %d tenants: %d of %d accepted, %d selectors, refused: %v", d, len(s.Tenants), accepted, each, selectors, refused)
			if accepted < each*9/10 || selectors < each {
				t.Errorf("dialect %d: only %d of %d generated queries with %d selectors were accepted: %v", d, accepted, each, selectors, refused)
			}
		}
	}
}

// kindOf cuts what varies from a message.
func kindOf(msg string) string {
	if _, after, ok := strings.Cut(msg, "parse error: "); ok {
		msg = after
	}
	return fmt.Sprintf("%.30s", msg)
}
