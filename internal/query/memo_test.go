package query

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// TestMemoKeepsScopesApart: the same query under scopes that are as alike as can be, in turns and at once, is always what a
// Confiner without a memory makes of it.
func TestMemoKeepsScopesApart(t *testing.T) {
	scopes := []Scope{
		alice, two, operator, {Label: "tenant", Tenants: []string{"aa"}}, {Label: "tenant", Tenants: []string{"a", "aa"}}, {Label: "tenan", Tenants: []string{"a"}},
		{Label: "tenant", Tenants: []string{"a|aa"}}, {Label: "tenant", Tenants: []string{`a"`}}, {Label: "Tenant", Tenants: []string{"a"}}, {Label: "tenant", Tenants: []string{"A"}},
	}
	exprs := []string{`up`, `up `, `up{tenant="a"}`, `sum(up)`, `max_over_time(up[1h:1m])`, `1`}
	c := New(PromQL3, DefaultLimits())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 500 {
				s, expr := scopes[r.IntN(len(scopes))], exprs[r.IntN(len(exprs))]
				got, err := c.Query(s, expr)
				if err != nil {
					t.Error(err)
					return
				}
				want, err := New(PromQL3, DefaultLimits()).Query(s, expr)
				if err != nil || got.Text != want.Text || fmt.Sprint(got.Reach) != fmt.Sprint(want.Reach) {
					t.Errorf("%v: %s became %+v, want %+v, %v", s, expr, got, want, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(c.memo.young); n != len(scopes)*len(exprs) {
		t.Errorf("%d entries for %d queries", n, len(scopes)*len(exprs))
	}
}

// TestMemoBounds: it stays within its bytes, keeps what is asked for, and takes neither long queries nor refusals.
func TestMemoBounds(t *testing.T) {
	c := New(PromQL3, DefaultLimits())
	if _, err := c.Query(alice, "sum("); err == nil {
		t.Fatal("a refusal is none")
	}
	long := `up{a="` + strings.Repeat("x", memoQuery) + `"}`
	if _, err := c.Query(alice, long); err != nil {
		t.Fatal(err)
	}
	if len(c.memo.young) != 0 {
		t.Errorf("%d entries of what is not to be remembered", len(c.memo.young))
	}
	pad := strings.Repeat("x", 3000)
	for i := range 5000 {
		q, err := c.Query(alice, fmt.Sprintf(`up{a="%s%d"}`, pad, i))
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if _, err := c.Query(alice, "kept"); err != nil {
				t.Fatal(err)
			}
		}
		size := 0
		for _, gen := range []map[memoKey]Query{c.memo.young, c.memo.old} {
			for k, v := range gen {
				size += len(k.expr) + len(k.matcher) + len(v.Text)
			}
			if len(gen) > 2000 {
				break
			}
		}
		if size > memoBytes || q.Text == "" {
			t.Fatalf("%d bytes are remembered", size)
		}
	}
	if _, ok := c.memo.find(`tenant="a"`, "kept"); !ok {
		t.Error("what is asked for again and again is forgotten")
	}
	if _, ok := c.memo.find(`tenant="a"`, fmt.Sprintf(`up{a="%s%d"}`, pad, 0)); ok {
		t.Error("what nobody asks for any more is remembered")
	}
}

// TestSmall: what is taken for small is what bound finds nothing in.
func TestSmall(t *testing.T) {
	for expr, want := range map[string]bool{
		`up`: true, `sum by (a) (rate(up{job=~"a|b"}[5m]))`: true, `up{a="{"}`: true, `up{a='}{',b=` + "`{`}": true,
		`up{a=~"x{1000}"}`: false, `up{a=~'x{1000}'}`: false, "up{a=~`x{1000}`}": false, `up{a=~"x\x7b1000}"}`: false, `up{a=~"\\pL"}`: false,
		"up # \"\n{a=~\"x{1000}\"}": false, `up{a='"',b=~"x{9}"}`: false, strings.Repeat("(", 101): false, strings.Repeat("[", 101): false, strings.Repeat("-", 1001): false, dashboardQuery: true,
	} {
		c := New(PromQL3, DefaultLimits())
		if got := c.small(expr); got != want {
			t.Errorf("%.80s: %v", expr, got)
		}
	}
	// With limits that are tight, everything small is within them.
	limits := DefaultLimits()
	limits.MaxNodes, limits.MaxDepth, limits.MaxRegexSize, limits.MaxRegexBytes = 120, 4, 130, 125
	c := New(PromQL3, limits)
	tokens := []string{"up", "(", ")", "[", "]", "{", "}", `"`, "'", "`", "=~", "!~", "=", ",", "a", "x{9}", "+", "-", "#", "\n", "\\", ` \pL`, "5m", "sum", " "}
	r := rand.New(rand.NewPCG(4, 4))
	small := 0
	for range 200_000 {
		var b strings.Builder
		for range r.IntN(40) {
			b.WriteString(tokens[r.IntN(len(tokens))])
		}
		expr := b.String()
		if !c.small(expr) {
			continue
		}
		small++
		if err := c.measure(expr); err != nil {
			t.Fatalf("%q is taken for small: %v", expr, err)
		}
	}
	if small < 10_000 {
		t.Errorf("only %d were small", small)
	}
}
