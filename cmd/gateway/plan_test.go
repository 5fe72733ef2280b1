package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"m3gateway/internal/plan"
)

// cluster is a coordinator's admin API with recorded answers (M3 2e397f7f).
func cluster(t *testing.T, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		if r.Method != http.MethodGet || !ok {
			http.Error(w, `{"status":"error","error":"placement does not exist"}`, http.StatusNotFound)
			return
		}
		if target, ok := strings.CutPrefix(body, "-> "); ok {
			http.Redirect(w, r, target, http.StatusMovedPermanently)
			return
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func recorded(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../internal/m3/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const namespacesPath, placementPath = "/api/v1/services/m3db/namespace", "/api/v1/services/m3db/placement"

// planned runs gateway plan --json.
func planned(t *testing.T, args ...string) (p struct {
	plan.Plan
	WhatIf []plan.Variant `json:"what_if"`
}, stderr string) {
	t.Helper()
	code, out, errs := gateway(t, "", append([]string{"plan", "--json"}, args...)...)
	if code != 0 {
		t.Fatalf("exit status %d, stderr %s", code, errs)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return p, errs
}

// The example of the scaling guide, by flags: the table says its numbers.
func TestPlanTable(t *testing.T) {
	code, out, errs := gateway(t, "", "plan", "--shards", "60", "--churn", "0", "--namespace", "U,retention=7d,block=2h", "--namespace", "A,resolution=1s,retention=14d,block=4h",
		"--namespace", "B,resolution=1m,retention=28d,block=4h", "--namespace", "C,resolution=1h,retention=56d,block=12h", "--what-if", "nodes=6,shards=120", "--what-if", "drop=A")
	if code != 0 || errs != "" {
		t.Fatalf("exit status %d, stderr %s", code, errs)
	}
	golden(t, "plan", out)
	for _, want := range []string{"2.254", "35,280", "  520 ", "aggregation"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %s", want)
		}
	}
	assume := plan.DefaultAssumptions()
	for _, a := range assume.Table() {
		if !strings.Contains(out, "\n"+a.Key+" ") {
			t.Errorf("the table lacks the assumption %s", a.Key)
		}
	}
}

func TestPlanFlags(t *testing.T) {
	p, errs := planned(t, "--series", "2000000", "--scrape-interval", "30s", "--churn", "0.5", "--nodes", "6", "--replicas", "2", "--shards", "128", "--coordinators", "3",
		"--buffer-past-limits", "0s", "--disk", "500GiB", "--memory", "64Gi", "--coordinator-memory", "16GiB", "--namespace", "one,retention=1d,block=2h,buffer-past=5m",
		"--namespace", "two,resolution=5m,retention=1y,block=1d,share=0.25", "--assume", "bytes_per_point=2,label_bytes=1KiB", "--assume", "disk_fill=0.9")
	assume := plan.DefaultAssumptions()
	assume.BytesPerPoint, assume.LabelBytes, assume.DiskFill = 2, 1024, 0.9
	want := plan.Input{
		Series: 2e6, ScrapeSeconds: 30, ChurnPerDay: 0.5, Nodes: 6, Replicas: 2, Shards: 128, Coordinators: 3,
		NodeDiskBytes: 500 << 30, NodeMemoryBytes: 64 << 30, CoordinatorMemoryBytes: 16 << 30, Assume: assume,
		Namespaces: []plan.Namespace{
			{Name: "one", RetentionSeconds: 86400, BlockSeconds: 7200, BufferPastSeconds: 300, Share: 1},
			{Name: "two", ResolutionSeconds: 300, RetentionSeconds: 365 * 86400, BlockSeconds: 86400, BufferPastSeconds: 600, Share: 0.25},
		},
	}
	if got := fmt.Sprintf("%+v", p.Input); got != fmt.Sprintf("%+v", want) || errs != "" {
		t.Errorf("planned for\n%s\nwant\n%+v\nstderr %s", got, want, errs)
	}
	q, _ := planned(t)
	if got := fmt.Sprintf("%+v", q.Input); got != fmt.Sprintf("%+v", plan.Defaults()) {
		t.Errorf("without flags it plans for\n%s", got)
	}
}

// TestPlanFromCluster: namespaces, nodes, replicas, shards and the shards of the fullest node are the cluster's own.
func TestPlanFromCluster(t *testing.T) {
	url := cluster(t, map[string]string{
		namespacesPath: recorded(t, "namespaces_aggregated"),
		placementPath: `{"placement":{"instances":{"a":{"shards":[{"state":"AVAILABLE"},{"state":"AVAILABLE"},{"state":"LEAVING"}]},` +
			`"b":{"shards":[{"state":"AVAILABLE"}]},"c":{"shards":[{"state":"INITIALIZING"},{"state":"AVAILABLE"},{"state":"AVAILABLE"}]}},"replicaFactor":2,"numShards":3}}`,
	})
	p, errs := planned(t, "--from-cluster", url+"/", "--series", "300000", "--what-if", "nodes=6", "--what-if", "default.block=3h")
	in := p.Input
	if in.Nodes != 3 || in.Replicas != 2 || in.Shards != 3 || in.ShardsPerNode != 3 || in.Series != 3e5 || errs != "" {
		t.Errorf("planned for %+v, stderr %s", in, errs)
	}
	want := `[{agg_10s_30d 10 2.592e+06 43200 600 1} {agg_1m_1y 60 3.1536e+07 86400 600 1} {default 0 172800 3600 600 1}]`
	if got := fmt.Sprint(in.Namespaces); got != want {
		t.Errorf("namespaces %s; want %s", got, want)
	}
	if len(p.WhatIf) != 2 || p.WhatIf[0].Plan.ShardsPerNode != 1 || p.WhatIf[0].Plan.Input.Nodes != 6 || p.WhatIf[1].Plan.Input.Namespaces[2].BlockSeconds != 10800 ||
		p.WhatIf[1].Plan.ShardsPerNode != 3 || in.Namespaces[2].BlockSeconds != 3600 {
		t.Errorf("what if: %+v", p.WhatIf)
	}

	one := cluster(t, map[string]string{
		namespacesPath: strings.NewReplacer(`"resolutionNanos":"60000000000","downsampleOptions":{"all":true}`, `"resolutionNanos":"60000000000","downsampleOptions":{"all":false}`,
			`{"aggregations":[{"aggregated":true,"attributes":{"resolutionNanos":"10000000000","downsampleOptions":{"all":true}}}]}`, "null").Replace(recorded(t, "namespaces_aggregated")),
		placementPath: recorded(t, "placement"),
	})
	p, errs = planned(t, "--from-cluster", one)
	if in := p.Input; in.Nodes != 1 || in.ShardsPerNode != 16 || len(in.Namespaces) != 2 || in.Namespaces[0].Name != "agg_1m_1y" || in.Series != plan.Defaults().Series {
		t.Errorf("planned for %+v", in)
	}
	for _, want := range []string{`warning: namespace "agg_10s_30d" has no aggregationOptions`, `warning: mapping rules choose the series of namespace "agg_1m_1y"`, "does not say how many series are active; the plan is for 1,000,000 (--series)"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errs)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	namespaces := recorded(t, "namespaces_aggregated")
	empty := cluster(t, map[string]string{namespacesPath: namespaces})
	moved := cluster(t, map[string]string{namespacesPath: "-> " + empty + namespacesPath})
	other := cluster(t, map[string]string{namespacesPath: "<html>"})
	none := cluster(t, map[string]string{namespacesPath: recorded(t, "namespaces_none"), placementPath: recorded(t, "placement")})
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"series":            {[]string{"--series", "many"}, `--series: "many" is no number`},
		"no series":         {[]string{"--series", "0"}, "series is 0; it must be from 1"},
		"nodes":             {[]string{"--nodes", "2"}, "2 nodes cannot hold 3 replicas of a shard"},
		"part of a node":    {[]string{"--nodes", "2.5"}, `--nodes: "2.5" is no whole number`},
		"time":              {[]string{"--scrape-interval", "15"}, `--scrape-interval: "15" is no time; write one such as 15s`},
		"size":              {[]string{"--disk", "much"}, `--disk: "much" is no size; write one such as 100GiB`},
		"namespace":         {[]string{"--namespace", "retention=2d"}, `--namespace: "retention=2d" names no namespace`},
		"part":              {[]string{"--namespace", "a,retention=2d,blocks=2h"}, `namespace "a": blocks: a namespace has no "blocks"; it has retention, block, resolution, buffer-past, share`},
		"no block":          {[]string{"--namespace", "a,retention=2d"}, `namespace "a": retention and block are needed`},
		"no raw namespace":  {[]string{"--namespace", "a,resolution=1m,retention=2d,block=2h"}, "there are 0 raw namespaces"},
		"two of a name":     {[]string{"--namespace", "a,retention=2d,block=2h", "--namespace", "a,resolution=1m,retention=2d,block=2h"}, `namespace "a": each namespace needs a name of its own`},
		"bufferPast":        {[]string{"--namespace", "a,retention=2d,block=2h,buffer-past=2h"}, `namespace "a": bufferPast is 2h with blocks of 2h; M3 takes only less than a block`},
		"short retention":   {[]string{"--namespace", "a,retention=1h,block=2h"}, "the retention must be a block or more"},
		"share":             {[]string{"--namespace", "a,retention=1d,block=2h,share=2"}, "its share of the series is 2"},
		"assumption":        {[]string{"--assume", "bytes_per_points=2"}, `--assume: there is no "bytes_per_points" to set`},
		"share over 1":      {[]string{"--assume", "disk_fill=70"}, "assumption disk_fill is 70; it is a share, at most 1"},
		"nothing to assume": {[]string{"--assume", "label_bytes"}, `"label_bytes" changes nothing; write KEY=VALUE`},
		"what if":           {[]string{"--what-if", "nodes=1"}, "--what-if nodes=1: 1 node cannot hold 3 replicas"},
		"what if nothing":   {[]string{"--what-if", "drop=agg"}, `there is no namespace "agg" to drop; there are default, agg_10s_30d, agg_1m_1y`},
		"what if raw":       {[]string{"--what-if", "drop=default"}, "there are 0 raw namespaces"},
		"both to stdout":    {[]string{"--json", "--html", "-"}, "give --html a file"},
		"no directory":      {[]string{"--html", "none/plan.html"}, "open none/plan.html: no such file or directory"},
		"cluster and flags": {[]string{"--from-cluster", empty, "--nodes", "6"}, "for other ones use --what-if"},
		"no URL":            {[]string{"--from-cluster", "m3coordinator:7201"}, "--from-cluster: "},
		"nobody there":      {[]string{"--from-cluster", "http://127.0.0.1:1"}, "--from-cluster: "},
		"no placement":      {[]string{"--from-cluster", empty}, "has no placement yet; plan without --from-cluster"},
		"a redirect":        {[]string{"--from-cluster", moved}, "answered 301; is this an m3coordinator?"},
		"another server":    {[]string{"--from-cluster", other}, "decoding the namespace registry: "},
		"no namespaces":     {[]string{"--from-cluster", none}, "there are 0 raw namespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			code, out, errs := gateway(t, "", append([]string{"plan"}, c.args...)...)
			if code != 1 || out != "" || !strings.Contains(errs, c.want) || !strings.HasPrefix(errs, "gateway: ") && !strings.Contains(errs, "\ngateway: ") {
				t.Errorf("exit status %d, stdout %q, stderr %q; want 1 and %q", code, out, errs, c.want)
			}
		})
	}
}

func TestPlanPage(t *testing.T) {
	t.Chdir(t.TempDir())
	code, out, errs := gateway(t, "", "plan", "--html", "plan.html", "--series", "123456")
	page, err := os.ReadFile("plan.html")
	if code != 0 || errs != "" || err != nil || !strings.Contains(out, "123,456 series") || !strings.HasPrefix(string(page), "<!doctype html>") || !strings.Contains(string(page), `"series":123456`) {
		t.Errorf("exit status %d, stderr %q, %v, a page of %d bytes", code, errs, err, len(page))
	}
	if code, out, _ := gateway(t, "", "plan", "--html", "-", "--series", "123456"); code != 0 || out != string(page) {
		t.Errorf("exit status %d; to standard output another page is written", code)
	}
}
