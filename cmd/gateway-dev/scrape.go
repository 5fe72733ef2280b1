package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/remotewrite"
)

// scrapeInterval of the gateway's own metrics.
const scrapeInterval = 5 * time.Second

// selfScrape sends what from gathers through the front door, as the first user, at each interval until ctx ends.
func selfScrape(ctx context.Context, client *http.Client, from prometheus.Gatherer, s *setup, log io.Writer) {
	tick := time.NewTicker(scrapeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := sendOnce(ctx, client, from, s, time.Now()); err != nil && ctx.Err() == nil {
			fmt.Fprintln(log, "self-scrape:", err)
		}
	}
}

func sendOnce(ctx context.Context, client *http.Client, from prometheus.Gatherer, s *setup, now time.Time) error {
	batch, err := gather(from, s.admin, now)
	if err != nil {
		return err
	}
	raw, err := batch.Marshal()
	if err != nil {
		return err
	}
	body := remotewrite.Encode(raw)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.https+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(s.users[0].Name, s.users[0].Password)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}

// gather is one scrape as Prometheus would send it, `up` included.
func gather(from prometheus.Gatherer, instance string, now time.Time) (*prompb.WriteRequest, error) {
	families, err := from.Gather()
	if err != nil {
		return nil, err
	}
	samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(now.UnixNano())}, families...)
	if err != nil {
		return nil, err
	}
	samples = append(samples, &model.Sample{Metric: model.Metric{model.MetricNameLabel: "up"}, Value: 1, Timestamp: model.TimeFromUnixNano(now.UnixNano())})
	batch := &prompb.WriteRequest{}
	for _, sample := range samples {
		sample.Metric["job"], sample.Metric["instance"] = "m3gateway", model.LabelValue(instance)
		series := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(sample.Value), Timestamp: int64(sample.Timestamp)}}}
		for name, value := range sample.Metric {
			series.Labels = append(series.Labels, prompb.Label{Name: string(name), Value: string(value)})
		}
		slices.SortFunc(series.Labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
		batch.Timeseries = append(batch.Timeseries, series)
	}
	return batch, nil
}
