package measure

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Heading says what was run, on what.
func Heading(command string) string {
	model := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := ""
	if avg, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = ", load average at the start " + strings.Join(strings.Fields(string(avg))[:3], " ")
	}
	return fmt.Sprintf("command: %s\nmachine: %s, %d cores, %s/%s, %s%s",
		strings.Join(append([]string{command}, os.Args[1:]...), " "),
		model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), load)
}

// Median of v, which is not empty.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Quantile of v, which is not empty.
func Quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// Quantiles are those of the rounds.
func Quantiles(rounds [][]float64, q float64) []float64 {
	var out []float64
	for _, v := range rounds {
		out = append(out, Quantile(v, q))
	}
	return out
}

// Ratios are those of v to base, round by round: what slows one of them in a round slows the other too.
func Ratios(v, base []float64) []float64 {
	out := make([]float64, len(v))
	for i := range out {
		out[i] = v[i] / base[i]
	}
	return out
}

// Spread is the median of v, and its range, times unit.
func Spread(v []float64, unit float64) string {
	return fmt.Sprintf("%.2f (%s)", unit*Median(v), Range(v, unit))
}

// Range is the range of v times unit.
func Range(v []float64, unit float64) string {
	return fmt.Sprintf("%.2f-%.2f", unit*slices.Min(v), unit*slices.Max(v))
}

// Aim is one target.
type Aim struct {
	text       string
	got, bound float64
	atLeast    bool
}

// AtMost and AtLeast are aims with what came of them.
func AtMost(text string, got, bound float64) Aim  { return Aim{text, got, bound, false} }
func AtLeast(text string, got, bound float64) Aim { return Aim{text, got, bound, true} }

// Met says whether it is reached.
func (a Aim) Met() bool {
	if a.atLeast {
		return a.got >= a.bound
	}
	return a.got <= a.bound
}

// Targets prints each aim with what came of it; those that are missed are marked.
func Targets(aims []Aim) string {
	var out strings.Builder
	out.WriteString("targets:\n")
	for _, a := range aims {
		bound, verdict := "at most", "met"
		if a.atLeast {
			bound = "at least"
		}
		if !a.Met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(&out, "%-7s %-75s %8.2f, %s %g\n", verdict, a.text, a.got, bound, a.bound)
	}
	return out.String()
}
