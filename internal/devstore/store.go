package devstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
)

const (
	defaultRetention  = 15 * 24 * time.Hour
	defaultOutOfOrder = 25 * time.Minute
	exemplars         = 10_000 // kept in memory
)

// The values of a Prometheus server v3.15 without flags.
const (
	maxQuerySamples    = 50_000_000
	maxQueries         = 20
	queryTimeout       = 2 * time.Minute
	lookback           = 5 * time.Minute
	evaluationInterval = time.Minute // the step of a subquery that gives none
	readSamples        = 50_000_000
	maxRemoteReads     = 10
	readFrameBytes     = 1 << 20
	longestBlock       = 31 * 24 * time.Hour // or a tenth of the retention
)

// Config says where the store keeps its data and how much of it.
type Config struct {
	// Dir holds the data; it is made if missing. One process at a time may have it open. Required.
	Dir string
	// Retention is how long samples are kept. Default 15 days.
	Retention time.Duration
	// OutOfOrder is how far a sample may lie behind the newest sample of the whole store. Default 25m: the gateway's window
	// reaches 10m past and 10m future of now, so the oldest sample that it forwards lies up to 20m behind the newest.
	OutOfOrder time.Duration
}

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	db      *tsdb.DB
	engine  *promql.Engine
	handler http.Handler

	mu       sync.Mutex     // guards closing, and underway.Add against underway.Wait
	closing  bool           // no request may begin
	underway sync.WaitGroup // requests that use db or engine

	close func() error // closes engine and db, once
}

// Open opens the store in cfg.Dir and replays its WAL before it returns. The caller closes the store.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("opening the store: no directory given")
	}
	if cfg.Retention < 0 || cfg.OutOfOrder < 0 {
		return nil, fmt.Errorf("opening the store in %s: retention %s and out-of-order window %s must not be negative", cfg.Dir, cfg.Retention, cfg.OutOfOrder)
	}
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	if cfg.OutOfOrder == 0 {
		cfg.OutOfOrder = defaultOutOfOrder
	}

	reg := newRegistry()
	db, err := tsdb.Open(cfg.Dir, log.With("component", "tsdb"), reg, options(cfg), nil)
	if err != nil {
		return nil, fmt.Errorf("opening the store in %s (another process may have it open; stop that one or choose another directory): %w", cfg.Dir, err)
	}
	tracker, err := promql.NewActiveQueryTracker(cfg.Dir, maxQueries, log.With("component", "query tracker"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the list of active queries in %s: %w", cfg.Dir, err), db.Close())
	}
	promQL := parser.NewParser(parser.Options{ExperimentalDurationExpr: true})
	s := &Store{
		db: db,
		engine: promql.NewEngine(promql.EngineOpts{
			Logger:                   log.With("component", "query engine"),
			Reg:                      reg,
			MaxSamples:               maxQuerySamples,
			Timeout:                  queryTimeout,
			ActiveQueryTracker:       tracker,
			LookbackDelta:            lookback,
			NoStepSubqueryIntervalFn: func(int64) int64 { return evaluationInterval.Milliseconds() },
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			Parser:                   promQL,
		}),
	}
	s.handler = s.routes(s.newAPI(cfg, reg, promQL, log))
	s.close = sync.OnceValue(func() error {
		return errors.Join(s.engine.Close(), s.db.Close())
	})
	return s, nil
}

// options are those of a Prometheus server at its defaults, with cfg's retention and out-of-order window and a small
// exemplar storage.
func options(cfg Config) *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.WALCompression = compression.Snappy
	o.RetentionDuration = cfg.Retention.Milliseconds()
	o.MaxBlockDuration = min(cfg.Retention/10, longestBlock).Milliseconds()
	o.OutOfOrderTimeWindow = cfg.OutOfOrder.Milliseconds()
	o.EnableExemplarStorage = true
	o.MaxExemplars = exemplars
	return o
}

// Handler serves the store's API: remote write and read, the read routes of the v1 API that the gateway forwards, and
// /-/ready and /-/healthy. Everything else is 404. After Close it answers 503.
func (s *Store) Handler() http.Handler {
	return s.handler
}

// Close refuses new requests, waits for those under way, flushes the WAL and releases the directory. To bound the wait,
// first end the server that serves Handler. A second call returns the first one's error.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.underway.Wait()
	if err := s.close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// ready lets a request through until Close; from then on it answers 503 as a stopping Prometheus server does.
func (s *Store) ready(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			w.Header().Set("X-Prometheus-Stopping", "true")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "Service Unavailable")
			return
		}
		s.underway.Add(1)
		s.mu.Unlock()
		defer s.underway.Done()
		next(w, r)
	}
}
