package m3

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseRegistry(t *testing.T) {
	all, raw := recorded(t, "namespaces_aggregated"), recorded(t, "namespaces_raw")
	edit := func(body, old, now string) string {
		if !strings.Contains(body, old) {
			t.Fatalf("%s is not in the recording", old)
		}
		return strings.Replace(body, old, now, 1)
	}
	const h, d = time.Hour, 24 * time.Hour
	const ten = 10 * time.Minute
	own := Namespace{ID: "default", Retention: 48 * h, BlockSize: h, BufferPast: ten, BufferFuture: ten, IndexBlock: h, Ready: true}
	fresh := own // recorded before it was marked ready
	fresh.Ready = false
	ignored := fresh
	ignored.Ignored = true
	some := Namespace{ID: "agg_1m_1y", Retention: 365 * d, BlockSize: d, BufferPast: ten, BufferFuture: ten, IndexBlock: d, Ready: true, Aggregated: true, Resolution: time.Minute}
	whole := some
	whole.All = true
	fine := Namespace{ID: "agg_10s_30d", Retention: 30 * d, BlockSize: 12 * h, BufferPast: ten, BufferFuture: ten, IndexBlock: 12 * h, Ready: true, Aggregated: true, Resolution: 10 * time.Second, All: true}
	for name, c := range map[string]struct {
		body string
		want []Namespace
		err  string
	}{
		"one":                   {raw, []Namespace{fresh}, ""},
		"three":                 {all, []Namespace{fine, whole, own}, ""},
		"mapping rules":         {edit(all, `"resolutionNanos":"60000000000","downsampleOptions":{"all":true}`, `"resolutionNanos":"60000000000","downsampleOptions":null`), []Namespace{fine, some, own}, ""},
		"none":                  {recorded(t, "namespaces_none"), nil, ""},
		"no aggregationOptions": {edit(raw, `{"aggregations":[{"aggregated":false,"attributes":null}]}`, "null"), []Namespace{ignored}, ""},
		"no retentionOptions":   {edit(raw, `"retentionOptions"`, `"other"`), nil, `namespace "default": the registry has no retentionOptions`},
		"no block size":         {edit(raw, `"blockSizeNanos":"3600000000000",`, ``), nil, `namespace "default": the registry does not say blockSizeNanos`},
		"bad retention":         {edit(raw, `"172800000000000"`, `"2d"`), nil, `retentionPeriodNanos "2d", which is no number of nanoseconds above 0`},
		"no resolution":         {edit(all, `"resolutionNanos":"10000000000",`, ``), nil, `namespace "agg_10s_30d": the registry does not say resolutionNanos`},
		"no attributes":         {edit(raw, `{"aggregated":false,"attributes":null}`, `{"aggregated":true,"attributes":null}`), nil, `namespace "default": it is aggregated, and the registry has no attributes`},
		"not JSON":              {"<html>", nil, "decoding the namespace registry: "},
		"another answer":        {`{"status":"error"}`, nil, "the answer holds no namespace registry; is this an m3coordinator?"},
	} {
		got, err := ParseRegistry([]byte(c.body))
		if c.err == "" && (err != nil || !reflect.DeepEqual(got, c.want)) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v; want %q", name, err, c.err)
		}
	}
}

func TestParsePlacement(t *testing.T) {
	one := recorded(t, "placement")
	node := func(shards, coming, leaving int) Instance {
		return Instance{ID: "m3db_node1", Shards: shards, Initializing: coming, Leaving: leaving, Endpoint: "127.0.0.1:19000", IsolationGroup: "local", Zone: "embedded", Weight: 100}
	}
	for name, c := range map[string]struct {
		body string
		want Placement
		err  string
	}{
		"recorded":      {one, Placement{16, 1, 2, []Instance{node(16, 0, 0)}}, ""},
		"a shard left":  {strings.Replace(one, `"AVAILABLE"`, `"LEAVING"`, 1), Placement{16, 1, 2, []Instance{node(15, 0, 1)}}, ""},
		"a shard comes": {strings.Replace(one, `"AVAILABLE"`, `"INITIALIZING"`, 1), Placement{16, 1, 2, []Instance{node(16, 1, 0)}}, ""},
		"two instances": {`{"placement":{"instances":{"b":{"shards":[{"state":"INITIALIZING"}]},"a":{"shards":[]}},"replicaFactor":3,"numShards":64}}`, Placement{64, 3, 0, []Instance{{ID: "a"}, {ID: "b", Shards: 1, Initializing: 1}}}, ""},
		"none":          {`{"status":"error","error":"placement does not exist"}`, Placement{}, "holds no placement with instances, replicas and shards"},
		"empty":         {`{"placement":{"instances":{},"replicaFactor":3,"numShards":64}}`, Placement{}, "holds no placement"},
		"not JSON":      {"404 page not found", Placement{}, "decoding the placement: "},
	} {
		got, err := ParsePlacement([]byte(c.body))
		if c.err == "" && (err != nil || !reflect.DeepEqual(got, c.want)) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v; want %q", name, err, c.err)
		}
	}
}
