package plan

import (
	"errors"
	"fmt"
	"math"
)

// Assumptions are what the arithmetic takes for granted. The defaults are rules of thumb: measure your own where it matters.
type Assumptions struct {
	BytesPerPoint         float64 `json:"bytes_per_point"`
	LabelBytes            float64 `json:"label_bytes"`
	EntryBytes            float64 `json:"entry_bytes"`
	IndexBytes            float64 `json:"index_bytes"`
	CommitLogPointBytes   float64 `json:"commit_log_point_bytes"`
	CommitLogSeconds      float64 `json:"commit_log_seconds"`
	CommitLogFiles        float64 `json:"commit_log_files"`
	DiskFill              float64 `json:"disk_fill"`
	FilesPerFileset       float64 `json:"files_per_fileset"`
	OpenFilesPerFileset   float64 `json:"open_files_per_fileset"`
	MapsPerFileset        float64 `json:"maps_per_fileset"`
	MapLimit              float64 `json:"map_limit"`
	OpenFileLimit         float64 `json:"open_file_limit"`
	NodeBaseBytes         float64 `json:"node_base_bytes"`
	NodeCacheBytes        float64 `json:"node_cache_bytes"`
	SeriesMemoryBytes     float64 `json:"series_memory_bytes"`
	PointMemoryBytes      float64 `json:"point_memory_bytes"`
	MappedBytes           float64 `json:"mapped_bytes"`
	HeapGrowth            float64 `json:"heap_growth"`
	MemoryFill            float64 `json:"memory_fill"`
	CoordinatorFill       float64 `json:"coordinator_fill"`
	CoordinatorBaseBytes  float64 `json:"coordinator_base_bytes"`
	SampleInFlightBytes   float64 `json:"sample_in_flight_bytes"`
	AggregateSeriesBytes  float64 `json:"aggregate_series_bytes"`
	AggregateWindowBytes  float64 `json:"aggregate_window_bytes"`
	CoordinatorCoreRate   float64 `json:"coordinator_core_rate"`
	CoordinatorAggregated float64 `json:"coordinator_aggregated_cost"`
	NodeCoreRate          float64 `json:"node_core_rate"`
	PointsPerBlock        float64 `json:"points_per_block"`
}

// Assumption is one of the Assumptions with what a reader must know of it.
type Assumption struct {
	// Key is the name in JSON and in --assume.
	Key string `json:"key"`
	// Unit is one of bytes, seconds, share (of a whole), factor, count and rate (per second).
	Unit string `json:"unit"`
	Text string `json:"text"`
	// Source says where the default comes from.
	Source string `json:"source"`
	at     *float64
}

// Value is the value in the Assumptions that the table was made of.
func (a Assumption) Value() float64 { return *a.at }

// Set changes the value in the Assumptions that the table was made of.
func (a Assumption) Set(v float64) { *a.at = v }

const (
	kib = 1024.0
	mib = 1024 * kib
	gib = 1024 * mib
)

// DefaultAssumptions are the values of Table's sources.
func DefaultAssumptions() Assumptions {
	return Assumptions{
		BytesPerPoint: 1.45, LabelBytes: 200, EntryBytes: 110, IndexBytes: 220,
		CommitLogPointBytes: 30, CommitLogSeconds: 10 * minute, CommitLogFiles: 2, DiskFill: 0.7,
		FilesPerFileset: 7, OpenFilesPerFileset: 2, MapsPerFileset: 2, MapLimit: 65530, OpenFileLimit: 1048576,
		NodeBaseBytes: gib, NodeCacheBytes: 512 * mib, SeriesMemoryBytes: 3000, PointMemoryBytes: 2, MappedBytes: 8, HeapGrowth: 2, MemoryFill: 0.5,
		CoordinatorBaseBytes: 280 * mib, SampleInFlightBytes: 4.8 * kib, AggregateSeriesBytes: 1200, AggregateWindowBytes: 950, CoordinatorFill: 0.8,
		CoordinatorCoreRate: 50000, CoordinatorAggregated: 1.6, NodeCoreRate: 100000,
		PointsPerBlock: 720,
	}
}

// Table lists the assumptions of a in the order in which they are shown. Setting an entry changes a.
func (a *Assumptions) Table() []Assumption {
	const docs, source, thumb = "M3's documentation", "M3's source", "rule of thumb"
	const measured = "measured, M3 2e397f7f, 600,000 series with 183 B of labels"
	return []Assumption{
		{"bytes_per_point", "bytes", "A compressed point, on disk and in memory. Steady values take less, noisy ones 2 to 4 B.", docs + ": Uber's production data", &a.BytesPerPoint},
		{"label_bytes", "bytes", "The name and labels of a series, names and values. A block stores them four times: id and tags in its fileset and in its index.", thumb, &a.LabelBytes},
		{"entry_bytes", "bytes", "What else a fileset stores once for each series: framing of the labels, offsets, checksums, summary, bloom filter.", measured, &a.EntryBytes},
		{"index_bytes", "bytes", "What else the reverse index of a block stores for each series: terms, postings, offsets.", measured, &a.IndexBytes},
		{"commit_log_point_bytes", "bytes", "A point in the commit log, which is not compressed. Each of its files has the labels of every series once.", thumb, &a.CommitLogPointBytes},
		{"commit_log_seconds", "seconds", "The time that one file of the commit log covers, at most.", docs, &a.CommitLogSeconds},
		{"commit_log_files", "count", "Files of the commit log that wait for a snapshot to hold what they hold.", thumb, &a.CommitLogFiles},
		{"disk_fill", "share", "How full a disk may be.", thumb, &a.DiskFill},
		{"files_per_fileset", "count", "Files of one shard's block: info, summaries, index, data, bloom filter, digest, checkpoint. They are made when the namespace is, for the whole retention.", docs + ", and counted", &a.FilesPerFileset},
		{"open_files_per_fileset", "count", "Of these a node keeps open: index and data.", "counted", &a.OpenFilesPerFileset},
		{"maps_per_fileset", "count", "Of these a node keeps mapped: summaries and bloom filter.", source, &a.MapsPerFileset},
		{"map_limit", "count", "vm.max_map_count of the nodes' kernel. M3 asks for 3000000.", "Linux's default", &a.MapLimit},
		{"open_file_limit", "count", "The open files (nofile) that the database process may have; at the limit it ends. M3 asks for 3000000.", "a usual container's limit", &a.OpenFileLimit},
		{"node_base_bytes", "bytes", "A database node without series: its pools.", "measured", &a.NodeBaseBytes},
		{"node_cache_bytes", "bytes", "Blocks that queries have read, held by a node.", thumb, &a.NodeCacheBytes},
		{"series_memory_bytes", "bytes", "A series in an open block of a namespace, with its index entry and without its points.", measured, &a.SeriesMemoryBytes},
		{"point_memory_bytes", "bytes", "A point in an open block: compressed, in buffers that grow by doubling.", thumb, &a.PointMemoryBytes},
		{"mapped_bytes", "bytes", "Bloom filter and summary of a series in a fileset: mapped files, which the kernel may drop and read again.", measured, &a.MappedBytes},
		{"heap_growth", "factor", "What a process holds for each byte in use: with Go's default (GOGC=100) the heap doubles before it is collected.", "measured: 5.2 GiB for 2.6 GB", &a.HeapGrowth},
		{"memory_fill", "share", "How much of a node's memory may be used; the rest is for mapped files, queries and bootstraps.", docs, &a.MemoryFill},
		{"coordinator_fill", "share", "How much of a coordinator's memory may be used; the rest is for queries.", thumb, &a.CoordinatorFill},
		{"coordinator_base_bytes", "bytes", "A coordinator without load.", "measured", &a.CoordinatorBaseBytes},
		{"sample_in_flight_bytes", "bytes", "What a coordinator holds for a sample that it is writing; a second's worth is counted.", "measured, one request of 610,000 series", &a.SampleInFlightBytes},
		{"aggregate_series_bytes", "bytes", "A series that is being aggregated for one namespace, in a coordinator.", "measured, 200,000 series, two namespaces", &a.AggregateSeriesBytes},
		{"aggregate_window_bytes", "bytes", "One of its open windows; there are as many as bufferPastLimits holds open.", "measured, 200,000 series, 15 windows", &a.AggregateWindowBytes},
		{"coordinator_core_rate", "rate", "Samples that a core of a coordinator takes, without aggregation.", "measured", &a.CoordinatorCoreRate},
		{"coordinator_aggregated_cost", "factor", "What each aggregated namespace adds to that work, as a part of it.", "measured", &a.CoordinatorAggregated},
		{"node_core_rate", "rate", "Writes to known series that a core of a node takes, all namespaces and replicas counted.", "measured", &a.NodeCoreRate},
		{"points_per_block", "count", "Points of a series in a block at which M3 compresses well.", docs, &a.PointsPerBlock},
	}
}

func (a Assumptions) validate() error {
	var faults []error
	for _, e := range a.Table() {
		v := e.Value()
		switch {
		case math.IsNaN(v) || v < 0 || v > 1e15:
			faults = append(faults, fmt.Errorf("assumption %s is %v; it must be from 0 to 1e15", e.Key, v))
		case v == 0 && (e.Unit == "rate" || e.Unit == "share" || e.Key == "heap_growth" || e.Key == "points_per_block"):
			faults = append(faults, fmt.Errorf("assumption %s is 0; it must be above", e.Key))
		case v > 1 && e.Unit == "share":
			faults = append(faults, fmt.Errorf("assumption %s is %v; it is a share, at most 1", e.Key, v))
		}
	}
	return errors.Join(faults...)
}
