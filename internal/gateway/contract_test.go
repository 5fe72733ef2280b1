package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"m3gateway/internal/gatewaytest"
)

// The tests in this file follow the measured contract of an m3coordinator, row by row: for each case that it treats in a way
// of its own, what the gateway answers to the sender and what reaches the store.

// contractSeries is one case that lies in a series: it is sent alone, and then between two good series.
type contractSeries struct {
	row, variant string
	sent         []byte // a TimeSeries message
	stored       string // as the store gets it; "": not at all
	reason       string // why a sample is refused, which the sender is told; "": nothing is
	counted      string // the reason under which something is left out without telling the sender
	unknown      int    // fields left out because they are not part of the protocol
}

// good is a float sample of the series up{labels} as TimeSeries message.
func good(labels ...string) []byte { return message(up(labels...)) }

// message is ts as TimeSeries message, with the bytes of further fields.
func message(ts prompb.TimeSeries, more ...[]byte) []byte {
	b, err := ts.Marshal()
	if err != nil {
		panic(err)
	}
	return append(b, bytes.Join(more, nil)...)
}

// at is up{labels} with samples of the given ages, newest value last.
func at(ages []time.Duration, labels ...string) prompb.TimeSeries {
	ts := up(labels...)
	ts.Samples = nil
	for i, age := range ages {
		ts.Samples = append(ts.Samples, prompb.Sample{Value: float64(i + 1), Timestamp: time.Now().Add(-age).UnixMilli()})
	}
	return ts
}

// absolute is up with one sample at a timestamp.
func absolute(ms int64) []byte {
	ts := up()
	ts.Samples[0].Timestamp = ms
	return message(ts)
}

// valued is up with one sample of a value.
func valued(bits uint64) []byte {
	ts := up()
	ts.Samples[0].Value = math.Float64frombits(bits)
	return message(ts)
}

// bare is a series of exactly these labels, in this order.
func bare(labels ...string) []byte {
	ts := up()
	ts.Labels = nil
	for i := 0; i < len(labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return message(ts)
}

// varintField and bytesField are protobuf fields.
func varintField(number, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3), v)
}

func bytesField(number uint64, v []byte) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, number<<3|2), uint64(len(v))), v...)
}

// batchOf is a remote write 1.0 body of TimeSeries messages.
func batchOf(series ...[]byte) []byte {
	var b []byte
	for _, s := range series {
		b = append(b, bytesField(1, s)...)
	}
	return snappy.Encode(nil, b)
}

func nativeHistogram() prompb.Histogram {
	return prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: 3}, Sum: 7, Schema: 1, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1},
		PositiveSpans: []prompb.BucketSpan{{Offset: 1, Length: 2}}, PositiveDeltas: []int64{1, 0}, Timestamp: time.Now().UnixMilli(),
	}
}

func exemplar() prompb.Exemplar {
	return prompb.Exemplar{Labels: []prompb.Label{{Name: "trace_id", Value: "abc"}}, Value: 1, Timestamp: time.Now().UnixMilli()}
}

// manyLabels is up with n labels, __name__ among them.
func manyLabels(n int) []byte {
	ts := up()
	for i := 1; i < n; i++ {
		ts.Labels = append(ts.Labels, prompb.Label{Name: fmt.Sprintf("l%04d", i), Value: "v"})
	}
	return message(ts)
}

const minute = time.Minute

// upNow is how stored writes up{tenant="team-a"} with the value 1 at the time of sending.
const upNow = `up{tenant="team-a"} 1@0s`

func contractTimes() []contractSeries {
	return []contractSeries{
		{row: "good batch", sent: good("a", "1"), stored: `up{a="1",tenant="team-a"} 1@0s`},
		// The gateway knows nothing of what the store has seen, so a known and a never-seen series fare alike.
		{row: "sample older than bufferPast", sent: message(at([]time.Duration{11 * minute})), reason: "too_old"},
		{row: "sample too far in future", sent: message(at([]time.Duration{-11 * minute})), reason: "too_new"},
		{row: "batch of good + too old", variant: "in one series, good first", sent: message(at([]time.Duration{minute, 20 * minute})), stored: `up{tenant="team-a"} 1@1m0s`, reason: "too_old"},
		{row: "batch of good + too old", variant: "in one series, old first", sent: message(at([]time.Duration{20 * minute, minute})), stored: `up{tenant="team-a"} 2@1m0s`, reason: "too_old"},
		{row: "batch of good + too old", variant: "old and future around good", sent: message(at([]time.Duration{20 * minute, 0, -20 * minute})), stored: `up{tenant="team-a"} 2@0s`, reason: "too_old"},
		{row: "timestamps", variant: "0", sent: absolute(0), reason: "too_old"},
		{row: "timestamps", variant: "-1", sent: absolute(-1), reason: "too_old"},
		{row: "timestamps", variant: "MaxInt64", sent: absolute(math.MaxInt64), reason: "too_new"},
		{row: "timestamps", variant: "MinInt64", sent: absolute(math.MinInt64), reason: "too_old"},
		{row: "timestamps", variant: "seconds", sent: absolute(time.Now().Unix()), reason: "too_old"},
		{row: "NaN, +Inf, NUL in a value", variant: "NaN", sent: valued(0x7ff8000000000001), stored: `up{tenant="team-a"} 7ff8000000000001@0s`},
		{row: "NaN, +Inf, NUL in a value", variant: "+Inf", sent: valued(math.Float64bits(math.Inf(1))), stored: `up{tenant="team-a"} +Inf@0s`},
		{row: "NaN, +Inf, NUL in a value", variant: "NUL", sent: good("a", "x\x00y"), stored: `up{a="x\x00y",tenant="team-a"} 1@0s`},
		{row: "staleness marker", sent: valued(0x7ff0000000000002), stored: `up{tenant="team-a"} 7ff0000000000002@0s`},
	}
}

func contractLabels() []contractSeries {
	long := strings.Repeat("x", 65536)
	return []contractSeries{
		{row: "duplicate label", variant: "other value", sent: good("a", "1", "a", "2"), reason: "duplicate_label"},
		{row: "duplicate label", variant: "same value", sent: good("a", "1", "a", "1"), reason: "duplicate_label"},
		{row: "duplicate label", variant: "not neighbours", sent: good("a", "1", "b", "1", "a", "1"), reason: "duplicate_label"},
		{row: "duplicate label", variant: "the sender's own tenant is replaced", sent: good("tenant", "victim"), stored: upNow},
		{row: "duplicate label", variant: "the sender's own tenant twice", sent: good("tenant", "victim", "tenant", "team-a"), reason: "duplicate_label"},
		{row: "duplicate __name__", sent: good("__name__", "other"), reason: "duplicate_label"},
		{row: "duplicate le", sent: good("le", "1", "le", "2"), reason: "duplicate_label"},
		{row: "unsorted labels", sent: bare("z", "1", "tenant", "x", "__name__", "up", "a", "2"), stored: `up{a="2",tenant="team-a",z="1"} 1@0s`},
		{row: "empty label value", sent: good("a", ""), stored: upNow},
		{row: "empty label value", variant: "beside the same label with a value", sent: good("a", "", "a", "1"), stored: `up{a="1",tenant="team-a"} 1@0s`},
		{row: "empty label name, empty __name__, no labels at all", variant: "empty label name", sent: good("", "x"), reason: "invalid_label_name"},
		{row: "empty label name, empty __name__, no labels at all", variant: "empty __name__", sent: bare("__name__", "", "a", "x"), reason: "invalid_metric_name"},
		{row: "empty label name, empty __name__, no labels at all", variant: "no labels at all", sent: bare(), reason: "invalid_metric_name"},
		{row: "no __name__", sent: bare("a", "x"), reason: "invalid_metric_name"},
		{row: "invalid UTF-8 in name or value", variant: "name", sent: good("a\xff", "x"), reason: "invalid_label_name"},
		{row: "invalid UTF-8 in name or value", variant: "value", sent: good("a", "v\xff"), reason: "invalid_utf8"},
		{row: "invalid UTF-8 in name or value", variant: "metric name", sent: bare("__name__", "up\xff"), reason: "invalid_utf8"},
		{row: "label or metric name outside the classic characters", variant: "UTF-8 label", sent: good("ü", "x"), reason: "invalid_label_name"},
		{row: "label or metric name outside the classic characters", variant: "dot in a label", sent: good("a.b", "x"), reason: "invalid_label_name"},
		{row: "label or metric name outside the classic characters", variant: "leading digit", sent: good("1a", "x"), reason: "invalid_label_name"},
		{row: "label or metric name outside the classic characters", variant: "colon in a label", sent: good("a:b", "x"), reason: "invalid_label_name"},
		{row: "label or metric name outside the classic characters", variant: "UTF-8 metric", sent: bare("__name__", "grüße"), reason: "invalid_metric_name"},
		{row: "label or metric name outside the classic characters", variant: "dot in a metric", sent: bare("__name__", "http.requests"), reason: "invalid_metric_name"},
		{row: "label or metric name outside the classic characters", variant: "leading digit of a metric", sent: bare("__name__", "1up"), reason: "invalid_metric_name"},
		{row: "label or metric name outside the classic characters", variant: "colon in a metric is classic", sent: bare("__name__", "job:up:sum"), stored: `job:up:sum{tenant="team-a"} 1@0s`},
		{row: "label value or name > 65535 bytes", variant: "value", sent: good("a", long), reason: "label_too_long"},
		{row: "label value or name > 65535 bytes", variant: "name", sent: good(long, "a"), reason: "label_too_long"},
		{row: "label value or name > 65535 bytes", variant: "metric name", sent: bare("__name__", long), reason: "label_too_long"},
		{row: "label value or name > 65535 bytes", variant: "value, yet unknown to be the last", sent: good("a", long, "b", "\xff"), reason: "label_too_long"},
		{row: "301, 1101 labels", variant: "301", sent: manyLabels(301), stored: "301 labels"},
		{row: "301, 1101 labels", variant: "1101", sent: manyLabels(1101), reason: "too_many_labels"},
		{row: "labels the store keeps for itself", variant: "__m3_type__", sent: good("__m3_type__", "counter"), reason: "reserved_label"},
		{row: "labels the store keeps for itself", variant: "__m3_namespace__", sent: good("__m3_namespace__", "x"), reason: "reserved_label"},
		{row: "labels the store keeps for itself", variant: "__m3_x__", sent: good("__m3_x__", "1"), reason: "reserved_label"},
		{row: "labels the store keeps for itself", variant: "__rollup__", sent: good("__rollup__", "true"), reason: "reserved_label"},
		{row: "labels the store keeps for itself", variant: "__option_id_scheme__", sent: good("__option_id_scheme__", "graphite"), reason: "reserved_label"},
	}
}

func contractFields() []contractSeries {
	none, withExemplar, withHistogram := up(), up(), up()
	none.Samples = nil
	withExemplar.Exemplars = []prompb.Exemplar{exemplar()}
	withHistogram.Histograms = []prompb.Histogram{nativeHistogram()}
	onlyExemplar, onlyHistogram := withExemplar, withHistogram
	onlyExemplar.Samples, onlyHistogram.Samples = nil, nil

	label := append(bytesField(1, []byte("a")), bytesField(2, []byte("1"))...)
	label = bytesField(1, append(label, varintField(102, 2)...))
	now := binary.AppendUvarint([]byte{0x10}, uint64(time.Now().UnixMilli()))
	one := binary.LittleEndian.AppendUint64([]byte{0x09}, math.Float64bits(1))
	sample := bytesField(2, append(append(one, now...), bytesField(7, []byte("x"))...))
	var empty prompb.TimeSeries
	return []contractSeries{
		{row: "series without anything to store", variant: "no samples", sent: message(none)},
		{row: "series without anything to store", variant: "exemplar only", sent: message(onlyExemplar), counted: "exemplar"},
		{row: "series without anything to store", variant: "native histogram only", sent: message(onlyHistogram), counted: "native_histogram"},
		{row: "sample + exemplar or histogram", variant: "exemplar", sent: message(withExemplar), stored: upNow, counted: "exemplar"},
		{row: "sample + exemplar or histogram", variant: "histogram", sent: message(withHistogram), stored: upNow, counted: "native_histogram"},
		{row: "M3-only protobuf fields", variant: "m3_type=101, counter", sent: message(up(), varintField(101, 1)), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "m3_type=101, timer", sent: message(up(), varintField(101, 3)), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "source=102, Graphite", sent: message(up(), varintField(102, 1)), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "source=102, undefined", sent: message(up(), varintField(102, 9)), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "source=102, Graphite, with an empty value", sent: message(up("a", ""), varintField(102, 1)), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "source=102, Graphite, with a tenant twice", sent: message(up("tenant", "a", "tenant", "b"), varintField(102, 1)), reason: "duplicate_label", unknown: 1},
		{row: "M3-only protobuf fields", variant: "type=1001, undefined", sent: message(up(), varintField(1001, 99)), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "all three, before the labels too", sent: append(varintField(102, 1), message(up(), varintField(101, 1), varintField(1001, 2))...), stored: upNow, unknown: 3},
		{row: "M3-only protobuf fields", variant: "as bytes", sent: message(up(), bytesField(102, []byte{1})), stored: upNow, unknown: 1},
		{row: "M3-only protobuf fields", variant: "in a label and a sample", sent: message(empty, bytesField(1, []byte("\x0a\x08__name__\x12\x02up")), label, sample), stored: `up{a="1",tenant="team-a"} 1@0s`, unknown: 2},
	}
}

// TestContractSeries: every case of section 1 that lies in a series, alone and in a batch with good series, which are stored
// whatever stands beside them.
func TestContractSeries(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	g := start(t, "m3", u)
	for _, tc := range slices.Concat(contractTimes(), contractLabels(), contractFields()) {
		name := tc.row
		if tc.variant != "" {
			name += "/" + tc.variant
		}
		t.Run(name, func(t *testing.T) {
			check := func(a gatewaytest.Answer, says string, stored ...string) {
				t.Helper()
				want := 204
				if tc.reason != "" {
					want = 400
				}
				if a.Status != want || !strings.Contains(a.Body, says) || len(a.Body) > 1024 || strings.Count(a.Body, "\n") > 1 || !utf8.ValidString(a.Body) {
					t.Errorf("%d %q, want %d with %q", a.Status, a.Body, want, says)
				}
				if got := storedBy(t, u); !slices.Equal(got, stored) {
					t.Errorf("stored\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(stored, "\n"))
				}
			}
			var alone []string
			says, beside := "", ""
			if tc.stored != "" {
				alone = []string{tc.stored}
			}
			if tc.reason != "" {
				says = fmt.Sprintf("stored %d samples, dropped ", len(alone))
				beside = fmt.Sprintf("stored %d samples, dropped ", len(alone)+2)
			}
			before := g.Admin("GET", "/metrics").Body
			a := send(g, batchOf(tc.sent))
			check(a, says, alone...)
			if tc.reason != "" && !strings.Contains(a.Body, " "+tc.reason+" 1") {
				t.Errorf("%q does not tell of %s", a.Body, tc.reason)
			}
			after := g.Admin("GET", "/metrics").Body
			for metric, want := range map[string]int{
				"m3gateway_gateway_unknown_fields_total":                                               tc.unknown,
				`m3gateway_gateway_dropped_samples_total{reason="` + tc.reason + `",tenant="team-a"}`:  1,
				`m3gateway_gateway_dropped_samples_total{reason="` + tc.counted + `",tenant="team-a"}`: 1,
			} {
				if strings.Contains(metric, `""`) {
					continue
				}
				if got := metricOf(t, after, metric) - metricOf(t, before, metric); got != float64(want) {
					t.Errorf("%s went up by %v, want %d", metric, got, want)
				}
			}
			before1, after1 := `up{k="before",tenant="team-a"} 1@0s`, `up{k="after",tenant="team-a"} 1@0s`
			check(send(g, batchOf(good("k", "before"), tc.sent, good("k", "after"))), beside, slices.Concat([]string{before1}, alone, []string{after1})...)
		})
	}
}

// send is a write of body by alice, as an old sender puts it.
func send(g *gatewaytest.Gateway, body []byte, headers ...string) gatewaytest.Answer {
	req := g.Request("alice", "POST", "/api/v1/prom/remote/write", body)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	return g.Do(req)
}

// metricOf is the value of a series in an exposition; 0 if it is not there.
func metricOf(t *testing.T, exposition, series string) float64 {
	t.Helper()
	for line := range strings.Lines(exposition) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

var (
	classicLabel  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	classicMetric = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
)

// storedBy takes what has reached the store, as text, and checks of every series all that an m3coordinator must never meet.
func storedBy(t *testing.T, u *upstream) []string {
	t.Helper()
	var out []string
	for _, s := range u.take() {
		batch := s.batch(t)
		canonical, err := batch.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := snappy.Decode(nil, s.Body)
		if err != nil {
			t.Fatal(err)
		}
		if batch.XXX_unrecognized != nil || !bytes.Equal(raw, canonical) || len(batch.Metadata) > 0 || len(batch.Timeseries) == 0 {
			t.Errorf("not a plain batch: %+v", batch)
		}
		for _, ts := range batch.Timeseries {
			out = append(out, textOf(ts))
			if p := refusedByM3(ts); p != "" {
				t.Errorf("%s: %s", out[len(out)-1], p)
			}
		}
	}
	return out
}

// refusedByM3 is what the contract does not allow about a series, or "".
func refusedByM3(ts prompb.TimeSeries) string {
	if ts.XXX_unrecognized != nil || len(ts.Exemplars) > 0 || len(ts.Histograms) > 0 {
		return "a field the store does not take"
	}
	if len(ts.Samples) == 0 {
		return "no samples"
	}
	for _, s := range ts.Samples {
		if age := time.Since(time.UnixMilli(s.Timestamp)).Abs(); s.XXX_unrecognized != nil || age > 10*minute+30*time.Second {
			return "a sample outside the window"
		}
	}
	seen := map[string]string{}
	for i, l := range ts.Labels {
		if i > 0 && l.Name <= ts.Labels[i-1].Name {
			return "labels not in order, or twice"
		}
		if l.XXX_unrecognized != nil || l.Value == "" || !utf8.ValidString(l.Value) || !classicLabel.MatchString(l.Name) || len(l.Value) > 65535 || len(l.Name) > 65535 {
			return "a label the store does not take"
		}
		if strings.HasPrefix(l.Name, "__m3") || l.Name == "__rollup__" || l.Name == "__option_id_scheme__" {
			return "a label the store keeps for itself"
		}
		seen[l.Name] = l.Value
	}
	if !classicMetric.MatchString(seen["__name__"]) || seen["tenant"] != "team-a" {
		return "no metric name, or another tenant"
	}
	return ""
}

// textOf is a series as name{label="value",…} value@age …; of many labels only the number.
func textOf(ts prompb.TimeSeries) string {
	if len(ts.Labels) > 100 {
		return fmt.Sprintf("%d labels", len(ts.Labels)-1) // the tenant's is the gateway's
	}
	name, sep := "", "{"
	var b strings.Builder
	for _, l := range ts.Labels {
		if l.Name == "__name__" {
			name += l.Value
			continue
		}
		fmt.Fprintf(&b, "%s%s=%q", sep, l.Name, l.Value)
		sep = ","
	}
	b.WriteByte('}')
	for _, s := range ts.Samples {
		value := strconv.FormatFloat(s.Value, 'g', -1, 64)
		if math.IsNaN(s.Value) {
			value = fmt.Sprintf("%x", math.Float64bits(s.Value))
		}
		fmt.Fprintf(&b, " %s@%v", value, time.Since(time.UnixMilli(s.Timestamp)).Round(minute))
	}
	return name + b.String()
}

// TestContractBatch: the cases of section 1 that lie in the batch beside its series, or in its size.
func TestContractBatch(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	g := start(t, "m3", u)
	metadata := bytesField(3, slices.Concat(varintField(1, 1), bytesField(2, []byte("up")), bytesField(4, []byte("help"))))
	series := bytesField(1, good("a", "1"))
	stored := []string{`up{a="1",tenant="team-a"} 1@0s`}
	for name, tc := range map[string]struct {
		decoded []byte
		stored  []string
		unknown int // fields left out because they are not part of the protocol
	}{
		"metadata/only":                           {metadata, nil, 0},
		"metadata/with a series":                  {slices.Concat(metadata, series, metadata), stored, 0},
		"snappy of an empty message":              {nil, nil, 0},
		"M3-only protobuf fields/in the request":  {slices.Concat(varintField(102, 1), series, bytesField(1001, []byte("x"))), stored, 2},
		"M3-only protobuf fields/in the metadata": {slices.Concat(bytesField(3, varintField(102, 1)), series), stored, 1},
		"batch of several good series":            {bytes.Repeat(series, 3), slices.Repeat(stored, 3), 0},
	} {
		t.Run(name, func(t *testing.T) {
			const unknown = "m3gateway_gateway_unknown_fields_total"
			before := metricOf(t, g.Admin("GET", "/metrics").Body, unknown)
			if a := send(g, snappy.Encode(nil, tc.decoded)); a.Status != 204 || a.Body != "" {
				t.Errorf("%+v", a)
			}
			if got := storedBy(t, u); !slices.Equal(got, tc.stored) {
				t.Errorf("stored %q, want %q", got, tc.stored)
			}
			if got := metricOf(t, g.Admin("GET", "/metrics").Body, unknown) - before; got != float64(tc.unknown) {
				t.Errorf("%v unknown fields counted, want %d", got, tc.unknown)
			}
		})
	}
	t.Run("8 MiB, 76k series", func(t *testing.T) {
		const n = 76_000
		var b []byte
		for i := range n {
			b = append(b, bytesField(1, good("series", strconv.Itoa(i), "job", strings.Repeat("j", 60)))...)
		}
		if a := send(g, snappy.Encode(nil, b)); a.Status != 204 {
			t.Fatalf("%+v", a)
		}
		seen := u.take()
		if len(seen) != 1 || len(seen[0].batch(t).Timeseries) != n {
			t.Errorf("%d requests reached the store", len(seen))
		}
	})
	t.Run("64 MiB request", func(t *testing.T) {
		body := snappy.Encode(nil, bytes.Repeat(series, 64<<20/len(series)+1))
		if a := send(g, body); a.Status != 413 || !strings.Contains(a.Body, "limits.decoded_bytes") {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		if got := u.take(); len(got) > 0 {
			t.Errorf("%d requests reached the store", len(got))
		}
	})
}

// TestContractBody: the bodies of section 1 that are no batch; none reaches the store.
func TestContractBody(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	g := start(t, "m3", u)
	body := batchOf(good())
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	const v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	table := writev2.NewSymbolTable()
	refs := []uint32{table.Symbolize("__name__"), table.Symbolize("up")}
	second := writev2.Request{Timeseries: []writev2.TimeSeries{{LabelsRefs: refs, Samples: []writev2.Sample{{Value: 1, Timestamp: time.Now().UnixMilli()}}}}}
	second.Symbols = table.Symbols()
	plain2, err := second.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		headers []string
		body    []byte
		status  int
		says    string
	}{
		"remote-write 2.0 request":                         {[]string{"Content-Type", v2}, snappy.Encode(nil, plain2), 204, ""},
		"remote-write 2.0 request/called 1.0":              {nil, snappy.Encode(nil, plain2), 400, "remote write 2.0"},
		"remote-write 2.0 request/without a Content-Type":  {[]string{"Content-Type", ""}, snappy.Encode(nil, plain2), 400, "remote write 2.0"},
		"2.0 content type with a v1 body":                  {[]string{"Content-Type", v2}, body, 400, "remote write 1.0"},
		"missing or lying headers/no Content-Encoding":     {[]string{"Content-Encoding", ""}, body, 204, ""},
		"missing or lying headers/no Content-Type":         {[]string{"Content-Type", ""}, body, 204, ""},
		"missing or lying headers/another Content-Type":    {[]string{"Content-Type", "application/json"}, body, 415, "Content-Type must be application/x-protobuf"},
		"missing or lying headers/gzip, though snappy":     {[]string{"Content-Encoding", "gzip"}, body, 415, "Content-Encoding must be snappy"},
		"missing or lying headers/identity, though snappy": {[]string{"Content-Encoding", "identity"}, body, 415, "Content-Encoding must be snappy"},
		"gzip, zstd, identity bodies/gzip":                 {[]string{"Content-Encoding", "gzip"}, []byte("\x1f\x8b\x08\x00"), 415, "Content-Encoding"},
		"gzip, zstd, identity bodies/zstd":                 {[]string{"Content-Encoding", "zstd"}, []byte("\x28\xb5\x2f\xfd"), 415, "Content-Encoding"},
		"gzip, zstd, identity bodies/gzip called snappy":   {nil, []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), 400, "not a snappy block"},
		"plain protobuf":                           {nil, plain, 400, "not a snappy block"},
		"garbage":                                  {nil, []byte("this is no snappy block"), 400, "not a snappy block"},
		"empty body":                               {nil, nil, 400, "not a snappy block"},
		"cut off":                                  {nil, body[:len(body)-3], 400, "not a snappy block"},
		"snappy of garbage/text":                   {nil, snappy.Encode(nil, []byte("up 1 1\n")), 400, "at byte"},
		"snappy of garbage/a length beyond":        {nil, snappy.Encode(nil, []byte{0x0a, 0xff, 0x01}), 400, "at byte 1"},
		"snappy of garbage/zeros":                  {nil, snappy.Encode(nil, make([]byte, 100)), 400, "at byte 0"},
		"snappy header claiming 4 GiB":             {nil, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}, 413, "limits.decoded_bytes"},
		"bomb to 300 MB":                           {nil, snappy.Encode(nil, make([]byte, 300<<20)), 413, "limits.decoded_bytes"},
		"good series before garbage stay unstored": {nil, snappy.Encode(nil, append(slices.Clone(plain), 0x0a, 0x7f)), 400, "at byte"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(g, tc.body, tc.headers...)
			if a.Status != tc.status || !strings.Contains(a.Body, tc.says) || len(a.Body) > 1024 {
				t.Errorf("%d %q, want %d with %q", a.Status, a.Body, tc.status, tc.says)
			}
			var want []string
			if tc.status == 204 {
				want = []string{upNow}
			}
			if got := storedBy(t, u); !slices.Equal(got, want) {
				t.Errorf("stored %q, want %q", got, want)
			}
		})
	}
}

// TestContractRequest: the methods, paths and framings of section 1.
func TestContractRequest(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	g := start(t, "m3", u)
	body := batchOf(good())
	const path = "/api/v1/prom/remote/write"
	for _, method := range []string{"GET", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH"} {
		t.Run("methods/"+method, func(t *testing.T) {
			if a := g.Do(g.Request("alice", method, path, body)); a.Status != 405 || a.Header.Get("Allow") != "POST" {
				t.Errorf("%+v", a)
			}
			if got := u.take(); len(got) > 0 {
				t.Errorf("%d requests reached the store", len(got))
			}
		})
	}
	for p, want := range map[string]int{
		path: 204, "/api/v1/write": 204, "/api/v1/push": 204, // a sender keeps the path it has
		path + "/": 404, "/" + path: 404, "/api//v1/prom/remote/write": 404, "/api/v1/query/../prom/remote/write": 404,
		"/api/v1/prom/remote/./write": 404, "/api/v1/prom/remote/Write": 404,
	} {
		t.Run("paths/"+strings.ReplaceAll(p, "/", "|"), func(t *testing.T) {
			if a := g.Do(g.Request("alice", "POST", p, body)); a.Status != want || a.Header.Get("Location") != "" {
				t.Errorf("%+v, want %d", a, want)
			}
			for _, s := range u.take() {
				if want != 204 || s.URI != path {
					t.Errorf("the store saw %s", s.URI)
				}
			}
		})
	}
	chunked := fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 5, body[:5], len(body)-5, body[5:])
	for name, tc := range map[string]struct {
		head, body string
		status     []int
	}{
		"chunked body":                     {"Transfer-Encoding: chunked\r\n", chunked, []int{204}},
		"Content-Length + chunked":         {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked, []int{204, 400}},
		"Expect 100-continue":              {fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n", len(body)), string(body), []int{100, 204}},
		"Content-Length twice, contrary":   {fmt.Sprintf("Content-Length: %d\r\nContent-Length: 5\r\n", len(body)), string(body), []int{400}},
		"a body shorter than its announce": {"Content-Length: 5\r\n", string(body[:5]), []int{400}},
	} {
		t.Run(name, func(t *testing.T) {
			got := raw(t, g, "POST "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: snappy\r\n", tc.head, tc.body)
			if name == "Content-Length + chunked" { // either is safe, as the request is written afresh
				tc.status = tc.status[:1]
				if got[0] == 400 {
					tc.status[0] = 400
				}
			}
			if !slices.Equal(got, tc.status) {
				t.Errorf("answered %v, want %v", got, tc.status)
			}
			seen := u.take()
			if stored := tc.status[len(tc.status)-1] == 204; stored != (len(seen) == 1) {
				t.Errorf("%d requests reached the store", len(seen))
			}
			for _, s := range seen {
				if s.Header.Get("Content-Length") != strconv.Itoa(len(s.Body)) || s.Header.Get("Expect") != "" {
					t.Errorf("the store saw %v", s.Header)
				}
			}
		})
	}
}

// raw sends bytes as alice over a connection of its own and returns the status codes that come back.
func raw(t *testing.T, g *gatewaytest.Gateway, line, head, body string) []int {
	t.Helper()
	cfg := g.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(g.URL, "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(minute)); err != nil {
		t.Fatal(err)
	}
	auth := g.Request("alice", "POST", "/", nil)
	auth.SetBasicAuth("alice", gatewaytest.Password("alice"))
	if _, err := io.WriteString(conn, line+"Authorization: "+auth.Header.Get("Authorization")+"\r\n"+head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	var got []int
	answer := func() {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got = append(got, resp.StatusCode)
	}
	if strings.Contains(head, "Expect") {
		answer() // the body waits for it
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	answer()
	return got
}

// TestContractAnswers: the store's answers of sections 1 and 2, in its recorded words, to a batch of good and too old series.
func TestContractAnswers(t *testing.T) {
	const (
		nodes    = `failed to meet consistency level majority with 0/1 success, 1 nodes responded, errors: [error writing to host m3db_node1: `
		tooPast  = `datapoint for aggregation too far in past: off_by=45.001890911s, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:38:20Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307900054890911`
		tooFar   = `datapoint for aggregation too far in future: off_by=998.467417ms, timestamp=2026-11-22T00:41:29Z, future_limit=2026-11-22T00:41:28Z, timestamp_unix_nanos=1795308089467000000, future_limit_unix_nanos=1795308088468532583`
		dropsOld = "stored 1 samples, dropped 1: too_old 1"
	)
	for name, tc := range map[string]struct {
		status int
		text   string
		// What the sender of a good batch is told, and of one with a too old sample beside.
		good, mixed int
		says        string
		raw         int // writes that were stored raw and not aggregated
	}{
		"good batch":                              {200, "", 204, 400, dropsOld, 0},
		"good + too old + a retryable failure":    {500, "retryable_errors: count=1, last=" + nodes + "connection pool has no connections], bad_request_errors: count=1, last=x", 503, 503, "could not reach enough of its nodes", 0},
		"new-series insert limit hit in the db":   {500, "retryable_errors: count=452, last=" + nodes + "Error({Type:INTERNAL_ERROR Message:shard insert of new series exceeds rate limit Flags:0})]", 503, 503, "no more new series", 0},
		"429":                                     {429, "resource exhausted", 503, 503, "failed to take the batch", 0},
		"aggregated namespaces/15 s old, one":     {400, "bad_request_errors: count=1, last=" + tooPast, 204, 400, dropsOld, 2},
		"aggregated namespaces/15 s, two rules":   {400, "bad_request_errors: count=1, last=" + tooPast + "\n" + tooPast, 204, 400, dropsOld, 2},
		"aggregated namespaces/1 m ahead":         {400, "bad_request_errors: count=1, last=" + tooFar, 204, 400, dropsOld, 2},
		"node down":                               {500, "retryable_errors: count=500, last=" + nodes + "connection pool has no connections]", 503, 503, "could not reach enough of its nodes", 0},
		"no namespace yet":                        {500, "unaggregated namespace is not yet initialized", 503, 503, "the store is starting", 0},
		"the store disagrees about a good sample": {400, "bad_request_errors: count=1, last=" + nodes + `Error({Type:BAD_REQUEST Message:datapoint too far in past: id={__name__="up",secret="s3"} Flags:0})]`, 400, 400, "a sample is older than the store accepts", 0},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, nil)
			text := ""
			if tc.text != "" {
				text = fmt.Sprintf("{\"status\":\"error\",\"error\":%s}\n", strconv.Quote(tc.text))
			}
			u.say(tc.status, text)
			g := start(t, "m3", u)
			for _, c := range []struct {
				body []byte
				want int
			}{{batchOf(good()), tc.good}, {batchOf(good(), message(at([]time.Duration{20 * minute}, "k", "old"))), tc.mixed}} {
				a := send(g, c.body)
				if a.Status != c.want || a.Status != 204 && !strings.Contains(a.Body, tc.says) || (a.Status == 503) != (a.Header.Get("Retry-After") != "") {
					t.Errorf("%+v, want %d with %q", a, c.want, tc.says)
				}
				if strings.Contains(a.Body, "m3db") || strings.Contains(a.Body, "s3") || a.Status == 204 && a.Body != "" {
					t.Errorf("%q", a.Body)
				}
				for _, s := range storedBy(t, u) {
					if s != upNow {
						t.Errorf("the store was sent %s", s)
					}
				}
			}
			if got := metricOf(t, g.Admin("GET", "/metrics").Body, "m3gateway_gateway_stored_not_aggregated_total"); got != float64(tc.raw) {
				t.Errorf("%v writes counted as stored, not aggregated; want %d", got, tc.raw)
			}
		})
	}
}

// TestContractWindow is section 2: which ages are taken, by the window that is set, for a series of any age.
func TestContractWindow(t *testing.T) {
	for name, tc := range map[string]struct {
		limits   string
		ok       []time.Duration // ages
		old, new []time.Duration
	}{
		"as the database":    {"limits: {window: {past: 10m, future: 10m}}", []time.Duration{0, 15 * time.Second, 5 * minute, 9*minute + 30*time.Second, -9*minute - 30*time.Second}, []time.Duration{10*minute + 30*time.Second, 60 * minute}, []time.Duration{-10*minute - 30*time.Second, -60 * minute}},
		"as the downsampler": {"limits: {window: {past: 2m, future: 1m}}", []time.Duration{0, 90 * time.Second, -30 * time.Second}, []time.Duration{150 * time.Second}, []time.Duration{-90 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
			g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Kind: "m3", Upstreams: []string{u.URL}, Extra: tc.limits})
			for age, reason := range agesByReason(tc.ok, tc.old, tc.new) {
				// The first sample of a series, and a later one: the gateway cannot tell them apart, and must not.
				for _, body := range [][]byte{batchOf(message(at([]time.Duration{age}, "age", age.String()))), batchOf(message(at([]time.Duration{age})))} {
					a := send(g, body)
					if (a.Status == 204) != (reason == "") || !strings.Contains(a.Body, reason) {
						t.Errorf("%v old: %d %s", age, a.Status, a.Body)
					}
					if seen := u.take(); len(seen) != map[bool]int{true: 1}[reason == ""] {
						t.Errorf("%v old: %d requests reached the store", age, len(seen))
					}
				}
			}
		})
	}
}

func agesByReason(ok, old, new []time.Duration) map[time.Duration]string {
	m := map[time.Duration]string{}
	for _, age := range ok {
		m[age] = ""
	}
	for _, age := range old {
		m[age] = "dropped 1: too_old 1"
	}
	for _, age := range new {
		m[age] = "dropped 1: too_new 1"
	}
	return m
}

// TestContractRepeats is section 3: repeats and disorder pass as they are, since the store takes them, and each series keeps
// to one coordinator.
func TestContractRepeats(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	g := start(t, "m3", u)
	same := batchOf(good("a", "1"))
	late := 5 * minute
	one := func(age time.Duration, value float64) []byte {
		ts := at([]time.Duration{age}, "a", "1")
		ts.Samples[0].Value = value
		return message(ts)
	}
	for _, tc := range []struct {
		name   string
		bodies [][]byte
		stored []string
	}{
		{"same sample twice", [][]byte{same, same}, []string{`up{a="1",tenant="team-a"} 1@0s`, `up{a="1",tenant="team-a"} 1@0s`}},
		{"same timestamp, other value", [][]byte{batchOf(one(0, 7), one(0, 9)), batchOf(one(0, 3))}, []string{`up{a="1",tenant="team-a"} 7@0s`, `up{a="1",tenant="team-a"} 9@0s`, `up{a="1",tenant="team-a"} 3@0s`}},
		{"same series as two messages", [][]byte{batchOf(one(0, 1), good("b", "1"), one(late, 2))}, []string{`up{a="1",tenant="team-a"} 1@0s`, `up{b="1",tenant="team-a"} 1@0s`, `up{a="1",tenant="team-a"} 2@5m0s`}},
		{"out of order inside the window", [][]byte{batchOf(message(at([]time.Duration{0, late, minute}, "a", "1")))}, []string{`up{a="1",tenant="team-a"} 1@0s 2@5m0s 3@1m0s`}},
		{"older sample after a newer one", [][]byte{batchOf(one(0, 1)), batchOf(one(late, 2))}, []string{`up{a="1",tenant="team-a"} 1@0s`, `up{a="1",tenant="team-a"} 2@5m0s`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, body := range tc.bodies {
				if a := send(g, body); a.Status != 204 {
					t.Errorf("%+v", a)
				}
			}
			if got := storedBy(t, u); !slices.Equal(got, tc.stored) {
				t.Errorf("stored %q, want %q", got, tc.stored)
			}
		})
	}
	t.Run("one series keeps to one coordinator", func(t *testing.T) {
		other := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
		g := gatewaytest.Start(t, gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Kind: "m3", Upstreams: []string{u.URL, other.URL}})
		for range 20 {
			if a := send(g, batchOf(good("a", "1"))); a.Status != 204 {
				t.Fatalf("%+v", a)
			}
		}
		if a, b := len(u.take()), len(other.take()); a+b != 20 || a != 0 && b != 0 {
			t.Errorf("%d of the samples went to one coordinator, %d to the other", a, b)
		}
	})
}

// TestWriteCountsAreItsOwn: what is counted for a tenant is what its own batch held, whoever writes while that batch waits
// for the store.
func TestWriteCountsAreItsOwn(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var came atomic.Int64
	u := newUpstream(t, func(http.ResponseWriter, *http.Request) {
		if came.Add(1)%2 == 1 { // alice's, as bob's comes after it
			arrived <- struct{}{}
			<-release
		}
	})
	g := start(t, "m3", u)
	const rounds = 20
	for range rounds {
		done := make(chan gatewaytest.Answer)
		go func() { done <- send(g, batchOf(good("a", "1"))) }()
		<-arrived
		if a := g.Write("bob", []prompb.TimeSeries{at(make([]time.Duration, 7), "a", "1")}); a.Status != 204 {
			t.Errorf("%+v", a)
		}
		release <- struct{}{}
		if a := <-done; a.Status != 204 {
			t.Errorf("%+v", a)
		}
	}
	metrics := g.Admin("GET", "/metrics").Body
	for tenant, want := range map[string]float64{"team-a": rounds, "team-b": 7 * rounds} {
		if got := metricOf(t, metrics, `m3gateway_gateway_samples_total{tenant="`+tenant+`"}`); got != want {
			t.Errorf("%v samples counted for %s, want %v", got, tenant, want)
		}
	}
}
