package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// coordinator answers GET as a cluster with the placement and the namespaces that internal/m3 has recorded, and refuses the rest.
func coordinator(t *testing.T) string {
	t.Helper()
	answers := map[string]string{}
	for path, file := range map[string]string{"/placement": "placement.json", "/namespace": "namespaces_aggregated.json"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "internal", "m3", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		answers["/api/v1/services/m3db"+path] = string(b)
	}
	list := `[{"id":"default"},{"id":"agg_10s_30d"},{"id":"agg_1m_1y"}]`
	answers["/ready"] = `{"readyReads":` + list + `,"readyWrites":` + list + `}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok || r.Method != http.MethodGet {
			t.Errorf("asked %s %s", r.Method, r.URL.Path)
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(answer))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestM3: exit status and output of init and status.
func TestM3(t *testing.T) {
	url := coordinator(t)
	t.Chdir(t.TempDir())
	const placement = "placement: {shards: 16, replication_factor: 1, instances: [{id: m3db_node1, endpoint: '127.0.0.1:19000', isolation_group: local}]}\n"
	write(t, "m3coordinator.yml", "downsample: {bufferPastLimits: [{resolution: 0s, bufferPast: 5m}]}\n")
	write(t, "cluster.yaml", "coordinators: {urls: ['"+url+"'], config_file: m3coordinator.yml}\n"+placement)
	write(t, "other.yaml", placement+"namespaces: {default: {retention: 24h, block_size: 1h}}\n")
	write(t, "lost.yml", "downsample: {bufferPastLimits: [{resolution: 0s, bufferPast: 10m}]}\n")
	write(t, "lost.yaml", "coordinators: {urls: ['"+url+"'], config_file: lost.yml}\n"+placement)
	write(t, "bad.yaml", "placement: {shard: 1}\n")
	for name, c := range map[string]struct {
		args     []string
		code     int
		out, err string
	}{
		"nothing to do":  {[]string{"init"}, 0, "no change: ", ""},
		"drift":          {[]string{"init", "--cluster", "other.yaml", "--url", url}, 3, "  - retention: 48h\n  + retention: 24h\n", "gateway: the cluster differs from what is wanted in 1 point; nothing was changed"},
		"a bad pair":     {[]string{"init", "--cluster", "lost.yaml"}, 1, "", "its points would be lost without an error"},
		"no coordinator": {[]string{"init", "--cluster", "other.yaml"}, 1, "", "no coordinator is named"},
		"time-out":       {[]string{"init", "--url", "http://127.0.0.1:1", "--timeout", "1ms"}, 1, "", "timed out after"},
		"a bad file":     {[]string{"init", "--cluster", "bad.yaml"}, 1, "", "bad.yaml:1:13: unknown key \"shard\" in placement; did you mean \"shards\"?"},
		"no file":        {[]string{"init", "--cluster", "nowhere.yaml"}, 1, "", "give the file's path with --cluster"},
		"status":         {[]string{"status", "--cluster", "cluster.yaml"}, 0, "samples from 5m ago to 1m ahead\n\nAll is well.\n", ""},
		"status by URL":  {[]string{"status", "--url", url}, 0, "All is well.", ""},
		"status as JSON": {[]string{"status", "--url", url, "--json"}, 0, `"ok": true`, ""},
		"status, pair":   {[]string{"status", "--cluster", "lost.yaml"}, 1, "problem: namespace agg_10s_30d: the coordinators aggregate", "gateway: the cluster is not well"},
		"status, no URL": {[]string{"status"}, 1, "", "no coordinator is named; give --url"},
		"a bad URL":      {[]string{"status", "--url", "coordinator"}, 1, "", "coordinator is no coordinator's address"},
		"no command":     {nil, 2, "", "expected one of"},
	} {
		code, out, errs := gateway(t, "", append([]string{"m3"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) || (c.err == "") != (errs == "") {
			t.Errorf("%s: exit status %d, stderr %q, stdout\n%s", name, code, errs, out)
		}
	}
}

// TestCheckCluster: check sees the coordinators' file, and that the gateway's window is no wider than the raw namespace's.
func TestCheckCluster(t *testing.T) {
	t.Chdir(t.TempDir())
	const set = "placement: {stateful_set: {name: m3dbnode, replicas: 3}}\n"
	write(t, "m3coordinator.yml", "downsample: {bufferPastLimits: [{resolution: 0s, bufferPast: 5m}]}\n")
	write(t, "lost.yml", "downsample: {bufferPastLimits: [{resolution: 0s, bufferPast: 10m}]}\n")
	write(t, "own.yml", "listenAddress: 0.0.0.0:7201\n")
	for file, text := range map[string]string{
		"good.yaml": "coordinators: {config_file: m3coordinator.yml}\n" + set, "lost.yaml": "coordinators: {config_file: lost.yml}\n" + set,
		"own.yaml": "coordinators: {config_file: own.yml}\n" + set, "unknown.yaml": set,
		"narrow.yaml": "coordinators: {config_file: m3coordinator.yml}\n" + set + "namespaces: {default: {retention: 48h, block_size: 1h, buffer_past: 5m}}\n",
	} {
		write(t, file, text)
	}
	for file, want := range map[string]string{
		"good.yaml": "", "lost.yaml": "lower the limit below 9m", "own.yaml": "refuse to aggregate samples over 15s late",
		"unknown.yaml": "coordinators.config_file is not set", "narrow.yaml": "limits.window.past is 10m0s, and namespace default takes nothing older than 5m0s",
	} {
		warnings, err := checkCluster(file, 10*time.Minute)
		got := strings.Join(warnings, "\n")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, %v; want %q", file, warnings, err, want)
		}
	}
}
