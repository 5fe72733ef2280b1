package main

import (
	"fmt"
	"slices"
	"strings"

	"m3gateway/bench/measure"
)

// ratios are those of r to base, round by round.
func ratios(r, base *row) []float64 { return measure.Ratios(r.cost, base.cost) }

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
		if r := &rows[i]; strings.HasPrefix(r.name, wholeName) && (out == nil || measure.Median(ratios(r, floor)) > measure.Median(ratios(out, floor))) {
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
		fmt.Fprintf(&out, line, r.name, measure.Spread(r.cost, 1e3), measure.Spread(ratios(r, floor), 1), fmt.Sprintf("%.2f", best),
			fmt.Sprintf("%.1f", measure.Median(ratios(structs, r))), fmt.Sprintf("%.0f", samples/measure.Median(r.cost)))
	}
	out.WriteString("\nover the floor: against the floor of the same round. at best: the lowest cost of any round over the floor's lowest.\n")
	fmt.Fprintf(&out, "allocations of internal/remotewrite: %.2f objects, %.0f bytes a request\n", objects, bytes)
	return out.String()
}

// targets prints each aim with what came of it; those that are missed are marked. The last line is the ratio of the costlier
// row of the whole gateway, without TLS, to the floor.
func targets(rows []row, curve []axis, l *latency) string {
	floor, whole := find(rows, floorName), costlier(rows)
	ratio := measure.Median(ratios(whole, floor))
	aims := []measure.Aim{
		measure.AtMost("whole gateway, TLS off, over the floor", ratio, 1.6),
		measure.AtLeast("prompb over internal/remotewrite, which does the same job", measure.Median(ratios(find(rows, prompbName), find(rows, wireName))), 15),
		measure.AtLeast("prompb over the whole gateway, TLS off", measure.Median(ratios(find(rows, prompbName), whole)), 15),
	}
	if r := find(rows, nginxName); r != nil {
		aims = append(aims, measure.AtLeast("nginx with bcrypt over the whole gateway, TLS off", measure.Median(ratios(r, whole)), 5))
	}
	aims = append(aims, measure.AtMost("p99 latency added at half of saturation, over the floor's CPU", measure.Median(l.added(.99))/measure.Median(floor.cost), 3))
	for i := range curve {
		aims = append(aims, measure.AtMost("CPU per sample over "+curve[i].name+", farthest from the median, in %", 100*curve[i].spread(), 10))
	}
	return measure.Targets(aims) + fmt.Sprintf("floor_ratio=%.2f\n", ratio)
}
