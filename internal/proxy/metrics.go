package proxy

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is built once per process and outlives the Pools of a reload. Labels are bounded: op is read or write, outcome
// is a status class or a Kind, why is failover, again, rescue, renewal or hedge, member is one of the members that the current Pool has now.
type Metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	failovers *prometheus.CounterVec
	extra     *prometheus.CounterVec
	denied    *prometheus.CounterVec
	hedgeWins prometheus.Counter
	attempts  *prometheus.CounterVec
	ejections *prometheus.CounterVec
	dnsErrors prometheus.Counter

	members, memberUp, memberInFlight *prometheus.Desc

	mu   sync.Mutex
	pool *Pool // guarded by mu; the one started last, nil before
}

// NewMetrics registers the room's metrics on reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		requests: counter("m3gateway_proxy_requests_total", "Requests to the store, by what became of them after all attempts.", "op", "outcome"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "m3gateway_proxy_request_seconds",
			Help:    "Time from a request to the header of its answer, all attempts together.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"op"}),
		failovers: counter("m3gateway_proxy_failovers_total", "Attempts that were made because one on another member failed.", "op"),
		extra: counter("m3gateway_proxy_added_attempts_total", "Attempts beyond the first of a request: after a failure (failover) or on a dead idle "+
			"connection (again), beside one on a member that does not answer (rescue) or a connection that does not (renewal), or beside one that takes long (hedge).", "op", "why"),
		denied: counter("m3gateway_proxy_budget_exhausted_total", "Attempts that were not made because of upstream.retry_budget_percent.", "op"),
		hedgeWins: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m3gateway_proxy_hedge_wins_total",
			Help: "Hedges that were answered first.",
		}),
		attempts:  counter("m3gateway_proxy_attempts_total", "Attempts on each member, by what became of them.", "member", "outcome"),
		ejections: counter("m3gateway_proxy_ejections_total", "How often a member was taken out for what requests met there.", "member", "op"),
		dnsErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "m3gateway_proxy_dns_errors_total",
			Help: "Look-ups of the upstream's name that failed; the members stay as they were.",
		}),
		members: prometheus.NewDesc("m3gateway_proxy_members",
			"Members of the pool, by whether they are fit for reads and writes.", []string{"op", "state"}, nil),
		memberUp: prometheus.NewDesc("m3gateway_proxy_member_healthy",
			"1 if the member is fit: its last probe was good, and it is not ejected.", []string{"member", "op"}, nil),
		memberInFlight: prometheus.NewDesc("m3gateway_proxy_member_in_flight",
			"Requests that the member is working on or whose answer is being read.", []string{"member"}, nil),
	}
	reg.MustRegister(m.requests, m.seconds, m.failovers, m.extra, m.denied, m.hedgeWins, m.attempts, m.ejections, m.dnsErrors, poolCollector{m})
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
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var healthy [ops]int
	members := pool.Members()
	for _, s := range members {
		for o, side := range [ops]SideState{reading: s.Reads, writing: s.Writes} {
			up := 0.0
			if side.Why == "" {
				up = 1
				healthy[o]++
			}
			gauge(c.memberUp, up, s.URL, op(o).String())
		}
		gauge(c.memberInFlight, float64(s.InFlight), s.URL)
	}
	for o := range ops {
		gauge(c.members, float64(healthy[o]), o.String(), "healthy")
		gauge(c.members, float64(len(members)-healthy[o]), o.String(), "out")
	}
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
			m.ejections.DeletePartialMatch(prometheus.Labels{"member": u})
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
func (m *Metrics) request(o op, now func() time.Time) func(outcome string) {
	began := now()
	return func(outcome string) {
		m.seconds.WithLabelValues(o.String()).Observe(now().Sub(began).Seconds())
		m.requests.WithLabelValues(o.String(), outcome).Inc()
	}
}

// added counts an attempt beyond a request's first.
func (m *Metrics) added(o op, why string) {
	m.extra.WithLabelValues(o.String(), why).Inc()
	if why == "failover" {
		m.failovers.WithLabelValues(o.String()).Inc()
	}
}

func (m *Metrics) unaffordable(o op) { m.denied.WithLabelValues(o.String()).Inc() }
func (m *Metrics) hedgeWon()         { m.hedgeWins.Inc() }
func (m *Metrics) dnsError()         { m.dnsErrors.Inc() }

func (m *Metrics) ejection(member string, o op) {
	m.ejections.WithLabelValues(member, o.String()).Inc()
}

// statusClass is the outcome of an answer.
func statusClass(status int) string {
	if c := status / 100; c >= 2 && c <= 5 {
		return strconv.Itoa(c) + "xx"
	}
	return "other"
}
