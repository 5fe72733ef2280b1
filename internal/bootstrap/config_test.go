package bootstrap

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"m3gateway/internal/m3"
)

func TestPair(t *testing.T) {
	five, ten := PastLimits{{0, 5 * time.Minute}}, PastLimits{{0, 10 * time.Minute}}
	table := DefaultPastLimits()
	for resolution, want := range map[time.Duration]time.Duration{
		time.Second: 15 * time.Second, 10 * time.Second: 15 * time.Second, 30 * time.Second: 30 * time.Second, time.Minute: time.Minute, time.Hour: 2 * time.Minute,
	} {
		if got := table.For(resolution); got != want {
			t.Errorf("default limit for %v: %v; want %v", resolution, got, want)
		}
	}
	c := Defaults()
	if warnings, err := c.CheckPair(five); err != nil || len(warnings) != 0 {
		t.Errorf("5m under 10m: %q, %v", warnings, err)
	}
	if warnings, err := c.CheckPair(table); err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "refuse to aggregate samples over 15s late") {
		t.Errorf("M3's own limits: %q, %v", warnings, err)
	}
	_, err := c.CheckPair(ten)
	if err == nil || strings.Count(err.Error(), "would be lost without an error") != 2 || !strings.Contains(err.Error(), "lower the limit below 9m, or create the namespace with a buffer_past over 11m") {
		t.Errorf("10m under 10m: %v", err)
	}
	for limit, ok := range map[time.Duration]bool{8 * time.Minute: true, 9 * time.Minute: false, 12 * time.Minute: false} {
		if err := pairError("n", 10*time.Second, limit, 10*time.Minute); (err == nil) != ok {
			t.Errorf("%v under 10m: %v", limit, err)
		}
	}
	if pairError("n", 5*time.Minute, 5*time.Minute, 10*time.Minute) == nil {
		t.Error("5m under 10m with points each 5m passes")
	}
	// A namespace that only the cluster has is checked, too.
	other := []m3.Namespace{{ID: "old", Aggregated: true, Resolution: time.Minute, BufferPast: 5 * time.Minute}}
	if c.checkRegistered(five, other) == nil || c.checkRegistered(PastLimits{{0, time.Minute}}, other) != nil {
		t.Error("a namespace of the cluster alone is not checked")
	}
	store := newContract(0)
	if out, err := initialize(t, wanted(3, store.start(t)), ten, true); err == nil || store.changes != nil {
		t.Errorf("init with a bad pair: %v, asked %q\n%s", err, store.changes, out)
	}
}

func TestCheck(t *testing.T) {
	node := Instance{ID: "a", Endpoint: "a:9000", IsolationGroup: "g"}
	for name, x := range map[string]struct {
		edit func(c *Config)
		want string // "" for none, else "field: part of the problem"
	}{
		"defaults":          {func(*Config) {}, ""},
		"a path in the URL": {func(c *Config) { c.Coordinators.URLs = []string{"http://h:1/api"} }, "coordinators.urls[0]: is no coordinator's address"},
		"a password":        {func(c *Config) { c.Coordinators.URLs = []string{"http://a:b@h:1"} }, "coordinators.urls[0]: is no coordinator's address"},
		"no nodes":          {func(c *Config) { c.Placement.StatefulSet = StatefulSet{} }, "placement: names no database nodes"},
		"both":              {func(c *Config) { c.Placement.Instances = []Instance{node} }, "placement.stateful_set: names the instances, and so does"},
		"shards":            {func(c *Config) { c.Placement.Shards = 0 }, "placement.shards: 0 shards"},
		"two pods":          {func(c *Config) { c.Placement.StatefulSet.Replicas = 2 }, "placement: has 2 isolation groups for 3 replicas"},
		"no pods":           {func(c *Config) { c.Placement.StatefulSet.Replicas = 0 }, "placement.stateful_set.replicas: 0 is no number of pods"},
		"twice": {func(c *Config) {
			c.Placement = Placement{Shards: 1, ReplicationFactor: 1, Instances: []Instance{node, node}}
		}, `placement.instances[1].id: "a" is there twice`},
		"no port": {func(c *Config) {
			c.Placement = Placement{Shards: 1, ReplicationFactor: 1, Instances: []Instance{{ID: "a", Endpoint: "a", IsolationGroup: "g"}}}
		}, `placement.instances[0].endpoint: "a" is no address of a database node`},
		"no group": {func(c *Config) {
			c.Placement = Placement{Shards: 1, ReplicationFactor: 1, Instances: []Instance{{ID: "a", Endpoint: "a:1"}}}
		}, "placement.instances[0].isolation_group: is missing"},
		"two raw":  {func(c *Config) { c.Namespaces["more"] = Namespace{Retention: time.Hour, BlockSize: time.Hour} }, `namespaces: 2 of them have no resolution (["default" "more"])`},
		"no block": {func(c *Config) { c.Namespaces["a"] = Namespace{Retention: time.Hour, Resolution: time.Second} }, "namespaces.a.block_size: is missing"},
		"small":    {func(c *Config) { edit(c, func(n *Namespace) { n.Retention = time.Minute }) }, "namespaces.default.retention: 1m0s is less than one block"},
		"buffer":   {func(c *Config) { edit(c, func(n *Namespace) { n.BufferPast = time.Hour }) }, "namespaces.default.buffer_past: 1h0m0s is not between"},
		"resolution": {func(c *Config) {
			c.Namespaces["a"] = Namespace{Retention: time.Hour, BlockSize: time.Hour, Resolution: -1}
		}, "namespaces.a.resolution: -1ns is no resolution"},
		"the same":    {func(c *Config) { c.Namespaces["zz"] = c.Namespaces["agg_1m_1y"] }, "namespaces.zz: has the resolution and the retention of agg_1m_1y"},
		"name":        {func(c *Config) { c.Namespaces["a/b"] = c.Namespaces["agg_1m_1y"]; delete(c.Namespaces, "agg_1m_1y") }, `namespaces.a/b: "a/b" is no name`},
		"replication": {func(c *Config) { c.Placement.ReplicationFactor = 0 }, "placement.replication_factor: 0 is no replication factor"},
	} {
		c := wanted(3)
		c.Namespaces = maps.Clone(DefaultNamespaces())
		x.edit(c)
		var got []string
		c.Check(func(field, problem string) { got = append(got, field+": "+problem) })
		if x.want == "" && len(got) > 0 || x.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, x.want) }) {
			t.Errorf("%s: %q; want %q", name, got, x.want)
		}
	}
}

func edit(c *Config, f func(*Namespace)) {
	n := c.Namespaces["default"]
	f(&n)
	c.Namespaces["default"] = n
}

func TestStatus(t *testing.T) {
	store := newContract(0)
	url := store.start(t)
	look := func(limits PastLimits) (string, *Status) {
		t.Helper()
		s, err := Look(t.Context(), []string{"http://127.0.0.1:1", url}, limits, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := s.WriteTable(&out); err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(out.String(), url, "URL"), s
	}
	if out, s := look(nil); s.OK || !strings.Contains(out, "\nNo placement\n") || !strings.Contains(out, "problem: there is no placement; gateway m3 init makes one") ||
		!strings.Contains(out, "it knows no namespace") || !strings.Contains(out, "0 namespaces hold raw samples") {
		t.Errorf("empty:\n%s", out)
	}
	out, err := initialize(t, wanted(3, url), nil, false)
	must(t, out, err)
	s, err := Look(t.Context(), []string{url}, PastLimits{{0, 5 * time.Minute}}, nil)
	if err != nil || !s.OK {
		t.Fatalf("%+v, %v", s, err)
	}
	var b strings.Builder
	if err := s.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := `COORDINATOR  READY
URL          for all namespaces

Placement: 64 shards, replication factor 3, version 2
INSTANCE    ENDPOINT                  ISOLATION GROUP  WEIGHT  AVAILABLE  INITIALIZING  LEAVING
m3dbnode-0  m3dbnode-0.m3dbnode:9000  group-0          100     64         0             0
m3dbnode-1  m3dbnode-1.m3dbnode:9000  group-1          100     64         0             0
m3dbnode-2  m3dbnode-2.m3dbnode:9000  group-2          100     64         0             0

NAMESPACE    STATE  RETENTION  BLOCK  HOLDS                              SAMPLES TAKEN              AGGREGATED FROM
default      ready  48h        1h     raw samples                        from 10m ago to 10m ahead  -
agg_10s_30d  ready  720h       12h    a point each 10s, of every series  from 10m ago to 10m ahead  samples from 5m ago to 1m ahead
agg_1m_1y    ready  8760h      24h    a point each 1m, of every series   from 10m ago to 10m ahead  samples from 5m ago to 1m ahead

All is well.
`
	spaces := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if got := strings.ReplaceAll(b.String(), url, "URL"); spaces(got) != spaces(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	store.namespaces["agg_1m_1y"]["stagingState"] = map[string]any{"status": "INITIALIZING"}
	out, s = look(PastLimits{{0, 10 * time.Minute}})
	for _, part := range []string{"NOT READY", "problem: namespace agg_1m_1y is not marked ready", "would be lost without an error", "http://127.0.0.1:1: ", `namespace "agg_1m_1y" is not ready for writes`} {
		if s.OK || !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
}
