package limits

import (
	"fmt"
	"time"
)

// Defaults is the section as if it were empty.
func Defaults() Config {
	return Config{
		Window:        WindowConfig{Past: Side{Fixed: 10 * time.Minute}, Future: Side{Fixed: 10 * time.Minute}},
		RequestBytes:  16 << 20,
		DecodedBytes:  64 << 20,
		InflightBytes: 512 << 20,

		InflightRequests: 10_000,

		Writes:   writeDefaults(),
		Reads:    readDefaults(),
		Weight:   1,
		Replicas: ReplicaConfig{Count: 1, Interval: 10 * time.Second},
	}
}

// Check calls bad for every field that cannot work, with the remedy.
func (c *Config) Check(bad func(field, problem string)) {
	c.Window.check(bad)
	c.Replicas.check(bad)
	inherited := map[string]bool{} // what is wrong for all is told once
	forAll := func(field, problem string) {
		inherited[field] = true
		bad(field, problem)
	}
	c.Writes.check(c, forAll)
	c.Reads.check(forAll)
	checkWeight(c.Weight, forAll)
	for name, t := range c.Tenants {
		within := func(field, problem string) {
			if !inherited[field] {
				bad("tenants."+name+"."+field, problem)
			}
		}
		t.Writes.check(c, within)
		t.Reads.check(within)
		checkWeight(t.Weight, within)
	}
	for field, n := range map[string]int64{"request_bytes": c.RequestBytes, "decoded_bytes": c.DecodedBytes, "inflight_bytes": c.InflightBytes} {
		if n < 1<<10 || n > 1<<40 {
			bad(field, fmt.Sprintf("%d bytes cannot work; use a size from 1KiB to 1TiB", n))
		}
	}
	if c.InflightRequests < 100 || c.InflightRequests > 1_000_000 {
		bad("inflight_requests", "must be 100 to 1000000; leave it out for 10000")
	}
	if c.DecodedBytes > 1<<30 {
		bad("decoded_bytes", "one request may decode to 1GiB at most; lower it")
	}
	if need := c.WriteBytes(c.RequestBytes, c.DecodedBytes); c.InflightBytes < need {
		bad("inflight_bytes", fmt.Sprintf("one largest request needs %d bytes; raise inflight_bytes to that, or lower request_bytes and decoded_bytes", need))
	}
}

func checkWeight(n int64, bad func(field, problem string)) {
	if n < 1 || n > 1000 {
		bad("weight", "must be 1 to 1000; leave it out for 1")
	}
}

func (c *ReplicaConfig) check(bad func(field, problem string)) {
	if c.Count < 1 || c.Count > 1000 {
		bad("replicas.count", "must be 1 to 1000; leave it out for 1, so that each gateway holds the limits by itself")
	}
	if c.DNS != "" && c.Count != 1 {
		bad("replicas.dns", "is counted in place of replicas.count; remove one of them")
	}
	if c.Interval < time.Second || c.Interval > time.Hour {
		bad("replicas.interval", "must be 1s to 1h; leave it out for 10s")
	}
}

// WriteBytes is the memory one write request may hold at its peak: the body, its decoded form, and the confined form with
// room for the enforced labels.
func (c *Config) WriteBytes(body, decoded int64) int64 { return body + 2*decoded }
