package certs

import "github.com/prometheus/client_golang/prometheus"

// registerer is where a Manager registers its metrics.
type registerer = prometheus.Registerer

// metrics are the counters of one Manager. The label sets are bounded by the config.
type metrics struct {
	obtained *prometheus.CounterVec
	failures *prometheus.CounterVec
}

func newMetrics(reg registerer, m *Manager) *metrics {
	c := &metrics{
		obtained: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_certs_acme_obtained_total",
			Help: "Certificates obtained from the ACME authority, renewals included.",
		}, []string{"domain"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_certs_acme_failures_total",
			Help: "Orders at the ACME authority that failed. They are tried again, ever more seldom.",
		}, []string{"domain"}),
	}
	for domain := range m.domains {
		c.obtained.WithLabelValues(domain)
		c.failures.WithLabelValues(domain)
	}
	reg.MustRegister(c.obtained, c.failures, expiryCollector{m})
	return c
}

var notAfterDesc = prometheus.NewDesc("m3gateway_certs_not_after_timestamp_seconds",
	"When the certificate that is served expires, by its file or ACME domain.", []string{"source", "name"}, nil)

// expiryCollector reads the expiry dates when it is scraped, so that they are never behind a reload or a renewal.
type expiryCollector struct{ m *Manager }

func (c expiryCollector) Describe(ch chan<- *prometheus.Desc) { ch <- notAfterDesc }

func (c expiryCollector) Collect(ch chan<- prometheus.Metric) {
	for _, e := range c.m.expiries() {
		ch <- prometheus.MustNewConstMetric(notAfterDesc, prometheus.GaugeValue, e.notAfter, e.source, e.name)
	}
}
