package query

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestMergeValues(t *testing.T) {
	a, b := []string{"z", "a"}, []string{"b", "a", "a"}
	if got := MergeValues(a, nil, b); !slices.Equal(got, []string{"a", "b", "z"}) {
		t.Errorf("merged %q", got)
	}
	if !slices.Equal(a, []string{"z", "a"}) || !slices.Equal(b, []string{"b", "a", "a"}) {
		t.Error("the lists were changed")
	}
	if got := MergeValues(); got == nil || len(got) != 0 {
		t.Errorf("merging nothing gives %#v", got)
	}
}

// DecodeStrings is EachString, gathered.
func DecodeStrings(r io.Reader, limit int64) ([]string, error) {
	var out []string
	err := EachString(r, limit, func(s string) error {
		out = append(out, s)
		return nil
	})
	return out, err
}

func TestDecodeStrings(t *testing.T) {
	for in, want := range map[string][]string{
		`{"status":"success","data":[]}`:                              {},
		`{"status":"success","data":["a","\u00e9\"<"]}` + "\n":        {"a", `é"<`},
		`{"data":["b"],"warnings":["x"],"status":"success","x":null}`: {"b"},
	} {
		for _, limit := range []int64{int64(len(in)), math.MaxInt64} {
			got, err := DecodeStrings(strings.NewReader(in), limit)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("DecodeStrings(%s) = %q, %v", in, got, err)
			}
		}
		if _, err := DecodeStrings(strings.NewReader(in), int64(len(in)-1)); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s passed a limit of one byte less: %v", in, err)
		}
	}
	for _, in := range []string{
		``, `null`, `[]`, `{}`, `{"status":"success"}`, `{"status":"success","data":null}`, `{"status":"error","data":["a"]}`,
		`{"status":"success","data":["a"`, `{"status":"success","data":["a"]} x`, `{"status":"success","data":[1]}`, `{"status":"success","data":{"a":"b"}}`,
		`{"status":"error","errorType":"bad_data","error":"x"}`, `404 page not found`,
	} {
		var e *Error
		if got, err := DecodeStrings(strings.NewReader(in), 1000); err == nil || errors.As(err, &e) {
			t.Errorf("DecodeStrings(%s) = %q, %v", in, got, err)
		}
	}
	if _, err := DecodeStrings(iotest.ErrReader(errors.New("reset")), 1000); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("a failing reader gives %v", err)
	}
	if _, err := DecodeStrings(strings.NewReader(""), -1); err == nil {
		t.Error("a negative limit passed")
	}
}

func TestEncodeStrings(t *testing.T) {
	for _, in := range [][]string{nil, {}, {"a", `<&>"\`, "é\n\u2028"}} {
		b := EncodeStrings(in)
		got, err := DecodeStrings(strings.NewReader(string(b)), 1000)
		if err != nil || !slices.Equal(got, in) || !json.Valid(b) {
			t.Errorf("%q became %s, decoded as %q, %v", in, b, got, err)
		}
	}
	if got := string(EncodeStrings([]string{"a<"})); got != `{"status":"success","data":["a<"]}` {
		t.Errorf("encoded %s", got)
	}
}

func TestValidLabelName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "_": true, "__name__": true, "A9_": true, "U__a_2e_b": true,
		"": false, "9a": false, "a.b": false, "a:b": false, "a/b": false, "é": false, "a b": false, "a%2e": false, "..": false, "a\n": false,
	} {
		for _, d := range []Dialect{PromQL231, PromQL3} {
			if ValidLabelName(d, name) != want {
				t.Errorf("ValidLabelName(%q) = %v", name, !want)
			}
		}
	}
}
