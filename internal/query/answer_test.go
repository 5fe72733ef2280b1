package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

var own = Label{"tenant", "a"}

func TestEdit(t *testing.T) {
	const head, tail = `{"status":"success","data":`, `}`
	for name, tc := range map[string]struct {
		edit     Edit
		in, want string // of data
	}{
		"vector":            {Edit{Strip: own}, `{"resultType":"vector","result":[{"metric":{"__name__":"up","tenant":"a","z":"1"},"value":[1,"2"]}]}`, `{"resultType":"vector","result":[{"metric":{"__name__":"up","z":"1"},"value":[1,"2"]}]}`},
		"only label":        {Edit{Strip: own}, `{"result":[{"metric":{"tenant":"a"},"value":[1,"2"]}]}`, `{"result":[{"metric":{},"value":[1,"2"]}]}`},
		"first and last":    {Edit{Strip: own}, `{"result":[{"metric":{"tenant":"a","x":"y"}},{"metric":{"x":"y","tenant":"a"}}]}`, `{"result":[{"metric":{"x":"y"}},{"metric":{"x":"y"}}]}`},
		"another value":     {Edit{Strip: own}, `{"result":[{"metric":{"tenant":"b"}}]}`, `{"result":[{"metric":{"tenant":"b"}}]}`},
		"another name":      {Edit{Strip: own}, `{"result":[{"metric":{"Tenant":"a","tenan":"a","tenantt":"a","x":"tenant"}}]}`, `{"result":[{"metric":{"Tenant":"a","tenan":"a","tenantt":"a","x":"tenant"}}]}`},
		"escaped":           {Edit{Strip: own}, `{"result":[{"metric":{"t\u0065nant":"\u0061","x\"":"\\"}}]}`, `{"result":[{"metric":{"x\"":"\\"}}]}`},
		"elsewhere":         {Edit{Strip: own}, `{"resultType":"vector","tenant":"a","result":[{"tenant":"a","metric":{},"value":{"tenant":"a"}}],"metric":{"tenant":"a"}}`, `{"resultType":"vector","tenant":"a","result":[{"tenant":"a","metric":{},"value":{"tenant":"a"}}],"metric":{"tenant":"a"}}`},
		"scalar":            {Edit{Strip: own, Limit: 1}, `{"resultType":"scalar","result":[1.5,"2"]}`, `{"resultType":"scalar","result":[1.5,"2"]}`},
		"space":             {Edit{Strip: own}, "\n{ \"result\" :\t[ { \"metric\" : { \"tenant\" : \"a\" , \"b\" : \"c d\" } , \"values\" : [ [1, \"2\"] ] } ] }\n", `{"result":[{"metric":{"b":"c d"},"values":[ [1, "2"] ]}]}`},
		"null":              {Edit{Strip: own}, `null`, `null`},
		"null result":       {Edit{Strip: own}, `{"result":null}`, `{"result":null}`},
		"null metric":       {Edit{Strip: own}, `{"result":[{"metric":null}]}`, `{"result":[{"metric":null}]}`},
		"nothing":           {Edit{}, `{"result":[{"metric":{"tenant":"a"}}]}`, `{"result":[{"metric":{"tenant":"a"}}]}`},
		"series":            {Edit{Shape: Sets, Strip: own}, `[{"tenant":"a","b":"c"},{"tenant":"a"},{}]`, `[{"b":"c"},{},{}]`},
		"no series":         {Edit{Shape: Sets, Strip: own}, `[]`, `[]`},
		"labels":            {Edit{Shape: Names, Strip: own}, `["__name__","tenant","x"]`, `["__name__","x"]`},
		"labels, escaped":   {Edit{Shape: Names, Strip: own}, `["t\u0065nant","x"]`, `["x"]`},
		"labels, all":       {Edit{Shape: Names, Strip: own}, `["tenant"]`, `[]`},
		"labels, not mine":  {Edit{Shape: Names}, `["tenant"]`, `["tenant"]`},
		"exemplars":         {Edit{Shape: Exemplars, Strip: own}, `[{"seriesLabels":{"tenant":"a","x":"y"},"exemplars":[{"labels":{"tenant":"a"},"value":"1"}]}]`, `[{"seriesLabels":{"x":"y"},"exemplars":[{"labels":{"tenant":"a"},"value":"1"}]}]`},
		"limit, under":      {Edit{Limit: 2}, `{"result":[{"metric":{}},{"metric":{}}]}`, `{"result":[{"metric":{}},{"metric":{}}]}`},
		"limit, over":       {Edit{Limit: 2}, `{"result":[{"a":1},{"b":[{}]},{"c":"]}"}, {"d":{}}],"x":1}`, `{"result":[{"a":1},{"b":[{}]}],"x":1},"warnings":["results truncated due to limit"]`},
		"limit and label":   {Edit{Limit: 1, Strip: own}, `{"result":[{"metric":{"tenant":"a"}},{"metric":{"tenant":"a"}}]}`, `{"result":[{"metric":{}}]},"warnings":["results truncated due to limit"]`},
		"a longer limit":    {Edit{Limit: 10}, `{"result":[{"a":1}]}`, `{"result":[{"a":1}]}`},
		"numbers and words": {Edit{Strip: own}, `{"result":[true,false,null,-1.5e9],"n":1}`, `{"result":[true,false,null,-1.5e9],"n":1}`},
	} {
		for kind, r := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "half": iotest.HalfReader, "err": iotest.DataErrReader} {
			var a Editor
			var out bytes.Buffer
			if err := a.Edit(&out, r(strings.NewReader(head+tc.in+tail+"\n")), tc.edit); err != nil || out.String() != head+tc.want+tail {
				t.Errorf("%s, %s: %v\n got %s\nwant %s", name, kind, err, &out, head+tc.want+tail)
			}
		}
	}
}

// TestEditWarnings: the warning of a cut answer joins those of the store.
func TestEditWarnings(t *testing.T) {
	var a Editor
	for in, want := range map[string]string{
		`{"data":{"result":[{},{}]},"warnings":["x"],"infos":["y"]}`: `{"data":{"result":[{}]},"warnings":["results truncated due to limit","x"],"infos":["y"]}`,
		`{"data":{"result":[{},{}]},"warnings":[]}`:                  `{"data":{"result":[{}]},"warnings":["results truncated due to limit"]}`,
		`{"data":{"result":[{}]},"warnings":["x"]}`:                  `{"data":{"result":[{}]},"warnings":["x"]}`,
		`{}`: `{}`,
	} {
		var out bytes.Buffer
		if err := a.Edit(&out, strings.NewReader(in), Edit{Limit: 1}); err != nil || out.String() != want {
			t.Errorf("%s\nbecame %s, %v\nwant %s", in, &out, err, want)
		}
	}
}

// TestEditFailures: what is no whole answer is an error, and the failures of both sides keep their identity.
func TestEditFailures(t *testing.T) {
	var a Editor
	for _, in := range []string{
		``, ` `, `null`, `[]`, `{`, `{"data"`, `{"data":`, `{"data":{`, `{"data":{"result":[`, `{"data":{"result":[{"metric":{"tenant"`, `{"data":{"result":[{"metric":{"tenant":"a`, `{"data":{"result":[{"metric":{"tenant":1}}]}}`,
		`{"data":{"result":[{"metric":{}}]}`, `{"data":{"result":[{}}]}`, `{} {}`, `{"a":1,}`, `{"a"1}`, `{"a":}`, `{"data":{"result":[{},]}}`, `{"data":{"result":["x"`, `<html>`, `{"data":{"result":[tru`,
	} {
		var out bytes.Buffer
		if err := a.Edit(&out, strings.NewReader(in), Edit{Strip: own, Limit: 5}); !errors.Is(err, errNotJSON) {
			t.Errorf("%s: %v, written %s", in, err, &out)
		}
	}
	long := `{"data":{"result":[{"metric":{"x":"` + strings.Repeat("y", maxJSONString+jsonBuffer) + `"}}]}}`
	if err := a.Edit(io.Discard, strings.NewReader(long), Edit{Strip: own}); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a label without end: %v", err)
	}
	broken := errors.New("broken")
	if err := a.Edit(io.Discard, io.MultiReader(strings.NewReader(`{"data":`), iotest.ErrReader(broken)), Edit{}); err != broken {
		t.Errorf("src failed: %v", err)
	}
	if err := a.Edit(failing{broken}, strings.NewReader(`{"data":[]}`), Edit{}); err != broken {
		t.Errorf("dst failed: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// randomAnswer is an answer to a query with n series, some with the tenant's label, some with another's.
func randomAnswer(r *rand.Rand, n int) string {
	text := func() string {
		b, _ := json.Marshal([]string{"a", "b", "tenant", "up", "é", "\"", "\\", "x,y", "]}", "\u2028", ""}[r.IntN(11)])
		return string(b)
	}
	set := func() string {
		var parts []string
		for i := range r.IntN(5) {
			parts = append(parts, fmt.Sprintf(`"l%d":%s`, i, text()))
		}
		if r.IntN(4) > 0 {
			parts = append(parts, `"tenant":`+text())
		}
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		return "{" + strings.Join(parts, ",") + "}"
	}
	var series []string
	for range n {
		series = append(series, fmt.Sprintf(`{"metric":%s,"values":[[%d,%s],[1.5,"NaN"]]}`, set(), r.IntN(1e9), text()))
	}
	return `{"status":"success","data":{"resultType":"matrix","result":[` + strings.Join(series, ",") + `]}}`
}

// editByMaps is what Edit does to an answer of shape Vectors, by encoding/json.
func editByMaps(t testing.TB, in []byte, e Edit) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(in, &v); err != nil {
		return nil
	}
	root, _ := v.(map[string]any)
	data, _ := root["data"].(map[string]any)
	result, _ := data["result"].([]any)
	kept := []any{}
	n, cut := 0, false
	for _, s := range result {
		o, ok := s.(map[string]any)
		if ok {
			if e.Limit > 0 && n >= e.Limit {
				cut = true
				continue
			}
			n++
			if m, ok := o["metric"].(map[string]any); ok && e.Strip.Name != "" && m[e.Strip.Name] == e.Strip.Value {
				delete(m, e.Strip.Name)
			}
		}
		kept = append(kept, s)
	}
	if result != nil {
		data["result"] = kept
	}
	if cut {
		root["warnings"] = []any{"results truncated due to limit"}
	}
	return v
}

func TestEditAgainstMaps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var a Editor
	for range 300 {
		in := randomAnswer(r, r.IntN(30))
		e := Edit{Strip: own, Limit: r.IntN(20)}
		var out bytes.Buffer
		if err := a.Edit(&out, iotest.HalfReader(strings.NewReader(in)), e); err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		var got any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%s\nbecame %s: %v", in, &out, err)
		}
		if want := editByMaps(t, []byte(in), e); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nbecame %v\nwant %v", in, got, want)
		}
	}
}

// FuzzEdit: whatever a store sends, what comes out of an accepted answer says the same as what encoding/json makes of it.
func FuzzEdit(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	seeds := []string{`{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`, `{"data":null}`, `{"data":{"result":[null,1,"x"]},"warnings":[]}`}
	for i := range 20 {
		seeds = append(seeds, randomAnswer(r, i))
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for i, s := range seeds {
		f.Add([]byte(s), i%4)
	}
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		e := Edit{Strip: own, Limit: limit % 8}
		var a Editor
		var out bytes.Buffer
		err := a.Edit(&out, iotest.OneByteReader(bytes.NewReader(in)), e)
		if !json.Valid(in) || hasTwice(in) {
			return // a store writes JSON, each name once
		}
		if err != nil {
			return
		}
		var got any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%q became %q: %v", in, &out, err)
		}
		want := editByMaps(t, in, e)
		if root, ok := want.(map[string]any); ok && root["warnings"] != nil {
			return // the warnings' order is tested elsewhere
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q", in, &out)
		}
	})
}

// hasTwice reports whether an object in the JSON text has a name twice.
func hasTwice(in []byte) bool {
	var again bytes.Buffer
	if err := json.Compact(&again, in); err != nil {
		return true
	}
	var v any
	if err := json.Unmarshal(in, &v); err != nil {
		return true
	}
	b, err := json.Marshal(v)
	return err != nil || strings.Count(again.String(), ":") != strings.Count(string(b), ":")
}

func BenchmarkEdit(b *testing.B) {
	var values strings.Builder
	values.WriteString(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"tenant":"a"},"values":[[1,"2"]`)
	for i := range 100_000 {
		fmt.Fprintf(&values, `,[%d.123,"%d.456789"]`, 1_700_000_000+i*15, i*7919)
	}
	values.WriteString(`]}]}}`)
	for name, in := range map[string]string{
		"labels": randomAnswer(rand.New(rand.NewPCG(5, 6)), 5000),
		"values": values.String(),
	} {
		b.Run(name, func(b *testing.B) {
			var a Editor
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if err := a.Edit(io.Discard, strings.NewReader(in), Edit{Strip: own}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestEachSeries(t *testing.T) {
	in := `{"status":"success","data":[{"b":"1","a":"<\u00e9\""},{"tenant":"a","x":"y"},{"tenant":"b"},{}]}`
	gather := func(strip Label) string {
		var sets []string
		err := EachSeries(iotest.OneByteReader(strings.NewReader(in)), 1000, strip, func(s string) error {
			sets = append(sets, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(EncodeSeries(sets))
	}
	if got, want := gather(Label{}), `{"status":"success","data":[{"a":"<é\"","b":"1"},{"tenant":"a","x":"y"},{"tenant":"b"},{}]}`; got != want {
		t.Errorf("got %s", got)
	}
	if got, want := gather(own), `{"status":"success","data":[{"a":"<é\"","b":"1"},{"x":"y"},{"tenant":"b"},{}]}`; got != want {
		t.Errorf("got %s", got)
	}
	enough := errors.New("enough")
	if err := EachSeries(strings.NewReader(in), 1000, own, func(string) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("an error of the caller is lost: %v", err)
	}
	for _, bad := range []string{`{"status":"success","data":["a"]}`, `{"status":"success","data":[{"a":1}]}`, `{"status":"success","data":[{"a":"b"}`} {
		if err := EachSeries(strings.NewReader(bad), 1000, own, func(string) error { return nil }); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}
