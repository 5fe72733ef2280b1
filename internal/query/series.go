package query

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
)

// EachSeries is EachString for a store's answer to series, {"status":"success","data":[{…},{…}]}: it calls each for every label
// set, as compact JSON with the names in order, so that equal sets are equal texts. strip is left out of the sets.
func EachSeries(r io.Reader, limit int64, strip Label, each func(set string) error) error {
	var (
		set  []member
		text []byte
	)
	return eachOf(r, limit, "series", func(j *jsonReader) error {
		set = set[:0]
		err := j.object(func() error {
			name, err := unquoteJSON(j.key)
			if err != nil {
				return err
			}
			raw, err := j.str(nil)
			if err != nil {
				return err
			}
			value, err := unquoteJSON(raw)
			if err == nil && (strip.Name == "" || name != strip.Name || value != strip.Value) {
				set = append(set, member{name, value})
			}
			return err
		})
		if err != nil {
			return err
		}
		slices.SortStableFunc(set, func(a, b member) int { return strings.Compare(a.name, b.name) })
		text = append(text[:0], '{')
		for i, m := range set {
			if i > 0 {
				text = append(text, ',')
			}
			text = appendJSON(append(appendJSON(text, m.name), ':'), m.value)
		}
		return each(string(append(text, '}')))
	})
}

// member is one label of a set.
type member struct{ name, value string }

// appendJSON appends s as a JSON string.
func appendJSON(dst []byte, s string) []byte {
	for i := range len(s) {
		if b := s[i]; b < ' ' || b >= 0x7f || b == '"' || b == '\\' {
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(s); err != nil {
				panic(err) // a string into memory can't fail
			}
			return append(dst, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// EncodeSeries writes the texts of EachSeries as an answer to series.
func EncodeSeries(sets []string) []byte {
	size := 32
	for _, s := range sets {
		size += len(s) + 1
	}
	b := append(make([]byte, 0, size), `{"status":"success","data":[`...)
	for i, s := range sets {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, s...)
	}
	return append(b, "]}"...)
}
