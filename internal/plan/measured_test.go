package plan

import (
	"math"
	"testing"
)

// one is a cluster of one node with 16 shards, as the measurements of this file were made on (M3 2e397f7f).
func one(namespaces ...Namespace) Input {
	in := Defaults()
	in.Nodes, in.Replicas, in.Shards, in.Coordinators, in.ChurnPerDay, in.Namespaces = 1, 1, 16, 1, 0, namespaces
	return in
}

// TestFilesCounted: what was counted in the data directory and among the open files of a database node whose namespaces were just
// made, without a sample in them: filesets are there from the beginning, for the whole retention.
func TestFilesCounted(t *testing.T) {
	raw := Namespace{Name: "default", RetentionSeconds: hour, BlockSeconds: 2 * minute, BufferPastSeconds: minute, Share: 1}
	p := valid(t, one(raw))
	if p.Files.Files != 3360 || p.Files.Open != 960 {
		t.Errorf("an hour in blocks of 2m: %+v; counted were 3,360 files, 960 of them open", p.Files)
	}
	raw.RetentionSeconds, raw.BlockSeconds = 2*day, hour
	p = valid(t, one(raw, Namespace{Name: "a", ResolutionSeconds: 10, RetentionSeconds: day, BlockSeconds: 12 * hour, BufferPastSeconds: 10 * minute, Share: 1},
		Namespace{Name: "b", ResolutionSeconds: minute, RetentionSeconds: 2 * day, BlockSeconds: day, BufferPastSeconds: 10 * minute, Share: 1}))
	if p.Files.Files != 5824 || p.Files.Open != 1664 {
		t.Errorf("three namespaces: %+v; counted were 5,824 files, 1,664 of them open", p.Files)
	}
}

// TestSeriesMeasured: 600,000 series with names and values of 183 B, some 20 points each in a block of 30m. The flushed block had
// 464 B of index file, 8 B of summaries and bloom filters and 583 B of reverse index for each series; the process held 5.2 GiB.
func TestSeriesMeasured(t *testing.T) {
	in := one(Namespace{Name: "default", RetentionSeconds: hour, BlockSeconds: 30 * minute, BufferPastSeconds: 5 * minute, Share: 1})
	in.Series, in.ScrapeSeconds, in.Assume.LabelBytes, in.Assume.NodeCacheBytes = 600000, 90, 183, 0
	p := valid(t, in)
	stored := p.Namespaces[0].SeriesBytes / p.Namespaces[0].Blocks / in.Series
	if want := 464.0 + 8 + 583; math.Abs(stored-want) > want/50 {
		t.Errorf("a block stores %.0f B for a series; measured were %.0f", stored, want)
	}
	if p.Memory.UsedBytes < 0.75*5.2*gib || p.Memory.UsedBytes > 1.25*5.2*gib {
		t.Errorf("a node holds %s; measured were 5.2 GiB", Bytes(p.Memory.UsedBytes))
	}
}
