package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// jsonReader finds its way through a JSON text as it comes, in constant memory. It checks what it needs for that and no
// more: a store is trusted to write JSON. A failure of src is returned as it is; errNotJSON is anything else.
type jsonReader struct {
	src  io.Reader
	buf  []byte // what was read and not yet taken is buf[r:w]
	r, w int
	key  []byte // of the member of an object in hand, as it stands there
}

var errNotJSON = errors.New("the store's answer is not the JSON that was expected")

const (
	jsonBuffer = 32 << 10
	// maxJSONString bounds, in bytes as they stand there, a string that is looked at: a label's name or value.
	maxJSONString = 1 << 20
)

func (j *jsonReader) reset(src io.Reader) {
	if j.buf == nil {
		j.buf = make([]byte, jsonBuffer)
	}
	j.src, j.r, j.w = src, 0, 0
}

// more reads on, when all of buf is taken. At the end it is io.EOF.
func (j *jsonReader) more() error {
	for range 100 { // empty reads
		n, err := j.src.Read(j.buf)
		if n > 0 {
			j.r, j.w = 0, n
			return nil // an error will come again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// need is more where the text must go on.
func (j *jsonReader) need() error {
	err := j.more()
	if err == io.EOF {
		return errNotJSON
	}
	return err
}

// peek is the next byte that is no space; it stays.
func (j *jsonReader) peek() (byte, error) {
	for {
		for ; j.r < j.w; j.r++ {
			switch b := j.buf[j.r]; b {
			case ' ', '\t', '\n', '\r':
			default:
				return b, nil
			}
		}
		if err := j.need(); err != nil {
			return 0, err
		}
	}
}

// take takes the next byte that is no space, which must be want.
func (j *jsonReader) take(want byte) error {
	b, err := j.peek()
	if err != nil {
		return err
	}
	if b != want {
		return errNotJSON
	}
	j.r++
	return nil
}

// end is an error unless only space follows.
func (j *jsonReader) end() error {
	for {
		for ; j.r < j.w; j.r++ {
			switch j.buf[j.r] {
			case ' ', '\t', '\n', '\r':
			default:
				return errNotJSON
			}
		}
		if err := j.more(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// str takes a string and appends it to dst as it stands there, with its quotes.
func (j *jsonReader) str(dst []byte) ([]byte, error) {
	if err := j.take('"'); err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, '"')
	escaped := false
	for {
		for i := j.r; i < j.w; i++ {
			switch b := j.buf[i]; {
			case escaped:
				escaped = false
			case b == '\\':
				escaped = true
			case b == '"':
				dst = append(dst, j.buf[j.r:i+1]...)
				j.r = i + 1
				return dst, nil
			}
		}
		dst = append(dst, j.buf[j.r:j.w]...)
		j.r = j.w
		if len(dst)-start > maxJSONString {
			return dst, fmt.Errorf("a label in the store's answer is longer than %d bytes", maxJSONString)
		}
		if err := j.need(); err != nil {
			return dst, err
		}
	}
}

// value takes a value of any kind; its bytes go to keep, piece by piece as they lie in buf, unless keep is nil.
func (j *jsonReader) value(keep func([]byte) error) error {
	first, err := j.peek()
	if err != nil {
		return err
	}
	scan := (&jsonScan{}).nested
	if first != '"' && first != '{' && first != '[' {
		if first == ',' || first == ':' || first == '}' || first == ']' {
			return errNotJSON
		}
		scan = scalar
	}
	for {
		n, done := scan(j.buf[j.r:j.w])
		if keep != nil && n > 0 {
			if err := keep(j.buf[j.r : j.r+n]); err != nil {
				return err
			}
		}
		j.r += n
		if done {
			return nil
		}
		if err := j.need(); err != nil {
			return err
		}
	}
}

// scalar measures what of b belongs to a number or a word; done: it ends there.
func scalar(b []byte) (n int, done bool) {
	for i, c := range b {
		switch c {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return i, true
		}
	}
	return len(b), false
}

// jsonScan is what is open in a string, an object or an array under way.
type jsonScan struct {
	depth              int
	inString, escaping bool
}

// nested measures what of b belongs to the value; done: it ends there.
func (s *jsonScan) nested(b []byte) (n int, done bool) {
	for i := 0; i < len(b); i++ {
		if s.inString {
			for ; i < len(b) && !s.escaping && b[i] != '"' && b[i] != '\\'; i++ {
			}
			switch {
			case i == len(b):
				return i, false
			case s.escaping:
				s.escaping = false
			case b[i] == '\\':
				s.escaping = true
			default:
				s.inString = false
				if s.depth == 0 {
					return i + 1, true
				}
			}
			continue
		}
		for ; i < len(b) && !structural[b[i]]; i++ {
		}
		if i == len(b) {
			return i, false
		}
		switch b[i] {
		case '"':
			s.inString = true
		case '{', '[':
			s.depth++
		default:
			if s.depth--; s.depth <= 0 {
				return i + 1, true
			}
		}
	}
	return len(b), false
}

// structural are the bytes that open or close something.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true}

// object takes an object and calls each for every member, with its value still to be taken. The name, as it stands there,
// is in j.key until another object is begun.
func (j *jsonReader) object(each func() error) error {
	return j.list('{', '}', func() (err error) {
		if j.key, err = j.str(j.key[:0]); err != nil {
			return err
		}
		if err = j.take(':'); err != nil {
			return err
		}
		return each()
	})
}

// array takes an array and calls each for every element, which is still to be taken.
func (j *jsonReader) array(each func() error) error { return j.list('[', ']', each) }

func (j *jsonReader) list(open, end byte, each func() error) error {
	if err := j.take(open); err != nil {
		return err
	}
	if b, err := j.peek(); err != nil {
		return err
	} else if b == end {
		j.r++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		b, err := j.peek()
		if err != nil {
			return err
		}
		j.r++
		if b == end {
			return nil
		}
		if b != ',' {
			return errNotJSON
		}
	}
}

// named reports whether the member in hand has that plain name.
func (j *jsonReader) named(name string) bool { return isString(j.key, name) }

// isString reports whether raw, a string as it stands in JSON, says s.
func isString(raw []byte, s string) bool {
	in := raw[1 : len(raw)-1]
	for _, b := range in {
		if b == '\\' {
			said, err := unquoteJSON(raw)
			return err == nil && said == s
		}
	}
	return string(in) == s
}

// unquoteJSON is what raw, a string as it stands in JSON, says.
func unquoteJSON(raw []byte) (string, error) {
	for _, b := range raw {
		if b == '\\' || b < ' ' || b >= 0x80 {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return "", errNotJSON
			}
			return s, nil
		}
	}
	return string(raw[1 : len(raw)-1]), nil
}
