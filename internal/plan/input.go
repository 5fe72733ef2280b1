package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Input is what is to be sized. Its JSON is the `input` of a plan, and what the page starts from.
type Input struct {
	// Series are the active series, over all tenants, before replication.
	Series float64 `json:"series"`
	// ScrapeSeconds is the time between two samples of a series.
	ScrapeSeconds float64 `json:"scrape_seconds"`
	// ChurnPerDay is the share of the series that a day replaces by new ones: 0.1 is a tenth.
	ChurnPerDay float64 `json:"churn_per_day"`
	// Nodes are the database nodes, Coordinators the processes that take writes and aggregate.
	Nodes        int `json:"nodes"`
	Coordinators int `json:"coordinators"`
	// Replicas is the replication factor, Shards the number of shards of the placement.
	Replicas int `json:"replicas"`
	Shards   int `json:"shards"`
	// ShardsPerNode is how many shards the fullest node has; 0: as many as an even placement gives it.
	ShardsPerNode int `json:"shards_per_node"`
	// DownsamplePastSeconds is the coordinators' downsample.bufferPastLimits, for every resolution; 0: M3's own table.
	DownsamplePastSeconds float64 `json:"downsample_past_seconds"`
	// NodeDiskBytes, NodeMemoryBytes and CoordinatorMemoryBytes are what one of them has; 0: not given, the plan says what it needs.
	NodeDiskBytes          float64     `json:"node_disk_bytes"`
	NodeMemoryBytes        float64     `json:"node_memory_bytes"`
	CoordinatorMemoryBytes float64     `json:"coordinator_memory_bytes"`
	Namespaces             []Namespace `json:"namespaces"`
	Assume                 Assumptions `json:"assume"`
}

// Namespace is one M3 namespace. One namespace of an Input is raw, the others are aggregated.
type Namespace struct {
	Name string `json:"name"`
	// ResolutionSeconds is the time between two aggregated points; 0: the namespace is raw and keeps every sample.
	ResolutionSeconds float64 `json:"resolution_seconds"`
	RetentionSeconds  float64 `json:"retention_seconds"`
	BlockSeconds      float64 `json:"block_seconds"`
	// BufferPastSeconds is how late a sample may come, and so how long after its end a block stays in memory.
	BufferPastSeconds float64 `json:"buffer_past_seconds"`
	// Share is the part of the series that the namespace gets: 1 for all, less where mapping rules choose.
	Share float64 `json:"share"`
}

// Raw reports whether n keeps the samples as they come.
func (n Namespace) Raw() bool { return n.ResolutionSeconds == 0 }

const (
	minute = 60.0
	hour   = 60 * minute
	day    = 24 * hour
)

// Defaults is a stack of three nodes with the three namespaces that the project's own deployment has.
func Defaults() Input {
	return Input{
		Series: 1e6, ScrapeSeconds: 15, ChurnPerDay: 0.1, Nodes: 3, Coordinators: 2, Replicas: 3, Shards: 64,
		DownsamplePastSeconds: 5 * minute,
		Namespaces: []Namespace{
			{Name: "default", RetentionSeconds: 2 * day, BlockSeconds: hour, BufferPastSeconds: 10 * minute, Share: 1},
			{Name: "agg_10s_30d", ResolutionSeconds: 10, RetentionSeconds: 30 * day, BlockSeconds: 12 * hour, BufferPastSeconds: 10 * minute, Share: 1},
			{Name: "agg_1m_1y", ResolutionSeconds: minute, RetentionSeconds: 365 * day, BlockSeconds: day, BufferPastSeconds: 10 * minute, Share: 1},
		},
		Assume: DefaultAssumptions(),
	}
}

// Clone is a copy that shares nothing with in.
func (in Input) Clone() Input {
	in.Namespaces = slices.Clone(in.Namespaces)
	return in
}

// maxSeries and maxSeconds keep every count a whole number that a float64 holds.
const (
	maxSeries  = 1e12
	maxSeconds = 100 * 366 * day
)

// Validate says what is wrong with in, each fault with its remedy. Compute may only be called for an Input without faults.
func (in Input) Validate() error {
	var faults []error
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	between := func(what string, v, low, high float64) {
		if !(v >= low && v <= high) { // also NaN
			fail("%s is %v; it must be from %v to %v", what, v, low, high)
		}
	}
	between("series", in.Series, 1, maxSeries)
	between("scrape interval (seconds)", in.ScrapeSeconds, 0.001, maxSeconds)
	between("churn", in.ChurnPerDay, 0, 1000)
	between("nodes", float64(in.Nodes), 1, 1e5)
	between("coordinators", float64(in.Coordinators), 1, 1e5)
	between("replicas", float64(in.Replicas), 1, 100)
	between("shards", float64(in.Shards), 1, 1e6)
	between("shards of a node", float64(in.ShardsPerNode), 0, float64(in.Shards))
	between("downsample.bufferPastLimits (seconds)", in.DownsamplePastSeconds, 0, maxSeconds)
	between("disk of a node (bytes)", in.NodeDiskBytes, 0, math.MaxInt64)
	between("memory of a node (bytes)", in.NodeMemoryBytes, 0, math.MaxInt64)
	between("memory of a coordinator (bytes)", in.CoordinatorMemoryBytes, 0, math.MaxInt64)
	if in.Nodes < in.Replicas {
		fail("%s cannot hold %d replicas of a shard; each replica needs a node of its own", plural(float64(in.Nodes), "node", "nodes"), in.Replicas)
	}
	raw, names := 0, map[string]bool{}
	for _, n := range in.Namespaces {
		if n.Raw() {
			raw++
		}
		if n.Name == "" || names[n.Name] {
			fail("namespace %q: each namespace needs a name of its own", n.Name)
		}
		names[n.Name] = true
		if err := n.validate(); err != nil {
			faults = append(faults, fmt.Errorf("namespace %q: %w", n.Name, err))
		}
	}
	if raw != 1 {
		fail("there are %d raw namespaces; coordinators write to exactly one (a namespace without a resolution)", raw)
	}
	faults = append(faults, in.Assume.validate())
	return errors.Join(faults...)
}

func (n Namespace) validate() error {
	switch {
	case !(n.BlockSeconds >= minute && n.BlockSeconds <= maxSeconds):
		return fmt.Errorf("the block size is %s; it must be a minute or more", Duration(n.BlockSeconds))
	case !(n.RetentionSeconds >= n.BlockSeconds && n.RetentionSeconds <= maxSeconds):
		return fmt.Errorf("it keeps %s in blocks of %s; the retention must be a block or more, and at most 100 years", Duration(n.RetentionSeconds), Duration(n.BlockSeconds))
	case !(n.BufferPastSeconds >= 0 && n.BufferPastSeconds < n.BlockSeconds):
		return fmt.Errorf("bufferPast is %s with blocks of %s; M3 takes only less than a block", Duration(n.BufferPastSeconds), Duration(n.BlockSeconds))
	case !(n.ResolutionSeconds >= 0 && n.ResolutionSeconds <= n.BlockSeconds):
		return fmt.Errorf("a point every %s does not fit blocks of %s", Duration(n.ResolutionSeconds), Duration(n.BlockSeconds))
	case !(n.Share > 0 && n.Share <= 1):
		return fmt.Errorf("its share of the series is %v; it must be above 0 and at most 1", n.Share)
	}
	return nil
}
