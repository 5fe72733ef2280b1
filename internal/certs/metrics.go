package certs

import (
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/prometheus/client_golang/prometheus"
)

// registerer is where a Manager registers its metrics.
type registerer = prometheus.Registerer

// metrics are those of one Manager. The label sets are bounded by the config and by reasons.
type metrics struct {
	obtained      *prometheus.CounterVec
	failures      *prometheus.CounterVec
	storageErrors *prometheus.CounterVec
	storageUp     prometheus.Gauge

	mu   sync.Mutex
	last map[string]trouble // by domain
}

// trouble is the last failure of a domain since its last success.
type trouble struct {
	reason string
	at     time.Time
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
		storageErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_certs_storage_errors_total",
			Help: "Requests to the etcd that keeps the certificates that failed, by kind.",
		}, []string{"op"}),
		storageUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_certs_storage_up",
			Help: "1 if the storage of ACME certificates answers. While it does not, nothing is ordered or renewed.",
		}),
		last: map[string]trouble{},
	}
	for domain := range m.domains {
		c.obtained.WithLabelValues(domain)
		c.failures.WithLabelValues(domain)
	}
	reg.MustRegister(c.obtained, c.failures, collector{m})
	if len(m.domains) > 0 {
		reg.MustRegister(c.storageErrors, c.storageUp)
	}
	return c
}

func (c *metrics) reachable(up bool) {
	if up {
		c.storageUp.Set(1)
	} else {
		c.storageUp.Set(0)
	}
}

func (c *metrics) succeeded(domain string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, domain)
}

func (c *metrics) failed(domain, reason string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[domain] = trouble{reason, at}
}

// reasonOf names the cause of a failure: an error type of ACME (RFC 8555 section 6.7), connection, or otherwise.
func reasonOf(err error, otherwise string) string {
	known := []string{"accountDoesNotExist", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badSignatureAlgorithm", "caa", "compound",
		"connection", "dns", "externalAccountRequired", "incorrectResponse", "invalidContact", "malformed", "orderNotReady", "rateLimited",
		"rejectedIdentifier", "serverInternal", "tls", "unauthorized", "unsupportedContact", "unsupportedIdentifier", "userActionRequired"}
	var problem acme.Problem
	if errors.As(err, &problem) {
		if kind := problem.Type[strings.LastIndexByte(problem.Type, ':')+1:]; slices.Contains(known, kind) {
			return kind
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return "connection"
	}
	return otherwise
}

var (
	notAfterDesc = prometheus.NewDesc("m3gateway_certs_not_after_timestamp_seconds",
		"When the certificate that is served expires, by its file or ACME domain.", []string{"source", "name"}, nil)
	lastErrorDesc = prometheus.NewDesc("m3gateway_certs_acme_last_error_timestamp_seconds",
		"When the last failure to obtain or renew the domain's certificate was, and its cause. It goes with the next success.", []string{"domain", "reason"}, nil)
)

// collector reads what is served and what went wrong when it is scraped, so that it is never behind a reload or a renewal.
type collector struct{ m *Manager }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- notAfterDesc
	ch <- lastErrorDesc
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, e := range c.m.expiries() {
		ch <- prometheus.MustNewConstMetric(notAfterDesc, prometheus.GaugeValue, e.notAfter, e.source, e.name)
	}
	c.m.metrics.mu.Lock()
	defer c.m.metrics.mu.Unlock()
	for domain, t := range c.m.metrics.last {
		ch <- prometheus.MustNewConstMetric(lastErrorDesc, prometheus.GaugeValue, float64(t.at.Unix()), domain, t.reason)
	}
}

// expiry is the end of one certificate that is being served.
type expiry struct {
	source, name string // "file" and the path, or "acme" and the domain: bounded by the config
	notAfter     float64
}

// expiries returns the ends of all certificates that are being served, in Unix seconds.
func (m *Manager) expiries() []expiry {
	var all []expiry
	for _, e := range m.set.Load().entries {
		all = append(all, expiry{"file", e.pair.CertFile, float64(e.cert.Leaf.NotAfter.Unix())})
	}
	for domain, c := range m.ordered.Load().certs {
		all = append(all, expiry{"acme", domain, float64(c.Leaf.NotAfter.Unix())})
	}
	return all
}
