// Command otel is the smallest OpenTelemetry Collector: a remote-write exporter with default settings for each URL it is told,
// fed a gauge every half second.
package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("otel", flag.ContinueOnError)
	user := flags.String("user", "", "of basic auth")
	password := flags.String("password", "", "of basic auth")
	ca := flags.String("ca", "", "file of the CA that signs the servers' certificates")
	if err := flags.Parse(args); err != nil {
		return err
	}
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	factory := prometheusremotewriteexporter.NewFactory()
	set := exporter.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings(), BuildInfo: component.NewDefaultBuildInfo()}
	set.Logger = logger
	var exporters []exporter.Metrics
	for _, url := range flags.Args() {
		cfg := factory.CreateDefaultConfig().(*prometheusremotewriteexporter.Config)
		cfg.HTTP.Endpoint = url
		if *user != "" {
			basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(*user+":"+*password))
			cfg.HTTP.Headers = append(cfg.HTTP.Headers, configopaque.Pair{Name: "Authorization", Value: configopaque.String(basic)})
			cfg.HTTP.TLS.CAFile = *ca
		}
		e, err := factory.CreateMetrics(ctx, set, cfg)
		if err != nil {
			return err
		}
		if err := e.Start(ctx, componenttest.NewNopHost()); err != nil {
			return err
		}
		exporters = append(exporters, e)
	}
	for i := 0; ctx.Err() == nil; i++ {
		for _, e := range exporters {
			if err := e.ConsumeMetrics(ctx, gauge(i)); err != nil {
				logger.Error("not queued", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// gauge is one data point, whose value is i.
func gauge(i int) pmetric.Metrics {
	m := pmetric.NewMetrics()
	rm := m.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "otel")
	metric := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	metric.SetName("up")
	p := metric.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	p.SetDoubleValue(float64(i))
	return m
}
