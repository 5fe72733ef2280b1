package m3

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// recorded is an answer of an m3coordinator (M3 2e397f7f).
func recorded(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseNamespaces(t *testing.T) {
	all, raw := recorded(t, "namespaces_aggregated"), recorded(t, "namespaces_raw")
	const past, future = `"bufferPastNanos":"600000000000"`, `"bufferFutureNanos":"600000000000"`
	own := func(old, now string) string { // edits the only namespace
		if !strings.Contains(raw, old) {
			t.Fatalf("%s is not in the recording", old)
		}
		return strings.Replace(raw, old, now, 1)
	}
	m := time.Minute
	for name, c := range map[string]struct {
		body, raw string
		want      Namespaces
		err       string
	}{
		"one namespace":                {raw, "default", Namespaces{10 * m, 10 * m, nil}, ""},
		"two aggregated ones":          {all, "default", Namespaces{10 * m, 10 * m, []string{"agg_10s_30d", "agg_1m_1y"}}, ""},
		"other limits":                 {strings.Replace(own(past, `"bufferPastNanos":"1200000000000"`), future, `"bufferFutureNanos":"1500000000"`, 1), "default", Namespaces{20 * m, 1500 * time.Millisecond, nil}, ""},
		"no aggregationOptions":        {own(`{"aggregations":[{"aggregated":false,"attributes":null}]}`, "null"), "default", Namespaces{10 * m, 10 * m, nil}, ""},
		"no namespaces":                {recorded(t, "namespaces_none"), "default", Namespaces{}, `namespace "default" is not in the registry, which has []; create it, or mend upstream.namespace`},
		"another namespace":            {all, "metrics", Namespaces{}, `namespace "metrics" is not in the registry, which has ["agg_10s_30d" "agg_1m_1y" "default"]`},
		"other case":                   {all, "Default", Namespaces{}, `namespace "Default" is not in the registry`},
		"an aggregated namespace":      {all, "agg_1m_1y", Namespaces{}, `namespace "agg_1m_1y" holds aggregates; name the unaggregated one in upstream.namespace`},
		"no bufferPast":                {own(past+",", ""), "default", Namespaces{}, "does not say bufferPastNanos; write limits.window as durations"},
		"no bufferFuture":              {own(future+",", ""), "default", Namespaces{}, "does not say bufferFutureNanos"},
		"null":                         {own(past, `"bufferPastNanos":null`), "default", Namespaces{}, "does not say bufferPastNanos"},
		"no retentionOptions":          {`{"registry":{"namespaces":{"default":{}}}}`, "default", Namespaces{}, "no retentionOptions"},
		"zero":                         {own(past, `"bufferPastNanos":"0"`), "default", Namespaces{}, "no number of nanoseconds above 0"},
		"negative":                     {own(future, `"bufferFutureNanos":"-1"`), "default", Namespaces{}, "no number of nanoseconds above 0"},
		"a duration":                   {own(past, `"bufferPastNanos":"10m"`), "default", Namespaces{}, "no number of nanoseconds above 0"},
		"over 64 bits":                 {own(past, `"bufferPastNanos":"9223372036854775808"`), "default", Namespaces{}, "no number of nanoseconds above 0"},
		"a JSON number":                {own(past, `"bufferPastNanos":600000000000`), "default", Namespaces{}, "decoding the namespace registry"},
		"cut off":                      {all[:len(all)/2], "default", Namespaces{}, "decoding the namespace registry"},
		"empty":                        {"", "default", Namespaces{}, "decoding the namespace registry"},
		"an error":                     {`{"status":"error","error":"x"}`, "default", Namespaces{}, "no namespace registry; is this an m3coordinator? (upstream.kind)"},
		"a Prometheus' 404":            {"404 page not found\n", "default", Namespaces{}, "is this an m3coordinator? (upstream.kind)"},
		"one of its aggregations only": {own(`[{"aggregated":false,"attributes":null}]`, `[{"aggregated":false},{"aggregated":true}]`), "default", Namespaces{}, "holds aggregates"},
	} {
		got, err := ParseNamespaces([]byte(c.body), c.raw)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
