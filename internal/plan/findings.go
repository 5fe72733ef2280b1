package plan

import (
	"cmp"
	"slices"
	"strings"
)

// Finding is one thing to know about a plan. Its text is that of Texts for Code, with Args in place of {their names}.
type Finding struct {
	Code  string `json:"code"`
	Level Level  `json:"level"`
	// Args are formatted values.
	Args map[string]string `json:"args"`
}

// Level is how much a finding matters.
type Level string

const (
	Problem Level = "problem" // it does not work, or not for long
	Advice  Level = "advice"  // it works, and could be better
	Note    Level = "note"    // good to know
)

// Text is the finding in words.
func (f Finding) Text() string {
	var pairs []string
	for name, value := range f.Args {
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(Texts()[f.Code].Text)
}

// FindingText is what a code means.
type FindingText struct {
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

// Texts are all findings that there can be.
func Texts() map[string]FindingText {
	return map[string]FindingText{
		"disk":               {Problem, "A node needs {needed} of disk ({used} in use, a disk {fill} full) and has {given}: that is room for {fits} series."},
		"memory":             {Problem, "A node needs {needed} of memory ({used} in use, the rest for mapped files, queries and bootstraps) and has {given}: that is room for {fits} series."},
		"coordinator_memory": {Problem, "A coordinator needs {needed} of memory while another is down ({used} in use) and has {given}: that is room for {fits} series."},
		"maps":               {Problem, "A node maps {maps} files, and its kernel allows {limit}: set vm.max_map_count to 3000000 on the nodes, as M3 asks."},
		"open_files":         {Problem, "A node keeps {open} files open, and may have {limit}: raise nofile to 3000000, as M3 asks."},
		"late_lost":          {Problem, "{namespace}: the coordinators hold its points back for {past} (bufferPastLimits), and its bufferPast of {buffer} then refuses them: the aggregates are lost without an error. Keep bufferPastLimits minutes below bufferPast; 5m under 10m works."},
		"never_read":         {Problem, "{namespace}: no query reads it. It keeps {retention}, and {other}, which keeps {longer}, is asked first. Drop it, or keep it longer."},
		"late_refused":       {Advice, "{namespace}: a sample more than {past} late is stored raw but not aggregated; that is M3's own limit for this resolution. downsample.bufferPastLimits of 5m, with a bufferPast of 10m, would take it, for {aggregation} more memory in each coordinator."},
		"late_costs":         {Advice, "bufferPastLimits of {past} keeps the windows of that time open in the coordinators, for every series: {aggregation} of memory in each. With {less} they would hold {then}; a sample later than that is stored raw but not aggregated."},
		"same_points":        {Advice, "{namespace}: its resolution of {resolution} is no coarser than the samples, one every {scrape}: it stores each of them again. Make it coarser, or drop it and keep the raw namespace longer."},
		"aggregation_loses":  {Advice, "{namespace}: aggregation does not pay. It takes {disk} of disk a node; keeping raw samples for {retention} would take {raw} more than now, without the {memory} of memory a node and {aggregation} in each coordinator."},
		"aggregation_pays":   {Note, "{namespace}: aggregation pays. It takes {disk} of disk a node; keeping raw samples for {retention} would take {raw} more than now. The price is {memory} of memory a node and {aggregation} in each coordinator."},
		"block_short":        {Advice, "{namespace}: a block of {block} has {points} points of a series; M3 compresses well from about {wanted}. Every block stores the names and labels again, so that a point takes {stored} B on disk. Blocks of {better} would take {then} B: {disk} less disk a node and {files} files fewer, for {memory} more memory. A namespace keeps its block size for good."},
		"block_long":         {Advice, "{namespace}: a block of {block} has {points} points of a series, all in memory until it is closed; M3 compresses well from about {wanted}. Blocks of {better} would need {memory} less memory a node, for {disk} more disk and {files} files more. A namespace keeps its block size for good."},
		"block_days":         {Advice, "{namespace}: a block stays open, in memory, for {block}. Keep it to a day or two, even where that makes few points."},
		"buffer_past":        {Advice, "{namespace}: a bufferPast of {buffer} keeps a full block of {block} in memory that much longer: up to {share} more points."},
		"mapped":             {Advice, "Bloom filters and summaries are {mapped} of mapped files a node, more than the {free} that its memory leaves to them: reads of old blocks will wait for the disk. Longer blocks or more memory help."},
		"shards_few":         {Advice, "Shards: {shards}. That is few; for a cluster of this many nodes, {nodes}, M3 suggests {suggested}. Their number can never change."},
		"shards_many":        {Note, "Shards: {shards}. That is much; for a cluster of this many nodes, {nodes}, M3 suggests {suggested}. Each costs files in every block of every namespace."},
		"replicas":           {Advice, "A replication factor of {replicas}: while a node is down or restarts, writes or reads of its shards fail. 3 is usual."},
		"coordinators":       {Advice, "One coordinator: while it restarts nothing is taken, and the aggregates of its open windows are lost."},
	}
}

// finder collects the findings of a plan.
type finder struct {
	Plan
	found []Finding
}

func (f *finder) add(code string, args map[string]string) {
	f.found = append(f.found, Finding{Code: code, Level: Texts()[code].Level, Args: args})
}

// findings are the problems first, then the others, each kind in the order of the namespaces.
func findings(p Plan) []Finding {
	f := &finder{Plan: p, found: []Finding{}}
	f.limits()
	f.cluster()
	f.lateness()
	for i := range p.Namespaces {
		f.late(i)
		if f.reads(i) {
			f.pays(i)
		}
		f.block(i)
	}
	rank := map[Level]int{Problem: 0, Advice: 1, Note: 2}
	slices.SortStableFunc(f.found, func(a, b Finding) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	return f.found
}

// limits compares with what was given, and with the kernel's limits.
func (f *finder) limits() {
	in, a := f.Input, f.Input.Assume
	over := func(code string, given, needed, used, fits float64) {
		if given > 0 && needed > given {
			f.add(code, map[string]string{"needed": Bytes(needed), "used": Bytes(used), "given": Bytes(given), "fits": Short(fits), "fill": Percent(a.DiskFill)})
		}
	}
	over("disk", in.NodeDiskBytes, f.Disk.NeededBytes, f.Disk.UsedBytes, f.Fits.Disk)
	over("memory", in.NodeMemoryBytes, f.Memory.NeededBytes, f.Memory.UsedBytes, f.Fits.Memory)
	over("coordinator_memory", in.CoordinatorMemoryBytes, f.Coordinator.NeededBytes, f.Coordinator.UsedBytes, f.Fits.CoordinatorMemory)
	const near = 0.8 // of a limit that a restart or a bootstrap also needs room in
	if f.Files.Maps > near*a.MapLimit {
		f.add("maps", map[string]string{"maps": Count(f.Files.Maps), "limit": Count(a.MapLimit)})
	}
	if f.Files.Open > near*a.OpenFileLimit {
		f.add("open_files", map[string]string{"open": Count(f.Files.Open), "limit": Count(a.OpenFileLimit)})
	}
	memory := max(in.NodeMemoryBytes, f.Memory.NeededBytes)
	if free := memory - f.Memory.UsedBytes; f.Memory.MappedBytes > free {
		f.add("mapped", map[string]string{"mapped": Bytes(f.Memory.MappedBytes), "free": Bytes(free)})
	}
}

// cluster judges the numbers of shards, replicas and coordinators.
func (f *finder) cluster() {
	in := f.Input
	suggested := suggestedShards(in.Nodes)
	args := map[string]string{"shards": Count(float64(in.Shards)), "nodes": Count(float64(in.Nodes)), "suggested": Count(suggested)}
	switch shards := float64(in.Shards); {
	case shards < suggested/2:
		f.add("shards_few", args)
	case shards > suggested*2:
		f.add("shards_many", args)
	}
	if in.Replicas < 3 {
		f.add("replicas", map[string]string{"replicas": Count(float64(in.Replicas))})
	}
	if in.Coordinators == 1 {
		f.add("coordinators", map[string]string{})
	}
}

// suggestedShards is the table of M3's documentation.
func suggestedShards(nodes int) float64 {
	switch {
	case nodes <= 3:
		return 64
	case nodes <= 6:
		return 128
	case nodes <= 12:
		return 256
	case nodes <= 24:
		return 512
	case nodes <= 48:
		return 1024
	default:
		return 4096
	}
}

// lateness says what it costs to wait for late samples, where that is much of what a coordinator holds.
func (f *finder) lateness() {
	const less = minute
	in, then := f.Input, f.Input.Clone()
	if in.DownsamplePastSeconds <= less {
		return
	}
	then.DownsamplePastSeconds = less
	sum := 0.0
	for _, n := range in.Namespaces {
		sum += then.namespace(n).AggregationBytes
	}
	sum /= float64(max(in.Coordinators-1, 1))
	if f.Coordinator.AggregationBytes-sum > f.Coordinator.UsedBytes/4 {
		f.add("late_costs", map[string]string{"past": Duration(in.DownsamplePastSeconds), "aggregation": Bytes(f.Coordinator.AggregationBytes), "less": Duration(less), "then": Bytes(sum)})
	}
}

// reads reports whether queries are answered from a namespace: a coordinator asks the raw one for what that still keeps, then
// the finest aggregated one that reaches back far enough.
func (f *finder) reads(i int) bool {
	n := f.Input.Namespaces[i]
	if n.Raw() {
		return true
	}
	for _, j := range append([]int{f.raw()}, f.byResolution()...) {
		if j == i {
			break
		}
		if other := f.Input.Namespaces[j]; other.RetentionSeconds >= n.RetentionSeconds {
			f.add("never_read", map[string]string{"namespace": n.Name, "retention": Duration(n.RetentionSeconds), "other": other.Name, "longer": Duration(other.RetentionSeconds)})
			return false
		}
	}
	return true
}

// late judges how late a sample may be for an aggregated namespace, and for how long bufferPast keeps blocks in memory.
func (f *finder) late(i int) {
	in, n := f.Input, f.Input.Namespaces[i]
	if past := in.downsamplePast(n); !n.Raw() && past+minute >= n.BufferPastSeconds {
		f.add("late_lost", map[string]string{"namespace": n.Name, "past": Duration(past), "buffer": Duration(n.BufferPastSeconds)})
	}
	if !n.Raw() && in.DownsamplePastSeconds == 0 {
		then := in.Clone()
		then.DownsamplePastSeconds = 5 * minute
		more := (then.namespace(n).AggregationBytes - f.Namespaces[i].AggregationBytes) / float64(max(in.Coordinators-1, 1))
		f.add("late_refused", map[string]string{"namespace": n.Name, "past": Duration(in.downsamplePast(n)), "aggregation": Bytes(max(more, 0))})
	}
	if share := n.BufferPastSeconds / n.BlockSeconds; share >= 0.5 {
		f.add("buffer_past", map[string]string{"namespace": n.Name, "buffer": Duration(n.BufferPastSeconds), "block": Duration(n.BlockSeconds), "share": Percent(share)})
	}
}

// pays compares an aggregated namespace with raw samples kept as long.
func (f *finder) pays(i int) {
	in, n, p := f.Input, f.Input.Namespaces[i], f.Namespaces[i]
	raw := in.Namespaces[f.raw()]
	if n.Raw() {
		return
	}
	if n.ResolutionSeconds <= in.ScrapeSeconds {
		f.add("same_points", map[string]string{"namespace": n.Name, "resolution": Duration(n.ResolutionSeconds), "scrape": Duration(in.ScrapeSeconds)})
	}
	longer := raw
	longer.RetentionSeconds = n.RetentionSeconds
	more := in.namespace(longer).DiskBytes - f.Namespaces[f.raw()].DiskBytes
	code := "aggregation_pays"
	if p.DiskBytes >= more {
		code = "aggregation_loses"
	}
	f.add(code, map[string]string{
		"namespace": n.Name, "disk": Bytes(p.DiskBytes), "retention": Duration(n.RetentionSeconds), "raw": Bytes(more), "memory": Bytes(p.MemoryBytes),
		"aggregation": Bytes(p.AggregationBytes / float64(max(in.Coordinators-1, 1))),
	})
}

// block compares a namespace's block size with the one that makes about as many points as M3 compresses well.
func (f *finder) block(i int) {
	in, n, p := f.Input, f.Input.Namespaces[i], f.Namespaces[i]
	wanted := in.Assume.PointsPerBlock
	other := n
	other.BlockSeconds = in.betterBlock(n)
	q := in.namespace(other)
	args := map[string]string{
		"namespace": n.Name, "block": Duration(n.BlockSeconds), "points": Count(p.PointsPerBlock), "wanted": Count(wanted),
		"stored": significant(p.StoredPointBytes), "then": significant(q.StoredPointBytes), "better": Duration(other.BlockSeconds),
		"disk": Bytes(abs(p.DiskBytes - q.DiskBytes)), "files": Count(abs(p.Files - q.Files)), "memory": Bytes(abs(p.MemoryBytes - q.MemoryBytes)),
	}
	switch {
	case p.PointsPerBlock < wanted/2 && other.BlockSeconds > n.BlockSeconds:
		f.add("block_short", args)
	case p.PointsPerBlock > wanted*1.5 && other.BlockSeconds < n.BlockSeconds:
		f.add("block_long", args)
	case n.BlockSeconds > 2*day:
		f.add("block_days", map[string]string{"namespace": n.Name, "block": Duration(n.BlockSeconds)})
	}
}

// betterBlock is the longest usual block size with no more points than PointsPerBlock, and no longer than two days or half of
// the retention; n's own, if there is none.
func (in Input) betterBlock(n Namespace) float64 {
	wanted := in.Assume.PointsPerBlock * max(n.ResolutionSeconds, in.ScrapeSeconds)
	better := n.BlockSeconds
	for _, hours := range []float64{0.5, 1, 2, 3, 4, 6, 8, 12, 24, 48} {
		if b := hours * hour; b <= wanted && b <= n.RetentionSeconds/2 && b > n.BufferPastSeconds {
			better = b
		}
	}
	return better
}

func abs(v float64) float64 { return max(v, -v) }
