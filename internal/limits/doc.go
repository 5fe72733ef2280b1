// Package limits decides what a tenant may send and ask at a given moment: a window of two timestamps, sizes, rates, active series, a fair share of what is in flight, turns to work, and bounds on reads.
package limits

import "time"

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
	// InflightRequests is how many requests are being worked on at once. Default 10000.
	InflightRequests int64 `yaml:"inflight_requests"`
	// Writes bounds what each tenant may send.
	Writes WriteConfig `yaml:"writes"`
	// Reads bounds what each tenant may ask.
	Reads ReadConfig `yaml:"reads"`
	// Weight is each tenant's share of what all share, beside others'. Default 1.
	Weight int64 `yaml:"weight"`
	// Tenants are exceptions by tenant; a key that is not set there is as above.
	Tenants map[string]TenantConfig `yaml:"tenants" inherit:"true"`
	// Replicas says among how many gateways the limits are divided.
	Replicas ReplicaConfig `yaml:"replicas"`
}

// ReplicaConfig is `limits.replicas`. Rates, bursts, active series and what may be under way of a tenant are for all gateways
// together: each holds its part.
type ReplicaConfig struct {
	// Count is the number of gateways. Default 1.
	Count int64 `yaml:"count"`
	// DNS is a name with an address for each of them, as of a headless service, to be counted instead.
	DNS string `yaml:"dns"`
	// Interval is the time between two look-ups. Default 10s.
	Interval time.Duration `yaml:"interval"`
}
