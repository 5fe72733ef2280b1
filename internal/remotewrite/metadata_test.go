package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

func metadataPolicy(t testing.TB, rules Rules) *Policy {
	t.Helper()
	rules.Limits = Limits{NameBytes: 1024, ValueBytes: 32 << 10, Labels: 512}
	p, err := NewPolicy("tenant", Override, rules, []TenantLabels{{"a", []Label{{"tenant", "a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func said(p *Policy, src []byte, proto Protocol) []string {
	var out []string
	p.EachMetadata(src, proto, func(m MetricMetadata) {
		out = append(out, fmt.Sprintf("%s %s %q %q", m.Metric, m.Type, m.Help, m.Unit))
	})
	return out
}

func TestEachMetadata(t *testing.T) {
	one := prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "__name__", Value: "up"}}, Samples: []prompb.Sample{{Value: 1}}}},
		Metadata: []prompb.MetricMetadata{
			{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "up", Help: "Is it?", Unit: "bool"},
			{Type: prompb.MetricMetadata_HISTOGRAM, MetricFamilyName: "x_seconds"}, {MetricFamilyName: "plain"}, {Type: 99, MetricFamilyName: "odd"},
			{Type: prompb.MetricMetadata_STATESET, MetricFamilyName: "a.b"}, {Help: "of nothing"}, {MetricFamilyName: "9a"}, {MetricFamilyName: "\xff"},
		},
	}
	src, err := one.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	common := []string{`up counter "Is it?" "bool"`, `x_seconds histogram "" ""`, `plain unknown "" ""`, `odd unknown "" ""`}
	for name, tc := range map[string]struct {
		rules Rules
		more  []string
	}{
		"classic": {Rules{}, nil},
		"escape":  {Rules{Escape: true}, []string{`U__a_2e_b stateset "" ""`, `U___39_a unknown "" ""`}},
		"utf8":    {Rules{UTF8Names: true}, []string{`a.b stateset "" ""`, `9a unknown "" ""`}},
	} {
		if got, want := said(metadataPolicy(t, tc.rules), src, V1), slices.Concat(common, tc.more); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for cut := range src { // what is cut short is left alone
		_ = said(metadataPolicy(t, Rules{}), src[:cut], V1)
		_ = said(metadataPolicy(t, Rules{}), src[:cut], V2)
	}
}

func TestEachMetadata2(t *testing.T) {
	table := writev2.NewSymbolTable()
	refs := func(pairs ...string) (out []uint32) {
		for _, s := range pairs {
			out = append(out, table.Symbolize(s))
		}
		return out
	}
	meta := func(kind writev2.Metadata_MetricType, help, unit string) writev2.Metadata {
		return writev2.Metadata{Type: kind, HelpRef: table.Symbolize(help), UnitRef: table.Symbolize(unit)}
	}
	two := writev2.Request{Timeseries: []writev2.TimeSeries{
		{LabelsRefs: refs("__name__", "up", "job", "x"), Metadata: meta(writev2.Metadata_METRIC_TYPE_GAUGE, "Is it?", "bool")},
		{LabelsRefs: refs("__name__", "up", "job", "y"), Metadata: meta(writev2.Metadata_METRIC_TYPE_GAUGE, "Is it?", "bool")}, // a neighbour
		{LabelsRefs: refs("__name__", "x_bucket", "le", "1"), Metadata: meta(writev2.Metadata_METRIC_TYPE_HISTOGRAM, "How long", "")},
		{LabelsRefs: refs("__name__", "x_sum"), Metadata: meta(writev2.Metadata_METRIC_TYPE_HISTOGRAM, "How long", "")},
		{LabelsRefs: refs("__name__", "y_sum"), Metadata: meta(writev2.Metadata_METRIC_TYPE_SUMMARY, "Of it", "")},
		{LabelsRefs: refs("__name__", "y_bucket"), Metadata: meta(writev2.Metadata_METRIC_TYPE_SUMMARY, "Of it", "")},
		{LabelsRefs: refs("__name__", "z_count"), Metadata: meta(writev2.Metadata_METRIC_TYPE_COUNTER, "", "")},
		{LabelsRefs: refs("__name__", "_sum"), Metadata: meta(writev2.Metadata_METRIC_TYPE_SUMMARY, "", "")},
		{LabelsRefs: refs("__name__", "silent")},
		{LabelsRefs: refs("job", "nameless"), Metadata: meta(writev2.Metadata_METRIC_TYPE_GAUGE, "", "")},
		{LabelsRefs: []uint32{900, 901, 1}, Metadata: writev2.Metadata{Type: 2, HelpRef: 77777}},
		{LabelsRefs: refs("__name__", "lost"), Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_INFO, HelpRef: 77777, UnitRef: 1 << 31}},
	}}
	two.Symbols = table.Symbols()
	src, err := two.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`up gauge "Is it?" "bool"`, `x histogram "How long" ""`, `x histogram "How long" ""`, `y summary "Of it" ""`, `y_bucket summary "Of it" ""`,
		`z_count counter "" ""`, `_sum summary "" ""`, `lost info "" ""`,
	}
	if got := said(metadataPolicy(t, Rules{}), src, V2); !slices.Equal(got, want) {
		t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// FuzzEachMetadata: no bytes make it fail; of a well-formed request of 1.0 it says what prompb reads.
func FuzzEachMetadata(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	seeds := 0
	for range 10 {
		req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "a", Value: "b"}}}}}
		for range r.IntN(4) {
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{Type: prompb.MetricMetadata_MetricType(r.IntN(9)), MetricFamilyName: "up", Help: strings.Repeat("x", r.IntN(200)), Unit: "s"})
		}
		b, err := req.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		seeds++
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	p := metadataPolicy(f, Rules{UTF8Names: true})
	f.Fuzz(func(t *testing.T, src []byte) {
		_ = said(p, src, V2)
		got := said(p, src, V1)
		var req prompb.WriteRequest
		if req.Unmarshal(src) != nil {
			return
		}
		if _, err := walk(src, 0, len(src), schema{3: {kindMessage, metadataFields}}); err != nil {
			return // prompb reads some broken requests that Confine refuses
		}
		var want []string
		for _, m := range req.Metadata {
			if name := m.MetricFamilyName; name != "" && validText([]byte(name)) {
				typ := "unknown"
				if m.Type >= 0 && int(m.Type) < len(metadataTypes) {
					typ = metadataTypes[m.Type]
				}
				want = append(want, fmt.Sprintf("%s %s %q %q", name, typ, m.Help, m.Unit))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%x: %q, want %q", src, got, want)
		}
	})
}
