package plan

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Set changes one thing of in, as text: a number, a time such as 30s or 30d, a size such as 8GiB. Keys are those of Settings,
// those of Assumptions, NAMESPACE.retention (block, resolution, buffer-past, share) for a namespace, "drop" with the name of one
// to leave out, and "add" with a new one (see ParseNamespace). Set does not check the whole: Validate does.
func (in *Input) Set(key, value string) error {
	if key == "drop" {
		i := slices.IndexFunc(in.Namespaces, func(n Namespace) bool { return n.Name == value })
		if i < 0 {
			return fmt.Errorf("there is no namespace %q to drop; there are %s", value, strings.Join(in.names(), ", "))
		}
		in.Namespaces = slices.Delete(slices.Clone(in.Namespaces), i, i+1)
		return nil
	}
	if key == "add" {
		n, err := ParseNamespace(value)
		in.Namespaces = append(slices.Clip(in.Namespaces), n)
		return err
	}
	if set := in.settings()[key]; set != nil {
		if err := set(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	for i := range in.Namespaces {
		part, ok := strings.CutPrefix(key, in.Namespaces[i].Name+".")
		if !ok {
			continue
		}
		in.Namespaces = slices.Clone(in.Namespaces)
		if err := in.Namespaces[i].set(part, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	for _, a := range in.Assume.Table() {
		if a.Key == key {
			v, err := a.parse(value)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			a.Set(v)
			return nil
		}
	}
	return fmt.Errorf("there is no %q to set; there are %s, drop, add, an assumption, and PART of a namespace as NAME.PART (%s)",
		key, strings.Join(slices.Sorted(maps.Keys(in.settings())), ", "), strings.Join(namespaceParts, ", "))
}

// Change is Set for a list as series=2000000,nodes=6. A value with a comma of its own, as add has, is a Set of its own.
func (in *Input) Change(list string) error {
	for _, item := range strings.Split(list, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok {
			return fmt.Errorf("%q changes nothing; write KEY=VALUE, such as nodes=6", item)
		}
		if key == "add" {
			value = strings.ReplaceAll(value, ";", ",")
		}
		if err := in.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (in *Input) names() []string {
	var out []string
	for _, n := range in.Namespaces {
		out = append(out, n.Name)
	}
	return out
}

// settings are how each thing of in is set from text, but for namespaces and assumptions.
func (in *Input) settings() map[string]func(string) error {
	number := func(to *float64) func(string) error { return reads(to, parseNumber) }
	seconds := func(to *float64) func(string) error { return reads(to, ParseDuration) }
	size := func(to *float64) func(string) error { return reads(to, ParseBytes) }
	whole := func(to *int, changes ...*int) func(string) error {
		return func(text string) error {
			n, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("%q is no whole number", text)
			}
			*to = n
			for _, c := range changes {
				*c = 0
			}
			return nil
		}
	}
	return map[string]func(string) error{
		"series": number(&in.Series), "scrape-interval": seconds(&in.ScrapeSeconds), "churn": number(&in.ChurnPerDay),
		// What a real placement says of its fullest node does not hold for another number of nodes.
		"nodes": whole(&in.Nodes, &in.ShardsPerNode), "replicas": whole(&in.Replicas, &in.ShardsPerNode), "shards": whole(&in.Shards, &in.ShardsPerNode),
		"coordinators": whole(&in.Coordinators), "buffer-past-limits": seconds(&in.DownsamplePastSeconds),
		"disk": size(&in.NodeDiskBytes), "memory": size(&in.NodeMemoryBytes), "coordinator-memory": size(&in.CoordinatorMemoryBytes),
	}
}

func reads(to *float64, parse func(string) (float64, error)) func(string) error {
	return func(text string) (err error) {
		v, err := parse(text)
		if err == nil {
			*to = v
		}
		return err
	}
}

var namespaceParts = []string{"retention", "block", "resolution", "buffer-past", "share"}

func (n *Namespace) set(part, value string) error {
	switch part {
	case "retention":
		return reads(&n.RetentionSeconds, ParseDuration)(value)
	case "block":
		return reads(&n.BlockSeconds, ParseDuration)(value)
	case "resolution":
		return reads(&n.ResolutionSeconds, ParseDuration)(value)
	case "buffer-past":
		return reads(&n.BufferPastSeconds, ParseDuration)(value)
	case "share":
		return reads(&n.Share, parseNumber)(value)
	}
	return fmt.Errorf("a namespace has no %q; it has %s", part, strings.Join(namespaceParts, ", "))
}

// ParseNamespace reads NAME,retention=48h,block=1h with, as one needs them, resolution=1m (none: raw), buffer-past=10m (that is
// the default) and share=0.5 (default 1).
func ParseNamespace(text string) (Namespace, error) {
	parts := strings.Split(text, ",")
	n := Namespace{Name: strings.TrimSpace(parts[0]), BufferPastSeconds: 10 * minute, Share: 1}
	if n.Name == "" || strings.Contains(n.Name, "=") {
		return Namespace{}, fmt.Errorf("%q names no namespace; write NAME,retention=48h,block=1h", text)
	}
	for _, p := range parts[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if err := n.set(key, value); err != nil {
			return Namespace{}, fmt.Errorf("namespace %q: %s: %w", n.Name, key, err)
		}
	}
	if n.RetentionSeconds == 0 || n.BlockSeconds == 0 {
		return Namespace{}, fmt.Errorf("namespace %q: retention and block are needed; write %s,retention=48h,block=1h", n.Name, n.Name)
	}
	return n, nil
}

func (a Assumption) parse(text string) (float64, error) {
	switch a.Unit {
	case "bytes":
		return ParseBytes(text)
	case "seconds":
		return ParseDuration(text)
	default:
		return parseNumber(text)
	}
}

func parseNumber(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return v, nil
}

// ParseDuration reads seconds from a time as 15s, 1h30m, 30d, 2w or 1y; a year has 365 days.
func ParseDuration(text string) (float64, error) {
	unit := map[string]float64{"ms": 0.001, "s": 1, "m": minute, "h": hour, "d": day, "w": 7 * day, "y": 365 * day}
	bad := fmt.Errorf("%q is no time; write one such as 15s, 48h, 30d or 1y", text)
	if text == "0" {
		return 0, nil
	}
	total, rest := 0.0, text
	for rest != "" {
		m := regexp.MustCompile(`^(\d{1,12})(ms|[smhdwy])`).FindStringSubmatch(rest)
		if m == nil {
			return 0, bad
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, errors.Join(bad, err)
		}
		total += n * unit[m[2]]
		rest = rest[len(m[0]):]
	}
	if text == "" {
		return 0, bad
	}
	return total, nil
}

// ParseBytes reads a size: a number of bytes, or with KiB, MiB, GiB or TiB, also written as Kubernetes does (Ki, Mi, Gi, Ti).
func ParseBytes(text string) (float64, error) {
	m := regexp.MustCompile(`^([0-9.]+) ?(?:([KMGT])iB?|B)?$`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no size; write one such as 100GiB", text)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size; write one such as 100GiB", text)
	}
	return v * map[string]float64{"": 1, "K": kib, "M": mib, "G": gib, "T": 1024 * gib}[m[2]], nil
}
