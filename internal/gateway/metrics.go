package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"m3gateway/internal/limits"
	"m3gateway/internal/remotewrite"
)

// metrics are the corridor's own. Tenants are a bounded label set: those of the configuration.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	samples  *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	unknown  prometheus.Counter
	raw      prometheus.Counter
	refusals *prometheus.CounterVec
	replicas prometheus.Gauge

	mu      sync.Mutex
	tenants map[string]*tenantCounters
}

// tenantCounters are the counters of one tenant, looked up once for each load of the configuration.
type tenantCounters struct {
	samples prometheus.Counter
	dropped [remotewrite.Reasons]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, bytes, requests *limits.Budget) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_gateway_requests_total", Help: "Requests answered, by route and status code.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "m3gateway_gateway_request_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_gateway_samples_total", Help: "Samples and native histograms that the store has acknowledged.",
		}, []string{"tenant"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_gateway_dropped_samples_total", Help: "Samples, histograms, exemplars and metadata not forwarded, by reason.",
		}, []string{"tenant", "reason"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m3gateway_gateway_unknown_fields_total", Help: "Protobuf fields outside the protocol that were left out.",
		}),
		raw: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m3gateway_gateway_stored_not_aggregated_total", Help: "Writes, or parts of them, that the store took raw only: its downsampler refused samples as too late, or they went to a member that does not aggregate their series.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_gateway_limit_refusals_total", Help: "Requests refused as a whole, and answers cut, for a limit, by its key under limits. Of several tenants it is the first.",
		}, []string{"tenant", "limit"}),
		replicas: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "m3gateway_gateway_limit_replicas", Help: "Gateways that the limits of tenants are divided among, as this one counts them.",
		}),
		tenants: map[string]*tenantCounters{},
	}
	free := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "m3gateway_gateway_inflight_bytes_left", Help: "Bytes of limits.inflight_bytes not in use.",
	}, func() float64 { return float64(bytes.Left()) })
	more := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "m3gateway_gateway_inflight_requests_left", Help: "How many more requests limits.inflight_requests allows at once.",
	}, func() float64 { return float64(requests.Left()) })
	reg.MustRegister(m.requests, m.seconds, m.samples, m.dropped, m.unknown, m.raw, m.refusals, m.replicas, free, more)
	return m
}

// tenant gives the counters of a tenant; they carry over from one load of the configuration to the next.
func (m *metrics) tenant(name string) *tenantCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.tenants[name]; ok {
		return c
	}
	c := &tenantCounters{samples: m.samples.WithLabelValues(name)}
	for i := range c.dropped {
		c.dropped[i] = m.dropped.WithLabelValues(name, remotewrite.Reason(i).String())
	}
	m.tenants[name] = c
	return c
}

func (m *metrics) answered(route string, status int, seconds float64) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(seconds)
}

// refused counts a request of a tenant that is over a limit. A batch of which samples were dropped is none: it is a 400, and those count
// as samples.
func (m *metrics) refused(tenant string, ref *refusal) {
	if ref.status == http.StatusBadRequest {
		return
	}
	for _, key := range ref.limits {
		if key, ok := strings.CutPrefix(key, "limits."); ok {
			m.refusals.WithLabelValues(tenant, key).Inc()
		}
	}
}

// usage collects the limits: for all tenants, what is an exception, and how near each tenant is to what has a usage.
type usage struct{ h *Handler }

// descs are the gauges of usage.
func (usage) descs() (all, limit, used *prometheus.Desc) {
	return prometheus.NewDesc("m3gateway_gateway_limit", "What the configuration allows each tenant that is no exception, by its key under limits: for all gateways together; in seconds, bytes or things.", []string{"limit"}, nil),
		prometheus.NewDesc("m3gateway_gateway_tenant_limit", "What this gateway allows a tenant, by limit: what has a usage, and of exceptions all that is set.", []string{"tenant", "limit"}, nil),
		prometheus.NewDesc("m3gateway_gateway_tenant_usage", "How much of it the tenant uses; of a rate, how much of its burst is taken.", []string{"tenant", "limit"}, nil)
}

// Describe implements prometheus.Collector.
func (u usage) Describe(out chan<- *prometheus.Desc) {
	all, limit, used := u.descs()
	out <- all
	out <- limit
	out <- used
}

// Collect implements prometheus.Collector.
func (u usage) Collect(out chan<- prometheus.Metric) {
	s := u.h.state.Load()
	if s == nil {
		return
	}
	all, limit, used := u.descs()
	for key, v := range numbers(s.Limits.Writes, s.Limits.Reads) {
		out <- prometheus.MustNewConstMetric(all, prometheus.GaugeValue, v, key)
	}
	now := u.h.Now()
	for _, t := range u.h.tenants.All() {
		told := map[string]float64{}
		if _, exception := s.Limits.Tenants[t.Name()]; exception {
			told = numbers(t.Writes(), t.Reads())
		}
		for _, one := range u.h.tenants.Usage(t, now) {
			told[one.Key] = one.Most
			out <- prometheus.MustNewConstMetric(used, prometheus.GaugeValue, one.Used, t.Name(), one.Key)
		}
		for key, v := range told {
			out <- prometheus.MustNewConstMetric(limit, prometheus.GaugeValue, v, t.Name(), key)
		}
	}
}

// numbers are the limits that are set, by their keys under limits.
func numbers(w limits.WriteConfig, r limits.ReadConfig) map[string]float64 {
	out := map[string]float64{}
	for prefix, section := range map[string]any{"writes.": w, "reads.": r} {
		eachLimit(section, func(key string, v any) {
			switch v := v.(type) {
			case int64:
				out[prefix+key] = float64(v)
			case time.Duration:
				out[prefix+key] = v.Seconds()
			}
		})
	}
	return out
}
