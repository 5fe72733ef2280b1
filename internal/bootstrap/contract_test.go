package bootstrap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// contract answers as a real m3coordinator with its database nodes did when testdata/contract.json was recorded;
// TestContract holds it to that.
type contract struct {
	mu         sync.Mutex
	placement  map[string]any // nil: none
	version    int
	namespaces map[string]map[string]any
	// slow is the number of questions after which the database nodes have what they were given.
	slow, asked int
	changes     []string // what was asked other than by GET
}

func newContract(slow int) *contract {
	return &contract{namespaces: map[string]map[string]any{}, slow: slow}
}

func (c *contract) start(t *testing.T) string {
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return s.URL
}

func (c *contract) booted() bool { return c.asked >= c.slow }

func (c *contract) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var in map[string]any
	json.Unmarshal(body, &in)
	if r.Method != http.MethodGet {
		c.changes = append(c.changes, r.Method+" "+r.URL.Path)
	}
	status, answer := c.answer(r.Method+" "+r.URL.Path, in)
	if c.booted() {
		c.bootstrap()
	}
	if text, ok := answer.(string); ok {
		answer = map[string]any{"status": "error", "error": text}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer)
}

const servicePath = "/api/v1/services/m3db"

func (c *contract) answer(route string, in map[string]any) (int, any) {
	name, _ := in["name"].(string)
	switch route {
	case "GET " + servicePath + "/placement":
		if c.placement == nil {
			return 404, "placement does not exist"
		}
		return 200, map[string]any{"placement": c.placement, "version": c.version}
	case "POST " + servicePath + "/placement/init":
		if c.placement != nil {
			return 409, "key already has a value"
		}
		c.placement = map[string]any{
			"instances": map[string]any{}, "replicaFactor": in["replication_factor"], "numShards": in["num_shards"], "isSharded": true, "cutoverTime": "0",
			"isMirrored": false, "maxShardSetId": 0, "isSubclustered": false, "instancesPerSubcluster": 0,
		}
		c.add(in)
		c.version = 0
		return 200, map[string]any{"placement": c.placement, "version": c.version}
	case "POST " + servicePath + "/placement":
		var late []string
		for id, instance := range c.placement["instances"].(map[string]any) {
			if bytes.Contains(encoded(instance), []byte("INITIALIZING")) {
				late = append(late, id)
			}
		}
		if len(late) > 0 {
			return 400, fmt.Sprintf("instances do not have all shards available: %v", late)
		}
		c.add(in)
		return 200, map[string]any{"placement": c.placement, "version": c.version}
	case "GET " + servicePath + "/namespace":
		return 200, c.registry()
	case "POST " + servicePath + "/namespace":
		if c.namespaces[name] != nil {
			return 409, "namespace with the same ID already exists"
		}
		c.namespaces[name] = created(in["options"].(map[string]any))
		return 200, c.registry()
	case "PUT " + servicePath + "/namespace":
		return c.update(name, in["options"].(map[string]any))
	case "POST " + servicePath + "/namespace/ready":
		c.asked++
		switch n := c.namespaces[name]; {
		case n == nil:
			return 400, "namespace " + name + " not found"
		case !c.booted():
			return 500, "namepace " + name + " not yet ready, err: M3DB session not yet initialized"
		default:
			n["stagingState"] = map[string]any{"status": "READY"}
			return 200, map[string]any{"ready": true}
		}
	case "GET /ready":
		return 200, c.ready()
	}
	return 404, "no such route: " + route
}

// add gives the new instances all shards, in the state of a node that has not bootstrapped.
func (c *contract) add(in map[string]any) {
	for _, x := range in["instances"].([]any) {
		i := x.(map[string]any)
		var shards []any
		for id := range int(c.placement["numShards"].(float64)) {
			shards = append(shards, map[string]any{"id": id, "state": "INITIALIZING", "sourceId": "", "cutoverNanos": "0", "cutoffNanos": "0", "redirectToShardId": nil})
		}
		c.placement["instances"].(map[string]any)[i["id"].(string)] = map[string]any{
			"id": i["id"], "isolationGroup": i["isolation_group"], "zone": i["zone"], "weight": i["weight"], "endpoint": i["endpoint"], "shards": shards,
			"shardSetId": 0, "hostname": i["hostname"], "port": i["port"], "metadata": map[string]any{"debugPort": 0}, "subclusterId": 0,
		}
	}
}

// bootstrap is what database nodes do when they have the placement and a namespace.
func (c *contract) bootstrap() {
	if c.placement == nil || len(c.namespaces) == 0 {
		return
	}
	for _, i := range c.placement["instances"].(map[string]any) {
		for _, s := range i.(map[string]any)["shards"].([]any) {
			s.(map[string]any)["state"] = "AVAILABLE"
		}
	}
	c.version = 2
}

func (c *contract) registry() any {
	return map[string]any{"registry": map[string]any{"namespaces": c.namespaces}}
}

func created(o map[string]any) map[string]any {
	r, index := o["retentionOptions"].(map[string]any), o["indexOptions"].(map[string]any)
	n := map[string]any{
		"retentionOptions": map[string]any{
			"retentionPeriodNanos": inNanos(r["retentionPeriodDuration"]), "blockSizeNanos": inNanos(r["blockSizeDuration"]),
			"bufferFutureNanos": inNanos(r["bufferFutureDuration"]), "bufferPastNanos": inNanos(r["bufferPastDuration"]),
			"blockDataExpiry": false, "blockDataExpiryAfterNotAccessPeriodNanos": "0", "futureRetentionPeriodNanos": "0",
		},
		"indexOptions": map[string]any{"enabled": index["enabled"], "blockSizeNanos": inNanos(index["blockSizeDuration"])},
		"stagingState": map[string]any{"status": "UNKNOWN"}, "schemaOptions": nil, "runtimeOptions": nil, "extendedOptions": nil,
		"coldWritesEnabled": false, "cacheBlocksOnRetrieve": false, "aggregationOptions": aggregated(o["aggregationOptions"]),
	}
	for _, key := range []string{"bootstrapEnabled", "flushEnabled", "writesToCommitLog", "cleanupEnabled", "snapshotEnabled", "repairEnabled"} {
		n[key] = o[key] == true
	}
	return n
}

// aggregated is the registry's form of the aggregationOptions of a request.
func aggregated(o any) any {
	if o == nil {
		return nil
	}
	var list []any
	for _, x := range o.(map[string]any)["aggregations"].([]any) {
		a := x.(map[string]any)
		attributes, ok := a["attributes"].(map[string]any)
		if !ok {
			list = append(list, map[string]any{"aggregated": a["aggregated"], "attributes": nil})
			continue
		}
		list = append(list, map[string]any{"aggregated": a["aggregated"], "attributes": map[string]any{
			"resolutionNanos": inNanos(attributes["resolutionDuration"]), "downsampleOptions": attributes["downsampleOptions"],
		}})
	}
	return map[string]any{"aggregations": list}
}

func inNanos(text any) string {
	d, err := time.ParseDuration(text.(string))
	if err != nil {
		panic(err)
	}
	return strconv.FormatInt(d.Nanoseconds(), 10)
}

func (c *contract) update(name string, o map[string]any) (int, any) {
	r, _ := o["retentionOptions"].(map[string]any)
	for key, field := range map[string]string{"blockSizeDuration": "BlockSizeNanos", "bufferPastDuration": "BufferPastNanos", "bufferFutureDuration": "BufferFutureNanos"} {
		if r[key] != nil {
			return 400, "unable to validate update request: RetentionOptions." + field + ": namespace option field is immutable"
		}
	}
	n := c.namespaces[name]
	if n == nil {
		return 404, "namespace not found: err=" + name
	}
	if p := r["retentionPeriodDuration"]; p != nil {
		n["retentionOptions"].(map[string]any)["retentionPeriodNanos"] = inNanos(p)
	}
	if a := o["aggregationOptions"]; a != nil {
		n["aggregationOptions"] = aggregated(a)
	}
	return 200, c.registry()
}

// ready lists the namespaces that coordinators use: those with aggregationOptions that are marked so.
func (c *contract) ready() any {
	list := []any{}
	ids := slices.Collect(maps.Keys(c.namespaces))
	slices.SortFunc(ids, func(a, b string) int { return resolution(c.namespaces[a]) - resolution(c.namespaces[b]) })
	for _, id := range ids {
		n := c.namespaces[id]
		if n["aggregationOptions"] == nil || n["stagingState"].(map[string]any)["status"] != "READY" {
			continue
		}
		kind := "unaggregated"
		if resolution(n) > 0 {
			kind = "aggregated"
		}
		retention, _ := strconv.ParseInt(n["retentionOptions"].(map[string]any)["retentionPeriodNanos"].(string), 10, 64)
		list = append(list, map[string]any{"id": id, "attributes": map[string]any{
			"metricsType": kind, "retention": time.Duration(retention).String(), "resolution": time.Duration(resolution(n)).String(),
		}})
	}
	if len(list) == 0 {
		return map[string]any{}
	}
	return map[string]any{"readyReads": list, "readyWrites": list}
}

func resolution(n map[string]any) int {
	for _, a := range n["aggregationOptions"].(map[string]any)["aggregations"].([]any) {
		if attributes, ok := a.(map[string]any)["attributes"].(map[string]any); ok {
			r, _ := strconv.Atoi(attributes["resolutionNanos"].(string))
			return r
		}
	}
	return 0
}

func encoded(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// TestContract: the stand-in answers every recorded request as the real coordinator did.
func TestContract(t *testing.T) {
	data, err := os.ReadFile("testdata/contract.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded []struct {
		Name, Method, Path string
		Bootstrapped       bool
		Request, Answer    any
		Status             int
	}
	if err := json.Unmarshal(data, &recorded); err != nil || len(recorded) < 20 {
		t.Fatalf("%d exchanges (%v)", len(recorded), err)
	}
	c := newContract(1000)
	url := c.start(t)
	for _, x := range recorded {
		if x.Bootstrapped {
			c.slow = 0
			continue
		}
		req, err := http.NewRequest(x.Method, url+x.Path, bytes.NewReader(encoded(x.Request)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		err = json.NewDecoder(resp.Body).Decode(&got)
		resp.Body.Close()
		if err != nil || resp.StatusCode != x.Status || !reflect.DeepEqual(got, x.Answer) {
			t.Errorf("%s: %d %s (%v); recorded %d %s", x.Name, resp.StatusCode, encoded(got), err, x.Status, encoded(x.Answer))
		}
	}
}
