package plan

import (
	"math"
	"testing"
)

// guide is the example of Aiven's published M3 scaling guide: a sample every 15 s; U raw for a week in blocks of 2h, A a point a
// second for two weeks and B one a minute for four in blocks of 4h, C one an hour for eight weeks in blocks of 12h; 60 shards on
// three nodes with three replicas.
func guide() Input {
	in := Defaults()
	in.Shards, in.ChurnPerDay = 60, 0
	const week = 7 * day
	in.Namespaces = []Namespace{
		{Name: "U", RetentionSeconds: week, BlockSeconds: 2 * hour, BufferPastSeconds: 10 * minute, Share: 1},
		{Name: "A", ResolutionSeconds: 1, RetentionSeconds: 2 * week, BlockSeconds: 4 * hour, BufferPastSeconds: 10 * minute, Share: 1},
		{Name: "B", ResolutionSeconds: minute, RetentionSeconds: 4 * week, BlockSeconds: 4 * hour, BufferPastSeconds: 10 * minute, Share: 1},
		{Name: "C", ResolutionSeconds: hour, RetentionSeconds: 8 * week, BlockSeconds: 12 * hour, BufferPastSeconds: 10 * minute, Share: 1},
	}
	return in
}

// production is what the guide says its authors run: a sample every 30 s, raw for two days, and a point each 10 minutes for a month.
func production() Input {
	in := Defaults()
	in.ScrapeSeconds = 30
	in.Namespaces = []Namespace{
		{Name: "raw", RetentionSeconds: 2 * day, BlockSeconds: 2 * hour, BufferPastSeconds: 10 * minute, Share: 1},
		{Name: "month", ResolutionSeconds: 10 * minute, RetentionSeconds: 30 * day, BlockSeconds: day, BufferPastSeconds: 10 * minute, Share: 1},
	}
	return in
}

func valid(t *testing.T, in Input) Plan {
	t.Helper()
	if err := in.Validate(); err != nil {
		t.Fatal(err)
	}
	return Compute(in)
}

// near: to half a unit of the last digit that the guide gives.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s is %v; want %v", what, got, want)
	}
}

// TestStoredCopies: in week one a sample is stored 1 + 1 + 1/4 + 1/240 = 2.25 times: once raw, once in A, whose points cannot be
// denser than the samples, in B one of four (a point a minute, samples every 15 s), in C one of 240. As each namespace reaches
// its retention, it loses what it gains: from week two 1.25, in weeks three and four 0.25, in weeks five to eight 0.004, then 0.
// All of it is about four weeks of raw samples: 1 + 2 + 4/4 + 8/240.
func TestStoredCopies(t *testing.T) {
	p := valid(t, guide())
	const week = 7 * day
	want := []struct{ from, to, copies float64 }{
		{0, week, 1 + 1 + 1.0/4 + 1.0/240}, {week, 2 * week, 1 + 1.0/4 + 1.0/240}, {2 * week, 4 * week, 1.0/4 + 1.0/240}, {4 * week, 8 * week, 1.0 / 240},
	}
	if len(p.Phases) != len(want) {
		t.Fatalf("phases: %+v", p.Phases)
	}
	for i, w := range want {
		if f := p.Phases[i]; f.FromSeconds != w.from || f.ToSeconds != w.to || math.Abs(f.Copies-w.copies) > 1e-12 {
			t.Errorf("phase %d is %+v; want %+v", i, f, w)
		}
	}
	near(t, "copies in week one", p.Phases[0].Copies, 2.25, 0.005)
	near(t, "copies in weeks five to eight", p.Phases[3].Copies, 0.004, 0.0005)
	sum, total := 0.0, 0.0
	for _, n := range p.Namespaces {
		sum += n.SampleSeconds
		total += n.Points
	}
	near(t, "weeks of raw samples", sum/week, 1+2+4.0/4+8.0/240, 1e-12)
	near(t, "weeks of raw samples, as the guide rounds them", sum/week, 4, 0.05)
	near(t, "points", total, sum*p.SamplesPerSecond, total*1e-12)
	if last := p.Phases[3].Points; math.Abs(last-total) > total*1e-12 {
		t.Errorf("at the end of the growth there are %v points; together the namespaces have %v", last, total)
	}
}

// TestFiles: U has 7 days of 2 hours, 84 blocks. Three replicas on three nodes put every one of the 60 shards on each node:
// 84 x 60 = 5,040 shards of blocks, each a fileset of 7 files: 35,280 files.
func TestFiles(t *testing.T) {
	p := valid(t, guide())
	u := p.Namespaces[0]
	if u.Blocks != 84 || p.ShardsPerNode != 60 || u.Filesets != 5040 || u.Files != 35280 {
		t.Errorf("%v blocks, %v shards on a node, %v filesets, %v files; want 84, 60, 5040, 35280", u.Blocks, p.ShardsPerNode, u.Filesets, u.Files)
	}
	// A: 14 days of 4 hours, B: 28 days of 4 hours, C: 56 days of 12 hours.
	filesets := 60.0 * (84 + 84 + 168 + 112)
	if p.Files.Filesets != filesets || p.Files.Files != 7*filesets || p.Files.Open != 2*filesets || p.Files.Maps != 2*filesets {
		t.Errorf("files %+v; want %v filesets", p.Files, filesets)
	}
	more := guide()
	more.Nodes = 6
	if got := valid(t, more).Namespaces[0].Files; got != 35280/2 {
		t.Errorf("on six nodes there are %v files of U; want half", got)
	}
	more.Nodes = 7 // 180 shards and replicas on 7 nodes: the fullest has 26
	if got := valid(t, more); got.ShardsPerNode != 26 || got.Namespaces[0].Filesets != 84*26 {
		t.Errorf("on seven nodes: %v shards, %v filesets", got.ShardsPerNode, got.Namespaces[0].Filesets)
	}
	more.ShardsPerNode = 31 // as a real placement says
	if got := valid(t, more); got.Namespaces[0].Filesets != 84*31 {
		t.Errorf("with 31 shards: %v filesets", got.Namespaces[0].Filesets)
	}
}

// TestPointsInMemory: of each series a node holds at least the open blocks: in U 2 hours of 4 points a minute, 480; in A 4 hours
// of the same, 960; in B 4 hours of a point a minute, 240; in C 12 hours of one an hour, 12. Together 1,692, "about 1,700". A
// full block waits bufferPast for late samples while the next one begins: 10 minutes are 40 points more in U and A, 10 in B.
func TestPointsInMemory(t *testing.T) {
	p := valid(t, guide())
	open, peak := 0.0, 0.0
	for i, want := range []struct{ open, peak float64 }{{480, 520}, {960, 1000}, {240, 250}, {12, 12 + 1.0/6}} {
		n := p.Namespaces[i]
		if n.OpenPoints != want.open || math.Abs(n.PeakPoints-want.peak) > 1e-9 {
			t.Errorf("%s: %v points in the open block, %v at the peak; want %+v", n.Name, n.OpenPoints, n.PeakPoints, want)
		}
		open, peak = open+n.OpenPoints, peak+n.PeakPoints
	}
	if open != 480+960+240+12 {
		t.Errorf("%v points in memory", open)
	}
	// bufferPast of a block less a second, the longest there is: nearly twice the points.
	in := guide()
	for i := range in.Namespaces {
		in.Namespaces[i].BufferPastSeconds = in.Namespaces[i].BlockSeconds - 1
	}
	long := 0.0
	for _, n := range valid(t, in).Namespaces {
		long += n.PeakPoints
	}
	if long <= peak || long >= 2*open || long < 1.99*open {
		t.Errorf("with the longest bufferPast %v points, with 10m %v, in the open blocks %v", long, peak, open)
	}
	// What a node holds is that for each series of its shards: all of them, with as many nodes as replicas.
	a := p.Input.Assume
	near(t, "bytes of points", p.Memory.PointBytes, p.Input.Series*peak*a.PointMemoryBytes*a.HeapGrowth, 1)
	near(t, "bytes of series", p.Memory.SeriesBytes, p.Input.Series*4*a.SeriesMemoryBytes*a.HeapGrowth, 1)
}

// TestProductionExample: raw for 2 days and a point each 10 minutes for 30 with a sample every 30 s: 2 + 30/20 = 3.5 days of raw
// samples, "less than 4 days' worth". It takes more memory than raw samples alone, and pays: a month of raw samples takes far more.
func TestProductionExample(t *testing.T) {
	p := valid(t, production())
	days := (p.Namespaces[0].SampleSeconds + p.Namespaces[1].SampleSeconds) / day
	if math.Abs(days-3.5) > 1e-9 {
		t.Errorf("%v days of raw samples", days)
	}
	alone := production()
	alone.Namespaces = alone.Namespaces[:1]
	alone.Namespaces[0].RetentionSeconds = 4 * day
	q := valid(t, alone)
	if p.Memory.UsedBytes <= q.Memory.UsedBytes || p.Coordinator.UsedBytes <= q.Coordinator.UsedBytes || p.NodeCores <= q.NodeCores {
		t.Errorf("aggregation costs no memory or CPU: %+v, %+v", p.Memory, q.Memory)
	}
	if mine, theirs := p.Namespaces[0].PointBytes+p.Namespaces[1].PointBytes, q.Namespaces[0].PointBytes; mine >= theirs {
		t.Errorf("points of %s; those of 4 days of raw samples take %s", Bytes(mine), Bytes(theirs))
	}
	if !has(p, "aggregation_pays", "month") {
		t.Errorf("findings: %+v", p.Findings)
	}
}

// TestLaterExample: the guide's later example: U 1 week, A a point each 5 minutes for 4 weeks, B one an hour for 8: the
// aggregated ones add 4/20 + 8/240, about a quarter, to the raw samples.
func TestLaterExample(t *testing.T) {
	in := guide()
	in.Namespaces = []Namespace{
		{Name: "U", RetentionSeconds: 7 * day, BlockSeconds: 2 * hour, Share: 1},
		{Name: "A", ResolutionSeconds: 5 * minute, RetentionSeconds: 28 * day, BlockSeconds: 4 * hour, BufferPastSeconds: 10 * minute, Share: 1},
		{Name: "B", ResolutionSeconds: hour, RetentionSeconds: 56 * day, BlockSeconds: 12 * hour, BufferPastSeconds: 10 * minute, Share: 1},
	}
	p := valid(t, in)
	all := 0.0
	for _, n := range p.Namespaces {
		all += n.Points
	}
	near(t, "points beside those of U", all/p.Namespaces[0].Points, 1+4.0/20+8.0/240, 1e-12)
	near(t, "as the guide rounds", all/p.Namespaces[0].Points, 1.25, 0.02)
}

func has(p Plan, code, namespace string) bool {
	for _, f := range p.Findings {
		if f.Code == code && f.Args["namespace"] == namespace {
			return true
		}
	}
	return false
}
