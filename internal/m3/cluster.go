package m3

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// PlacementPath is the route of an m3coordinator whose answer ParsePlacement reads. Without a placement it answers 404.
const PlacementPath = "/api/v1/services/m3db/placement"

// Namespace is one namespace of a cluster's registry.
type Namespace struct {
	ID                               string
	Retention, BlockSize, BufferPast time.Duration
	// Aggregated namespaces hold a point each Resolution; All: of every series, not only of those that mapping rules choose.
	Aggregated bool
	Resolution time.Duration
	All        bool
	// Ignored: without aggregationOptions, coordinators that find their namespaces by themselves pass it over.
	Ignored bool
}

// registered is a namespace as the registry has it. Numbers are nanoseconds as decimal text: protobuf's JSON writes 64-bit
// integers so.
type registered struct {
	Retention *struct {
		Retention  *string `json:"retentionPeriodNanos"`
		BlockSize  *string `json:"blockSizeNanos"`
		BufferPast *string `json:"bufferPastNanos"`
	} `json:"retentionOptions"`
	Aggregation *struct {
		Aggregations []struct {
			Aggregated bool `json:"aggregated"`
			Attributes *struct {
				Resolution *string `json:"resolutionNanos"`
				Downsample *struct {
					All bool `json:"all"`
				} `json:"downsampleOptions"`
			} `json:"attributes"`
		} `json:"aggregations"`
	} `json:"aggregationOptions"`
}

// ParseRegistry reads the answer to GET NamespacesPath: every namespace, sorted by id. body is not kept.
func ParseRegistry(body []byte) ([]Namespace, error) {
	var answer struct {
		Registry *struct {
			Namespaces map[string]registered `json:"namespaces"`
		} `json:"registry"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decoding the namespace registry: %w; is this an m3coordinator?", err)
	}
	if answer.Registry == nil {
		return nil, errors.New("the answer holds no namespace registry; is this an m3coordinator?")
	}
	var out []Namespace
	for _, id := range slices.Sorted(maps.Keys(answer.Registry.Namespaces)) {
		n, err := answer.Registry.Namespaces[id].namespace(id)
		if err != nil {
			return nil, fmt.Errorf("namespace %q: %w", id, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func (r registered) namespace(id string) (Namespace, error) {
	if r.Retention == nil {
		return Namespace{}, errors.New("the registry has no retentionOptions")
	}
	n := Namespace{ID: id, Ignored: r.Aggregation == nil}
	var errs [4]error
	n.Retention, errs[0] = nanos("retentionPeriodNanos", r.Retention.Retention)
	n.BlockSize, errs[1] = nanos("blockSizeNanos", r.Retention.BlockSize)
	n.BufferPast, errs[2] = nanos("bufferPastNanos", r.Retention.BufferPast)
	if r.Aggregation != nil {
		for _, a := range r.Aggregation.Aggregations {
			if !a.Aggregated {
				continue
			}
			if a.Attributes == nil {
				return Namespace{}, errors.New("it is aggregated, and the registry has no attributes")
			}
			n.Aggregated, n.All = true, a.Attributes.Downsample != nil && a.Attributes.Downsample.All
			n.Resolution, errs[3] = nanos("resolutionNanos", a.Attributes.Resolution)
		}
	}
	return n, errors.Join(errs[:]...)
}

// Placement says which database nodes hold which shards.
type Placement struct {
	Shards, Replicas int
	Instances        []Instance // sorted by id
}

// Instance is a database node with the number of its shards, those that are leaving it not counted.
type Instance struct {
	ID     string
	Shards int
}

// ParsePlacement reads the answer to GET PlacementPath. body is not kept.
func ParsePlacement(body []byte) (Placement, error) {
	var answer struct {
		Placement *struct {
			Instances map[string]struct {
				Shards []struct {
					State string `json:"state"`
				} `json:"shards"`
			} `json:"instances"`
			Replicas int `json:"replicaFactor"`
			Shards   int `json:"numShards"`
		} `json:"placement"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Placement{}, fmt.Errorf("decoding the placement: %w; is this an m3coordinator?", err)
	}
	in := answer.Placement
	if in == nil || len(in.Instances) == 0 || in.Replicas < 1 || in.Shards < 1 {
		return Placement{}, errors.New("the answer holds no placement with instances, replicas and shards; is this an m3coordinator with a placement?")
	}
	out := Placement{Shards: in.Shards, Replicas: in.Replicas}
	for id, i := range in.Instances {
		n := Instance{ID: id}
		for _, s := range i.Shards {
			if s.State != "LEAVING" {
				n.Shards++
			}
		}
		out.Instances = append(out.Instances, n)
	}
	slices.SortFunc(out.Instances, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
