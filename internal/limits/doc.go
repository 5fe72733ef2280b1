// Package limits decides what a tenant may send and ask at a given moment: a window of two timestamps, sizes, a budget of bytes in flight, and bounds on reads.
package limits

// Config is the `limits:` section.
type Config struct {
	// Window is how far from now a sample may lie.
	Window WindowConfig `yaml:"window"`
	// RequestBytes is the largest compressed request body. Default 16MiB.
	RequestBytes int64 `yaml:"request_bytes" unit:"bytes"`
	// DecodedBytes is the largest decoded write request. Default 64MiB.
	DecodedBytes int64 `yaml:"decoded_bytes" unit:"bytes"`
	// InflightBytes bounds the memory of all requests being worked on. Default 512MiB.
	InflightBytes int64 `yaml:"inflight_bytes" unit:"bytes"`
	// Reads bounds what each tenant may ask.
	Reads ReadConfig `yaml:"reads"`
}
