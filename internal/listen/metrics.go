package listen

import "github.com/prometheus/client_golang/prometheus"

// registerer is where a Server registers its metrics.
type registerer = prometheus.Registerer

// metrics are the counters of one Server, by listener: https, http, plain, admin.
type metrics struct {
	open      *prometheus.GaugeVec
	waited    *prometheus.CounterVec
	displaced *prometheus.CounterVec
}

// listenerMetrics are those of one listener.
type listenerMetrics struct {
	open      prometheus.Gauge
	waited    prometheus.Counter
	displaced prometheus.Counter
}

func newMetrics(reg registerer) *metrics {
	label := []string{"listener"}
	m := &metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "m3gateway_listen_connections",
			Help: "Connections that are open.",
		}, label),
		waited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_listen_connections_waited_total",
			Help: "Connections that had to wait because max_connections were open and busy.",
		}, label),
		displaced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_listen_connections_displaced_total",
			Help: "Idle connections closed to make room for new ones at max_connections.",
		}, label),
	}
	reg.MustRegister(m.open, m.waited, m.displaced)
	return m
}

func (m *metrics) listener(name string) *listenerMetrics {
	return &listenerMetrics{m.open.WithLabelValues(name), m.waited.WithLabelValues(name), m.displaced.WithLabelValues(name)}
}
