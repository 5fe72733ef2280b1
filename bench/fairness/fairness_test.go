package main

import (
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// TestBatch: a batch is what Prometheus' own decoder takes it for.
func TestBatch(t *testing.T) {
	dec, err := snappy.Decode(nil, batch(300, time.UnixMilli(1_800_000_000_000)))
	if err != nil {
		t.Fatal(err)
	}
	var r prompb.WriteRequest
	if err := r.Unmarshal(dec); err != nil || len(r.Timeseries) != 300 || r.Timeseries[7].Samples[0].Timestamp != 1_800_000_000_000 || r.Timeseries[7].Labels[2].Value != "fairness" {
		t.Errorf("%v, %d series", err, len(r.Timeseries))
	}
}
