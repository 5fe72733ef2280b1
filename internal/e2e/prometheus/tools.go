//go:build tools

// Package prometheus pins the real Prometheus server and promtool that the end-to-end suite builds and runs.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
