package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// TestNamesAndHistogramsForM3: what M3 has no place for, as upstream.utf8_names and upstream.native_histograms say.
func TestNamesAndHistogramsForM3(t *testing.T) {
	dotted := up("http.route", "/")
	native := up()
	native.Samples, native.Histograms = nil, []prompb.Histogram{{
		Count: &prompb.Histogram_CountInt{CountInt: 3}, Sum: 4, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1}, ZeroThreshold: 0.5,
		PositiveSpans: []prompb.BucketSpan{{Offset: 1, Length: 1}}, PositiveDeltas: []int64{2}, Timestamp: time.Now().UnixMilli(),
	}}
	broken := up("case", "broken")
	broken.Samples, broken.Histograms = nil, []prompb.Histogram{
		{PositiveDeltas: []int64{2}, Timestamp: time.Now().UnixMilli()},
		{Count: &prompb.Histogram_CountInt{CountInt: 99}, PositiveSpans: []prompb.BucketSpan{{Length: 1}}, PositiveDeltas: []int64{23}, Timestamp: time.Now().UnixMilli()},
	}
	for name, tc := range map[string]struct {
		options string
		status  int
		stored  string
		says    []string
	}{
		"default": {"", 400, "up{tenant=team-a}", []string{"invalid_label_name 1", "upstream.utf8_names: escape"}},
		"escape and classic": {"  utf8_names: escape\n  native_histograms: classic\n", 400,
			"up{tenant=team-a} up{U__http_2e_route=/,tenant=team-a} up_bucket{le=0.5,tenant=team-a} up_bucket{le=2.0,tenant=team-a} " +
				"up_bucket{le=+Inf,tenant=team-a} up_sum{tenant=team-a} up_count{tenant=team-a}", []string{"stored 3 samples", "invalid_histogram 2", `case="broken"`}},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, ok)
			g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Kind: "m3", Upstreams: []string{u.URL}, UpstreamExtra: tc.options})
			a := g.Write("alice", []prompb.TimeSeries{up(), dotted, native, broken})
			if a.Status != tc.status {
				t.Errorf("%+v", a)
			}
			for _, s := range tc.says {
				if !strings.Contains(a.Body, s) {
					t.Errorf("%q lacks %q", a.Body, s)
				}
			}
			var got []string
			for _, ts := range u.take()[0].batch(t).Timeseries {
				metric, text := "", []string{}
				for _, l := range ts.Labels {
					if l.Name == "__name__" {
						metric = l.Value
						continue
					}
					text = append(text, l.Name+"="+l.Value)
				}
				got = append(got, metric+"{"+strings.Join(text, ",")+"}")
			}
			if s := strings.Join(got, " "); s != tc.stored {
				t.Errorf("stored %s\nwant   %s", s, tc.stored)
			}
		})
	}
}
