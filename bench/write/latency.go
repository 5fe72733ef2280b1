package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"m3gateway/bench/measure"
)

// latency is what the gateway adds to the answer time of a request at half of the rate at which it is saturated.
type latency struct {
	saturation float64     // requests a second
	direct     [][]float64 // of each round: seconds, sent to the sink itself at half of that rate
	through    [][]float64 // of each round: seconds, at the same rate
}

// latency measures saturation first, then both ways in turn.
func (s *stage) latency(ctx context.Context, p *process, rounds int, span time.Duration) (*latency, error) {
	o := order{URL: p.url, Content: content{Samples: samples}, Connections: 8, Time: span}
	d, err := s.send(o)
	if err != nil {
		return nil, err
	}
	l := &latency{saturation: float64(d.Requests) / d.Seconds}
	o.Rate = l.saturation / 2
	for round := range rounds {
		for _, way := range []struct {
			url string
			to  *[][]float64
		}{{"http://" + s.store + "/api/v1/write", &l.direct}, {p.url, &l.through}} {
			o.URL = way.url
			d, err := s.send(o)
			if err != nil {
				return nil, err
			}
			*way.to = append(*way.to, d.Latencies)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(os.Stderr, "latency: round %d of %d\n", round+1, rounds)
	}
	return l, nil
}

// added is the quantile through the gateway less that of the direct way, in each round.
func (l *latency) added(q float64) []float64 {
	out := measure.Quantiles(l.through, q)
	for i, d := range measure.Quantiles(l.direct, q) {
		out[i] -= d
	}
	return out
}

func (l *latency) describe(floor float64) string {
	var out strings.Builder
	fmt.Fprintf(&out, "latency: open loop at %.0f requests/s, half of the saturation of %.0f; ms, median of %d rounds (lowest-highest)\n\n", l.saturation/2, l.saturation, len(l.direct))
	fmt.Fprintf(&out, "%-4s %22s %22s %22s %15s %8s\n", "", "to the sink itself", "through the gateway", "added", "over the floor", "at best")
	for _, q := range []float64{.5, .99} {
		added := l.added(q)
		fmt.Fprintf(&out, "p%-3.0f %22s %22s %22s %15.1f %8.1f\n", 100*q, measure.Spread(measure.Quantiles(l.direct, q), 1e3), measure.Spread(measure.Quantiles(l.through, q), 1e3),
			measure.Spread(added, 1e3), measure.Median(added)/floor, slices.Min(added)/floor)
	}
	return out.String()
}
