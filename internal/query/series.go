package query

import (
	"encoding/json"
	"fmt"
	"io"
)

// DecodeSeries reads a store's answer to series, {"status":"success","data":[{…},{…}]}, of at most limit bytes, and returns
// each label set as its compact JSON text with the names in order, so that equal sets are equal texts.
func DecodeSeries(r io.Reader, limit int64) ([]string, error) {
	sets, err := decodeData[map[string]string](r, limit, "series")
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(sets))
	for _, set := range sets {
		text, err := json.Marshal(set)
		if err != nil {
			return nil, fmt.Errorf("encoding series: %w", err)
		}
		out = append(out, string(text))
	}
	return out, nil
}

// EncodeSeries is the inverse of DecodeSeries.
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
