package remotewrite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

const testNow = int64(1_700_000_000_000)

var classicRules = Rules{Limits: Limits{NameBytes: 64, ValueBytes: 256, Labels: 12}, Reserved: []string{"__m3", "__rollup__"}}

func tenantA() []TenantLabels {
	return []TenantLabels{{"a", []Label{{"tenant", "a"}}}}
}

// policies are the shapes of policy that every differential test runs through.
func policies() []reference {
	utf8Rules := Rules{Limits: classicRules.Limits, UTF8Names: true, Histograms: true, Exemplars: true, Metadata: true}
	env := []TenantLabels{
		{"a", []Label{{"env", "prod"}, {"tenant", "a"}, {"zone", strings.Repeat("z", 200)}}},
		{"b", []Label{{"region", "r"}, {"tenant", "b"}}},
	}
	var out []reference
	escapeRules := classicRules
	escapeRules.Escape, escapeRules.Classic = true, true
	for _, rules := range []Rules{classicRules, utf8Rules, escapeRules} {
		for _, mode := range []Mode{Override, Reject, Allow} {
			out = append(out, reference{label: "tenant", mode: mode, rules: rules, tenants: tenantA()})
			out = append(out, reference{label: "tenant", mode: mode, rules: rules, tenants: env[:1]})
		}
		out = append(out, reference{label: "tenant", mode: Allow, rules: rules, tenants: env})
	}
	for i := range out {
		out[i].minT, out[i].maxT = testNow-600_000, testNow+600_000
	}
	return out
}

func (r *reference) policy(t testing.TB) *Policy {
	p, err := NewPolicy(r.label, r.mode, r.rules, r.tenants)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testLimit is beyond what any test's request comes to.
const testLimit = 256 << 20

// raw is Confine to 1.0 with as much room as it needs, its block decoded.
func raw(t testing.TB, c *Confiner, src []byte, proto Protocol, p *Policy, minT, maxT int64) ([]byte, Result, error) {
	t.Helper()
	return rawTo(t, c, src, Order{Proto: proto, Policy: p, MinT: minT, MaxT: maxT, Limit: testLimit})
}

func rawTo(t testing.TB, c *Confiner, src []byte, o Order) ([]byte, Result, error) {
	t.Helper()
	for room := 64; ; room *= 4 {
		dst := make([]byte, 0, room)
		block, res, err := c.Confine(dst, src, o)
		if errors.Is(err, ErrShort) {
			continue
		}
		if err != nil {
			return nil, res, err
		}
		if &block[:1][0] != &dst[headerRoom-lengthOf(block) : headerRoom][0] {
			t.Fatal("the block is not in dst")
		}
		out, err := snappy.Decode(nil, block)
		if err != nil {
			t.Fatalf("the block is no snappy: %v", err)
		}
		return out, res, nil
	}
}

// lengthOf is the length of a block's length prefix.
func lengthOf(block []byte) int {
	_, n := binary.Uvarint(block)
	return n
}

// check runs Confine on src and compares everything it says with the reference.
func check(t testing.TB, c *Confiner, ref *reference, p *Policy, src []byte) {
	t.Helper()
	out, res, err := raw(t, c, src, V1, p, ref.minT, ref.maxT)
	var in prompb.WriteRequest
	oracleErr := in.Unmarshal(src)
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		if syntax.Offset < 0 || syntax.Offset > len(src) {
			t.Fatalf("offset %d of %d", syntax.Offset, len(src))
		}
		return
	}
	var foreign *ForeignLabelError
	refused := errors.As(err, &foreign)
	if oracleErr != nil && refused {
		return // refused at the label, before the broken bytes were reached
	}
	if oracleErr != nil {
		t.Fatalf("accepted what prompb refuses: %v", oracleErr)
	}
	want := ref.confine(in)
	if refused != want.foreign {
		t.Fatalf("err %v, reference foreign=%v", err, want.foreign)
	}
	if want.foreign {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var got prompb.WriteRequest
	if err := got.Unmarshal(out); err != nil {
		t.Fatalf("prompb refuses the output: %v", err)
	}
	if where := unrecognised(&got); where != "" {
		t.Fatalf("unknown bytes in %s", where)
	}
	if !equal(got, want.req) {
		t.Fatalf("got\n%v\nwant\n%v", got.String(), want.req.String())
	}
	if res.Series != want.series || res.Samples != want.samples || res.Histograms != want.histograms || res.Exemplars != want.exemplars {
		t.Fatalf("counts %+v, want %+v", res, want)
	}
	total := 0
	for _, n := range res.Tenants {
		total += n
	}
	if total != res.Samples+res.Histograms {
		t.Fatalf("by tenant %v, in all %d", res.Tenants, res.Samples+res.Histograms)
	}
	for r := range Reasons {
		if res.Dropped[r] != want.dropped[Reason(r)] {
			t.Fatalf("dropped for %v: %d, want %d\n%v", Reason(r), res.Dropped[r], want.dropped[Reason(r)], in.String())
		}
		if res.Dropped[r] > 0 && Reason(r) != Metadata && res.Examples[r].Series == "" {
			t.Fatalf("%v without an example", Reason(r))
		}
		if len(res.Examples[r].Series) > exampleBytes+8 {
			t.Fatalf("example of %d bytes", len(res.Examples[r].Series))
		}
	}
	if res.Metadata != len(want.req.Metadata) {
		t.Fatalf("%d entries of metadata, want %d", res.Metadata, len(want.req.Metadata))
	}
	checkOut2(t, c, ref, p, src, V1, want, nil)
}

func unrecognised(r *prompb.WriteRequest) string {
	if len(r.XXX_unrecognized) > 0 {
		return "WriteRequest"
	}
	for _, ts := range r.Timeseries {
		if len(ts.XXX_unrecognized) > 0 {
			return "TimeSeries"
		}
		for _, l := range ts.Labels {
			if len(l.XXX_unrecognized) > 0 {
				return "Label"
			}
		}
		for _, s := range ts.Samples {
			if len(s.XXX_unrecognized) > 0 {
				return "Sample"
			}
		}
		for _, e := range ts.Exemplars {
			if len(e.XXX_unrecognized) > 0 {
				return "Exemplar"
			}
			for _, l := range e.Labels {
				if len(l.XXX_unrecognized) > 0 {
					return "Exemplar label"
				}
			}
		}
		for _, h := range ts.Histograms {
			if len(h.XXX_unrecognized) > 0 {
				return "Histogram"
			}
			for _, s := range append(h.NegativeSpans, h.PositiveSpans...) {
				if len(s.XXX_unrecognized) > 0 {
					return "BucketSpan"
				}
			}
		}
	}
	return ""
}

// generator makes requests near the border of every rule.
type generator struct{ *rand.Rand }

func (g generator) pick(s ...string) string { return s[g.IntN(len(s))] }

func (g generator) label() prompb.Label {
	return prompb.Label{
		Name: g.pick("job", "instance", "le", "tenant", "tenan", "tenants", "env", "zone", "region", "a", "Z", "__x", "__m3_type__", "0bad", "b.c", "b:c", "tenant.", "", "é", "_é", "日.本",
			strings.Repeat("n", 64), strings.Repeat("n", 65), "bad\xff", "__name__"),
		Value: g.pick("", "a", "b", "c", "x", "localhost:9090", strings.Repeat("v", 127), strings.Repeat("v", 128), strings.Repeat("v", 256), strings.Repeat("v", 257),
			"bad\xff", "\xff_eight_bytes", "ünïcode text", "q\"uote"),
	}
}

func (g generator) series() prompb.TimeSeries {
	ts := prompb.TimeSeries{}
	if g.IntN(10) > 0 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: "__name__", Value: g.pick("up", "up", "http_requests_total", "a:b", "0bad", "", "b.c", "a_b:c.d", "bad\xff")})
	}
	for _, name := range []string{"instance", "job", "le", "tenant"} {
		if g.IntN(4) > 0 {
			v := g.pick("x", "y", "localhost:9090", strings.Repeat("v", 130))
			if name == "tenant" {
				if g.IntN(3) > 0 {
					continue
				}
				v = g.pick("a", "b", "c")
			}
			ts.Labels = append(ts.Labels, prompb.Label{Name: name, Value: v})
		}
	}
	for g.IntN(4) == 0 {
		at := g.IntN(len(ts.Labels) + 1)
		ts.Labels = append(ts.Labels[:at:at], append([]prompb.Label{g.label()}, ts.Labels[at:]...)...)
	}
	for range g.IntN(4) {
		ts.Samples = append(ts.Samples, prompb.Sample{Value: g.value(), Timestamp: g.timestamp()})
	}
	for g.IntN(6) == 0 {
		ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: []prompb.Label{{Name: "trace", Value: g.pick("x", "bad\xff")}}, Value: g.value(), Timestamp: g.timestamp()})
	}
	for g.IntN(6) == 0 {
		ts.Histograms = append(ts.Histograms, g.histogram())
	}
	return ts
}

func (g generator) value() float64 {
	return []float64{0, 1, -1, math.NaN(), math.Inf(1), math.Copysign(0, -1), math.Float64frombits(0x7ff0000000000002)}[g.IntN(7)]
}

func (g generator) timestamp() int64 {
	return []int64{testNow, testNow, testNow, testNow - 600_000, testNow - 600_001, testNow + 600_000, testNow + 600_001, 0, -1, math.MaxInt64, math.MinInt64}[g.IntN(11)]
}

func (g generator) request() []byte {
	var r prompb.WriteRequest
	for range 1 + g.IntN(6) {
		r.Timeseries = append(r.Timeseries, g.series())
		if g.IntN(3) == 0 { // a neighbour that shares most labels
			n := r.Timeseries[len(r.Timeseries)-1]
			n.Labels = append([]prompb.Label(nil), n.Labels...)
			if len(n.Labels) > 0 {
				n.Labels[g.IntN(len(n.Labels))].Value = g.pick("x", "yy", "", "bad\xff")
			}
			r.Timeseries = append(r.Timeseries, n)
		}
	}
	if g.IntN(4) == 0 {
		r.Metadata = append(r.Metadata, prompb.MetricMetadata{MetricFamilyName: "up", Help: g.pick("h", "bad\xff"), Type: prompb.MetricMetadata_GAUGE, Unit: "s"})
	}
	b, err := r.Marshal()
	if err != nil {
		panic(err)
	}
	return g.reencode(b)
}

// reencode keeps the meaning of a message for any decoder, or plants something unknown or broken in it.
func (g generator) reencode(b []byte) []byte {
	switch g.IntN(8) {
	case 0: // an unknown field of the request
		return append(b, 0x7a, 2, 'h', 'i')
	case 1: // a broken byte anywhere
		if len(b) > 0 {
			b[g.IntN(len(b))] ^= byte(1 << g.IntN(8))
		}
	case 2: // cut short
		return b[:g.IntN(len(b)+1)]
	case 3: // unknown fields in a series, labels after samples
		s := append([]byte{0x12, 11, 0x10}, binary.AppendUvarint(nil, uint64(testNow))...)
		s[1] = byte(len(s) - 2)
		s = append(s, 0x98, 0x06, 0x01, 0xb0, 0x06, 0x02) // fields 99 and 102, varints
		s = appendLabel(s, "job", "late")
		s = appendLabel(s, "__name__", "late_labels")
		return append(appendTagged(b, 0x0a, len(s)), s...)
	case 4: // a label with its value first, a repeated name, an unknown field and a long length
		l := []byte{0x12, 1, 'v', 0x0a, 1, 'x', 0x0a, 0x81, 0x00, 'j', 0x18, 0x05}
		s := append([]byte{0x0a, byte(len(l)) | 0x80, 0x00}, l...)
		s = appendLabel(s, "__name__", "odd_label")
		s = append(s, 0x12, 8, 0x10)
		s = binary.AppendUvarint(s, uint64(testNow))
		s[len(s)-8] = 7
		return append(appendTagged(b, 0x0a, len(s)), s...)
	}
	return b
}

func TestConfineAgainstReference(t *testing.T) {
	for i, ref := range policies() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := ref.policy(t)
			var c Confiner
			g := generator{rand.New(rand.NewPCG(1, uint64(i)))}
			for range rounds(5000) {
				check(t, &c, &ref, p, g.request())
			}
		})
	}
}

func FuzzConfine(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(7, 7))}
	seeds := 0
	for i := range 200 {
		f.Add(g.request(), uint8(i))
		f.Add(g.neighbours(12), uint8(i))
		seeds++
	}
	if seeds == 0 {
		f.Fatal("empty corpus")
	}
	refs := policies()
	var compiled []*Policy
	for i := range refs {
		compiled = append(compiled, refs[i].policy(f))
	}
	f.Fuzz(func(t *testing.T, src []byte, which uint8) {
		i := int(which) % len(refs)
		check(t, new(Confiner), &refs[i], compiled[i], src)
	})
}

// series builds one TimeSeries of label pairs and a sample at ts.
func series(ts int64, pairs ...string) prompb.TimeSeries {
	out := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1, Timestamp: ts}}}
	for i := 0; i < len(pairs); i += 2 {
		out.Labels = append(out.Labels, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func confine(t *testing.T, ref reference, in ...prompb.TimeSeries) (prompb.WriteRequest, Result, error) {
	t.Helper()
	src, err := (&prompb.WriteRequest{Timeseries: in}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ref.minT, ref.maxT = testNow-600_000, testNow+600_000
	check(t, new(Confiner), &ref, ref.policy(t), src)
	out, res, err := raw(t, new(Confiner), src, V1, ref.policy(t), ref.minT, ref.maxT)
	var got prompb.WriteRequest
	if e := got.Unmarshal(out); e != nil {
		t.Fatal(e)
	}
	return got, res, err
}

func TestVerdicts(t *testing.T) {
	base := reference{label: "tenant", rules: classicRules, tenants: tenantA()}
	with := func(mode Mode, tenants ...string) reference {
		r := base
		r.mode, r.tenants = mode, nil
		for _, name := range tenants {
			r.tenants = append(r.tenants, TenantLabels{name, []Label{{"tenant", name}}})
		}
		return r
	}
	for name, tc := range map[string]struct {
		ref    reference
		in     prompb.TimeSeries
		want   string // the labels that come out; empty: nothing does
		reason Reason
	}{
		"the label is set":             {base, series(testNow, "__name__", "up", "job", "x"), "__name__=up job=x tenant=a", 0},
		"a forged label is replaced":   {base, series(testNow, "__name__", "up", "tenant", "victim", "z", "1"), "__name__=up tenant=a z=1", 0},
		"an empty value is absent":     {base, series(testNow, "__name__", "up", "job", "", "z", "1"), "__name__=up tenant=a z=1", 0},
		"an empty tenant is absent":    {with(Reject, "a"), series(testNow, "__name__", "up", "tenant", ""), "__name__=up tenant=a", 0},
		"labels are sorted":            {base, series(testNow, "z", "1", "__name__", "up", "job", "x"), "__name__=up job=x tenant=a z=1", 0},
		"one of the user's tenants":    {with(Allow, "a", "b"), series(testNow, "__name__", "up", "tenant", "b"), "__name__=up tenant=b", 0},
		"another's tenant":             {with(Allow, "a", "b"), series(testNow, "__name__", "up", "tenant", "c"), "", ForeignTenant},
		"none of several tenants":      {with(Allow, "a", "b"), series(testNow, "__name__", "up"), "", NoTenant},
		"too old":                      {base, series(testNow-600_001, "__name__", "up"), "", TooOld},
		"the oldest":                   {base, series(testNow-600_000, "__name__", "up"), "__name__=up tenant=a", 0},
		"too new":                      {base, series(testNow+600_001, "__name__", "up"), "", TooNew},
		"seconds for milliseconds":     {base, series(testNow/1000, "__name__", "up"), "", TooOld},
		"invalid UTF-8 value":          {base, series(testNow, "__name__", "up", "a", "\xff"), "", InvalidUTF8},
		"label name with a dot":        {base, series(testNow, "__name__", "up", "a.b", "x"), "", InvalidLabelName},
		"label name begins with digit": {base, series(testNow, "__name__", "up", "0a", "x"), "", InvalidLabelName},
		"empty label name":             {base, series(testNow, "", "x", "__name__", "up"), "", InvalidLabelName},
		"no metric name":               {base, series(testNow, "a", "x"), "", InvalidMetricName},
		"no labels":                    {base, series(testNow), "", InvalidMetricName},
		"empty metric name":            {base, series(testNow, "__name__", "", "a", "x"), "", InvalidMetricName},
		"metric name with a dash":      {base, series(testNow, "__name__", "a-b"), "", InvalidMetricName},
		"duplicate label":              {base, series(testNow, "__name__", "up", "a", "x", "a", "y"), "", DuplicateLabel},
		"duplicate metric name":        {base, series(testNow, "__name__", "up", "__name__", "down"), "", DuplicateLabel},
		"duplicate le, not neighbours": {base, series(testNow, "__name__", "up", "le", "1", "m", "x", "le", "2"), "", DuplicateLabel},
		"duplicate forged tenant":      {base, series(testNow, "__name__", "up", "tenant", "b", "tenant", "c"), "", DuplicateLabel},
		"value too long":               {base, series(testNow, "__name__", "up", "a", strings.Repeat("v", 257)), "", LabelTooLong},
		"name too long":                {base, series(testNow, "__name__", "up", strings.Repeat("n", 65), "v"), "", LabelTooLong},
		"reserved label":               {base, series(testNow, "__m3_type__", "x", "__name__", "up"), "", ReservedLabel},
	} {
		t.Run(name, func(t *testing.T) {
			good := series(testNow, "__name__", "good", "tenant", tc.ref.tenants[0].Tenant)
			if tc.ref.mode == Reject {
				good = series(testNow, "__name__", "good")
			}
			got, res, err := confine(t, tc.ref, tc.in, good)
			if err != nil {
				t.Fatal(err)
			}
			var labels []string
			if len(got.Timeseries) == 2 {
				for _, l := range got.Timeseries[0].Labels {
					labels = append(labels, l.Name+"="+l.Value)
				}
			}
			if s := strings.Join(labels, " "); s != tc.want {
				t.Errorf("got %q, want %q", s, tc.want)
			}
			if tc.want == "" && (res.Dropped[tc.reason] != 1 || res.Refused() != 1) {
				t.Errorf("%v: %v", tc.reason, res.Dropped)
			}
			if n := len(got.Timeseries); n == 0 || got.Timeseries[n-1].Labels[0].Value != "good" {
				t.Error("the good series beside it is lost")
			}
		})
	}
}

func TestRejectNamesTheSeries(t *testing.T) {
	ref := reference{label: "tenant", mode: Reject, rules: classicRules, tenants: tenantA()}
	_, _, err := confine(t, ref, series(testNow, "__name__", "up", "tenant", "a"))
	var foreign *ForeignLabelError
	if !errors.As(err, &foreign) || !strings.Contains(err.Error(), `tenant="a"`) || !strings.Contains(err.Error(), "labeldrop") {
		t.Fatalf("%v", err)
	}
}

// TestReplacedTexts: a text that a later one of the same field replaces is neither judged nor forwarded.
func TestReplacedTexts(t *testing.T) {
	ref := reference{label: "tenant", rules: Rules{Limits: classicRules.Limits, UTF8Names: true, Exemplars: true, Metadata: true}, tenants: tenantA(), minT: testNow, maxT: testNow}
	text := func(tag byte, s string) []byte { return append(appendTagged(nil, tag, len(s)), s...) }
	message := func(tag byte, parts ...[]byte) []byte {
		b := bytes.Join(parts, nil)
		return append(appendTagged(nil, tag, len(b)), b...)
	}
	name := appendLabel(nil, "__name__", "up")
	sample := appendSample(nil, 1, testNow)
	at := binary.AppendUvarint([]byte{0x18}, uint64(testNow))
	for want, help := range map[int][][]byte{
		1: {text(0x22, "bad\xff"), text(0x22, "good")},
		0: {text(0x22, "good"), text(0x22, "bad\xff")},
	} {
		label := message(0x0a, text(0x0a, "trace"), bytes.ReplaceAll(bytes.Join(help, nil), []byte{0x22}, []byte{0x12}))
		src := slices.Concat(message(tagSeries, name, sample, message(tagExemplar, label, at)), message(tagMetadata1, text(0x12, "up"), help[0], help[1]))
		check(t, new(Confiner), &ref, ref.policy(t), src)
		out, res, err := raw(t, new(Confiner), src, V1, ref.policy(t), testNow, testNow)
		if err != nil || res.Exemplars != want || res.Metadata != want || bytes.Contains(out, []byte("bad")) {
			t.Errorf("%+v, %v: %q", res, err, out)
		}
	}
}

func TestSyntaxErrorsNameTheOffset(t *testing.T) {
	ref := reference{label: "tenant", rules: classicRules, tenants: tenantA()}
	for name, tc := range map[string]struct {
		src    []byte
		offset int
	}{
		"truncated length":        {[]byte{0x0a}, 1},
		"length beyond the body":  {[]byte{0x0a, 5, 0x0a}, 1},
		"label beyond its series": {[]byte{0x0a, 2, 0x0a, 9, 0, 0, 0, 0}, 3},
		"overlong varint":         {[]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 1},
		"a series as a varint":    {[]byte{0x08, 1}, 1},
		"field number 0":          {[]byte{0x02, 0}, 0},
		"a group":                 {[]byte{0x0a, 2, 0x2b, 0x2c}, 2},
		"short double":            {[]byte{0x0a, 4, 0x12, 2, 0x09, 0}, 4},
		"timestamp as a double":   {[]byte{0x0a, 11, 0x12, 9, 0x11, 0, 0, 0, 0, 0, 0, 0, 0}, 5},
	} {
		_, _, err := raw(t, new(Confiner), tc.src, V1, ref.policy(t), 0, math.MaxInt64)
		var s *SyntaxError
		if !errors.As(err, &s) || s.Offset != tc.offset {
			t.Errorf("%s: %v, want offset %d", name, err, tc.offset)
		}
	}
}
