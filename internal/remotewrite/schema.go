package remotewrite

import (
	"encoding/binary"
	"unicode/utf8"
)

// schema lists the known fields of a message by number; index 0 is unused. It follows prompb's types.proto.
type schema []fieldType

type fieldType struct {
	kind fieldKind
	sub  schema // of kindMessage
}

type fieldKind uint8

const (
	kindUnknown       fieldKind = iota
	kindVarint                  // one varint
	kindFixed64                 // eight bytes
	kindText                    // UTF-8 bytes
	kindMessage                 // a message of its own
	kindPackedVarint            // varints, packed or one by one
	kindPackedFixed64           // eight-byte values, packed or one by one
	kindTimestamp               // one varint, Unix ms
	kindIgnored                 // one varint of 2.0 that 1.0 has no place for
)

var (
	labelFields    = schema{1: {kind: kindText}, 2: {kind: kindText}}
	exemplarFields = schema{1: {kindMessage, labelFields}, 2: {kind: kindFixed64}, 3: {kind: kindTimestamp}}
	spanFields     = schema{1: {kind: kindVarint}, 2: {kind: kindVarint}}
	metadataFields = schema{1: {kind: kindVarint}, 2: {kind: kindText}, 4: {kind: kindText}, 5: {kind: kindText}}

	exemplar2Fields = schema{1: {kind: kindPackedVarint}, 2: {kind: kindFixed64}, 3: {kind: kindTimestamp}}
	metadata2Fields = schema{1: {kind: kindVarint}, 3: {kind: kindVarint}, 4: {kind: kindVarint}}

	// 2.0 adds a field and changes none.
	histogramFields = schema{
		1:  {kind: kindVarint},        // count_int
		2:  {kind: kindFixed64},       // count_float
		3:  {kind: kindFixed64},       // sum
		4:  {kind: kindVarint},        // schema
		5:  {kind: kindFixed64},       // zero_threshold
		6:  {kind: kindVarint},        // zero_count_int
		7:  {kind: kindFixed64},       // zero_count_float
		8:  {kindMessage, spanFields}, // negative_spans
		9:  {kind: kindPackedVarint},  // negative_deltas
		10: {kind: kindPackedFixed64}, // negative_counts
		11: {kindMessage, spanFields}, // positive_spans
		12: {kind: kindPackedVarint},  // positive_deltas
		13: {kind: kindPackedFixed64}, // positive_counts
		14: {kind: kindVarint},        // reset_hint
		15: {kind: kindTimestamp},     // timestamp
		16: {kind: kindPackedFixed64}, // custom_values
	}
	histogram2Fields  = append(histogramFields[:17:17], fieldType{kind: kindVarint})  // 17: start_timestamp
	histogram21Fields = append(histogramFields[:17:17], fieldType{kind: kindIgnored}) // the same, for 1.0
)

// of is the type of field number n.
func (s schema) of(n int) fieldType {
	if n < len(s) {
		return s[n]
	}
	return fieldType{}
}

// wires reports whether a field of kind k may have wire type w.
func (k fieldKind) wires(w int) bool {
	switch k {
	case kindVarint, kindTimestamp, kindIgnored:
		return w == wireVarint
	case kindFixed64:
		return w == wireFixed64
	case kindText, kindMessage:
		return w == wireBytes
	case kindPackedVarint:
		return w == wireBytes || w == wireVarint
	case kindPackedFixed64:
		return w == wireBytes || w == wireFixed64
	}
	return true
}

// walked is what walk learnt of a message.
type walked struct {
	unknown   int
	timestamp int64
	text      bool // every text that no later one of the same field replaces is UTF-8
}

// walk checks the message in src[at:end) and every message within it.
func walk(src []byte, at, end int, s schema) (walked, error) {
	w := walked{text: true}
	bad := 0 // a bit for each field whose text is not UTF-8
	for at < end {
		f, after, err := next(src, at, end)
		if err != nil {
			return w, err
		}
		t := s.of(f.number)
		if !t.kind.wires(f.wire) {
			return w, &SyntaxError{f.start, "a wrong wire type"}
		}
		switch t.kind {
		case kindUnknown:
			w.unknown++
		case kindTimestamp:
			w.timestamp = int64(f.num)
		case kindText:
			bad &^= 1 << f.number
			if !utf8.Valid(src[f.start:f.end]) {
				bad |= 1 << f.number
			}
		case kindMessage:
			sub, err := walk(src, f.start, f.end, t.sub)
			if err != nil {
				return w, err
			}
			w.unknown += sub.unknown
			w.text = w.text && sub.text
		case kindPackedVarint:
			for p := f.start; f.wire == wireBytes && p < f.end; {
				_, q := uvarint(src, p, f.end)
				if q == 0 {
					return w, &SyntaxError{p, "a broken varint"}
				}
				p = q
			}
		case kindPackedFixed64:
			if f.wire == wireBytes && (f.end-f.start)%8 != 0 {
				return w, &SyntaxError{f.start, "a packed field of a broken length"}
			}
		}
		at = after
	}
	w.text = w.text && bad == 0
	return w, nil
}

// travels reports whether the field f, of type t, is appended by appendKnown: text that is not UTF-8 has been replaced by a later
// one where walk has found all to be text.
func (t fieldType) travels(src []byte, f *field) bool {
	return t.kind != kindUnknown && t.kind != kindIgnored && (t.kind != kindText || utf8.Valid(src[f.start:f.end]))
}

// knownSize is the number of bytes that appendKnown appends.
func knownSize(src []byte, at, end int, s schema) int {
	size := 0
	for at < end {
		f, after, _ := next(src, at, end)
		if t := s.of(f.number); t.travels(src, &f) {
			n := f.end - f.start
			if t.kind == kindMessage {
				n = knownSize(src, f.start, f.end, t.sub)
			}
			size += uvarintLen(f.number<<3) + n
			if f.wire == wireBytes {
				size += uvarintLen(n)
			}
		}
		at = after
	}
	return size
}

// appendKnown appends the known fields of the message in src[at:end), which walk has accepted, text and all.
func appendKnown(dst, src []byte, at, end int, s schema) []byte {
	for at < end {
		f, after, _ := next(src, at, end)
		if t := s.of(f.number); t.travels(src, &f) {
			dst = binary.AppendUvarint(dst, uint64(f.number<<3|f.wire))
			switch {
			case t.kind == kindMessage:
				dst = binary.AppendUvarint(dst, uint64(knownSize(src, f.start, f.end, t.sub)))
				dst = appendKnown(dst, src, f.start, f.end, t.sub)
			case f.wire == wireBytes:
				dst = binary.AppendUvarint(dst, uint64(f.end-f.start))
				fallthrough
			default:
				dst = append(dst, src[f.start:f.end]...)
			}
		}
		at = after
	}
	return dst
}
