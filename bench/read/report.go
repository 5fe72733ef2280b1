package main

import (
	"fmt"
	"strings"

	"m3gateway/bench/measure"
)

// find is the row of that server and content, or nil.
func find(rows []row, name, content string) *row {
	for i := range rows {
		if rows[i].server.name == name && rows[i].content == content {
			return &rows[i]
		}
	}
	return nil
}

// table prints the rows, those of one content together.
func table(rows []row, alone []float64) string {
	var out strings.Builder
	fmt.Fprintf(&out, "         median of %d interleaved rounds (lowest-highest), as the machine may be shared\n\n", len(alone))
	const line = "%-12s %-48s %21s %24s %21s\n"
	fmt.Fprintf(&out, line, "", "", "ms CPU/request", "over the bare proxy", "requests/s")
	for i := range rows {
		r := &rows[i]
		bare := find(rows, bareName, r.content)
		fmt.Fprintf(&out, line, r.content, r.server.name, measure.Spread(r.cost, 1e3), measure.Spread(measure.Ratios(r.cost, bare.cost), 1), fmt.Sprintf("%.0f", measure.Median(r.speed)))
	}
	fmt.Fprintf(&out, line, "", "internal/query: confining one query, alone", measure.Spread(alone, 1e3), "", "")
	return out.String()
}

// added is the quantile through server i less that of the direct way, in each round.
func (l *latency) added(i int, q float64) []float64 {
	out := measure.Quantiles(l.through[i], q)
	for n, d := range measure.Quantiles(l.direct, q) {
		out[n] -= d
	}
	return out
}

// gateway is the index of the gateway among the servers.
func (l *latency) gateway() int { return len(l.servers) - 1 }

func (l *latency) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "latency: open loop at %d requests/s for a panel; ms, median of %d rounds (lowest-highest)\n\n", rate, len(l.direct))
	const line = "%-48s %20s %20s %20s %20s\n"
	fmt.Fprintf(&out, line, "", "p50", "p50 added", "p99", "p99 added")
	fmt.Fprintf(&out, line, "the sink itself", measure.Spread(measure.Quantiles(l.direct, .5), 1e3), "", measure.Spread(measure.Quantiles(l.direct, .99), 1e3), "")
	for i, v := range l.servers {
		fmt.Fprintf(&out, line, v.name, measure.Spread(measure.Quantiles(l.through[i], .5), 1e3), measure.Spread(l.added(i, .5), 1e3),
			measure.Spread(measure.Quantiles(l.through[i], .99), 1e3), measure.Spread(l.added(i, .99), 1e3))
	}
	return out.String()
}

// targets prints each aim with what came of it.
func targets(rows []row, l *latency, alone []float64) string {
	aims := []measure.Aim{measure.AtMost("confining one query, in microseconds of CPU", 1e6*measure.Median(alone), 60)}
	for _, c := range contents() {
		if r := find(rows, labelName, c); r != nil {
			aims = append(aims, measure.AtLeast("CPU of prom-label-proxy over the gateway's: "+c, measure.Median(measure.Ratios(r.cost, find(rows, wholeName, c).cost)), 2))
		}
	}
	aims = append(aims, measure.AtMost(fmt.Sprintf("p99 latency added at %d requests/s, in ms", rate), 1e3*measure.Median(l.added(l.gateway(), .99)), 1))
	return measure.Targets(aims)
}
