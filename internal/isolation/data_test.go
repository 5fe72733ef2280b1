package isolation

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// The tenants. The asker's are a and a.b; all others are only in the crowded store.
const (
	asker  = "a"
	second = "a.b" // as a regular expression it matches axb too
)

// crowd are the other tenants: names that begin or end like the asker's, are its name to a careless comparison, or are
// selectors and patterns.
func crowd() []string {
	return []string{"aa", "a-b", "axb", "A", "b", "zed", "a|b", ".*", "a|.*", `a"} or {tenant="b`, "a,b", "a b", "ä"}
}

// secret marks what belongs to the crowd: every series of it has a label with this value, which no request contains.
const secret = "belongs-to-somebody-else"

// step and steps are the grid of the samples: all before base, within the gateway's window.
const (
	step  = 15 * time.Second
	steps = 32
)

// course is how the values of a series go.
type course int

const (
	counter course = iota
	gauge
	constant
	native
)

// series is one series of the data: labels in pairs, and how its values go. Values depend on its place in the list.
type series struct {
	course course
	labels []string
}

// own are the series of the asker: what an exporter and a recording rule leave, beside values and names that only a
// careful printer keeps.
func own(utf8Names bool) []series {
	var out []series
	add := func(s course, labels ...string) { out = append(out, series{s, labels}) }
	for _, job := range []string{"api", "db"} {
		for i := range 2 {
			instance := fmt.Sprintf("%s-%d:9090", job, i)
			add(constant, "__name__", "up", "job", job, "instance", instance)
			add(gauge, "__name__", "memory_bytes", "job", job, "instance", instance)
			for _, code := range []string{"200", "404", "500"} {
				add(counter, "__name__", "http_requests_total", "job", job, "instance", instance, "code", code)
			}
		}
		for _, le := range []string{"0.1", "0.5", "1", "+Inf"} {
			add(counter, "__name__", "latency_seconds_bucket", "job", job, "le", le)
		}
		add(counter, "__name__", "latency_seconds_count", "job", job)
		add(counter, "__name__", "latency_seconds_sum", "job", job)
		add(gauge, "__name__", "job:http_requests:rate5m", "job", job)
		add(constant, "__name__", "build_info", "job", job, "version", "1."+job)
	}
	add(native, "__name__", "rpc_seconds", "job", "api")
	add(native, "__name__", "rpc_seconds", "job", "db")
	for i, odd := range []string{`x",tenant="aa`, `a|b`, `.*`, `"} or {tenant="b"}`, `\`, "new\nline", "\U0001f600", `{{`, "aa", "a", "# {"} {
		add(gauge, "__name__", "odd", "value", odd, "n", strconv.Itoa(i))
	}
	for _, name := range []string{"sum", "by", "offset", "bool", "on"} {
		add(gauge, "__name__", name, "job", "api", "group_left", name)
	}
	add(gauge, "__name__", "Tenants", "Tenant", "aa", "tenant_", "aa", "_tenant", "aa", "xtenant", "aa")
	if utf8Names {
		add(counter, "__name__", "http.requests", "job", "api", "service.name", "shop", "tenant.", "aa")
		add(gauge, "__name__", "größe", "job", "db", "naïve", "ja")
	}
	return out
}

// foreign are the series of a tenant of the crowd: all of the asker's with other values, and some that the asker lacks.
func foreign(tenant string, utf8Names bool) []series {
	var out []series
	for _, s := range own(utf8Names) {
		out = append(out, s, series{s.course, append(append([]string{}, s.labels...), "secret", secret)})
	}
	add := func(s course, labels ...string) {
		out = append(out, series{s, append(labels, "secret", secret)})
	}
	for _, name := range []string{"up", "http_requests_total", "only_theirs", "odd", "aaa", "zzz"} {
		add(gauge, "__name__", name, "job", "theirs", "instance", tenant, "value", `a",tenant="a`, "code", "999", "le", "0.7")
		add(gauge, "__name__", name, "job", "api", "instance", "{tenant=\"a\"}", "theirs", `.*`)
	}
	return out
}

// value of series n of a list at step i; salt makes those of one owner unlike another's.
func value(s course, n, i, salt int) float64 {
	switch s {
	case counter:
		return float64((i + 1) * (n + 2*salt + 1))
	case gauge:
		return math.Round(1000*math.Sin(float64(i+3*n+7*salt))) / 10
	}
	return float64(1 + salt%2)
}

// histogram is a native one, as a counter of i observations.
func histogram(n, i, salt int, at int64) prompb.Histogram {
	count := uint64(i + n + salt + 1)
	return prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: 3 * count}, Sum: float64(count) * 1.5, Schema: 1, ZeroThreshold: 0.001,
		ZeroCount:     &prompb.Histogram_ZeroCountInt{ZeroCountInt: count},
		PositiveSpans: []prompb.BucketSpan{{Offset: int32(salt % 3), Length: 2}}, PositiveDeltas: []int64{int64(count), 0}, Timestamp: at,
	}
}

// batches are the list with samples at every step up to base, as remote-write bodies of some steps each.
func batches(list []series, base time.Time, salt int) [][]byte {
	const each = 8
	var out [][]byte
	for from := 0; from < steps; from += each {
		var all []prompb.TimeSeries
		for n, s := range list {
			all = append(all, part(s, n, from, from+each, base, salt))
		}
		out = append(out, encode(all))
	}
	return out
}

// part is a series with its samples of the steps from up to, without to.
func part(s series, n, from, to int, base time.Time, salt int) prompb.TimeSeries {
	var ts prompb.TimeSeries
	for i := 0; i < len(s.labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: s.labels[i], Value: s.labels[i+1]})
	}
	for i := from; i < to; i++ {
		at := base.Add(-time.Duration(steps-1-i) * step).UnixMilli()
		if s.course == native {
			ts.Histograms = append(ts.Histograms, histogram(n, i, salt, at))
			continue
		}
		ts.Samples = append(ts.Samples, prompb.Sample{Value: value(s.course, n, i, salt), Timestamp: at})
		if s.course == counter && i == from {
			ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{
				Labels: []prompb.Label{{Name: "trace_id", Value: fmt.Sprintf("%d-%d-%d", salt, n, i)}}, Value: float64(n), Timestamp: at,
			})
		}
	}
	return ts
}

// encode is a body of remote write 1.0.
func encode(all []prompb.TimeSeries) []byte {
	b, err := (&prompb.WriteRequest{Timeseries: all}).Marshal()
	if err != nil {
		panic(err) // what is built here always marshals
	}
	return snappy.Encode(nil, b)
}
