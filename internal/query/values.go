package query

import (
	"bytes"
	"encoding/json"
	"errors"
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

// EachString reads a store's answer to labels or label values, {"status":"success","data":["a","b"]}, of at most limit
// bytes, and calls each for every string, in constant memory. What else the object holds is ignored. A longer answer, one of
// another form and no success are errors, found at the end at the latest; an error of each is returned as it is.
func EachString(r io.Reader, limit int64, each func(string) error) error {
	return eachOf(r, limit, "label values", func(j *jsonReader) error {
		raw, err := j.str(nil)
		if err != nil {
			return err
		}
		s, err := unquoteJSON(raw)
		if err != nil {
			return err
		}
		return each(s)
	})
}

// eachOf calls one for every element of a store's success, a list of what.
func eachOf(r io.Reader, limit int64, what string, one func(*jsonReader) error) error {
	if limit < 0 {
		return fmt.Errorf("decoding %s: negative limit", what)
	}
	var (
		j             jsonReader
		success, data bool
	)
	j.reset(&atMost{r: r, left: limit, limit: limit, what: what})
	err := j.object(func() error {
		switch {
		case j.named("data"):
			if data {
				return errNotJSON
			}
			data = true
			return j.array(func() error { return one(&j) })
		case j.named("status"):
			raw, err := j.str(nil)
			success = err == nil && isString(raw, "success")
			return err
		}
		return j.value(nil)
	})
	if err == nil {
		err = j.end()
	}
	if err == nil && (!success || !data) {
		err = errors.New("the answer is no success with data")
	}
	if err != nil {
		return fmt.Errorf("decoding %s: %w", what, err)
	}
	return nil
}

// atMost fails a reader that has more than limit bytes.
type atMost struct {
	r           io.Reader
	left, limit int64
	what        string
}

func (a *atMost) Read(b []byte) (int, error) {
	if int64(len(b)) > a.left {
		b = b[:a.left+1] // one more tells "at the limit" from "over it"
	}
	n, err := a.r.Read(b)
	if a.left -= int64(n); a.left < 0 {
		return 0, fmt.Errorf("%s are longer than the limit of %d bytes", a.what, a.limit)
	}
	return n, err
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
