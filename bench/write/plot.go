package main

import (
	"fmt"
	"math"
	"strings"

	"m3gateway/bench/measure"
)

// The plot's measures, in pixels.
const (
	panelWidth, panelHeight = 250, 190
	panelGap                = 60
	marginLeft, marginTop   = 60, 50
)

// plot is the curve as an SVG picture: a panel for each axis, the cost of a sample over the median of its axis, and a band
// of ±10% around that.
func plot(all []axis) string {
	top := 1.3
	for i := range all {
		for j := range all[i].points {
			top = max(top, math.Ceil(10*all[i].level(&all[i].points[j])+1)/10)
		}
	}
	var out strings.Builder
	width := marginLeft + len(all)*(panelWidth+panelGap)
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", width, marginTop+panelHeight+60)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n"+`<text x="%d" y="22" font-size="14">CPU of the gateway per sample, over the median of each axis</text>`+"\n", marginLeft)
	for i := range all {
		panel(&out, &all[i], marginLeft+i*(panelWidth+panelGap), top)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// panel draws one axis with its left edge at x0; the vertical scale goes from 0 to top.
func panel(out *strings.Builder, a *axis, x0 int, top float64) {
	y := func(v float64) float64 { return marginTop + panelHeight*(1-v/top) }
	first, last := math.Log(float64(a.points[0].value)), math.Log(float64(a.points[len(a.points)-1].value))
	x := func(n int) float64 {
		return float64(x0) + 15 + (panelWidth-30)*(math.Log(float64(n))-first)/(last-first)
	}
	fmt.Fprintf(out, `<rect x="%d" y="%.1f" width="%d" height="%.1f" fill="#dcefdc"/>`+"\n", x0, y(1.1), panelWidth, y(0.9)-y(1.1))
	for v := 0.0; v <= top; v += 0.5 {
		fmt.Fprintf(out, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ccc"/><text x="%d" y="%.1f" text-anchor="end">%.1f</text>`+"\n",
			x0, y(v), x0+panelWidth, y(v), x0-6, y(v)+4, v)
	}
	var line []string
	for i := range a.points {
		p := &a.points[i]
		px, py := x(p.value), y(a.level(p))
		line = append(line, fmt.Sprintf("%.1f,%.1f", px, py))
		fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="#1f5fa8"/><text x="%.1f" y="%.1f" text-anchor="middle">%.2f µs</text><text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n",
			px, py, px, py-8, 1e6*measure.Median(p.cost), px, marginTop+panelHeight+16, p.value)
	}
	fmt.Fprintf(out, `<polyline points="%s" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>`+"\n", strings.Join(line, " "))
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="middle">%s, spread ±%.0f%%</text>`+"\n", x0+panelWidth/2, marginTop+panelHeight+36, a.name, 100*a.spread())
}
