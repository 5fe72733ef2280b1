package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the process's registry and the reload's own series.
type metrics struct {
	registry *prometheus.Registry
	reloads  *prometheus.CounterVec
	loaded   prometheus.Gauge
	good     prometheus.Gauge
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_app_reloads_total", Help: "Reloads of the configuration, htpasswd file and certificates, by result.",
		}, []string{"result"}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_app_loaded_timestamp_seconds", Help: "When the configuration in use was loaded.",
		}),
		good: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_app_last_reload_successful", Help: "1 if the last reload took effect, 0 if the state before it is still in use.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "m3gateway_app_build_info", Help: "The running version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.reloads.WithLabelValues("success")
	m.reloads.WithLabelValues("failure")
	m.registry.MustRegister(m.reloads, m.loaded, m.good, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Gatherer has the metrics that the admin port serves.
func (g *Gateway) Gatherer() prometheus.Gatherer { return g.metrics.registry }
