package main

import (
	"fmt"
	"slices"
	"strings"
)

// ratios are those of r to base, round by round: what slows one of them in a round slows the other too.
func ratios(r, base *row) []float64 {
	out := make([]float64, len(r.cost))
	for i := range out {
		out[i] = r.cost[i] / base.cost[i]
	}
	return out
}

// median of v, which is not empty.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// find is the row of that name, or nil.
func find(rows []row, name string) *row {
	for i := range rows {
		if rows[i].name == name {
			return &rows[i]
		}
	}
	return nil
}

// costlier is the row of the whole gateway without TLS that is the farther from the floor.
func costlier(rows []row) *row {
	var out *row
	floor := find(rows, floorName)
	for i := range rows {
		if r := &rows[i]; strings.HasPrefix(r.name, wholeName) && (out == nil || median(ratios(r, floor)) > median(ratios(out, floor))) {
			out = r
		}
	}
	return out
}

// rowsTable prints the rows and what remotewrite allocates.
func rowsTable(rows []row, objects, bytes float64) string {
	floor, structs := find(rows, floorName), find(rows, prompbName)
	var out strings.Builder
	fmt.Fprintf(&out, "rows:    CPU of one process a request, user and system; median of %d interleaved rounds (lowest-highest), as the machine may be shared\n\n", len(floor.cost))
	const line = "%-69s %21s %21s %8s %11s %17s\n"
	fmt.Fprintf(&out, line, "", "ms/request", "over the floor", "at best", "prompb over", "samples/s a core")
	for i := range rows {
		r := &rows[i]
		best := slices.Min(r.cost) / slices.Min(floor.cost)
		fmt.Fprintf(&out, line, r.name, spread(r.cost, 1e3), spread(ratios(r, floor), 1), fmt.Sprintf("%.2f", best),
			fmt.Sprintf("%.1f", median(ratios(structs, r))), fmt.Sprintf("%.0f", samples/median(r.cost)))
	}
	out.WriteString("\nover the floor: against the floor of the same round. at best: the lowest cost of any round over the floor's lowest.\n")
	fmt.Fprintf(&out, "allocations of internal/remotewrite: %.2f objects, %.0f bytes a request\n", objects, bytes)
	return out.String()
}

// aim is one target: at most or at least a bound.
type aim struct {
	text       string
	got, bound float64
	atLeast    bool
}

func (a aim) met() bool {
	if a.atLeast {
		return a.got >= a.bound
	}
	return a.got <= a.bound
}

// targets prints each aim with what came of it; those that are missed are marked. The last line is the ratio of the costlier
// row of the whole gateway, without TLS, to the floor.
func targets(rows []row, curve []axis, l *latency) string {
	floor, whole := find(rows, floorName), costlier(rows)
	ratio := median(ratios(whole, floor))
	aims := []aim{
		{"whole gateway, TLS off, over the floor", ratio, 1.6, false},
		{"prompb over internal/remotewrite, which does the same job", median(ratios(find(rows, prompbName), find(rows, wireName))), 15, true},
		{"prompb over the whole gateway, TLS off", median(ratios(find(rows, prompbName), whole)), 15, true},
	}
	if r := find(rows, nginxName); r != nil {
		aims = append(aims, aim{"nginx with bcrypt over the whole gateway, TLS off", median(ratios(r, whole)), 5, true})
	}
	aims = append(aims, aim{"p99 latency added at half of saturation, over the floor's CPU", median(l.added(.99)) / median(floor.cost), 3, false})
	for i := range curve {
		aims = append(aims, aim{"CPU per sample over " + curve[i].name + ", farthest from the median, in %", 100 * curve[i].spread(), 10, false})
	}
	var out strings.Builder
	out.WriteString("targets:\n")
	for _, a := range aims {
		bound, verdict := "at most", "met"
		if a.atLeast {
			bound = "at least"
		}
		if !a.met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(&out, "%-7s %-75s %8.2f, %s %g\n", verdict, a.text, a.got, bound, a.bound)
	}
	fmt.Fprintf(&out, "floor_ratio=%.2f\n", ratio)
	return out.String()
}

// spread is the median of v, and its range, times unit.
func spread(v []float64, unit float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", unit*median(v), unit*slices.Min(v), unit*slices.Max(v))
}
