package proxy

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is built once per process and outlives the Pools of a reload. Labels are bounded: op is read or write, outcome
// is a status class or a Kind, member is one of the members that the current Pool has now.
type Metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	failovers *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	dnsErrors prometheus.Counter

	members, memberUp, memberInFlight *prometheus.Desc

	mu   sync.Mutex
	pool *Pool // guarded by mu; the one started last, nil before
}

// NewMetrics registers the room's metrics on reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_proxy_requests_total",
			Help: "Requests to the store, by what became of them after all attempts.",
		}, []string{"op", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "m3gateway_proxy_request_seconds",
			Help:    "Time from a request to the header of its answer, all attempts together.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"op"}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_proxy_failovers_total",
			Help: "Attempts that were made because one on another member failed.",
		}, []string{"op"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "m3gateway_proxy_attempts_total",
			Help: "Attempts on each member, by what became of them.",
		}, []string{"member", "outcome"}),
		dnsErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m3gateway_proxy_dns_errors_total",
			Help: "Look-ups of the upstream's name that failed; the members stay as they were.",
		}),
		members: prometheus.NewDesc("m3gateway_proxy_members",
			"Members of the pool, by whether their last probe was good.", []string{"state"}, nil),
		memberUp: prometheus.NewDesc("m3gateway_proxy_member_healthy",
			"1 if the member's last probe was good.", []string{"member"}, nil),
		memberInFlight: prometheus.NewDesc("m3gateway_proxy_member_in_flight",
			"Requests that the member is working on or whose answer is being read.", []string{"member"}, nil),
	}
	reg.MustRegister(m.requests, m.seconds, m.failovers, m.attempts, m.dnsErrors, poolCollector{m})
	return m
}

// poolCollector reads the state of the current Pool at scrape time, so that no gauge outlives its member.
type poolCollector struct{ *Metrics }

func (c poolCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.members
	ch <- c.memberUp
	ch <- c.memberInFlight
}

func (c poolCollector) Collect(ch chan<- prometheus.Metric) {
	pool := c.current()
	if pool == nil {
		return
	}
	healthy, out := 0, 0
	for _, s := range pool.Members() {
		up := 0.0
		if s.Healthy {
			up = 1
			healthy++
		} else {
			out++
		}
		ch <- prometheus.MustNewConstMetric(c.memberUp, prometheus.GaugeValue, up, s.URL)
		ch <- prometheus.MustNewConstMetric(c.memberInFlight, prometheus.GaugeValue, float64(s.InFlight), s.URL)
	}
	ch <- prometheus.MustNewConstMetric(c.members, prometheus.GaugeValue, float64(healthy), "healthy")
	ch <- prometheus.MustNewConstMetric(c.members, prometheus.GaugeValue, float64(out), "out")
}

func (m *Metrics) current() *Pool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pool
}

// adopt makes p the Pool whose members are shown.
func (m *Metrics) adopt(p *Pool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool = p
}

// forget deletes the counters of members that p no longer has, unless the current Pool has them.
func (m *Metrics) forget(p *Pool, urls []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range urls {
		if m.pool == nil || m.pool == p || !m.pool.has(u) {
			m.attempts.DeletePartialMatch(prometheus.Labels{"member": u})
		}
	}
}

// attemptCounters are one member's, by outcome. Held by the member, so that one that is gone counts nowhere.
type attemptCounters map[string]prometheus.Counter

func (m *Metrics) attemptCounters(member string) attemptCounters {
	c := attemptCounters{}
	for _, o := range []string{"2xx", "3xx", "4xx", "5xx", "other",
		string(Connect), string(Timeout), string(Reset), string(Canceled), string(Invalid)} {
		c[o] = m.attempts.WithLabelValues(member, o)
	}
	return c
}

func (c attemptCounters) add(outcome string) { c[outcome].Inc() }

// request counts a request from here until the returned func gets its outcome.
func (m *Metrics) request(op string) func(outcome string) {
	timer := prometheus.NewTimer(m.seconds.WithLabelValues(op))
	return func(outcome string) {
		timer.ObserveDuration()
		m.requests.WithLabelValues(op, outcome).Inc()
	}
}

func (m *Metrics) failover(op string) { m.failovers.WithLabelValues(op).Inc() }
func (m *Metrics) dnsError()          { m.dnsErrors.Inc() }

// statusClass is the outcome of an answer.
func statusClass(status int) string {
	if c := status / 100; c >= 2 && c <= 5 {
		return strconv.Itoa(c) + "xx"
	}
	return "other"
}
