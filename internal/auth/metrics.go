package auth

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	hits    prometheus.Counter
	hashes  prometheus.Counter
	denials prometheus.Counter
	locked  prometheus.Counter
	busy    prometheus.Counter
	tokens  prometheus.Counter
	blamed  prometheus.Gauge
	cached  prometheus.Gauge
	waiting prometheus.Gauge
}

// NewVerifier returns a Verifier with an empty cache and a fresh random key, its metrics registered with reg: one per
// process, kept over reloads. cfg has passed Check.
func NewVerifier(cfg Config, reg prometheus.Registerer) *Verifier {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	return newVerifier(cfg, &metrics{
		hits:    counter("m3gateway_auth_cache_hits_total", "Credentials accepted without hashing."),
		hashes:  counter("m3gateway_auth_hashes_total", "Password hashes computed, for users in the htpasswd file or not."),
		denials: counter("m3gateway_auth_denials_total", "Credentials denied: unknown user, wrong password or unknown token."),
		locked:  counter("m3gateway_auth_locked_total", "Attempts refused unhashed, since their user or address had failed too often."),
		busy:    counter("m3gateway_auth_busy_total", "Attempts refused unhashed, since auth.max_waiting others waited."),
		tokens:  counter("m3gateway_auth_tokens_accepted_total", "Requests with a valid bearer token."),
		blamed:  gauge("m3gateway_auth_failing_entries", "Users and addresses whose failures are kept."),
		cached:  gauge("m3gateway_auth_cached_credentials", "Verified credentials in the cache."),
		waiting: gauge("m3gateway_auth_waiting_checks", "Requests waiting for a password hash, queued or running."),
	})
}
