package devstore

import (
	"io"
	"log/slog"
	"net/http"
	"runtime"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql/parser"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// version is the Prometheus release that this package is built from; its Go module says v0.315.0.
const version = "3.15.0"

const apiPrefix = "/api/v1"

// routes puts the served part of api under apiPrefix, and the health routes beside it. Methods are the API's own matter.
func (s *Store) routes(api *v1.API) http.Handler {
	router := route.New()
	api.Register(router)
	served := http.StripPrefix(apiPrefix, router)

	mux := http.NewServeMux()
	for _, path := range []string{
		"/write",
		"/read",
		"/query",
		"/query_range",
		"/query_exemplars",
		"/series",
		"/labels",
		"/label/{name}/values",
		"/status/buildinfo",
		"/format_query", // with the next, what the gateway's own answers are held against
		"/parse_query",
	} {
		mux.Handle(apiPrefix+path, served)
	}
	mux.HandleFunc("GET /-/ready", s.ready(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "Prometheus Server is Ready.\n")
	}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "Prometheus Server is Healthy.\n")
	})
	return mux
}

// newAPI builds Prometheus' v1 API as its server does with default flags and --web.enable-remote-write-receiver. What
// only routes outside the allow-list of routes would use is nil.
func (s *Store) newAPI(cfg Config, reg *registry, promQL parser.Parser, log *slog.Logger) *v1.API {
	return v1.NewAPI(
		s.engine, // qe
		s.db,     // q
		s.db,     // ap
		s.db,     // apV2
		s.db,     // eq
		nil,      // spsr: scrape pools
		nil,      // tr: targets
		nil,      // ar: Alertmanagers
		func() config.Config { return config.DefaultConfig }, // configFunc
		nil,                              // flagsMap
		v1.GlobalURLOptions{},            // globalURLOptions, of targets
		s.ready,                          // readyFunc
		nil,                              // db: administration of the TSDB
		cfg.Dir,                          // dbDir
		false,                            // enableAdmin
		false,                            // enableSearch
		0,                                // maxSearchLimit
		log.With("component", "api"),     // logger
		nil,                              // rr: rules
		readSamples,                      // remoteReadSampleLimit
		maxRemoteReads,                   // remoteReadConcurrencyLimit
		readFrameBytes,                   // remoteReadMaxBytesInFrame
		false,                            // isAgent
		relabel.MustNewRegexp("").Regexp, // corsOrigin: anchored and empty, it matches no Origin header
		nil,                              // runtimeInfo
		&v1.PrometheusVersion{Version: version, GoVersion: runtime.Version()}, // buildInfo
		nil,  // notificationsGetter
		nil,  // notificationsSub
		reg,  // gatherer
		reg,  // registerer
		nil,  // statsRenderer: the default one
		true, // rwEnabled
		remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType}, // acceptRemoteWriteProtoMsgs
		false,                               // otlpEnabled
		false,                               // otlpDeltaToCumulative
		false,                               // otlpNativeDeltaIngestion
		false,                               // stZeroIngestionEnabled
		lookback,                            // lookbackDelta
		false,                               // enableTypeAndUnitLabels
		false,                               // appendMetadata
		nil,                                 // overrideErrorCode
		nil,                                 // featureRegistry
		v1.OpenAPIOptions{Version: version}, // openAPIOptions
		promQL,                              // promqlParser
	)
}
