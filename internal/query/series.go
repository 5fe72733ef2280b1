package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// DecodeSeries reads a store's answer to series, {"status":"success","data":[{…},{…}]}, of at most limit bytes, and returns
// each label set as its compact JSON text with the names in order, so that equal sets are equal texts.
func DecodeSeries(r io.Reader, limit int64) ([]string, error) {
	body, err := io.ReadAll(io.LimitReader(r, max(limit, limit+1)))
	if err != nil {
		return nil, fmt.Errorf("reading series: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("series are longer than the limit of %d bytes", limit)
	}
	var answer struct {
		Status string
		Data   *[]map[string]string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decoding series: %w", err)
	}
	if answer.Status != "success" || answer.Data == nil {
		return nil, errors.New("decoding series: the answer is no success with data")
	}
	out := make([]string, 0, len(*answer.Data))
	for _, set := range *answer.Data {
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
