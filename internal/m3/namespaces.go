package m3

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// NamespacesPath is the route of an m3coordinator whose answer ParseNamespaces reads. It takes 10 s when the coordinator has
// lost its etcd, and is then answered from memory.
const NamespacesPath = "/api/v1/services/m3db/namespace"

// Namespaces is what a cluster's namespace registry says of times.
type Namespaces struct {
	// BufferPast and BufferFuture are how far from a database node's clock a sample of the raw namespace may lie.
	BufferPast, BufferFuture time.Duration
	// Aggregated are the other namespaces that hold aggregates, whether they are in use yet or not, sorted.
	Aggregated []string
}

// ParseNamespaces reads the answer to GET NamespacesPath. raw is the id of the unaggregated namespace. It fails if the
// registry does not hold that with both limits: no limit is ever assumed. body is not kept.
func ParseNamespaces(body []byte, raw string) (Namespaces, error) {
	type namespace struct {
		Retention *struct {
			// Nanoseconds as decimal text: protobuf's JSON writes 64-bit integers so.
			BufferPast   *string `json:"bufferPastNanos"`
			BufferFuture *string `json:"bufferFutureNanos"`
		} `json:"retentionOptions"`
		Aggregation *struct {
			Aggregations []struct {
				Aggregated bool `json:"aggregated"`
			} `json:"aggregations"`
		} `json:"aggregationOptions"`
	}
	var answer struct {
		Registry *struct {
			Namespaces map[string]namespace `json:"namespaces"`
		} `json:"registry"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Namespaces{}, fmt.Errorf("decoding the namespace registry: %w; is this an m3coordinator? (upstream.kind)", err)
	}
	if answer.Registry == nil {
		return Namespaces{}, errors.New("the answer holds no namespace registry; is this an m3coordinator? (upstream.kind)")
	}
	all := answer.Registry.Namespaces
	own, ok := all[raw]
	if !ok {
		return Namespaces{}, fmt.Errorf("namespace %q is not in the registry, which has %q; create it, or mend upstream.namespace", raw, slices.Sorted(maps.Keys(all)))
	}
	var n Namespaces
	for id, ns := range all {
		if ns.Aggregation == nil {
			continue
		}
		for _, a := range ns.Aggregation.Aggregations {
			if a.Aggregated && id == raw {
				return Namespaces{}, fmt.Errorf("namespace %q holds aggregates; name the unaggregated one in upstream.namespace", raw)
			}
			if a.Aggregated && !slices.Contains(n.Aggregated, id) {
				n.Aggregated = append(n.Aggregated, id)
			}
		}
	}
	slices.Sort(n.Aggregated)
	if own.Retention == nil {
		return Namespaces{}, fmt.Errorf("namespace %q has no retentionOptions in the registry; write limits.window as durations", raw)
	}
	var err error
	if n.BufferPast, err = nanos("bufferPastNanos", own.Retention.BufferPast); err == nil {
		n.BufferFuture, err = nanos("bufferFutureNanos", own.Retention.BufferFuture)
	}
	if err != nil {
		return Namespaces{}, fmt.Errorf("namespace %q: %w; write limits.window as durations", raw, err)
	}
	return n, nil
}

// nanos reads a limit of the registry. 0 is taken for a fault: a window without one of its sides would refuse samples for good.
func nanos(name string, text *string) (time.Duration, error) {
	if text == nil {
		return 0, fmt.Errorf("the registry does not say %s", name)
	}
	n, err := strconv.ParseInt(*text, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("the registry says %s %q, which is no number of nanoseconds above 0", name, *text)
	}
	return time.Duration(n), nil
}
