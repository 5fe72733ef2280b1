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

// Namespace is one namespace of a cluster's registry. Its JSON has nanoseconds.
type Namespace struct {
	ID         string        `json:"id"`
	Retention  time.Duration `json:"retention_nanos"`
	BlockSize  time.Duration `json:"block_size_nanos"`
	BufferPast time.Duration `json:"buffer_past_nanos"`
	// BufferFuture and IndexBlock are 0 if the registry does not say.
	BufferFuture time.Duration `json:"buffer_future_nanos"`
	IndexBlock   time.Duration `json:"index_block_size_nanos"`
	// Aggregated namespaces hold a point each Resolution; All: of every series, not only of those that mapping rules choose.
	Aggregated bool          `json:"aggregated"`
	Resolution time.Duration `json:"resolution_nanos"`
	All        bool          `json:"all"`
	// Ignored: without aggregationOptions, coordinators that find their namespaces by themselves pass it over.
	Ignored bool `json:"ignored"`
	// Ready: such coordinators use it from then on.
	Ready bool `json:"ready"`
}

// registered is a namespace as the registry has it. Numbers are nanoseconds as decimal text: protobuf's JSON writes 64-bit
// integers so.
type registered struct {
	Retention *struct {
		Retention    *string `json:"retentionPeriodNanos"`
		BlockSize    *string `json:"blockSizeNanos"`
		BufferPast   *string `json:"bufferPastNanos"`
		BufferFuture *string `json:"bufferFutureNanos"`
	} `json:"retentionOptions"`
	Index struct {
		BlockSize *string `json:"blockSizeNanos"`
	} `json:"indexOptions"`
	Staging struct {
		Status string `json:"status"`
	} `json:"stagingState"`
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
	n := Namespace{ID: id, Ignored: r.Aggregation == nil, Ready: r.Staging.Status == "READY"}
	var errs [6]error
	n.Retention, errs[0] = nanos("retentionPeriodNanos", r.Retention.Retention)
	n.BlockSize, errs[1] = nanos("blockSizeNanos", r.Retention.BlockSize)
	n.BufferPast, errs[2] = nanos("bufferPastNanos", r.Retention.BufferPast)
	if text := r.Retention.BufferFuture; text != nil && *text != "0" {
		n.BufferFuture, errs[4] = nanos("bufferFutureNanos", text)
	}
	if text := r.Index.BlockSize; text != nil && *text != "0" {
		n.IndexBlock, errs[5] = nanos("indexOptions.blockSizeNanos", text)
	}
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
	Shards    int        `json:"shards"`
	Replicas  int        `json:"replication_factor"`
	Version   int        `json:"version"`
	Instances []Instance `json:"instances"` // sorted by id
}

// Instance is a database node.
type Instance struct {
	ID     string `json:"id"`
	Shards int    `json:"shards"` // those that are leaving it not counted
	// Initializing of Shards are not bootstrapped yet; Leaving are still here, and not in Shards.
	Initializing   int    `json:"initializing"`
	Leaving        int    `json:"leaving"`
	Endpoint       string `json:"endpoint"`
	IsolationGroup string `json:"isolation_group"`
	Zone           string `json:"zone"`
	Weight         int    `json:"weight"`
}

// ParsePlacement reads the answer to GET PlacementPath. body is not kept.
func ParsePlacement(body []byte) (Placement, error) {
	var answer struct {
		Placement *struct {
			Instances map[string]struct {
				Endpoint string `json:"endpoint"`
				Group    string `json:"isolationGroup"`
				Zone     string `json:"zone"`
				Weight   int    `json:"weight"`
				Shards   []struct {
					State string `json:"state"`
				} `json:"shards"`
			} `json:"instances"`
			Replicas int `json:"replicaFactor"`
			Shards   int `json:"numShards"`
		} `json:"placement"`
		Version int `json:"version"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Placement{}, fmt.Errorf("decoding the placement: %w; is this an m3coordinator?", err)
	}
	in := answer.Placement
	if in == nil || len(in.Instances) == 0 || in.Replicas < 1 || in.Shards < 1 {
		return Placement{}, errors.New("the answer holds no placement with instances, replicas and shards; is this an m3coordinator with a placement?")
	}
	out := Placement{Shards: in.Shards, Replicas: in.Replicas, Version: answer.Version}
	for id, i := range in.Instances {
		n := Instance{ID: id, Endpoint: i.Endpoint, IsolationGroup: i.Group, Zone: i.Zone, Weight: i.Weight}
		for _, s := range i.Shards {
			switch s.State {
			case "LEAVING":
				n.Leaving++
				continue
			case "INITIALIZING":
				n.Initializing++
			}
			n.Shards++
		}
		out.Instances = append(out.Instances, n)
	}
	slices.SortFunc(out.Instances, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
