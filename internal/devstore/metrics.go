package devstore

import "github.com/prometheus/client_golang/prometheus"

// registry is where the parts of one Store register their metrics: the Store's own, so that one process may open several.
type registry = prometheus.Registry

func newRegistry() *registry {
	return prometheus.NewRegistry()
}
