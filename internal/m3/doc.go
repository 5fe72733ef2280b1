// Package m3 holds what is the store's own: the routes of each kind, the headers set and never forwarded, and what its health answers mean.
package m3

// Kind is the kind of the upstream: m3 (m3coordinator) or prometheus.
type Kind string

const (
	KindM3         Kind = "m3"
	KindPrometheus Kind = "prometheus"
)

// Config is the store's part of the `upstream:` section.
type Config struct {
	// Kind is m3 (default) or prometheus.
	Kind Kind `yaml:"kind"`
	// Namespace is the id of the raw, unaggregated namespace that must be ready. Default "default". Kind m3 only.
	Namespace string `yaml:"namespace"`
	// StoredNotAggregated says what a sender is told when the raw namespace took every sample but the downsampler found some
	// too late for its aggregated copies: accept (default), since the samples are stored, or refuse. Kind m3 only.
	StoredNotAggregated string `yaml:"stored_not_aggregated"`
	// Compression of forwarded writes: snappy (default), or none, which is snappy that only stores: less CPU here and in the
	// store for some ten times the bytes between them.
	Compression string `yaml:"compression"`
}

// Values of Config.StoredNotAggregated and Config.Compression.
const (
	Accept            = "accept"
	Refuse            = "refuse"
	CompressionSnappy = "snappy"
	CompressionNone   = "none"
)
