package plan

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestAssumptionsAreAllThere: every field of Assumptions is in the table, once, with its JSON name, a unit and words.
func TestAssumptionsAreAllThere(t *testing.T) {
	a := DefaultAssumptions()
	table := a.Table()
	typ := reflect.TypeFor[Assumptions]()
	names := map[string]bool{}
	for f := range typ.Fields() {
		names[f.Tag.Get("json")] = true
	}
	for _, e := range table {
		if !names[e.Key] {
			t.Errorf("%s is in the table twice, or is no field", e.Key)
		}
		delete(names, e.Key)
		if e.Text == "" || e.Source == "" || !strings.HasSuffix(e.Text, ".") || !map[string]bool{"bytes": true, "seconds": true, "share": true, "factor": true, "count": true, "rate": true}[e.Unit] {
			t.Errorf("%+v lacks words", e)
		}
		before := e.Value()
		e.Set(before + 1)
		v := reflect.ValueOf(a)
		changed := 0
		for i := range v.NumField() {
			if v.Field(i).Float() != reflect.ValueOf(DefaultAssumptions()).Field(i).Float() {
				changed++
				if got := typ.Field(i).Tag.Get("json"); got != e.Key {
					t.Errorf("setting %s changes %s", e.Key, got)
				}
			}
		}
		if changed != 1 {
			t.Errorf("setting %s changes %d fields", e.Key, changed)
		}
		e.Set(before)
	}
	for name := range names {
		t.Errorf("%s is not in the table", name)
	}
}

// TestEveryInputMatters: whatever can be set changes something in the plan. What changes nothing is not needed.
func TestEveryInputMatters(t *testing.T) {
	base := guide()
	base.NodeDiskBytes, base.NodeMemoryBytes, base.CoordinatorMemoryBytes, base.ChurnPerDay = gib, gib, gib, 0.1
	base.Nodes = 5
	show := func(in Input) string {
		p := Compute(in)
		p.Input = Input{}
		return fmt.Sprintf("%+v", p)
	}
	before := show(base)
	changes := []string{"series=2000000", "scrape-interval=30s", "churn=0.5", "nodes=6", "replicas=2", "shards=61", "coordinators=4", "buffer-past-limits=1m",
		"disk=2GiB", "memory=2GiB", "coordinator-memory=2GiB", "drop=C", "add=D;resolution=5m;retention=90d;block=1d"}
	for _, part := range []string{"retention=63d", "block=6h", "resolution=90s", "buffer-past=20m", "share=0.5"} {
		changes = append(changes, "B."+part)
	}
	for _, a := range base.Assume.Table() {
		value := strconv.FormatFloat(a.Value()*0.5, 'f', -1, 64)
		if a.Unit == "seconds" {
			value = Duration(a.Value() * 2)
		}
		if a.Key == "open_file_limit" {
			value = "1000"
		}
		changes = append(changes, a.Key+"="+value)
	}
	for _, change := range changes {
		in := base.Clone()
		if err := in.Change(change); err != nil {
			t.Fatal(err)
		}
		if err := in.Validate(); err != nil {
			t.Fatalf("%s: %v", change, err)
		}
		if show(in) == before {
			t.Errorf("%s changes nothing", change)
		}
		if show(base) != before {
			t.Fatalf("%s changes the input it was made from", change)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]float64{"15s": 15, "1h30m": 5400, "30d": 30 * day, "1y": 365 * day, "2w": 14 * day, "250ms": 0.25, "0": 0, "0s": 0} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "15", "s", "1.5h", "-1h", "1h ", "1H", "9999999999999s", "1h30"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) is %v", text, got)
		}
	}
	for text, want := range map[string]float64{"0": 0, "1024": 1024, "1.5KiB": 1536, "100GiB": 100 * gib, "100Gi": 100 * gib, "2 TiB": 2048 * gib, "10B": 10} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("ParseBytes(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "1..5GiB", "64G", "-1", "1PiB", "1e9", "NaN"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) is %v", text, got)
		}
	}
	for _, text := range []string{"15s", "1h30m", "30d", "1y", "250ms"} {
		if v, err := ParseDuration(text); err != nil || Duration(v) != text {
			t.Errorf("%q comes back as %q (%v)", text, Duration(v), err)
		}
	}
}
