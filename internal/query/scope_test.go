package query

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// oddTenants are values that look like syntax, and values that a careless pattern takes for another.
var oddTenants = []string{
	"a", "aa", "a-b", "a|b", "a.b", "axb", ".*", ".+", "(", "[a", `\`, `\Q`, `\E`, `"`, `'`, "`", `a"} or {x="`, "a\nb", "a\x00b",
	"^a$", "a$", "(?i)A", "A", "é", "\u0430", "\ufffd", "😀", "{a}", "a{1000}", " a", "#a", "%s", "a,b", "∞\u202e",
}

func TestScopeMatcher(t *testing.T) {
	for _, tc := range []struct {
		tenants []string
		want    Matcher
	}{
		{[]string{"a"}, Matcher{Name: "tenant", Value: "a"}},
		{[]string{".*"}, Matcher{Name: "tenant", Value: ".*"}},
		{[]string{"a", "a"}, Matcher{Name: "tenant", Value: "a"}},
		{[]string{"b", "a", "b"}, Matcher{Name: "tenant", Value: "a|b", Regexp: true}},
		{[]string{"a|b", "c.d"}, Matcher{Name: "tenant", Value: `a\|b|c\.d`, Regexp: true}},
	} {
		in := strings.Join(tc.tenants, "\x00")
		got, err := Scope{Label: "tenant", Tenants: tc.tenants}.Matcher()
		if err != nil || got != tc.want {
			t.Errorf("Matcher(%q) = %+v, %v; want %+v", tc.tenants, got, err, tc.want)
		}
		if strings.Join(tc.tenants, "\x00") != in {
			t.Errorf("Matcher changed the scope's tenants to %q", tc.tenants)
		}
	}
}

// A scope that confines to nothing known is never taken for an unconfined one.
func TestScopeErrors(t *testing.T) {
	c := New(PromQL3, DefaultLimits())
	read := readBody(t, oneQuery())
	for _, s := range []Scope{
		{},
		{Label: "tenant"},
		{Label: "tenant", Tenants: []string{}},
		{Label: "tenant", Tenants: []string{""}},
		{Label: "tenant", Tenants: []string{"a", ""}},
		{Label: "tenant", Tenants: []string{"a\xff"}},
		{Tenants: []string{"a"}},
		{Label: "a.b", Tenants: []string{"a"}},
		{Label: `x"`, Tenants: []string{"a"}},
		{Label: "__name__", Tenants: []string{"a"}},
	} {
		_, err1 := c.PromQL(s, "up")
		_, err2 := c.Selectors(s, nil)
		_, _, err3 := c.RemoteRead(s, read, 1<<16)
		for _, err := range []error{err1, err2, err3} {
			var e *Error
			if err == nil || errors.As(err, &e) {
				t.Errorf("scope %+v: error %v, want an internal one", s, err)
			}
		}
	}
	if _, err := operator.Matcher(); err == nil {
		t.Error("an unconfined scope has a matcher")
	}
}

// Confined to any set of odd tenants, a query selects those tenants' series and no other tenant's.
func TestOddTenants(t *testing.T) {
	var scopes [][]string
	for i, v := range oddTenants {
		scopes = append(scopes, []string{v}, []string{v, oddTenants[(i+1)%len(oddTenants)]}, []string{oddTenants[(i+7)%len(oddTenants)], "zz", v})
	}
	for _, d := range []Dialect{PromQL231, PromQL3} {
		c := New(d, DefaultLimits())
		for _, tenants := range scopes {
			s := Scope{Label: "tenant", Tenants: tenants}
			out, err := c.PromQL(s, `up{tenant=~".*|.+"}`)
			if err != nil {
				t.Fatalf("tenants %q: %v", tenants, err)
			}
			sel, err := c.Selectors(s, nil)
			if err != nil {
				t.Fatalf("tenants %q: %v", tenants, err)
			}
			for _, v := range append(oddTenants, "", "zz", "b", "bb", "a\nb\n", "\na") {
				want := false
				for _, own := range tenants {
					want = want || own == v
				}
				series := labels.FromStrings("__name__", "up", "tenant", v)
				if got := selects(t, d, out, series); got != want {
					t.Errorf("%s selects tenant %q: %v", out, v, got)
				}
				if got := selects(t, d, sel[0], series); got != want {
					t.Errorf("%s selects tenant %q: %v", sel[0], v, got)
				}
			}
		}
	}
}

// selects reports whether any selector of the expression matches series, as a store decides it.
func selects(t testing.TB, d Dialect, expr string, series labels.Labels) bool {
	t.Helper()
	for _, ms := range selectorsOf(t, d, expr) {
		all := true
		for _, m := range ms {
			all = all && m.Matches(series.Get(m.Name))
		}
		if all {
			return true
		}
	}
	return false
}

// selectorsOf is the tests' independent look at a query: the parser and its own walk.
func selectorsOf(t testing.TB, d Dialect, expr string) [][]*labels.Matcher {
	t.Helper()
	if d == PromQL231 {
		expr = inParserWords(expr)
	}
	tree, err := d.newParser().ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return parser.ExtractSelectors(tree)
}

// attacks try to read tenant b as tenant a.
var attacks = []string{
	`up{tenant="b"}`, `up{tenant="a",tenant="b"}`, `up{tenant=~".*"}`, `up{tenant=~"a|b"}`, `up{tenant!="a"}`, `up{tenant!~"a"}`,
	`up{tenant=""}`, `up{tenant!=""}`, `{tenant="b"}`, `{"tenant"="b"}`, `{'tenant'='b'}`, `{__name__=~".+"}`, `{"up","tenant"="b"}`,
	`up or up{tenant="b"}`, `up{tenant="a" or tenant="b"}`, `up{tenant="a"} or {tenant="b"}`, `up unless up{tenant="a"}`,
	`up{job="\"} or up{tenant=\"b"}`, "up{job=`\"} or up{tenant=\"b`}", `up{job="x\\"} or up{tenant="b"}`, `up{job="x"} # ",tenant="a"}`,
	"up # \n or up", "up#{tenant=\"a\"}", "up\r\nor\r\nup", "up{job=\"\\\n\"}", `up{job="\u0022,tenant=\u0022b"}`,
	`absent(up{tenant="b"})`, `absent_over_time(up{tenant="b"}[5m])`, `label_replace(up, "tenant", "b", "tenant", "a")`,
	`label_join(up, "tenant", "", "job")`, `count_values("tenant", up)`, `sum by (tenant) (up)`, `sum without (tenant) (up)`,
	`up * on (job) group_left (tenant) up{tenant="b"}`, `up + ignoring (tenant) up{tenant="b"}`,
	`max_over_time(up{tenant="b"}[5m:1m])`, `sum_over_time(max_over_time(up[5m])[1h:])`, `(up offset 5m)`, `up offset 5m offset 5m`,
	`topk(scalar(up{tenant="b"}), up)`, `quantile(scalar(up), up)`, `vector(scalar(up{tenant="b"}))`, `clamp(up, scalar(up), scalar(up))`,
	`info(up)`, `info(up, {tenant="b"})`, `info(up, {__name__=~".+_info"})`, `up{__tenant__="a"}`, `up{tеnant="a"}`, `up{"t\u0435nant"="a"}`,
	`up{Tenant="a"}`, `up{tenant="a"} @ end()`, `up @ 0`, `-up`, `((((up))))`, `up[5m]`, `sum(sum(sum(up)))`, `{}`, `{tenant=~".*"}`,
	`tenant`, `tenant{}`, `start + end`, `sum(up) by ("tenant")`, `{"{tenant=\"a\"}"}`, `{"tenant=\"a\",__name__"="up"}`, `up{"tenant=\"a\"}"="x"}`,
	`holt_winters(up{tenant="b"}[5m], 0.1, 0.1)`, `double_exponential_smoothing(up[5m], 0.1, 0.1)`, `first_over_time(up[5m])`,
}

// Each attack is refused, or leaves no selector that matches another tenant's series.
func TestAttacks(t *testing.T) {
	victims := []labels.Labels{
		labels.FromStrings("__name__", "up", "tenant", "b", "job", "x"),
		labels.FromStrings("__name__", "up", "tenant", "aa"),
		labels.FromStrings("__name__", "up", "tenant", "A"),
		labels.FromStrings("__name__", "target_info", "tenant", "b", "instance", "i", "job", "j"),
		labels.FromStrings("__name__", "up"),
		labels.FromStrings("__name__", "up", "__tenant__", "a"),
		labels.FromStrings("__name__", "up", "Tenant", "a", "t\u0435nant", "a"),
		labels.FromStrings("__name__", "tenant", "tenant", "b"),
	}
	for _, in := range attacks {
		for _, d := range []Dialect{PromQL231, PromQL3} {
			c := New(d, DefaultLimits())
			out, err := c.PromQL(alice, in)
			if err != nil {
				wantClientError(t, err)
				continue
			}
			sels := selectorsOf(t, d, out)
			if len(sels) == 0 {
				t.Errorf("%s became %s", in, out)
			}
			for _, victim := range victims {
				if selects(t, d, out, victim) {
					t.Errorf("dialect %d: %s became %s, which selects %s", d, in, out, victim)
				}
			}
		}
	}
}

func TestSelectors(t *testing.T) {
	for _, tc := range []struct {
		scope Scope
		in    []string
		want  []string
	}{
		{alice, nil, []string{`{tenant="a"}`}},
		{alice, []string{`{}`}, []string{`{tenant="a"}`}},
		{alice, []string{`up`, ` {job=~".*"} # x`, `up`}, []string{`{__name__="up",tenant="a"}`, `{job=~".*",tenant="a"}`, `{__name__="up",tenant="a"}`}},
		{alice, []string{`up{tenant="b"}`}, []string{`{tenant="b",__name__="up",tenant="a"}`}},
		{alice, []string{`{"up","tenant"="b"}`}, []string{`{__name__="up",tenant="b",tenant="a"}`}},
		{two, nil, []string{`{tenant=~"a\\|b|b\\.c"}`}},
		{operator, nil, []string{`{__name__!=""}`}},
		{operator, []string{`{}`, `up`}, []string{`{__name__!=""}`, `{__name__="up"}`}},
	} {
		for _, d := range []Dialect{PromQL231, PromQL3} {
			got, err := New(d, DefaultLimits()).Selectors(tc.scope, tc.in)
			if err != nil || strings.Join(got, " ") != strings.Join(tc.want, " ") || len(got) != len(tc.want) {
				t.Errorf("Selectors(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
			}
		}
	}
	for _, bad := range [][]string{
		{``}, {`up`, ``}, {`up or up`}, {`up offset 5m`}, {`up[5m]`}, {`up @ 1`}, {`up{a=~"("}`}, {`{a="b"`}, {`rate(up)`}, {`1`}, {`up up`},
		{`(up)`}, {`{""="x"}`}, {`up{a="b"}}`}, {strings.Repeat("x", 40000), strings.Repeat("x", 40000)}, make([]string, 501),
		{`{a=~"` + strings.Repeat("x{1000}", 200) + `"}`},
	} {
		got, err := New(PromQL3, DefaultLimits()).Selectors(alice, bad)
		if err == nil {
			t.Errorf("Selectors(%.60q) = %.60q", bad, got)
			continue
		}
		wantClientError(t, err)
	}
	if _, err := New(PromQL231, DefaultLimits()).Selectors(alice, []string{`{"a.b"="c"}`}); err == nil {
		t.Error("a quoted label name passed for PromQL 2.31")
	}
}
