package smoke

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the report for a terminal.
func (r Report) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, run %s\n\nCHECK\tRESULT\tTIME\tFOUND\n", r.URL, r.Run)
	failed := 0
	for _, c := range r.Checks {
		result := string(c.Status)
		if c.Status == Failed {
			failed++
			result = strings.ToUpper(result)
		}
		took := fmt.Sprintf("%.0f ms", c.Seconds*1000)
		if c.Status == Skipped {
			took = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, result, took, c.Detail)
	}
	if failed == 0 {
		fmt.Fprintln(w, "\nAll is well.")
	} else {
		fmt.Fprintf(w, "\n%d of %d checks failed.\n", failed, len(r.Checks))
	}
	return w.Flush()
}
