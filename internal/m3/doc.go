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
	// Protocol of remote write to the store: auto (default), 1.0 or 2.0. Auto is 1.0 for kind m3; a store of kind prometheus gets
	// what the sender speaks, and 1.0 once it has shown that it does not take 2.0.
	Protocol string `yaml:"protocol"`
	// UTF8Names says what becomes of a series with a name outside [a-zA-Z_][a-zA-Z0-9_]*: reject (default) drops it and tells
	// the sender, escape brings the name to those characters by Prometheus' U__ scheme. Kind m3 only.
	UTF8Names string `yaml:"utf8_names"`
	// NativeHistograms, which the store does not have: drop (default), or classic, which makes of each the series of a classic
	// histogram. Kind m3 only.
	NativeHistograms string `yaml:"native_histograms"`
}

// Values of the fields of Config.
const (
	Accept            = "accept" // StoredNotAggregated
	Refuse            = "refuse"
	CompressionSnappy = "snappy"
	CompressionNone   = "none"
	ProtocolAuto      = "auto"
	Protocol1         = "1.0"
	Protocol2         = "2.0"
	NamesReject       = "reject"
	NamesEscape       = "escape"
	HistogramsDrop    = "drop"
	HistogramsClassic = "classic"
)
