package query

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

func TestReach(t *testing.T) {
	const sec, hour = int64(1000), int64(3_600_000)
	for expr, want := range map[string]Reach{
		`1`:                                    {},
		`up`:                                   {},
		`up offset 1h`:                         {Back: hour},
		`up offset -1h`:                        {},
		`rate(up[5m])`:                         {Back: 300 * sec, Longest: 300 * sec},
		`rate(up[5m] offset 1h)`:               {Back: hour + 300*sec, Longest: 300 * sec},
		`up + rate(up[1h]) * (down offset 2h)`: {Back: 2 * hour, Longest: hour},
		`topk(scalar(up offset 3h), up)`:       {Back: 3 * hour},
		`label_replace(up offset 3h, "a", "", "", "")`:          {Back: 3 * hour},
		`max_over_time(rate(up[5m])[1h:])`:                      {Back: hour + 300*sec, Longest: hour + 300*sec},
		`max_over_time(rate(up[5m] offset 1h)[1h:] offset 2h)`:  {Back: 4*hour + 300*sec, Longest: hour + 300*sec},
		`max_over_time(max_over_time(up[1h:])[1h:] offset -1h)`: {Back: hour, Longest: 2 * hour},
		`up @ 100`:                                     {Oldest: 100 * sec, Fixed: true},
		`rate(up[10s] @ 100 offset 5s)`:                {Oldest: 85 * sec, Fixed: true, Longest: 10 * sec},
		`up @ 100 + up @ 50 + up @ 70`:                 {Oldest: 50 * sec, Fixed: true},
		`up offset 1h + up @ -50`:                      {Back: hour, Oldest: -50 * sec, Fixed: true},
		`max_over_time(up[1h:] @ 100)`:                 {Oldest: 100*sec - hour, Fixed: true, Longest: hour},
		`max_over_time((up @ 100)[1h:] offset 5h)`:     {Oldest: 100 * sec, Fixed: true},
		`max_over_time((up offset 1h)[1h:] @ start())`: {Back: 2 * hour, Longest: hour},
		`up @ end() offset 1h`:                         {Back: hour},
		`max_over_time(max_over_time((up offset 290y)[290y:] offset 290y)[290y:] offset 290y)`: {Back: 5 * 290 * 365 * 24 * hour, Longest: 2 * 290 * 365 * 24 * hour},
	} {
		q, err := New(PromQL3, DefaultLimits()).Query(alice, expr)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		got := q.Reach
		got.grids = nil
		if got.Back != want.Back || got.Oldest != want.Oldest || got.Fixed != want.Fixed || got.Longest != want.Longest {
			t.Errorf("%s: %+v, want %+v", expr, got, want)
		}
		if oldest := q.Reach.OldestOf(1000 * hour); oldest > 1000*hour-got.Back || got.Fixed && oldest > got.Oldest {
			t.Errorf("%s: oldest %d", expr, oldest)
		}
	}
}

func TestSubqueryPoints(t *testing.T) {
	for expr, want := range map[string][2]int64{ // for a moment, and over an hour
		`up`:                                                  {0, 0},
		`rate(up[1h])`:                                        {0, 0},
		`max_over_time(up[1h:1m])`:                            {60, 120},
		`max_over_time(up[1h:])`:                              {60, 120},
		`max_over_time(up[1h:1ms])`:                           {3_600_000, 7_200_000},
		`max_over_time(up[1h:1m] @ 5)`:                        {60, 60},
		`max_over_time(up[1h:1m] @ end())`:                    {60, 60},
		`max_over_time(max_over_time(up[1h:1s])[2h:1m])`:      {10_800, 14_400},
		`max_over_time(max_over_time(up[1h:1s] @ 5)[2h:1m])`:  {3_600, 3_600},
		`max_over_time(up[1h:1m]) + max_over_time(up[2h:1s])`: {7200, 10_800},
	} {
		q, err := New(PromQL3, DefaultLimits()).Query(alice, expr)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		if got := [2]int64{q.Reach.SubqueryPoints(0), q.Reach.SubqueryPoints(3_600_000)}; got != want {
			t.Errorf("%s: %v, want %v", expr, got, want)
		}
	}
}

// TestReachCoversTheEngine: Prometheus' own reckoning of the oldest sample is never older than ours, but for the look-back delta.
func TestReachCoversTheEngine(t *testing.T) {
	const start, end = int64(5_000_000_000), int64(5_000_600_000)
	g := generator{rand.New(rand.NewPCG(7, 7)), PromQL3}
	c := New(PromQL3, DefaultLimits())
	compared, exact := 0, 0
	for range 3000 {
		expr := g.query()
		q, err := c.Query(alice, expr)
		if err != nil {
			continue
		}
		tree, err := c.parse(q.Text)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Type() == parser.ValueTypeMatrix || tree.Type() == parser.ValueTypeString {
			continue
		}
		stmt := &parser.EvalStmt{Start: time.UnixMilli(start), End: time.UnixMilli(end), Interval: time.Minute, LookbackDelta: time.Millisecond}
		if stmt.Expr, err = promql.PreprocessExpr(tree, stmt.Start, stmt.End, stmt.Interval); err != nil {
			t.Fatal(err)
		}
		oldest, newest := promql.FindMinMaxTime(stmt)
		if oldest == 0 && newest == 0 {
			oldest = math.MaxInt64 // it selects nothing
		}
		compared++
		switch ours := q.Reach.OldestOf(start); {
		case oldest < ours:
			t.Errorf("%s reaches to %d, we say %d", expr, oldest, ours)
		case oldest-ours <= 1:
			exact++
		}
	}
	if compared < 2000 || exact < compared/2 {
		t.Errorf("%d compared, %d exact", compared, exact)
	}
}
