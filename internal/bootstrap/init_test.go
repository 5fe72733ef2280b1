package bootstrap

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// clock ticks a minute at each look.
func clock() func() time.Time {
	now := time.Unix(1_800_000_000, 0)
	return func() time.Time {
		now = now.Add(time.Minute)
		return now
	}
}

// wanted is a cluster of pods, before the coordinators at urls.
func wanted(pods int, urls ...string) *Config {
	c := Defaults()
	c.Placement.StatefulSet = StatefulSet{Name: "m3dbnode", Replicas: pods}
	c.Coordinators.URLs = urls
	return &c
}

// initialize runs Init with time-outs of ten looks and returns what it printed.
func initialize(t *testing.T, c *Config, limits PastLimits, apply bool) (string, error) {
	t.Helper()
	c.Check(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	var out strings.Builder
	err := Init(t.Context(), c, limits, Options{Apply: apply, Timeout: 10 * time.Minute, Poll: time.Millisecond, Out: &out, Now: clock(),
		Lookup: func(_ context.Context, host string) ([]string, error) { return nil, errors.New("no such host " + host) }})
	return out.String(), err
}

func must(t *testing.T, out string, err error) string {
	t.Helper()
	if err != nil {
		t.Fatalf("%v after\n%s", err, out)
	}
	return out
}

func TestInit(t *testing.T) {
	store := newContract(3)
	c := wanted(3, store.start(t), store.start(t))
	out, err := initialize(t, c, PastLimits{{0, 5 * time.Minute}}, false)
	must(t, out, err)
	want := `added the placement: m3dbnode-0, m3dbnode-1, m3dbnode-2
created namespace default: raw samples, for 48h, in blocks of 1h
created namespace agg_10s_30d: a point each 10s, of every series, for 720h, in blocks of 12h
created namespace agg_1m_1y: a point each 1m, of every series, for 8760h, in blocks of 24h
waiting for the database nodes to have namespace default (1m0s of 10m0s): it answered 500: namepace default not yet ready, err: M3DB session not yet initialized
waiting for the database nodes to have namespace default (2m0s of 10m0s): it answered 500: namepace default not yet ready, err: M3DB session not yet initialized
waited 3m0s for the database nodes to have namespace default
namespace default is ready
namespace agg_10s_30d is ready
namespace agg_1m_1y is ready
done: the cluster is as it is wanted, and ready
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	const ns = "POST /api/v1/services/m3db/namespace"
	if w := []string{"POST /api/v1/services/m3db/placement/init", ns, ns, ns, ns + "/ready", ns + "/ready", ns + "/ready", ns + "/ready", ns + "/ready"}; !slices.Equal(store.changes, w) {
		t.Errorf("asked %q; want %q", store.changes, w)
	}
	store.changes = nil
	if out, err = initialize(t, c, nil, true); err != nil || out != "no change: the cluster is as it is wanted, and ready\n" || store.changes != nil {
		t.Errorf("again: %q, %v, asked %q", out, err, store.changes)
	}
	i := store.placement["instances"].(map[string]any)["m3dbnode-2"].(map[string]any)
	for key, want := range map[string]any{"endpoint": "m3dbnode-2.m3dbnode:9000", "isolationGroup": "group-2", "zone": "embedded", "weight": 100.0, "hostname": "m3dbnode-2.m3dbnode", "port": 9000.0} {
		if i[key] != want {
			t.Errorf("%s is %v; want %v", key, i[key], want)
		}
	}
}

// TestDrift: what differs is shown and left, changed with apply, and left with apply, too, where M3 cannot change it.
func TestDrift(t *testing.T) {
	for name, x := range map[string]struct {
		edit  func(store *contract, c *Config)
		fixed bool
		want  string
	}{
		"retention": {func(_ *contract, c *Config) {
			n := c.Namespaces["default"]
			n.Retention = 72 * time.Hour
			c.Namespaces["default"] = n
		}, false, "namespace default\n  - retention: 48h\n  + retention: 72h\n"},
		"no aggregationOptions": {func(store *contract, _ *Config) { store.namespaces["default"]["aggregationOptions"] = nil }, false,
			"namespace default\n  - aggregation: not said, so that coordinators pass it over\n  + aggregation: raw samples\n"},
		"resolution": {func(_ *contract, c *Config) {
			n := c.Namespaces["agg_1m_1y"]
			n.Resolution = 2 * time.Minute
			c.Namespaces["agg_1m_1y"] = n
		}, false, "namespace agg_1m_1y\n  - aggregation: a point each 1m, of every series\n  + aggregation: a point each 2m, of every series\n"},
		"more nodes": {func(_ *contract, c *Config) { c.Placement.StatefulSet.Replicas = 6 }, false,
			"instance m3dbnode-3\n  + endpoint: m3dbnode-3.m3dbnode:9000\ninstance m3dbnode-4\n  + endpoint: m3dbnode-4.m3dbnode:9000\ninstance m3dbnode-5\n  + endpoint: m3dbnode-5.m3dbnode:9000\n"},
		"buffers": {func(_ *contract, c *Config) {
			n := c.Namespaces["default"]
			n.BufferPast, n.BufferFuture = 20*time.Minute, 5*time.Minute
			c.Namespaces["default"] = n
		}, true, "namespace default\n  - buffer_past: 10m\n  + buffer_past: 20m   (cannot be changed: create a namespace with another name, or put what it has into the file)\n" +
			"  - buffer_future: 10m\n  + buffer_future: 5m   (cannot be changed: create a namespace with another name, or put what it has into the file)\n"},
		"block size": {func(_ *contract, c *Config) {
			n := c.Namespaces["default"]
			n.BlockSize = 2 * time.Hour
			c.Namespaces["default"] = n
		}, true, "namespace default\n  - block_size: 1h\n  + block_size: 2h   (cannot be changed: create a namespace with another name, or put what it has into the file)\n"},
		"shards, retention": {func(_ *contract, c *Config) {
			c.Placement.Shards = 128
			n := c.Namespaces["default"]
			n.Retention = 72 * time.Hour
			c.Namespaces["default"] = n
		}, true, "placement\n  - shards: 64\n  + shards: 128   (cannot be changed: a placement keeps it for life; put the real number into the file)\nnamespace default\n  - retention: 48h\n  + retention: 72h\n"},
		"endpoint": {func(_ *contract, c *Config) { c.Placement.StatefulSet.Port = 9100 }, true,
			"instance m3dbnode-0\n  - endpoint: m3dbnode-0.m3dbnode:9000\n  + endpoint: m3dbnode-0.m3dbnode:9100   (cannot be changed: replace the node by one with another id, or put what it has into the file)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newContract(0)
			c := wanted(3, store.start(t))
			c.Namespaces = DefaultNamespaces()
			out, err := initialize(t, c, nil, false)
			must(t, out, err)
			store.changes = nil
			x.edit(store, c)
			before := string(encoded([]any{store.placement, store.namespaces}))
			out, err = initialize(t, c, nil, false)
			if d := (*Drift)(nil); !errors.As(err, &d) || !strings.HasPrefix(out, x.want) || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%v after\n%swant\n%s", err, out, x.want)
			}
			if string(encoded([]any{store.placement, store.namespaces})) != before || store.changes != nil {
				t.Errorf("without apply it asked %q", store.changes)
			}
			out, err = initialize(t, c, nil, true)
			if x.fixed {
				if d := (*Drift)(nil); !errors.As(err, &d) || store.changes != nil || !strings.Contains(err.Error(), "M3 cannot change some") {
					t.Errorf("with apply: %v, asked %q", err, store.changes)
				}
				return
			}
			if must(t, out, err); !strings.HasPrefix(out, x.want) {
				t.Errorf("with apply it printed\n%s", out)
			}
			store.changes = nil
			if out, err = initialize(t, c, nil, false); err != nil || !strings.HasPrefix(out, "no change") || store.changes != nil {
				t.Errorf("afterwards: %v, asked %q, printed\n%s", err, store.changes, out)
			}
		})
	}
}

// TestNothingIsDeleted: what the cluster has and the file does not stays.
func TestNothingIsDeleted(t *testing.T) {
	store := newContract(0)
	c := wanted(4, store.start(t))
	out, err := initialize(t, c, nil, false)
	must(t, out, err)
	c.Namespaces = map[string]Namespace{"default": DefaultNamespaces()["default"]}
	c.Placement.StatefulSet.Replicas = 3
	store.changes = nil
	out, err = initialize(t, c, nil, true)
	want := "note: instance m3dbnode-3 is in the placement and not in the file; it is left alone\nnote: namespace agg_10s_30d is in the cluster and not in the file; it is left alone\n" +
		"note: namespace agg_1m_1y is in the cluster and not in the file; it is left alone\nno change: the cluster is as it is wanted, and ready\n"
	if err != nil || out != want || store.changes != nil {
		t.Errorf("%v, asked %q, printed\n%s", err, store.changes, out)
	}
}

// TestTimeouts: each says what it waited for and where to look.
func TestTimeouts(t *testing.T) {
	t.Run("no coordinator", func(t *testing.T) {
		out, err := initialize(t, wanted(3, "http://127.0.0.1:1"), nil, false)
		if err == nil || !strings.HasPrefix(err.Error(), "timed out after 10m0s, waiting for a coordinator that answers: http://127.0.0.1:1: ") ||
			!strings.Contains(err.Error(), "look at the coordinator http://127.0.0.1:1") || strings.Count(out, "waiting for") < 5 {
			t.Errorf("%v after\n%s", err, out)
		}
	})
	t.Run("database nodes", func(t *testing.T) {
		store := newContract(1000)
		_, err := initialize(t, wanted(3, store.start(t)), nil, false)
		if err == nil || !strings.Contains(err.Error(), "waiting for the database nodes to have namespace default: it answered 500: ") ||
			!strings.HasSuffix(err.Error(), "look at the database node m3dbnode-0 (on Kubernetes: kubectl logs m3dbnode-0)") {
			t.Error(err)
		}
	})
	t.Run("shards", func(t *testing.T) {
		store := newContract(0)
		c := wanted(3, store.start(t))
		out, err := initialize(t, c, nil, false)
		must(t, out, err)
		store.slow = 1000
		shards := store.placement["instances"].(map[string]any)["m3dbnode-1"].(map[string]any)["shards"].([]any)
		shards[3].(map[string]any)["state"] = "INITIALIZING"
		_, err = initialize(t, c, nil, false)
		if err == nil || !strings.Contains(err.Error(), "all shards to be available: m3dbnode-1 has 1 of 64 to bootstrap") || !strings.Contains(err.Error(), "kubectl logs m3dbnode-1)") {
			t.Error(err)
		}
	})
	t.Run("one of two coordinators", func(t *testing.T) {
		store := newContract(0)
		c := wanted(3, store.start(t), "http://m3coordinator:7201")
		_, err := initialize(t, c, nil, false)
		if err == nil || !strings.Contains(err.Error(), "the coordinators to be ready for every namespace: http://m3coordinator:7201: its name has no address (no such host m3coordinator)") {
			t.Error(err)
		}
	})
}

// TestAddresses: each address of a name is a coordinator by itself.
func TestAddresses(t *testing.T) {
	lookup := func(_ context.Context, host string) ([]string, error) {
		return map[string][]string{"m3coordinator": {"10.0.0.2", "10.0.0.1"}, "six": {"fd00::1"}}[host], nil
	}
	for base, want := range map[string]string{
		"http://m3coordinator:7201":  "http://10.0.0.1:7201 http://10.0.0.2:7201",
		"http://six:7201":            "http://[fd00::1]:7201",
		"http://six":                 "http://[fd00::1]",
		"http://127.0.0.1:7201/":     "http://127.0.0.1:7201",
		"https://m3coordinator:7201": "https://m3coordinator:7201",
	} {
		var got []string
		for _, a := range addresses(t.Context(), base, lookup) {
			got = append(got, a.base)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q; want %s", base, got, want)
		}
	}
	if a := addresses(t.Context(), "http://none:1", lookup); len(a) != 1 || a[0].err == nil {
		t.Errorf("%+v", a)
	}
}

// TestRealCoordinator runs against the coordinators of M3_COORDINATOR_URLS, whose cluster of one database node (m3db_node1 at
// 127.0.0.1:19000) may be empty or already set up: it is set up afterwards, and stays as it is.
func TestRealCoordinator(t *testing.T) {
	urls := os.Getenv("M3_COORDINATOR_URLS")
	if urls == "" {
		t.Skip("M3_COORDINATOR_URLS names no coordinators of a real M3 cluster that may be set up")
	}
	c := Defaults()
	c.Coordinators.URLs = strings.Split(urls, ",")
	c.Placement = Placement{Shards: 16, ReplicationFactor: 1, Instances: []Instance{{ID: "m3db_node1", Endpoint: "127.0.0.1:19000", IsolationGroup: "local"}}}
	for i := range 2 {
		var out strings.Builder
		err := Init(t.Context(), &c, PastLimits{{0, 5 * time.Minute}}, Options{Timeout: 2 * time.Minute, Out: &out, Now: time.Now})
		t.Logf("run %d:\n%s", i+1, out.String())
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 && !strings.Contains(out.String(), "no change") {
			t.Error("the second run changed something")
		}
	}
	s, err := Look(t.Context(), c.Coordinators.URLs, nil, nil)
	if err != nil || !s.OK || len(s.Namespaces) != 3 || len(s.Coordinators) != len(c.Coordinators.URLs) {
		t.Errorf("status %+v, %v", s, err)
	}
	var drift *Drift
	c.Namespaces = DefaultNamespaces()
	n := c.Namespaces["default"]
	n.Retention, n.BufferPast = 24*time.Hour, 20*time.Minute
	c.Namespaces["default"] = n
	var out strings.Builder
	if err := Init(t.Context(), &c, nil, Options{Apply: true, Timeout: time.Minute, Out: &out, Now: time.Now}); !errors.As(err, &drift) || len(drift.Differences) != 2 {
		t.Errorf("drift: %v\n%s", err, out.String())
	}
}
