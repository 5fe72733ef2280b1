package plan

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Variant is a plan with something changed.
type Variant struct {
	Change string `json:"change"`
	Plan   Plan   `json:"plan"`
}

// WriteComparison writes what each variant changes, beside base.
func WriteComparison(out io.Writer, base Plan, variants []Variant) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nWHAT IF\tNOW")
	for _, v := range variants {
		fmt.Fprintf(w, "\t%s", v.Change)
	}
	fmt.Fprintln(w)
	for _, row := range []struct {
		what   string
		of     func(Plan) float64
		format func(float64) string
	}{
		{"samples a second", func(p Plan) float64 { return p.SamplesPerSecond }, Short},
		{"disk a node", func(p Plan) float64 { return p.Disk.NeededBytes }, Bytes},
		{"disk of all nodes", func(p Plan) float64 { return p.Disk.NeededBytes * float64(p.Input.Nodes) }, Bytes},
		{"memory a node", func(p Plan) float64 { return p.Memory.NeededBytes }, Bytes},
		{"files a node", func(p Plan) float64 { return p.Files.Files }, Count},
		{"cores a node", func(p Plan) float64 { return p.NodeCores }, significant},
		{"memory a coordinator", func(p Plan) float64 { return p.Coordinator.NeededBytes }, Bytes},
		{"cores a coordinator", func(p Plan) float64 { return p.Coordinator.Cores }, significant},
	} {
		now := row.of(base)
		fmt.Fprintf(w, "  %s\t%s", row.what, row.format(now))
		for _, v := range variants {
			fmt.Fprintf(w, "\t%s%s", row.format(row.of(v.Plan)), change(now, row.of(v.Plan)))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, v := range variants {
		came, gone := news(base.Findings, v.Plan.Findings), news(v.Plan.Findings, base.Findings)
		if len(came)+len(gone) > 0 {
			fmt.Fprintf(out, "\nWITH %s\n", v.Change)
		}
		for _, f := range came {
			fmt.Fprintln(out, wrapped(fmt.Sprintf("  %-8s ", f.Level), f.Text()))
		}
		for _, f := range gone {
			if _, err := fmt.Fprintln(out, wrapped("  no more: ", f.Text())); err != nil {
				return err
			}
		}
	}
	return nil
}

// change is the difference from a to b as a part of a, in brackets; nothing, if there is none to see.
func change(a, b float64) string {
	if a == 0 || fixed(abs(b-a)/a*100, 0) == "0" {
		return ""
	}
	if b > a {
		return " (+" + Percent((b-a)/a) + ")"
	}
	return " (-" + Percent((a-b)/a) + ")"
}

// news are the findings of b that a has not: of another kind, or of another namespace.
func news(a, b []Finding) []Finding {
	var out []Finding
	for _, f := range b {
		if !slices.ContainsFunc(a, func(g Finding) bool { return f.Code == g.Code && f.Args["namespace"] == g.Args["namespace"] }) {
			out = append(out, f)
		}
	}
	return out
}
