package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"m3gateway/bench/measure"
)

// mostSamples is the largest request of the curve, and crowd are its most tenants.
const (
	mostSamples = 10000
	crowd       = 10000
)

// axis is one line of the curve: what is varied while the rest stays.
type axis struct {
	name   string
	points []point
}

// point is one value of an axis.
type point struct {
	value int
	order order
	cost  []float64 // CPU seconds a sample, of each round
}

// axes are the three of the curve. The crowd's gateway has all tenants configured at every point.
func axes(url string) []axis {
	senders := axis{name: "senders"}
	for _, n := range []int{1, 10, 100, 1000} {
		senders.points = append(senders.points, point{value: n, order: order{Content: content{Samples: samples}, Connections: n, Users: 1}})
	}
	tenants := axis{name: "tenants"}
	for _, n := range []int{1, 10, 100, 1000, 10000} {
		tenants.points = append(tenants.points, point{value: n, order: order{Content: content{Samples: 1000}, Connections: 4, Users: n}})
	}
	requests := axis{name: "samples per request"}
	for _, n := range []int{100, 300, 1000, 3000, 10000} {
		requests.points = append(requests.points, point{value: n, order: order{Content: content{Samples: n}, Connections: 4, Users: 1}})
	}
	out := []axis{senders, tenants, requests}
	for i := range out {
		for j := range out[i].points {
			out[i].points[j].order.URL = url
		}
	}
	return out
}

// curveContents are what the requests of the curve carry.
func curveContents() []content {
	var out []content
	for _, a := range axes("") {
		for _, p := range a.points {
			if !slices.Contains(out, p.order.Content) {
				out = append(out, p.order.Content)
			}
		}
	}
	return out
}

// curve measures all points in interleaved rounds.
func (s *stage) curve(ctx context.Context, p *process, rounds int, span time.Duration) ([]axis, error) {
	// Every user's password is verified once before the clock is read.
	if _, err := s.send(order{URL: p.url, Content: content{Samples: 100}, Connections: 8, Users: crowd, Least: crowd}); err != nil {
		return nil, err
	}
	all := axes(p.url)
	for _, a := range all {
		for _, pt := range a.points {
			if err := s.warm(pt.order); err != nil {
				return nil, fmt.Errorf("%d %s: %w", pt.value, a.name, err)
			}
		}
	}
	for round := range rounds {
		for i := range all {
			for j := range all[i].points {
				pt := &all[i].points[j]
				o := pt.order
				o.Time = span
				n, cpu, err := s.measured(p, o)
				if err != nil {
					return nil, fmt.Errorf("%d %s: %w", pt.value, all[i].name, err)
				}
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				pt.cost = append(pt.cost, cpu.Seconds()/float64(n*pt.order.Content.Samples))
			}
		}
		fmt.Fprintf(os.Stderr, "curve: round %d of %d\n", round+1, rounds)
	}
	return all, nil
}

// level is a point's cost over the median of its axis, as the median of the rounds: what slows a round slows all its points.
func (a *axis) level(p *point) float64 {
	var out []float64
	for round := range p.cost {
		var all []float64
		for i := range a.points {
			all = append(all, a.points[i].cost[round])
		}
		out = append(out, p.cost[round]/measure.Median(all))
	}
	return measure.Median(out)
}

// spread is how far the farthest point is from the median, as a share of it.
func (a *axis) spread() float64 {
	most := 0.0
	for i := range a.points {
		most = max(most, math.Abs(a.level(&a.points[i])-1))
	}
	return most
}

// table prints the curve.
func table(all []axis) string {
	var out strings.Builder
	fmt.Fprintf(&out, "curve:   CPU of the gateway a sample; %d users configured, TLS off, median of %d interleaved rounds\n\n", crowd+2, len(all[0].points[0].cost))
	fmt.Fprintf(&out, "%-20s %7s %21s %16s\n", "", "", "us/sample", "over the median")
	for i := range all {
		a := &all[i]
		for j := range a.points {
			p := &a.points[j]
			fmt.Fprintf(&out, "%-20s %7d %21s %16.2f\n", a.name, p.value, measure.Spread(p.cost, 1e6), a.level(p))
		}
		fmt.Fprintf(&out, "%-20s spread ±%.0f%% from the median\n", a.name, 100*a.spread())
	}
	return out.String()
}
