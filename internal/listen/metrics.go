package listen

import "github.com/prometheus/client_golang/prometheus"

// registerer is where a Server registers its metrics.
type registerer = prometheus.Registerer

// metrics are the counters of one Server, by listener: https, http, plain, admin.
type metrics struct {
	open      *prometheus.GaugeVec
	waited    *prometheus.CounterVec
	displaced *prometheus.CounterVec
	refused   *prometheus.CounterVec
	retired   *prometheus.CounterVec
	slow      *prometheus.CounterVec
	http2     *prometheus.CounterVec
}

// listenerMetrics are those of one listener.
type listenerMetrics struct {
	open       prometheus.Gauge
	waited     prometheus.Counter
	displaced  prometheus.Counter
	refused    prometheus.Counter // by max_connections_per_ip
	headerless prometheus.Counter // refused for want of a PROXY protocol header
	aged       prometheus.Counter
	reset      prometheus.Counter
	slow       prometheus.Counter
	http2      *prometheus.CounterVec // by kind of error, one of net/http's own list
}

func newMetrics(reg registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "m3gateway_listen_" + name, Help: help}, append([]string{"listener"}, labels...))
	}
	m := &metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "m3gateway_listen_connections",
			Help: "Connections that are open.",
		}, []string{"listener"}),
		waited:    counter("connections_waited_total", "Connections that had to wait because max_connections were open and busy."),
		displaced: counter("connections_displaced_total", "Connections without a request closed to make room for new ones at max_connections or max_connections_per_ip."),
		refused:   counter("connections_refused_total", "Connections closed at once: the client has max_connections_per_ip busy ones, or a trusted proxy sent no PROXY protocol header.", "reason"),
		retired:   counter("connections_retired_total", "Connections ended after an answer: they reached max_connection_age, or their client gave up more streams than http2.max_resets.", "reason"),
		slow:      counter("slow_bodies_total", "Request bodies that came more slowly than body_timeout or body_min_rate allow."),
		http2:     counter("http2_errors_total", "Violations of the HTTP/2 protocol, and excesses, by kind.", "kind"),
	}
	reg.MustRegister(m.open, m.waited, m.displaced, m.refused, m.retired, m.slow, m.http2)
	return m
}

func (m *metrics) listener(name string) *listenerMetrics {
	return &listenerMetrics{
		open: m.open.WithLabelValues(name), waited: m.waited.WithLabelValues(name), displaced: m.displaced.WithLabelValues(name),
		refused: m.refused.WithLabelValues(name, "per_ip"), headerless: m.refused.WithLabelValues(name, "proxy_header"),
		aged: m.retired.WithLabelValues(name, "age"), reset: m.retired.WithLabelValues(name, "resets"),
		slow:  m.slow.WithLabelValues(name),
		http2: m.http2.MustCurryWith(prometheus.Labels{"listener": name}),
	}
}

// http2Error is the http.HTTP2Config.CountError of a server.
func (m *listenerMetrics) http2Error(kind string) { m.http2.WithLabelValues(kind).Inc() }
