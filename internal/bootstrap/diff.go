package bootstrap

import (
	"fmt"
	"io"
	"slices"

	"m3gateway/internal/m3"
)

// Difference is a property of the cluster that is not as wanted.
type Difference struct {
	// Of is what has the property: "placement", "instance ID" or "namespace ID".
	Of, Property, Has, Wanted string
	// Fixed: M3 cannot change it, and Remedy says what to do.
	Fixed  bool
	Remedy string
}

// Drift is the error of a cluster that is there and differs from what is wanted.
type Drift struct{ Differences []Difference }

func (d *Drift) Error() string {
	fixed := slices.ContainsFunc(d.Differences, func(d Difference) bool { return d.Fixed })
	text := fmt.Sprintf("the cluster differs from what is wanted in %d point", len(d.Differences))
	if len(d.Differences) > 1 {
		text += "s"
	}
	if fixed {
		return text + ", of which M3 cannot change some; nothing was changed"
	}
	return text + "; nothing was changed: run again with --apply, or mend the file"
}

// write prints the differences as removed and added lines.
func (d *Drift) write(out io.Writer) {
	of := ""
	for _, x := range d.Differences {
		if x.Of != of {
			fmt.Fprintf(out, "%s\n", x.Of)
			of = x.Of
		}
		if x.Has != "" {
			fmt.Fprintf(out, "  - %s: %s\n", x.Property, x.Has)
		}
		fmt.Fprintf(out, "  + %s: %s", x.Property, x.Wanted)
		if x.Fixed {
			fmt.Fprintf(out, "   (cannot be changed: %s)", x.Remedy)
		}
		fmt.Fprintln(out)
	}
}

// steps are what must be done. Whatever is there and not wanted stays.
type steps struct {
	init    bool       // the placement
	add     []Instance // to a placement that is there
	create  []named
	update  []named // in retention or aggregation
	differ  []Difference
	notes   []string
	unready []string // ids of namespaces that were not marked ready yet
}

func (s *steps) none() bool {
	return !s.init && len(s.add)+len(s.create)+len(s.update)+len(s.unready) == 0
}

// compare says what leads from the cluster that is there to c.
func (c *Config) compare(p m3.Placement, placed bool, have []m3.Namespace) steps {
	s := steps{init: !placed}
	if placed {
		c.Placement.compare(p, &s)
	}
	for _, n := range c.namespaces() {
		i := slices.IndexFunc(have, func(h m3.Namespace) bool { return h.ID == n.id })
		if i < 0 {
			s.create = append(s.create, n)
			s.unready = append(s.unready, n.id)
			continue
		}
		if !have[i].Ready {
			s.unready = append(s.unready, n.id)
		}
		n.compare(have[i], &s)
	}
	for _, h := range have {
		if !slices.ContainsFunc(c.namespaces(), func(n named) bool { return n.id == h.ID }) {
			s.notes = append(s.notes, fmt.Sprintf("namespace %s is in the cluster and not in the file; it is left alone", h.ID))
		}
	}
	return s
}

func (p *Placement) compare(have m3.Placement, s *steps) {
	fixed := func(of, property, has, wanted, remedy string) {
		if has != wanted {
			s.differ = append(s.differ, Difference{of, property, has, wanted, true, remedy})
		}
	}
	anew := "a placement keeps it for life; put the real number into the file"
	fixed("placement", "shards", fmt.Sprint(have.Shards), fmt.Sprint(p.Shards), anew)
	fixed("placement", "replication_factor", fmt.Sprint(have.Replicas), fmt.Sprint(p.ReplicationFactor), anew)
	wanted := map[string]bool{}
	for _, in := range p.instances() {
		wanted[in.ID] = true
		of := "instance " + in.ID
		i := slices.IndexFunc(have.Instances, func(h m3.Instance) bool { return h.ID == in.ID })
		if i < 0 {
			s.add = append(s.add, in)
			s.differ = append(s.differ, Difference{of, "endpoint", "", in.Endpoint, false, ""})
			continue
		}
		h, remedy := have.Instances[i], "replace the node by one with another id, or put what it has into the file"
		fixed(of, "endpoint", h.Endpoint, in.Endpoint, remedy)
		fixed(of, "isolation_group", h.IsolationGroup, in.IsolationGroup, remedy)
		fixed(of, "zone", h.Zone, in.Zone, remedy)
		fixed(of, "weight", fmt.Sprint(h.Weight), fmt.Sprint(in.Weight), remedy)
	}
	for _, h := range have.Instances {
		if !wanted[h.ID] {
			s.notes = append(s.notes, fmt.Sprintf("instance %s is in the placement and not in the file; it is left alone", h.ID))
		}
	}
}

func (n named) compare(have m3.Namespace, s *steps) {
	of, before := "namespace "+n.id, len(s.differ)
	differ := func(property, has, wanted string, fixed bool) {
		if has == wanted {
			return
		}
		d := Difference{Of: of, Property: property, Has: has, Wanted: wanted, Fixed: fixed}
		if fixed {
			d.Remedy = "create a namespace with another name, or put what it has into the file"
		}
		s.differ = append(s.differ, d)
	}
	differ("retention", short(have.Retention), short(n.Retention), false)
	differ("aggregation", aggregationText(have), n.holds(), false)
	if len(s.differ) > before {
		s.update = append(s.update, n)
	}
	differ("block_size", short(have.BlockSize), short(n.BlockSize), true)
	differ("buffer_past", short(have.BufferPast), short(n.BufferPast), true)
	differ("buffer_future", short(have.BufferFuture), short(n.BufferFuture), true)
}

// holds says what the namespace is wanted to hold.
func (n named) holds() string {
	return aggregationText(m3.Namespace{Aggregated: !n.Raw(), Resolution: n.Resolution, All: true})
}

// aggregationText says what the aggregationOptions of a namespace mean.
func aggregationText(n m3.Namespace) string {
	switch {
	case n.Ignored:
		return "not said, so that coordinators pass it over"
	case !n.Aggregated:
		return "raw samples"
	case !n.All:
		return fmt.Sprintf("a point each %s, of series that mapping rules choose", short(n.Resolution))
	}
	return fmt.Sprintf("a point each %s, of every series", short(n.Resolution))
}
