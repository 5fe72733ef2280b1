package plan

import (
	"cmp"
	"math"
	"slices"
)

// Plan is what an Input needs. Sizes of a node are those of the fullest node, in the steady state, when every namespace has
// kept its whole retention.
type Plan struct {
	Input Input `json:"input"`

	// SamplesPerSecond is what senders send; WritesPerSecond what one replica of all namespaces is written.
	SamplesPerSecond float64 `json:"samples_per_second"`
	WritesPerSecond  float64 `json:"writes_per_second"`
	ShardsPerNode    float64 `json:"shards_per_node"`

	Namespaces  []NamespacePlan `json:"namespaces"`
	Phases      []Phase         `json:"phases"`
	Disk        Disk            `json:"disk"`
	Files       Files           `json:"files"`
	Memory      Memory          `json:"memory"`
	Coordinator Coordinator     `json:"coordinator"`
	NodeCores   float64         `json:"node_cores"`
	Fits        Fits            `json:"fits"`
	Findings    []Finding       `json:"findings"`
}

// NamespacePlan is what one namespace costs.
type NamespacePlan struct {
	Name string `json:"name"`
	// IntervalSeconds is the time between two points of a series: the resolution, but no less than the scrape interval.
	IntervalSeconds float64 `json:"interval_seconds"`
	// Copies are the points stored for each sample that is sent.
	Copies         float64 `json:"copies"`
	PointsPerBlock float64 `json:"points_per_block"`
	// Blocks are the closed blocks that are kept; KeptSeconds is their time, the retention rounded up to blocks.
	Blocks      float64 `json:"blocks"`
	KeptSeconds float64 `json:"kept_seconds"`
	// Points are those of one replica; SampleSeconds is the time in which senders send as many.
	Points        float64 `json:"points"`
	SampleSeconds float64 `json:"sample_seconds"`
	// Of one node: points, and what is stored for each series of each block, on disk.
	PointBytes  float64 `json:"point_bytes"`
	SeriesBytes float64 `json:"series_bytes"`
	DiskBytes   float64 `json:"disk_bytes"`
	// StoredPointBytes is DiskBytes for each point: what a point really takes.
	StoredPointBytes float64 `json:"stored_point_bytes"`
	// Filesets are the shards of all blocks of a node (one fileset each), Files their files.
	Filesets float64 `json:"filesets"`
	Files    float64 `json:"files"`
	// OpenPoints of a series are in memory when its block is full, PeakPoints when the block before it, full too, is still
	// waiting for late samples.
	OpenPoints float64 `json:"open_points"`
	PeakPoints float64 `json:"peak_points"`
	// Of one node, at the peak: the series of the open blocks, and their points.
	SeriesMemoryBytes float64 `json:"series_memory_bytes"`
	PointMemoryBytes  float64 `json:"point_memory_bytes"`
	MemoryBytes       float64 `json:"memory_bytes"`
	MappedBytes       float64 `json:"mapped_bytes"`
	// Windows of a series are open in the coordinators; AggregationBytes is what all of them hold. 0 for the raw namespace.
	Windows          float64 `json:"windows"`
	AggregationBytes float64 `json:"aggregation_bytes"`
}

// Phase is a stretch of time since the first sample, between two ends of retentions.
type Phase struct {
	FromSeconds float64 `json:"from_seconds"`
	ToSeconds   float64 `json:"to_seconds"`
	// Copies is how many stored points a sample adds for good while the phase lasts: the namespaces that are still filling.
	Copies float64 `json:"copies"`
	// Points are those of one replica at the end of the phase; DiskBytes is what each namespace, in order, then has on a node.
	Points    float64   `json:"points"`
	DiskBytes []float64 `json:"disk_bytes"`
}

// Disk of a node in bytes. NeededBytes leaves the assumed part of the disk free.
type Disk struct {
	FilesetBytes   float64 `json:"fileset_bytes"`
	SnapshotBytes  float64 `json:"snapshot_bytes"`
	CommitLogBytes float64 `json:"commit_log_bytes"`
	UsedBytes      float64 `json:"used_bytes"`
	NeededBytes    float64 `json:"needed_bytes"`
}

// Files of a node.
type Files struct {
	Filesets  float64 `json:"filesets"`
	Files     float64 `json:"files"`
	Snapshots float64 `json:"snapshots"`
	Open      float64 `json:"open"`
	Maps      float64 `json:"maps"`
}

// Memory of a node in bytes at its peak. MappedBytes, of files that the kernel may drop, are not part of UsedBytes.
type Memory struct {
	BaseBytes   float64 `json:"base_bytes"`
	CacheBytes  float64 `json:"cache_bytes"`
	SeriesBytes float64 `json:"series_bytes"`
	PointBytes  float64 `json:"point_bytes"`
	UsedBytes   float64 `json:"used_bytes"`
	MappedBytes float64 `json:"mapped_bytes"`
	NeededBytes float64 `json:"needed_bytes"`
}

// Coordinator is what each coordinator needs when one of them is down.
type Coordinator struct {
	BaseBytes        float64 `json:"base_bytes"`
	InFlightBytes    float64 `json:"in_flight_bytes"`
	AggregationBytes float64 `json:"aggregation_bytes"`
	UsedBytes        float64 `json:"used_bytes"`
	NeededBytes      float64 `json:"needed_bytes"`
	Cores            float64 `json:"cores"`
}

// Fits are the series that what was given has room for; 0: nothing was given.
type Fits struct {
	Disk              float64 `json:"disk"`
	Memory            float64 `json:"memory"`
	CoordinatorMemory float64 `json:"coordinator_memory"`
}

// Compute plans in, which must have no faults (see Input.Validate).
//
// Products that are added are rounded on their own (float64()): a fused operation would differ from JavaScript.
func Compute(in Input) Plan {
	p := Plan{Input: in, SamplesPerSecond: in.Series / in.ScrapeSeconds, ShardsPerNode: in.shardsPerNode()}
	for _, n := range in.Namespaces {
		np := in.namespace(n)
		p.Namespaces = append(p.Namespaces, np)
		p.WritesPerSecond += float64(p.SamplesPerSecond * np.Copies)
	}
	p.phases()
	p.nodes()
	p.coordinators()
	p.fits()
	p.Findings = findings(p)
	return p
}

func (in Input) shardsPerNode() float64 {
	if in.ShardsPerNode > 0 {
		return float64(in.ShardsPerNode)
	}
	return math.Ceil(float64(in.Shards*in.Replicas) / float64(in.Nodes))
}

// nodeShare is the part of one replica that the fullest node holds.
func (in Input) nodeShare() float64 { return in.shardsPerNode() / float64(in.Shards) }

// seriesIn is how many series have a sample within a stretch of time.
func (in Input) seriesIn(n Namespace, seconds float64) float64 {
	return in.Series * n.Share * (1 + float64(in.ChurnPerDay*seconds/day))
}

// namespace plans one namespace.
func (in Input) namespace(n Namespace) NamespacePlan {
	a, node := in.Assume, in.nodeShare()
	p := NamespacePlan{Name: n.Name, IntervalSeconds: max(n.ResolutionSeconds, in.ScrapeSeconds)}
	p.Copies = n.Share * in.ScrapeSeconds / p.IntervalSeconds
	p.PointsPerBlock = n.BlockSeconds / p.IntervalSeconds
	p.Blocks = math.Ceil(n.RetentionSeconds / n.BlockSeconds)
	p.KeptSeconds = p.Blocks * n.BlockSeconds

	rate := in.Series * n.Share / p.IntervalSeconds
	p.Points = rate * p.KeptSeconds
	p.SampleSeconds = p.Copies * p.KeptSeconds
	p.PointBytes = p.Points * a.BytesPerPoint * node
	p.SeriesBytes = in.seriesIn(n, n.BlockSeconds) * p.Blocks * a.storedSeriesBytes() * node
	p.DiskBytes = p.PointBytes + p.SeriesBytes
	p.StoredPointBytes = p.DiskBytes / (p.Points * node)
	p.Filesets = p.Blocks * in.shardsPerNode()
	p.Files = p.Filesets * a.FilesPerFileset

	held := n.BlockSeconds + n.BufferPastSeconds
	p.OpenPoints = p.PointsPerBlock
	p.PeakPoints = held / p.IntervalSeconds
	p.SeriesMemoryBytes = in.seriesIn(n, held) * a.SeriesMemoryBytes * a.HeapGrowth * node
	p.PointMemoryBytes = rate * held * a.PointMemoryBytes * a.HeapGrowth * node
	p.MemoryBytes = p.SeriesMemoryBytes + p.PointMemoryBytes
	p.MappedBytes = in.seriesIn(n, n.BlockSeconds) * p.Blocks * a.MappedBytes * node

	if !n.Raw() {
		p.Windows = math.Ceil(in.downsamplePast(n)/p.IntervalSeconds) + 2 // the one that fills, and the one being flushed
		p.AggregationBytes = in.Series * n.Share * (a.AggregateSeriesBytes + float64(p.Windows*a.AggregateWindowBytes)) * a.HeapGrowth
	}
	return p
}

// storedSeriesBytes is what a fileset and its part of the reverse index store for each series.
func (a Assumptions) storedSeriesBytes() float64 {
	return a.filesetSeriesBytes() + float64(2*a.LabelBytes) + a.IndexBytes
}

// filesetSeriesBytes is the fileset's part of storedSeriesBytes; a snapshot has no more.
func (a Assumptions) filesetSeriesBytes() float64 { return float64(2*a.LabelBytes) + a.EntryBytes }

// downsamplePast is how long a coordinator waits for late samples of a window. M3's table, where nothing is configured: 15 s
// below a resolution of 30 s, then 30 s, from 1m on 1m, from 2m on 2m.
func (in Input) downsamplePast(n Namespace) float64 {
	switch r := n.ResolutionSeconds; {
	case in.DownsamplePastSeconds > 0:
		return in.DownsamplePastSeconds
	case r < 30:
		return 15
	case r < minute:
		return 30
	case r < 2*minute:
		return minute
	default:
		return 2 * minute
	}
}

// phases is the growth from an empty store.
func (p *Plan) phases() {
	var ends []float64
	for _, n := range p.Namespaces {
		ends = append(ends, n.KeptSeconds)
	}
	slices.Sort(ends)
	from := 0.0
	for _, to := range slices.Compact(ends) {
		phase := Phase{FromSeconds: from, ToSeconds: to, DiskBytes: []float64{}}
		for _, n := range p.Namespaces {
			if n.KeptSeconds >= to {
				phase.Copies += n.Copies
			}
			part := min(to, n.KeptSeconds) / n.KeptSeconds
			phase.Points += float64(n.Points * part)
			phase.DiskBytes = append(phase.DiskBytes, n.DiskBytes*part)
		}
		p.Phases = append(p.Phases, phase)
		from = to
	}
}

// nodes sums what a node needs.
func (p *Plan) nodes() {
	in, a := p.Input, p.Input.Assume
	p.Memory.BaseBytes, p.Memory.CacheBytes = a.NodeBaseBytes, a.NodeCacheBytes
	node := in.nodeShare()
	for i, n := range p.Namespaces {
		p.Disk.FilesetBytes += n.DiskBytes
		// A snapshot is a fileset of what is in memory; the old one is deleted after the new one is written.
		ns := in.Namespaces[i]
		series := in.seriesIn(ns, ns.BlockSeconds+ns.BufferPastSeconds) * a.filesetSeriesBytes() * node
		p.Disk.SnapshotBytes += 2 * float64(float64(in.Series*ns.Share*n.PeakPoints*a.BytesPerPoint*node)+series)
		p.Disk.CommitLogBytes += float64(in.seriesIn(ns, a.CommitLogSeconds)*a.filesetSeriesBytes()*node) * a.CommitLogFiles
		p.Files.Filesets += n.Filesets
		p.Files.Files += n.Files
		p.Memory.SeriesBytes += n.SeriesMemoryBytes
		p.Memory.PointBytes += n.PointMemoryBytes
		p.Memory.MappedBytes += n.MappedBytes
	}
	p.Disk.CommitLogBytes += float64(p.WritesPerSecond * node * a.CommitLogPointBytes * a.CommitLogSeconds * a.CommitLogFiles)
	p.Disk.UsedBytes = p.Disk.FilesetBytes + p.Disk.SnapshotBytes + p.Disk.CommitLogBytes
	p.Disk.NeededBytes = p.Disk.UsedBytes / a.DiskFill
	// Two blocks of each namespace can be open at once, each with the snapshot in use and the next one.
	p.Files.Snapshots = 4 * a.FilesPerFileset * p.ShardsPerNode * float64(len(p.Namespaces))
	p.Files.Open = p.Files.Filesets * a.OpenFilesPerFileset
	p.Files.Maps = p.Files.Filesets * a.MapsPerFileset
	p.Memory.UsedBytes = p.Memory.BaseBytes + p.Memory.CacheBytes + p.Memory.SeriesBytes + p.Memory.PointBytes
	p.Memory.NeededBytes = p.Memory.UsedBytes / a.MemoryFill
	p.NodeCores = p.WritesPerSecond * node / a.NodeCoreRate
}

// coordinators sums what a coordinator needs while one of them is down and the others hold its series too.
func (p *Plan) coordinators() {
	in, a, c := p.Input, p.Input.Assume, &p.Coordinator
	up, aggregated := float64(max(in.Coordinators-1, 1)), 0.0
	for i, n := range p.Namespaces {
		c.AggregationBytes += n.AggregationBytes
		if !in.Namespaces[i].Raw() {
			aggregated += in.Namespaces[i].Share
		}
	}
	c.BaseBytes = a.CoordinatorBaseBytes
	c.InFlightBytes = p.SamplesPerSecond * a.SampleInFlightBytes / up
	c.AggregationBytes /= up
	c.UsedBytes = c.BaseBytes + c.InFlightBytes + c.AggregationBytes
	c.NeededBytes = c.UsedBytes / a.CoordinatorFill
	c.Cores = p.SamplesPerSecond * (1 + float64(aggregated*a.CoordinatorAggregated)) / a.CoordinatorCoreRate / up
}

// fits says how many series there is room for. All but the fixed part grows with their number.
func (p *Plan) fits() {
	room := func(given, fill, used, fixed float64) float64 {
		if given == 0 {
			return 0
		}
		return math.Floor(max(float64(given*fill)-fixed, 0) / (used - fixed) * p.Input.Series)
	}
	a := p.Input.Assume
	p.Fits.Disk = room(p.Input.NodeDiskBytes, a.DiskFill, p.Disk.UsedBytes, 0)
	p.Fits.Memory = room(p.Input.NodeMemoryBytes, a.MemoryFill, p.Memory.UsedBytes, p.Memory.BaseBytes+p.Memory.CacheBytes)
	p.Fits.CoordinatorMemory = room(p.Input.CoordinatorMemoryBytes, a.CoordinatorFill, p.Coordinator.UsedBytes, p.Coordinator.BaseBytes)
}

// raw is the place of the raw namespace.
func (p *Plan) raw() int { return slices.IndexFunc(p.Input.Namespaces, Namespace.Raw) }

// byResolution are the places of the aggregated namespaces, finest first: the order in which a coordinator tries them.
func (p *Plan) byResolution() []int {
	var out []int
	for i, n := range p.Input.Namespaces {
		if !n.Raw() {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int {
		return cmp.Compare(p.Input.Namespaces[a].ResolutionSeconds, p.Input.Namespaces[b].ResolutionSeconds)
	})
	return out
}
