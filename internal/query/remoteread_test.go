package query

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

func readBody(t testing.TB, r *prompb.ReadRequest) []byte {
	t.Helper()
	msg, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, msg)
}

func oneQuery(ms ...*prompb.LabelMatcher) *prompb.ReadRequest {
	return &prompb.ReadRequest{Queries: []*prompb.Query{{StartTimestampMs: 1, EndTimestampMs: 2, Matchers: ms}}}
}

func decodeBody(t testing.TB, body []byte) *prompb.ReadRequest {
	t.Helper()
	msg, err := snappy.Decode(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	var r prompb.ReadRequest
	if err := r.Unmarshal(msg); err != nil {
		t.Fatal(err)
	}
	return &r
}

const (
	samples = prompb.ReadRequest_SAMPLES
	chunks  = prompb.ReadRequest_STREAMED_XOR_CHUNKS
)

func TestRemoteRead(t *testing.T) {
	in := &prompb.ReadRequest{
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{chunks, samples},
		Queries: []*prompb.Query{
			{},
			{
				StartTimestampMs: -5, EndTimestampMs: 7,
				Matchers: []*prompb.LabelMatcher{
					{Type: prompb.LabelMatcher_EQ, Name: "tenant", Value: "b"},
					{Type: prompb.LabelMatcher_RE, Name: "job", Value: "x|y"},
					{Type: prompb.LabelMatcher_NRE, Name: "job", Value: "z"},
					{Type: prompb.LabelMatcher_NEQ, Name: "job", Value: ""},
				},
				Hints: &prompb.ReadHints{StepMs: 1, Func: "rate", StartMs: 2, EndMs: 3, Grouping: []string{"a"}, By: true, RangeMs: 4},
			},
		},
	}
	for _, tc := range []struct {
		dialect  Dialect
		scope    Scope
		matcher  *prompb.LabelMatcher
		accepted []prompb.ReadRequest_ResponseType
		types    ResponseTypes
	}{
		{PromQL231, alice, &prompb.LabelMatcher{Name: "tenant", Value: "a"}, []prompb.ReadRequest_ResponseType{samples}, ResponseTypes{Samples: true}},
		{PromQL3, alice, &prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "tenant", Value: "a"}, []prompb.ReadRequest_ResponseType{chunks, samples}, ResponseTypes{Samples: true, StreamedChunks: true}},
		{PromQL3, Scope{Label: "tenant", Tenants: []string{"a.b|c"}}, &prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "tenant", Value: `a\.b\|c`}, []prompb.ReadRequest_ResponseType{chunks, samples}, ResponseTypes{Samples: true, StreamedChunks: true}},
		{PromQL3, two, &prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "tenant", Value: `a\|b|b\.c`}, []prompb.ReadRequest_ResponseType{chunks, samples}, ResponseTypes{Samples: true, StreamedChunks: true}},
		{PromQL3, operator, nil, []prompb.ReadRequest_ResponseType{chunks, samples}, ResponseTypes{Samples: true, StreamedChunks: true}},
	} {
		want := decodeBody(t, readBody(t, in))
		want.AcceptedResponseTypes = tc.accepted
		for _, q := range want.Queries {
			if tc.matcher != nil {
				q.Matchers = append(q.Matchers, tc.matcher)
			}
		}
		body, types, err := New(tc.dialect, DefaultLimits()).RemoteRead(tc.scope, readBody(t, in), 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		if got := decodeBody(t, body); got.String() != want.String() || types != tc.types {
			t.Errorf("got  %s %+v\nwant %s %+v", got, types, want, tc.types)
		}
	}
}

func TestRemoteReadResponseTypes(t *testing.T) {
	for _, tc := range []struct {
		dialect Dialect
		in      []prompb.ReadRequest_ResponseType
		want    []prompb.ReadRequest_ResponseType
	}{
		{PromQL231, nil, []prompb.ReadRequest_ResponseType{samples}},
		{PromQL3, nil, []prompb.ReadRequest_ResponseType{samples}},
		{PromQL3, []prompb.ReadRequest_ResponseType{samples, chunks, samples}, []prompb.ReadRequest_ResponseType{samples, chunks}},
		{PromQL3, []prompb.ReadRequest_ResponseType{7, chunks}, []prompb.ReadRequest_ResponseType{chunks}},
		{PromQL231, []prompb.ReadRequest_ResponseType{chunks}, nil},
		{PromQL3, []prompb.ReadRequest_ResponseType{-1}, nil},
	} {
		r := oneQuery()
		r.AcceptedResponseTypes = tc.in
		body, types, err := New(tc.dialect, DefaultLimits()).RemoteRead(alice, readBody(t, r), 1<<16)
		if tc.want == nil {
			if err == nil {
				t.Errorf("accepted types %v passed", tc.in)
			} else {
				wantClientError(t, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var want ResponseTypes
		for _, typ := range tc.want {
			want.Samples = want.Samples || typ == samples
			want.StreamedChunks = want.StreamedChunks || typ == chunks
		}
		got := decodeBody(t, body).AcceptedResponseTypes
		if (&prompb.ReadRequest{AcceptedResponseTypes: got}).String() != (&prompb.ReadRequest{AcceptedResponseTypes: tc.want}).String() || types != want {
			t.Errorf("%v became %v (%+v), want %v", tc.in, got, types, tc.want)
		}
	}
}

// What is not a known field of the message does not travel, at any level.
func TestRemoteReadDropsUnknownFields(t *testing.T) {
	unknown := append([]byte{0xaa, 0x06, 9}, "stowaway!"...) // field 101, nine bytes
	r := oneQuery(&prompb.LabelMatcher{Name: "job", Value: "x"})
	r.Queries[0].Hints = &prompb.ReadHints{Func: "rate"}
	r.XXX_unrecognized = unknown
	r.Queries[0].XXX_unrecognized = unknown
	r.Queries[0].Matchers[0].XXX_unrecognized = unknown
	r.Queries[0].Hints.XXX_unrecognized = unknown
	msg, err := r.Marshal()
	if err != nil || strings.Count(string(msg), "stowaway!") != 4 {
		t.Fatalf("the request carries no unknown fields: %v", err)
	}
	body, _, err := New(PromQL231, DefaultLimits()).RemoteRead(alice, snappy.Encode(nil, msg), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	out, err := snappy.Decode(nil, body)
	if err != nil || strings.Contains(string(out), "stowaway!") {
		t.Errorf("an unknown field travelled: %q, %v", out, err)
	}
}

func TestRemoteReadErrors(t *testing.T) {
	claims4GiB := binary.AppendUvarint(nil, 1<<32-1)
	raw := func(b ...byte) []byte { return snappy.Encode(nil, b) }
	many := func(n int) []byte { return snappy.Encode(nil, []byte(strings.Repeat("\x0a\x00", n))) }
	nested := func(b []byte) []byte {
		msg := binary.AppendUvarint([]byte{0x0a}, uint64(len(b)))
		return append(msg, b...)
	}
	matchers := func(n int) []byte {
		return snappy.Encode(nil, nested([]byte(strings.Repeat("\x1a\x00", n))))
	}
	hint := binary.AppendUvarint([]byte{0x22}, 2*3000)
	hint = append(hint, strings.Repeat("\x2a\x00", 3000)...)
	// An overlong number and a field number beyond 32 bits must not hide what follows from the count.
	overlong := append([]byte{0x78, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, strings.Repeat("\x0a\x00", 600)...)
	var wide []byte
	for range 600 {
		wide = append(binary.AppendUvarint(wide, (1<<32+1)<<3|2), 0)
	}
	for name, tc := range map[string]struct {
		body []byte
		want string
	}{
		"empty":             {nil, "not snappy"},
		"not snappy":        {[]byte("\xff\xff\xff\xff\xff\xff"), "not snappy"},
		"claims 4 GiB":      {claims4GiB, "limit of 65536"},
		"truncated":         {readBody(t, oneQuery())[:4], "not snappy"},
		"too long":          {readBody(t, oneQuery(&prompb.LabelMatcher{Name: "a", Value: strings.Repeat("x", 70000)})), "limit of 65536"},
		"no message":        {raw(0x0a), "not a remote-read request"},
		"no queries":        {raw(), "no queries"},
		"wrong wire type":   {raw(0x08, 1), "not a remote-read request"},
		"many queries":      {many(501), "more than 500 queries"},
		"many matchers":     {matchers(2001), "more than 2000 label matchers"},
		"many groupings":    {snappy.Encode(nil, nested(hint)), "more than 2000 label matchers"},
		"hidden by number":  {snappy.Encode(nil, overlong), "not a remote-read request"},
		"overlong key":      {snappy.Encode(nil, append([]byte{0xf8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, 0}, strings.Repeat("\x0a\x00", 600)...)), "not a remote-read request"},
		"overlong length":   {snappy.Encode(nil, append([]byte{0x7a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02}, strings.Repeat("\x0a\x00", 600)...)), "not a remote-read request"},
		"wide field number": {snappy.Encode(nil, wide), "more than 500 queries"},
		"unknown matcher":   {readBody(t, oneQuery(&prompb.LabelMatcher{Type: 4, Name: "a", Value: "b"})), "type 4 is unknown"},
		"negative matcher":  {readBody(t, oneQuery(&prompb.LabelMatcher{Type: -1, Name: "a", Value: "b"})), "type -1 is unknown"},
		"no label name":     {readBody(t, oneQuery(&prompb.LabelMatcher{Value: "b"})), "no name"},
		"odd label name":    {readBody(t, oneQuery(&prompb.LabelMatcher{Name: "a.b", Value: "b"})), `label name "a.b" is not supported`},
		"name not UTF-8":    {readBody(t, oneQuery(&prompb.LabelMatcher{Name: "a\xff", Value: "b"})), "not UTF-8"},
		"value not UTF-8":   {readBody(t, oneQuery(&prompb.LabelMatcher{Name: "a", Value: "\xff"})), "not UTF-8"},
		"bad regex":         {readBody(t, oneQuery(&prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "a", Value: "("})), "missing closing )"},
		"bad negated regex": {readBody(t, oneQuery(&prompb.LabelMatcher{Type: prompb.LabelMatcher_NRE, Name: "a", Value: "x{2,1}"})), "invalid repeat count"},
		"long regex":        {readBody(t, oneQuery(&prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "a", Value: strings.Repeat("x", 20000)})), "limit of 16384"},
		"large regex":       {readBody(t, oneQuery(&prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "a", Value: strings.Repeat("x{1000}", 200)})), "100000 instructions"},
	} {
		got, _, err := New(PromQL231, DefaultLimits()).RemoteRead(alice, tc.body, 1<<16)
		if err == nil {
			t.Errorf("%s: became %d bytes", name, len(got))
		} else if msg := wantClientError(t, err); !strings.Contains(msg, tc.want) {
			t.Errorf("%s: %q, want %q", name, msg, tc.want)
		}
	}
}
