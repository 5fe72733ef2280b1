package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"m3gateway/internal/bootstrap"
)

func TestClusterGood(t *testing.T) {
	want := bootstrap.PastLimits{{Resolution: 0, BufferPast: 5 * time.Minute}}
	c, limits, err := LoadCluster("testdata/cluster/full.good.yaml")
	if err != nil || !reflect.DeepEqual(limits, want) {
		t.Fatalf("%v, limits %v", err, limits)
	}
	if id, past := c.RawNamespace(); id != "default" || past != 10*time.Minute || c.Coordinators.ConfigFile != "testdata/cluster/m3coordinator.yml" {
		t.Errorf("raw namespace %s, %v; file %s", id, past, c.Coordinators.ConfigFile)
	}
	if c, limits, err = LoadCluster("testdata/cluster/statefulset.good.yaml"); err != nil || limits != nil || c.Placement.Shards != 64 {
		t.Errorf("%+v, %v, %v", c, limits, err)
	}
	// A coordinator's file without limits means M3's own.
	read := func(string) ([]byte, error) { return []byte("listenAddress: 0.0.0.0:7201\n"), nil }
	text := "coordinators: {config_file: c.yml}\nplacement: {stateful_set: {name: m3dbnode, replicas: 3}}\n"
	if _, limits, err = ParseCluster("cluster.yaml", []byte(text), testEnv, read); err != nil || !reflect.DeepEqual(limits, bootstrap.DefaultPastLimits()) {
		t.Errorf("%v, %v", limits, err)
	}
}

// TestClusterFull: full.good.yaml and statefulset.good.yaml show every key there is.
func TestClusterFull(t *testing.T) {
	missing := map[string]bool{}
	keysOf(reflect.TypeFor[bootstrap.Config](), "", missing)
	if len(missing) < 20 {
		t.Fatalf("only %d keys are known", len(missing))
	}
	for _, file := range glob(t, "testdata/cluster/*.good.yaml", 2) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		root, p := document(data, "")
		if p != nil {
			t.Fatal(p)
		}
		mark(root, reflect.TypeFor[bootstrap.Config](), "", missing)
	}
	for key := range missing {
		t.Errorf("no file sets %s", key)
	}
}

// Each x.bad.yaml must fail with exactly the problems of x.want.
func TestClusterBad(t *testing.T) {
	for _, file := range append(glob(t, "testdata/cluster/*.bad.yaml", 4), "testdata/cluster/nowhere.bad.yaml") {
		c, _, err := LoadCluster(file)
		if err == nil || c != nil {
			t.Errorf("%s: %+v, %v", filepath.Base(file), c, err)
			continue
		}
		wantProblems(t, file, err)
	}
}
