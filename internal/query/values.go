package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// MergeValues returns the values of all lists, sorted and without duplicates, never nil. The lists are not changed.
func MergeValues(lists ...[]string) []string {
	merged := slices.Concat(lists...)
	slices.Sort(merged)
	if merged = slices.Compact(merged); merged == nil {
		return []string{}
	}
	return merged
}

// DecodeStrings reads a store's answer to labels or label values, {"status":"success","data":["a","b"]}, of at most
// limit bytes; what else the object holds is ignored. A longer or other answer is an error. The strings take up to
// some ten times the bytes read.
func DecodeStrings(r io.Reader, limit int64) ([]string, error) {
	return decodeData[string](r, limit, "label values")
}

// decodeData reads the data of a store's success, a list of what, of at most limit bytes.
func decodeData[T any](r io.Reader, limit int64, what string) ([]T, error) {
	if limit < 0 {
		return nil, fmt.Errorf("decoding %s: negative limit", what)
	}
	// One byte more than allowed tells "at the limit" from "over it"; max keeps the largest limit from overflowing.
	body, err := io.ReadAll(io.LimitReader(r, max(limit, limit+1)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%s are longer than the limit of %d bytes", what, limit)
	}
	var answer struct {
		Status string
		Data   *[]T
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", what, err)
	}
	if answer.Status != "success" || answer.Data == nil {
		return nil, fmt.Errorf("decoding %s: the answer is no success with data", what)
	}
	return *answer.Data, nil
}

// EncodeStrings returns values as Prometheus answers labels and label values: {"status":"success","data":[...]}.
func EncodeStrings(values []string) []byte {
	if values == nil {
		values = []string{}
	}
	var b bytes.Buffer
	b.WriteString(`{"status":"success","data":`)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(values); err != nil {
		panic(err) // a slice of strings into memory can't fail
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	b.WriteByte('}')
	return b.Bytes()
}
