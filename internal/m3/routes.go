package m3

import (
	"net/url"
	"strconv"
	"time"
)

// Defaults is the Config of an m3coordinator whose raw namespace is "default".
func Defaults() Config {
	return Config{
		Kind: KindM3, Namespace: "default", StoredNotAggregated: Accept, Compression: CompressionSnappy,
		Protocol: ProtocolAuto, UTF8Names: NamesReject, NativeHistograms: HistogramsDrop,
	}
}

// Check reports each problem of c: field is the yaml path inside the section, problem says what is wrong and how to mend it.
func (c *Config) Check(bad func(field, problem string)) {
	for _, f := range []struct{ field, value, one, other string }{
		{"stored_not_aggregated", c.StoredNotAggregated, Accept, Refuse},
		{"compression", c.Compression, CompressionSnappy, CompressionNone},
		{"utf8_names", c.UTF8Names, NamesReject, NamesEscape},
		{"native_histograms", c.NativeHistograms, HistogramsDrop, HistogramsClassic},
	} {
		if f.value != f.one && f.value != f.other {
			bad(f.field, strconv.Quote(f.value)+" is not known; write "+f.one+" or "+f.other)
		}
	}
	switch c.Protocol {
	case ProtocolAuto, Protocol1:
	case Protocol2:
		if c.Kind == KindM3 {
			bad("protocol", "is 2.0, which m3 does not read; write auto or 1.0")
		}
	default:
		bad("protocol", strconv.Quote(c.Protocol)+" is not known; write auto, \"1.0\" or \"2.0\"")
	}
	switch c.Kind {
	case KindM3:
		if c.Namespace == "" {
			bad("namespace", `is empty; name the unaggregated namespace, as in "default"`)
		}
	case KindPrometheus:
	default:
		bad("kind", strconv.Quote(string(c.Kind))+" is not a kind of store; write m3 or prometheus")
	}
}

// Paths are the routes that the gateway uses on a store of one kind. No other route is ever requested, but for
// ReadyPath, NamespacesPath, BuildInfoPath, ExemplarsPath and FederatePath.
type Paths struct {
	Write, RemoteRead, Query, QueryRange, Series, Labels string
}

// The routes of a store of kind prometheus that one of kind m3 does not have, and the Prometheus whose queries M3 takes.
const (
	BuildInfoPath     = "/api/v1/status/buildinfo"
	ExemplarsPath     = "/api/v1/query_exemplars"
	FederatePath      = "/federate"
	PrometheusVersion = "2.31.0"
)

// PathsOf gives the routes of a store of kind k.
func PathsOf(k Kind) Paths {
	p := Paths{
		Write:      "/api/v1/prom/remote/write",
		RemoteRead: "/api/v1/prom/remote/read",
		Query:      "/api/v1/query",
		QueryRange: "/api/v1/query_range",
		Series:     "/api/v1/series",
		Labels:     "/api/v1/labels",
	}
	if k == KindPrometheus {
		p.Write, p.RemoteRead = "/api/v1/write", "/api/v1/read"
	}
	return p
}

// LabelValues is the escaped path of the values of label name.
func (p Paths) LabelValues(name string) string {
	return "/api/v1/label/" + url.PathEscape(name) + "/values"
}

// TimeoutParam writes d as the value of the query parameter timeout: whole seconds with a unit, which stores of both
// kinds read, between 1s and M3's maximum of 10m.
func TimeoutParam(d time.Duration) string {
	d = min(max(d, time.Second), 10*time.Minute)
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// LookbackParam is the query parameter of kind m3 that is Prometheus' lookback_delta, and its value for d, which needs a unit.
func LookbackParam(d time.Duration) (name, value string) {
	if d%time.Second == 0 {
		return "lookback", strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return "lookback", strconv.FormatInt(max(d.Milliseconds(), 1), 10) + "ms"
}
