package app

import (
	"math"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"m3gateway/internal/limits"
)

// metrics are the process's registry and the reload's own series.
type metrics struct {
	registry *prometheus.Registry
	reloads  *prometheus.CounterVec
	loaded   prometheus.Gauge
	good     prometheus.Gauge

	past, future prometheus.Gauge
	discovered   prometheus.Gauge
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
		past: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_limits_window_past_seconds", Help: "How old a sample may be. NaN: limits.window is not learnt yet, and writes are answered 503.",
		}),
		future: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_limits_window_future_seconds", Help: "How far ahead a sample may be. NaN: as for the past.",
		}),
		discovered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_app_window_learnt_timestamp_seconds", Help: "When the store last said which window it accepts. 0: never, or it was not asked (limits.window is not auto).",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "m3gateway_app_build_info", Help: "The running version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.reloads.WithLabelValues("success")
	m.reloads.WithLabelValues("failure")
	m.registry.MustRegister(m.reloads, m.loaded, m.good, m.past, m.future, m.discovered, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// reach sets the gauges of the window in force.
func (m *metrics) reach(r limits.Reach, known bool) {
	past, future := r.Past.Seconds(), r.Future.Seconds()
	if !known {
		past, future = math.NaN(), math.NaN()
	}
	m.past.Set(past)
	m.future.Set(future)
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Gatherer has the metrics that the admin port serves.
func (g *Gateway) Gatherer() prometheus.Gatherer { return g.metrics.registry }
