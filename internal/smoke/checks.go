package smoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

const metric = "m3gateway_smoke"

// values are those of the run's series, by their label series. They need all of a float64.
func values() map[string]float64 { return map[string]float64{"0": 1, "1": -0.1, "2": 12345678.000001} }

// selector chooses the run's series.
func (r *runner) selector() string { return fmt.Sprintf("%s{run=%q}", metric, r.run) }

// batch are the run's series, each with one sample at that time.
func (r *runner) batch(at time.Time) []prompb.TimeSeries {
	var out []prompb.TimeSeries
	for _, s := range slices.Sorted(maps.Keys(values())) {
		labels := []prompb.Label{{Name: "__name__", Value: metric}, {Name: "run", Value: r.run}, {Name: "series", Value: s}}
		if r.Plain && r.Tenant != "" {
			labels = append(labels, prompb.Label{Name: r.TenantLabel, Value: r.Tenant})
			slices.SortFunc(labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
		}
		out = append(out, prompb.TimeSeries{Labels: labels, Samples: []prompb.Sample{{Value: values()[s], Timestamp: at.UnixMilli()}}})
	}
	return out
}

// writeRequest is a remote write 1.0 request. Its path is the one that a coordinator has too.
func (r *runner) writeRequest(series []prompb.TimeSeries) request {
	b, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		panic(err) // unreachable: three series of short strings
	}
	return request{method: http.MethodPost, path: "/api/v1/prom/remote/write", body: snappy.Encode(nil, b), header: map[string]string{
		"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0",
	}}
}

func (r *runner) write(ctx context.Context) (string, error) {
	resp, err := r.do(ctx, r.writeRequest(r.batch(r.start)))
	if err != nil {
		return "", err
	}
	switch {
	case resp.status/100 == 2:
		return fmt.Sprintf("%d: %d series of one sample", resp.status, len(values())), nil
	case resp.status == http.StatusUnauthorized:
		return "", errors.New("401: the user or the password is wrong")
	case resp.status == http.StatusForbidden:
		return "", fmt.Errorf("403: the user may not write to this tenant: %s", resp.text())
	default:
		return "", fmt.Errorf("a write answered %d: %s", resp.status, resp.text())
	}
}

// sample is one element of a vector or matrix.
type sample struct {
	Metric map[string]string
	Value  point
	Values []point
}

// point is [seconds, "value"].
type point [2]any

func (p point) value() (float64, error) {
	text, ok := p[1].(string)
	if !ok {
		return 0, fmt.Errorf("%v is no sample", p)
	}
	return strconv.ParseFloat(text, 64)
}

// instant asks for a vector at a time.
func (r *runner) instant(ctx context.Context, query string, at time.Time) ([]sample, error) {
	var data struct{ Result []sample }
	err := r.get(ctx, "/api/v1/query", url.Values{"query": {query}, "time": {seconds(at)}}, &data)
	return data.Result, err
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// found waits until the store shows what was written.
func (r *runner) found(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Wait)
	defer cancel()
	var last error
	for tries := 1; ; tries++ {
		got, err := r.instant(ctx, r.selector(), r.start.Add(time.Millisecond))
		switch {
		case err != nil && (ctx.Err() == nil || last == nil): // the last answer says more than that there was no time for another
			last = err
		case err == nil && len(got) == len(values()):
			return fmt.Sprintf("after %s", r.Now().Sub(r.start).Round(time.Millisecond)), nil
		case err == nil:
			last = fmt.Errorf("%d of %d series are there", len(got), len(values()))
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the write was acknowledged, and after %v it is not to be found: %w", r.Wait, last)
		case <-time.After(min(time.Duration(tries)*50*time.Millisecond, time.Second)):
		}
	}
}

// expected compares values by their label series with what was written.
func expected(got map[string]float64) error {
	if want := values(); !maps.Equal(got, want) {
		return fmt.Errorf("it has %v; %v was written", got, want)
	}
	return nil
}

func (r *runner) query(ctx context.Context) (string, error) {
	result, err := r.instant(ctx, r.selector(), r.start.Add(time.Millisecond))
	if err != nil {
		return "", err
	}
	got := map[string]float64{}
	for _, s := range result {
		if got[s.Metric["series"]], err = s.Value.value(); err != nil {
			return "", err
		}
	}
	return "every value as written", expected(got)
}

func (r *runner) queryRange(ctx context.Context) (string, error) {
	var data struct{ Result []sample }
	err := r.get(ctx, "/api/v1/query_range", url.Values{
		"query": {r.selector()}, "start": {seconds(r.start.Add(-time.Minute))}, "end": {seconds(r.start.Add(time.Minute))}, "step": {"15"},
	}, &data)
	if err != nil {
		return "", err
	}
	got := map[string]float64{}
	for _, s := range data.Result {
		for _, p := range s.Values {
			if got[s.Metric["series"]], err = p.value(); err != nil {
				return "", err
			}
		}
	}
	return "every value as written", expected(got)
}

// span is the time around the run, for the routes of metadata: without it a coordinator asks its aggregated namespaces.
func (r *runner) span() url.Values {
	return url.Values{"match[]": {r.selector()}, "start": {seconds(r.start.Add(-time.Minute))}, "end": {seconds(r.start.Add(time.Minute))}}
}

func (r *runner) series(ctx context.Context) (string, error) {
	var data []map[string]string
	if err := r.get(ctx, "/api/v1/series", r.span(), &data); err != nil {
		return "", err
	}
	got := map[string]bool{}
	for _, s := range data {
		if s["__name__"] != metric || s["run"] != r.run {
			return "", fmt.Errorf("a series that was not asked for: %v", s)
		}
		got[s["series"]] = true
	}
	if len(data) != len(values()) || len(got) != len(values()) {
		return "", fmt.Errorf("it has %v; %d series were written", data, len(values()))
	}
	return fmt.Sprintf("%d series", len(data)), nil
}

func (r *runner) labels(ctx context.Context) (string, error) {
	var data []string
	if err := r.get(ctx, "/api/v1/labels", r.span(), &data); err != nil {
		return "", err
	}
	for _, want := range []string{"__name__", "run", "series"} {
		if !slices.Contains(data, want) {
			return "", fmt.Errorf("label %s is not in %q", want, data)
		}
	}
	return strings.Join(data, ", "), nil
}

func (r *runner) labelValues(ctx context.Context) (string, error) {
	var data []string
	if err := r.get(ctx, "/api/v1/label/series/values", r.span(), &data); err != nil {
		return "", err
	}
	if want := slices.Sorted(maps.Keys(values())); !slices.Equal(slices.Sorted(slices.Values(data)), want) {
		return "", fmt.Errorf("label series has the values %q; written were %q", data, want)
	}
	return strings.Join(data, ", "), nil
}

func (r *runner) remoteRead(ctx context.Context) (string, error) {
	query := &prompb.ReadRequest{
		Queries: []*prompb.Query{{StartTimestampMs: r.start.Add(-time.Minute).UnixMilli(), EndTimestampMs: r.start.Add(time.Minute).UnixMilli(), Matchers: []*prompb.LabelMatcher{
			{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: metric}, {Type: prompb.LabelMatcher_EQ, Name: "run", Value: r.run},
		}}},
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES},
	}
	b, err := query.Marshal()
	if err != nil {
		return "", err
	}
	resp, err := r.do(ctx, request{method: http.MethodPost, path: "/api/v1/prom/remote/read", body: snappy.Encode(nil, b), header: map[string]string{
		"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Read-Version": "0.1.0",
		"Accept-Encoding": "snappy", // as Prometheus does; left to itself, Go asks for gzip, and a coordinator does gzip its snappy
	}})
	if err != nil {
		return "", err
	}
	if resp.status != http.StatusOK {
		return "", fmt.Errorf("a remote read answered %d: %s", resp.status, resp.text())
	}
	if n, err := snappy.DecodedLen(resp.body); err != nil || n > maxAnswer {
		return "", fmt.Errorf("the answer to a remote read is no snappy block of a fitting size (%d bytes, %v)", n, err)
	}
	plain, err := snappy.Decode(nil, resp.body)
	if err != nil {
		return "", err
	}
	var out prompb.ReadResponse
	if err := out.Unmarshal(plain); err != nil {
		return "", fmt.Errorf("decoding the answer to a remote read: %w", err)
	}
	got := map[string]float64{}
	for _, q := range out.Results {
		for _, s := range q.Timeseries {
			for _, l := range s.Labels {
				if l.Name == "series" && len(s.Samples) == 1 && s.Samples[0].Timestamp == r.start.UnixMilli() {
					got[l.Value] = s.Samples[0].Value
				}
			}
		}
	}
	return "every value and time as written", expected(got)
}

// tenant counts the run's series by their tenant: all must have the one.
func (r *runner) tenant(ctx context.Context) (string, error) {
	if r.Plain {
		return "", skip("a coordinator sets no label")
	}
	groups, err := r.instant(ctx, fmt.Sprintf("count by (%s) (%s)", r.TenantLabel, r.selector()), r.start.Add(time.Millisecond))
	if err != nil {
		return "", err
	}
	var names []string
	for _, g := range groups {
		names = append(names, g.Metric[r.TenantLabel])
	}
	switch {
	case len(names) == 1 && names[0] != "" && (r.Tenant == "" || names[0] == r.Tenant):
		return fmt.Sprintf("%s=%q", r.TenantLabel, names[0]), nil
	case len(names) == 1 && names[0] == "" && r.Tenant != "":
		// A gateway may cut the label from what it answers; what it stored is still found by it, and by no other value.
		mine, err := r.instant(ctx, fmt.Sprintf("%s{run=%q,%s=%q}", metric, r.run, r.TenantLabel, r.Tenant), r.start.Add(time.Millisecond))
		if err != nil {
			return "", err
		}
		others, err := r.instant(ctx, fmt.Sprintf("%s{run=%q,%s!=%q}", metric, r.run, r.TenantLabel, r.Tenant), r.start.Add(time.Millisecond))
		if err != nil {
			return "", err
		}
		if len(mine) == len(values()) && len(others) == 0 {
			return fmt.Sprintf("%s=%q, cut from answers", r.TenantLabel, r.Tenant), nil
		}
	}
	wanted := "one tenant"
	if r.Tenant != "" {
		wanted = strconv.Quote(r.Tenant)
	}
	return "", fmt.Errorf("the series written have %s %q instead of %s; see tenancy.label and tenancy.users of the gateway, and --tenant and --tenant-label here", r.TenantLabel, names, wanted)
}

// oldAt is the time of the sample that must be refused.
func (r *runner) oldAt() time.Time { return r.start.Add(-r.OldAge) }

// old writes a sample that is too old, of a series that the store knows.
func (r *runner) old(ctx context.Context) (string, error) {
	resp, err := r.do(ctx, r.writeRequest(r.batch(r.oldAt())[:1]))
	if err != nil {
		return "", err
	}
	text := resp.text()
	var coordinator struct{ Error string }
	if json.Unmarshal(resp.body, &coordinator) == nil && coordinator.Error != "" {
		text = answer{body: []byte(coordinator.Error)}.text()
	}
	switch {
	case resp.status/100 == 2:
		return "", fmt.Errorf("a sample %v old was answered %d, as if it were stored: a sender would not learn that it is lost (limits.window)", r.OldAge, resp.status)
	case resp.status != http.StatusBadRequest:
		return "", fmt.Errorf("a sample %v old answered %d instead of 400: %s", r.OldAge, resp.status, text)
	case !r.Plain && !strings.Contains(text, "too_old"):
		return "", fmt.Errorf("the 400 to a sample %v old does not give the reason: %s", r.OldAge, text)
	}
	return "400: " + text, nil
}

// oldGone looks for the sample that was refused.
func (r *runner) oldGone(ctx context.Context) (string, error) {
	got, err := r.instant(ctx, r.selector(), r.oldAt().Add(time.Millisecond))
	if err != nil {
		return "", err
	}
	if len(got) > 0 {
		return "", fmt.Errorf("a sample was refused and stored: %v", got)
	}
	return "nothing at its time", nil
}
