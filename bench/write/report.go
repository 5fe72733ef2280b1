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

// report is the table, the line of allocations and, last, the ratio of the costlier row of the whole gateway.
func report(rows []row, objects, bytes float64) string {
	var floor, structs *row
	for i := range rows {
		switch rows[i].name {
		case floorName:
			floor = &rows[i]
		case prompbName:
			structs = &rows[i]
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "rows:    CPU of one process a request, user and system; median of %d interleaved rounds (lowest-highest), as the machine may be shared\n\n", len(floor.cost))
	const line = "%-61s %20s %19s %8s %11s %17s\n"
	fmt.Fprintf(&out, line, "", "ms/request", "over the floor", "at best", "prompb over", "samples/s a core")
	worst, against := 0.0, 0.0
	for i := range rows {
		r := &rows[i]
		times, less := ratios(r, floor), median(ratios(structs, r))
		best := slices.Min(r.cost) / slices.Min(floor.cost)
		fmt.Fprintf(&out, line, r.name, spread(r.cost, 1e3), spread(times, 1), fmt.Sprintf("%.2f", best), fmt.Sprintf("%.1f", less), fmt.Sprintf("%.0f", samples/median(r.cost)))
		if strings.HasPrefix(r.name, wholeName) && median(times) > worst {
			worst, against = median(times), less
		}
	}
	out.WriteString("\nover the floor: against the floor of the same round. at best: the lowest cost of any round over the floor's lowest.\n")
	fmt.Fprintf(&out, "allocations of internal/remotewrite: %.2f objects, %.0f bytes a request\n", objects, bytes)
	fmt.Fprintf(&out, "prompb over the whole gateway, its costlier row: %.1f\n", against)
	fmt.Fprintf(&out, "floor_ratio=%.2f\n", worst)
	return out.String()
}

// spread is the median of v, and its range, times unit.
func spread(v []float64, unit float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", unit*median(v), unit*slices.Min(v), unit*slices.Max(v))
}
