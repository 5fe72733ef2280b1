package plan

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes a plan for a terminal: what was asked, each namespace, a node, a coordinator, what it means, and every
// assumption.
func (p Plan) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p.writeInput(w)
	p.writeNamespaces(w)
	p.writeGrowth(w)
	p.writeNeeds(w)
	if err := w.Flush(); err != nil {
		return err
	}
	if err := writeFindings(out, p.Findings); err != nil {
		return err
	}
	return writeAssumptions(out, p.Input.Assume)
}

func plural(n float64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

func (p Plan) writeInput(w io.Writer) {
	in := p.Input
	fmt.Fprintf(w, "%s series, a sample every %s: %s samples a second; %s of the series are new each day.\n",
		Count(in.Series), Duration(in.ScrapeSeconds), Short(p.SamplesPerSecond), Percent(in.ChurnPerDay))
	fmt.Fprintf(w, "%s, %s, %s (%s on a node), %s.\n", plural(float64(in.Nodes), "node", "nodes"), plural(float64(in.Replicas), "replica", "replicas"),
		plural(float64(in.Shards), "shard", "shards"), Count(p.ShardsPerNode), plural(float64(in.Coordinators), "coordinator", "coordinators"))
}

func (p Plan) writeNamespaces(w io.Writer) {
	fmt.Fprint(w, "\nNAMESPACE\tKEEPS\tPOINT EVERY\tBLOCK\tPOINTS A BLOCK\tCOPIES\tPOINTS KEPT\tB/POINT\tDISK A NODE\tFILES A NODE\tPOINTS IN MEMORY\tMEMORY A NODE\tAGGREGATION\n")
	var copies, points, disk, files, held, memory, aggregation float64
	for i, n := range p.Namespaces {
		ns := p.Input.Namespaces[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, Duration(ns.RetentionSeconds), Duration(n.IntervalSeconds),
			Duration(ns.BlockSeconds), Count(n.PointsPerBlock), fixed(n.Copies, 3), Short(n.Points), significant(n.StoredPointBytes), Bytes(n.DiskBytes),
			Count(n.Files), Count(n.PeakPoints), Bytes(n.MemoryBytes), Bytes(n.AggregationBytes))
		copies, points, disk, files = copies+n.Copies, points+n.Points, disk+n.DiskBytes, files+n.Files
		held, memory, aggregation = held+n.PeakPoints, memory+n.MemoryBytes, aggregation+n.AggregationBytes
	}
	fmt.Fprintf(w, "together\t\t\t\t\t%s\t%s\t\t%s\t%s\t%s\t%s\t%s\n", fixed(copies, 3), Short(points), Bytes(disk), Count(files), Count(held), Bytes(memory), Bytes(aggregation))
	fmt.Fprint(w, "Copies: points stored for each sample. Points kept: one replica. Points in memory: of one series, the open block and what waits for late samples.\n")
}

func (p Plan) writeGrowth(w io.Writer) {
	fmt.Fprint(w, "\nFROM\tTO\tCOPIES ADDED\tPOINTS THEN\tFILESETS A NODE THEN\n")
	for _, f := range p.Phases {
		disk := 0.0
		for _, b := range f.DiskBytes {
			disk += b
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", Duration(f.FromSeconds), Duration(f.ToSeconds), fixed(f.Copies, 3), Short(f.Points), Bytes(disk))
	}
	fmt.Fprint(w, "later\t\t0.000\t\tas much comes as goes\n")
}

func (p Plan) writeNeeds(w io.Writer) {
	a, given := p.Input.Assume, func(v, fits float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf("; it has %s, room for %s series", Bytes(v), Short(fits))
	}
	d, f, m, c := p.Disk, p.Files, p.Memory, p.Coordinator
	fmt.Fprint(w, "\nA NODE NEEDS\n")
	fmt.Fprintf(w, "  disk\t%s, to be %s full with %s (filesets %s, snapshots %s, commit log %s)%s\n", Bytes(d.NeededBytes), Percent(a.DiskFill), Bytes(d.UsedBytes),
		Bytes(d.FilesetBytes), Bytes(d.SnapshotBytes), Bytes(d.CommitLogBytes), given(p.Input.NodeDiskBytes, p.Fits.Disk))
	fmt.Fprintf(w, "  memory\t%s, to be %s full with %s (process %s, read blocks %s, open series %s, their points %s)%s\n", Bytes(m.NeededBytes), Percent(a.MemoryFill),
		Bytes(m.UsedBytes), Bytes(m.BaseBytes), Bytes(m.CacheBytes), Bytes(m.SeriesBytes), Bytes(m.PointBytes), given(p.Input.NodeMemoryBytes, p.Fits.Memory))
	fmt.Fprintf(w, "  files\t%s in %s filesets, and up to %s of snapshots; %s kept open, %s mapped (%s)\n", Count(f.Files), Count(f.Filesets), Count(f.Snapshots),
		Count(f.Open), Count(f.Maps), Bytes(m.MappedBytes))
	fmt.Fprintf(w, "  cores\t%s for writes; queries come on top\n", significant(p.NodeCores))
	fmt.Fprint(w, "\nA COORDINATOR NEEDS, WHILE ANOTHER IS DOWN\n")
	fmt.Fprintf(w, "  memory\t%s, to be %s full with %s (process %s, requests %s, aggregation %s)%s\n", Bytes(c.NeededBytes), Percent(a.CoordinatorFill), Bytes(c.UsedBytes),
		Bytes(c.BaseBytes), Bytes(c.InFlightBytes), Bytes(c.AggregationBytes), given(p.Input.CoordinatorMemoryBytes, p.Fits.CoordinatorMemory))
	fmt.Fprintf(w, "  cores\t%s for writes; queries come on top\n", significant(c.Cores))
}

func writeFindings(w io.Writer, found []Finding) error {
	if len(found) > 0 {
		fmt.Fprint(w, "\nWHAT IT MEANS\n")
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(w, "%s\n", wrapped(fmt.Sprintf("  %-8s ", f.Level), f.Text())); err != nil {
			return err
		}
	}
	return nil
}

// wrapped is text in lines of about 120 characters, the first one after head, the others as far in.
func wrapped(head, text string) string {
	var b strings.Builder
	line := head
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 120 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = strings.Repeat(" ", len(head))
		}
		line += word + " "
	}
	return b.String() + strings.TrimRight(line, " ")
}

func writeAssumptions(out io.Writer, a Assumptions) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nASSUMPTION (--assume KEY=VALUE)\tVALUE\tWHAT IT IS\tWHERE FROM\n")
	defaults := DefaultAssumptions()
	usual := defaults.Table()
	for i, e := range a.Table() {
		source := e.Source
		if e.Value() != usual[i].Value() {
			source = "given"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Key, e.Show(), e.Text, source)
	}
	return w.Flush()
}

// Show is the value as a reader wants it.
func (a Assumption) Show() string {
	switch v := a.Value(); {
	case a.Unit == "bytes" && v < kib:
		return significant(v) + " B"
	case a.Unit == "bytes":
		return Bytes(v)
	case a.Unit == "seconds":
		return Duration(v)
	case a.Unit == "share":
		return Percent(v)
	case a.Unit == "factor":
		return trimmed(significant(v)) + " x"
	case a.Unit == "rate":
		return Count(v) + "/s"
	default:
		return Count(v)
	}
}
