package remotewrite

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
)

// reference does the whole job of Confine on decoded structs, in the plainest way. It shares nothing with the code under test
// but the policy's inputs.
type reference struct {
	label      string
	mode       Mode
	rules      Rules
	tenants    []TenantLabels
	minT, maxT int64
}

type refResult struct {
	req        prompb.WriteRequest
	dropped    map[Reason]int
	series     int
	samples    int
	histograms int
	exemplars  int
	foreign    bool
}

func (r *reference) confine(in prompb.WriteRequest) refResult {
	res := refResult{dropped: map[Reason]int{}}
	drop := func(why Reason, n int) {
		if n > 0 {
			res.dropped[why] += n
		}
	}
	for _, m := range in.Metadata {
		if !r.rules.Metadata || r.mode == Allow && len(r.tenants) > 1 || !utf8.ValidString(m.MetricFamilyName+"|"+m.Help+"|"+m.Unit) {
			drop(Metadata, 1)
			continue
		}
		res.req.Metadata = append(res.req.Metadata, prompb.MetricMetadata{Type: m.Type, MetricFamilyName: m.MetricFamilyName, Help: m.Help, Unit: m.Unit})
	}
	for _, ts := range in.Timeseries {
		if r.rules.Escape {
			ts.Labels = r.escape(ts.Labels)
		}
		out := prompb.TimeSeries{}
		why, bad := r.seriesProblem(ts.Labels)
		lost, left := 0, 0 // left: native histograms that the store has no place for
		for _, s := range ts.Samples {
			switch {
			case bad:
				lost++
			case s.Timestamp < r.minT:
				drop(TooOld, 1)
			case s.Timestamp > r.maxT:
				drop(TooNew, 1)
			default:
				out.Samples = append(out.Samples, prompb.Sample{Value: s.Value, Timestamp: s.Timestamp})
			}
		}
		for _, h := range ts.Histograms {
			switch {
			case bad:
				lost++
			case !r.rules.Histograms && !r.rules.Classic:
				left++
			case h.Timestamp < r.minT:
				drop(TooOld, 1)
			case h.Timestamp > r.maxT:
				drop(TooNew, 1)
			default:
				out.Histograms = append(out.Histograms, cleanHistogram(h))
			}
		}
		if bad {
			drop(why, lost)
			drop(InvalidExemplar, len(ts.Exemplars))
			continue
		}
		tenant, sent := r.tenants[0], ""
		for _, l := range ts.Labels {
			if l.Name == r.label && l.Value != "" {
				sent = l.Value
			}
		}
		switch {
		case sent != "" && r.mode == Reject:
			res.foreign = true
		case sent != "" && r.mode == Allow:
			i := slices.IndexFunc(r.tenants, func(t TenantLabels) bool { return t.Tenant == sent })
			if i < 0 {
				drop(ForeignTenant, len(out.Samples)+len(out.Histograms)+left)
				drop(InvalidExemplar, len(ts.Exemplars))
				continue
			}
			tenant = r.tenants[i]
		case sent == "" && len(r.tenants) > 1:
			drop(NoTenant, len(out.Samples)+len(out.Histograms)+left)
			drop(InvalidExemplar, len(ts.Exemplars))
			continue
		}
		drop(NativeHistogram, left)
		for _, l := range ts.Labels {
			if l.Value != "" && !slices.ContainsFunc(tenant.Labels, func(e Label) bool { return e.Name == l.Name }) {
				out.Labels = append(out.Labels, prompb.Label{Name: l.Name, Value: l.Value})
			}
		}
		for _, e := range tenant.Labels {
			out.Labels = append(out.Labels, prompb.Label{Name: e.Name, Value: e.Value})
		}
		slices.SortFunc(out.Labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
		classic := 0
		if r.rules.Classic && !r.rules.Histograms {
			for _, h := range out.Histograms {
				series := classicSeries(out.Labels, h)
				if series == nil {
					drop(InvalidHistogram, 1)
					continue
				}
				classic++
				res.histograms++
				res.series += len(series)
				res.req.Timeseries = append(res.req.Timeseries, series...)
			}
			out.Histograms = nil
		}
		// Exemplars go with the samples that they belong to.
		if kept := len(out.Samples) + len(out.Histograms) + classic; kept == 0 && len(ts.Samples)+len(ts.Histograms) > left {
			drop(InvalidExemplar, len(ts.Exemplars))
		} else {
			out.Exemplars = r.exemplars(ts.Exemplars, drop)
		}
		if len(out.Samples)+len(out.Histograms)+len(out.Exemplars) == 0 {
			continue
		}
		res.series++
		res.samples += len(out.Samples)
		res.histograms += len(out.Histograms)
		res.exemplars += len(out.Exemplars)
		res.req.Timeseries = append(res.req.Timeseries, out)
	}
	return res
}

// exemplars keeps those that are text and within the window, of a series that is kept.
func (r *reference) exemplars(in []prompb.Exemplar, drop func(Reason, int)) (out []prompb.Exemplar) {
	for _, e := range in {
		switch {
		case !r.rules.Exemplars:
			drop(Exemplar, 1)
		case !exemplarText(e) || e.Timestamp < r.minT || e.Timestamp > r.maxT:
			drop(InvalidExemplar, 1)
		default:
			out = append(out, cleanExemplar(e))
		}
	}
	return out
}

// escape brings names to classic characters with the scheme's own implementation, which knows only metric names: it leaves the
// colon, which no label name may have.
func (r *reference) escape(in []prompb.Label) (out []prompb.Label) {
	for _, l := range in {
		if l.Name == "__name__" && len(l.Value) <= r.rules.Limits.NameBytes && utf8.ValidString(l.Value) {
			l.Value = model.EscapeName(l.Value, model.ValueEncodingEscaping)
		}
		if len(l.Name) <= r.rules.Limits.NameBytes && utf8.ValidString(l.Name) && l.Name != "" && !r.nameOK(l.Name, false) {
			const mark = "\U0010FFFF" // makes any name one to be escaped, and is cut off again
			l.Name = strings.TrimSuffix(strings.ReplaceAll(model.EscapeName(l.Name+mark, model.ValueEncodingEscaping), ":", "_3a_"), "_10ffff_")
		}
		out = append(out, l)
	}
	return out
}

// seriesProblem is the first problem in the order of the labels, then of the set.
func (r *reference) seriesProblem(labels []prompb.Label) (Reason, bool) {
	name, seen, twice, n := false, map[string]bool{}, false, 0
	for _, l := range labels {
		switch {
		case len(l.Name) > r.rules.Limits.NameBytes || len(l.Value) > r.rules.Limits.ValueBytes:
			return LabelTooLong, true
		case !r.nameOK(l.Name, false):
			return InvalidLabelName, true
		case !utf8.ValidString(l.Value):
			return InvalidUTF8, true
		}
		for _, p := range r.rules.Reserved {
			if strings.HasPrefix(l.Name, p) {
				return ReservedLabel, true
			}
		}
		if l.Value == "" {
			continue
		}
		if l.Name == "__name__" {
			name = true
			if !r.nameOK(l.Value, true) {
				return InvalidMetricName, true
			}
		}
		twice = twice || seen[l.Name]
		seen[l.Name] = true
		n++
	}
	switch {
	case twice:
		return DuplicateLabel, true
	case n > r.rules.Limits.Labels:
		return TooManyLabels, true
	case !name:
		return InvalidMetricName, true
	}
	return 0, false
}

func (r *reference) nameOK(s string, metric bool) bool {
	if r.rules.UTF8Names {
		return s != "" && utf8.ValidString(s)
	}
	for i, c := range s {
		alpha := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || metric && c == ':'
		if !alpha && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func exemplarText(e prompb.Exemplar) bool {
	for _, l := range e.Labels {
		if !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			return false
		}
	}
	return true
}

func cleanExemplar(e prompb.Exemplar) prompb.Exemplar {
	out := prompb.Exemplar{Value: e.Value, Timestamp: e.Timestamp}
	for _, l := range e.Labels {
		out.Labels = append(out.Labels, prompb.Label{Name: l.Name, Value: l.Value})
	}
	return out
}

func cleanSpans(in []prompb.BucketSpan) (out []prompb.BucketSpan) {
	for _, s := range in {
		out = append(out, prompb.BucketSpan{Offset: s.Offset, Length: s.Length})
	}
	return out
}

func cleanHistogram(h prompb.Histogram) prompb.Histogram {
	h.XXX_unrecognized = nil
	h.NegativeSpans, h.PositiveSpans = cleanSpans(h.NegativeSpans), cleanSpans(h.PositiveSpans)
	return h
}

// equal compares two requests by their canonical bytes, so that NaN equals itself.
func equal(a, b prompb.WriteRequest) bool {
	x, errX := a.Marshal()
	y, errY := b.Marshal()
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
