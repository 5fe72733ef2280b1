package audit

import "github.com/prometheus/client_golang/prometheus"

// registerer is where a Log registers its metrics.
type registerer = prometheus.Registerer

// metrics count what became of the lines.
type metrics struct {
	lines   prometheus.Counter
	full    prometheus.Counter // came faster than they could be written
	failed  prometheus.Counter // the output could not be written for too long
	failing prometheus.Gauge
}

func newMetrics(reg registerer) *metrics {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "m3gateway_audit_dropped_lines_total",
		Help: "Lines of the audit log that are lost. full: they came faster than they could be written. failed: the file or standard output could not be written.",
	}, []string{"reason"})
	m := &metrics{
		lines:  prometheus.NewCounter(prometheus.CounterOpts{Name: "m3gateway_audit_lines_total", Help: "Lines of the audit log that were written."}),
		full:   dropped.WithLabelValues("full"),
		failed: dropped.WithLabelValues("failed"),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_audit_failing", Help: "1 while the audit log cannot be written: lines wait, and are dropped once 4 MiB wait.",
		}),
	}
	reg.MustRegister(m.lines, dropped, m.failing)
	return m
}
