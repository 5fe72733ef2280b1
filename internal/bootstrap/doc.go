// Package bootstrap makes an M3 cluster what a file describes, in order and with waits, says how the two differ, and never deletes.
package bootstrap

import "time"

// Config is a whole cluster.yaml: the cluster as it is wanted.
type Config struct {
	Coordinators Coordinators `yaml:"coordinators"`
	Placement    Placement    `yaml:"placement"`
	// Namespaces by id. Without any, those of DefaultNamespaces. Exactly one has no resolution: the raw one.
	Namespaces map[string]Namespace `yaml:"namespaces"`
}

// Coordinators are where the cluster is administered.
type Coordinators struct {
	// URLs of m3coordinators. The first that answers is given the changes; each must be ready at the end, at every address of
	// its host's name.
	URLs []string `yaml:"urls"`
	// ConfigFile is the coordinators' own configuration, of which only downsample.bufferPastLimits is read, to check it against
	// the aggregated namespaces' bufferPast. Without it that pair is not checked.
	ConfigFile string `yaml:"config_file" path:"true"`
}

// Placement says which database nodes there are. Either Instances or StatefulSet names them.
type Placement struct {
	// Shards cannot be changed later. Default 64.
	Shards int `yaml:"shards"`
	// ReplicationFactor cannot be changed later. Default 3.
	ReplicationFactor int         `yaml:"replication_factor"`
	Instances         []Instance  `yaml:"instances"`
	StatefulSet       StatefulSet `yaml:"stateful_set"`
}

// Instance is one database node.
type Instance struct {
	// ID is the node's own hostID.
	ID string `yaml:"id"`
	// Endpoint is host:port of the node's listenAddress, as coordinators and nodes reach it.
	Endpoint string `yaml:"endpoint"`
	// IsolationGroup: no two replicas of a shard are in the same one.
	IsolationGroup string `yaml:"isolation_group"`
	// Zone is that of the nodes' discovery. Default embedded.
	Zone string `yaml:"zone"`
	// Weight is the node's share of the shards, beside the others'. Default 100.
	Weight int `yaml:"weight"`
}

// StatefulSet derives an instance from each pod: its name is the node's hostID (resolver: hostname).
type StatefulSet struct {
	Name string `yaml:"name"`
	// Service is the headless service that gives the pods their names. Default: Name.
	Service string `yaml:"service"`
	// Replicas is the number of pods.
	Replicas int `yaml:"replicas"`
	// Port of the nodes' listenAddress. Default 9000.
	Port int `yaml:"port"`
	// IsolationGroups is the number of groups, over which the pods are dealt by their ordinal. Default: the replication factor, so
	// that each group holds a whole copy and pods are added in multiples of it.
	IsolationGroups int `yaml:"isolation_groups"`
}

// Namespace is how the data of one namespace are kept.
type Namespace struct {
	Retention time.Duration `yaml:"retention"`
	BlockSize time.Duration `yaml:"block_size"`
	// BufferPast and BufferFuture are how far from a node's clock a sample may lie. Default 10m each.
	BufferPast   time.Duration `yaml:"buffer_past"`
	BufferFuture time.Duration `yaml:"buffer_future"`
	// Resolution is that of an aggregated namespace, of which each series gets a point. Default 0: raw samples.
	Resolution time.Duration `yaml:"resolution"`
}

// Raw says that the namespace holds samples as they came.
func (n Namespace) Raw() bool { return n.Resolution == 0 }

const (
	defaultShards   = 64
	defaultReplicas = 3
	defaultWeight   = 100
	defaultZone     = "embedded"
	defaultPort     = 9000
	defaultBuffer   = 10 * time.Minute
)

// Defaults is the configuration of an empty file.
func Defaults() Config {
	return Config{Placement: Placement{Shards: defaultShards, ReplicationFactor: defaultReplicas}}
}

// DefaultNamespaces are 48 hours raw, 30 days of a point each 10 seconds and a year of a point a minute.
func DefaultNamespaces() map[string]Namespace {
	const day = 24 * time.Hour
	return map[string]Namespace{
		"default":     {Retention: 2 * day, BlockSize: time.Hour, BufferPast: defaultBuffer, BufferFuture: defaultBuffer},
		"agg_10s_30d": {Retention: 30 * day, BlockSize: day / 2, BufferPast: defaultBuffer, BufferFuture: defaultBuffer, Resolution: 10 * time.Second},
		"agg_1m_1y":   {Retention: 365 * day, BlockSize: day, BufferPast: defaultBuffer, BufferFuture: defaultBuffer, Resolution: time.Minute},
	}
}
