package query

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// ResponseTypes says how the store may answer a confined remote read.
type ResponseTypes struct {
	Samples        bool // one snappy-compressed ReadResponse
	StreamedChunks bool // a stream of ChunkedReadResponse frames
}

// RemoteRead is a confined remote-read request.
type RemoteRead struct {
	Body  []byte // snappy-compressed, a buffer of its own
	Types ResponseTypes
	// Queries are those of the client, in its order.
	Queries []ReadQuery
}

// ReadQuery says what one query of a remote read asks for.
type ReadQuery struct {
	Selector   string // of the client, as PromQL
	Confined   string // the same as the store is sent it
	Start, End int64  // Unix ms
}

// RemoteRead confines a remote-read request: body is a snappy-compressed prometheus.ReadRequest of at most maxDecoded
// bytes when decompressed, and stays the caller's. The message is built anew from the fields known here, each query
// with the matcher of s, and returned compressed in a buffer of its own. Types says what the store was asked to answer
// with: for PromQL231 SAMPLES only. An *Error is the client's mistake.
func (c *Confiner) RemoteRead(s Scope, body []byte, maxDecoded int) (confined []byte, types ResponseTypes, err error) {
	r, err := c.Read(s, body, maxDecoded)
	return r.Body, r.Types, err
}

// Read is RemoteRead that also says what is asked for.
func (c *Confiner) Read(s Scope, body []byte, maxDecoded int) (RemoteRead, error) {
	scope, err := newConfinement(s)
	if err != nil {
		return RemoteRead{}, err
	}
	in, err := c.decodeRead(body, maxDecoded)
	if err != nil {
		return RemoteRead{}, err
	}
	var r RemoteRead
	out := prompb.ReadRequest{Queries: make([]*prompb.Query, 0, len(in.Queries))}
	if out.AcceptedResponseTypes, r.Types, err = c.responseTypes(in.AcceptedResponseTypes); err != nil {
		return RemoteRead{}, err
	}
	regexes := regexBudget{limits: &c.limits}
	for _, q := range in.Queries {
		confined, err := c.readQuery(scope, q, &regexes)
		if err != nil {
			return RemoteRead{}, err
		}
		out.Queries = append(out.Queries, confined)
		r.Queries = append(r.Queries, ReadQuery{readSelector(q.Matchers), readSelector(confined.Matchers), q.StartTimestampMs, q.EndTimestampMs})
	}
	msg, err := out.Marshal()
	if err != nil {
		return RemoteRead{}, fmt.Errorf("marshalling a confined read request: %w", err)
	}
	r.Body = snappy.Encode(nil, msg)
	return r, nil
}

// readSelector writes accepted matchers as PromQL.
func readSelector(ms []*prompb.LabelMatcher) string {
	b := []byte("{")
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		typ := [...]labels.MatchType{labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchNotRegexp}[m.Type]
		b = appendMatcher(b, m.Name, typ, m.Value)
	}
	return string(append(b, '}'))
}

// decodeRead checks every size before it allocates for it.
func (c *Confiner) decodeRead(body []byte, maxDecoded int) (*prompb.ReadRequest, error) {
	size, err := snappy.DecodedLen(body)
	if err != nil {
		return nil, refuse("body is not snappy-compressed: %v", err)
	}
	if size > maxDecoded {
		return nil, refuse("body of %d bytes when decompressed is longer than the limit of %d", size, maxDecoded)
	}
	msg, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, refuse("body is not snappy-compressed: %v", err)
	}
	if err := c.countRead(msg); err != nil {
		return nil, err
	}
	var in prompb.ReadRequest
	if err := in.Unmarshal(msg); err != nil {
		return nil, refuse("body is not a remote-read request: %v", err)
	}
	if len(in.Queries) == 0 {
		return nil, refuse("remote-read request has no queries")
	}
	return &in, nil
}

// Field numbers of ReadRequest.queries, Query.matchers, Query.hints and ReadHints.grouping.
const (
	fieldQueries  = 1
	fieldMatchers = 3
	fieldHints    = 4
	fieldGrouping = 5
)

// countRead bounds the repeated messages of a ReadRequest, because unmarshalling takes some forty bytes for each byte
// of an empty one.
func (c *Confiner) countRead(msg []byte) error {
	queries, parts := 0, 0
	grouping := func(field int32, _ []byte) bool {
		if field == fieldGrouping {
			parts++
		}
		return true
	}
	query := func(field int32, b []byte) bool {
		switch field {
		case fieldMatchers:
			parts++
		case fieldHints:
			return eachField(b, grouping)
		}
		return true
	}
	whole := eachField(msg, func(field int32, b []byte) bool {
		if field != fieldQueries {
			return true
		}
		queries++
		return eachField(b, query)
	})
	switch {
	case !whole:
		return refuse("body is not a remote-read request")
	case queries > c.limits.MaxSelectors:
		return refuse("remote-read request has more than %d queries", c.limits.MaxSelectors)
	case parts > c.limits.MaxMatchers:
		return refuse("remote-read request has more than %d label matchers and grouping labels", c.limits.MaxMatchers)
	}
	return nil
}

// eachField calls visit for each length-delimited field of a protobuf message, and reports whether all of it was
// visited: whether it is well-formed and no visit returned false. It must see every field that prompb's unmarshaller
// sees: field numbers are cut to 32 bits as there, and a number that does not fit its type is malformed here. The
// fields of a group are visited as if they were the message's own, which counts too many.
func eachField(msg []byte, visit func(field int32, payload []byte) bool) bool {
	for len(msg) > 0 {
		key, n := binary.Uvarint(msg)
		if n <= 0 {
			return false
		}
		msg = msg[n:]
		skip := 0
		switch key & 7 {
		case 0: // varint
			if _, skip = binary.Uvarint(msg); skip <= 0 {
				return false
			}
		case 1: // 64 bits
			skip = 8
		case 2: // length-delimited
			size, n := binary.Uvarint(msg)
			if n <= 0 || size > uint64(len(msg)-n) {
				return false
			}
			skip = n + int(size)
			if !visit(int32(key>>3), msg[n:skip]) {
				return false
			}
		case 3, 4: // start and end of a group
		case 5: // 32 bits
			skip = 4
		default:
			return false
		}
		if skip > len(msg) {
			return false
		}
		msg = msg[skip:]
	}
	return true
}

// responseTypes keeps the accepted types that the store and this package know, in the client's order of preference.
func (c *Confiner) responseTypes(accepted []prompb.ReadRequest_ResponseType) ([]prompb.ReadRequest_ResponseType, ResponseTypes, error) {
	var types ResponseTypes
	if len(accepted) == 0 { // the protocol's default
		accepted = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES}
	}
	var known []prompb.ReadRequest_ResponseType
	for _, t := range accepted {
		switch {
		case t == prompb.ReadRequest_SAMPLES && !types.Samples:
			types.Samples = true
			known = append(known, t)
		case t == prompb.ReadRequest_STREAMED_XOR_CHUNKS && !types.StreamedChunks && c.dialect == PromQL3:
			types.StreamedChunks = true
			known = append(known, t)
		}
	}
	if len(known) == 0 {
		return nil, types, unsupported("every accepted response type of this remote-read request")
	}
	return known, types, nil
}

// readQuery builds q anew inside the scope.
func (c *Confiner) readQuery(scope confinement, q *prompb.Query, regexes *regexBudget) (*prompb.Query, error) {
	out := &prompb.Query{
		StartTimestampMs: q.StartTimestampMs,
		EndTimestampMs:   q.EndTimestampMs,
		Matchers:         make([]*prompb.LabelMatcher, 0, len(q.Matchers)+1),
	}
	for _, m := range q.Matchers {
		if err := c.checkReadMatcher(m, regexes); err != nil {
			return nil, err
		}
		out.Matchers = append(out.Matchers, &prompb.LabelMatcher{Type: m.Type, Name: m.Name, Value: m.Value})
	}
	if !scope.all {
		out.Matchers = append(out.Matchers, c.readMatcher(scope.matcher))
	}
	if h := q.Hints; h != nil {
		out.Hints = &prompb.ReadHints{
			StepMs: h.StepMs, Func: h.Func, StartMs: h.StartMs, EndMs: h.EndMs,
			Grouping: h.Grouping, By: h.By, RangeMs: h.RangeMs,
		}
	}
	return out, nil
}

// readMatcher is m as every query of a remote read carries it. A store of kind prometheus takes an equality with one of its own
// external labels for one with no label at all; a regular expression means the same and is taken as it stands.
func (c *Confiner) readMatcher(m Matcher) *prompb.LabelMatcher {
	out := &prompb.LabelMatcher{Type: prompb.LabelMatcher_EQ, Name: m.Name, Value: m.Value}
	if m.Regexp {
		out.Type = prompb.LabelMatcher_RE
	} else if c.dialect == PromQL3 {
		out.Type, out.Value = prompb.LabelMatcher_RE, regexp.QuoteMeta(m.Value)
	}
	return out
}

// checkReadMatcher refuses what a store would answer with an error of its own, or with something unforeseen.
func (c *Confiner) checkReadMatcher(m *prompb.LabelMatcher, regexes *regexBudget) error {
	if m.Name == "" || !utf8.ValidString(m.Name) || !utf8.ValidString(m.Value) {
		return refuse("a label matcher has no name or is not UTF-8")
	}
	if c.dialect == PromQL231 && !classicName(m.Name) {
		return unsupported(fmt.Sprintf("label name %+q", m.Name))
	}
	var typ labels.MatchType
	switch m.Type {
	case prompb.LabelMatcher_EQ, prompb.LabelMatcher_NEQ:
		return nil
	case prompb.LabelMatcher_RE:
		typ = labels.MatchRegexp
	case prompb.LabelMatcher_NRE:
		typ = labels.MatchNotRegexp
	default:
		return refuse("label matcher type %d is unknown", int32(m.Type))
	}
	if err := regexes.spend(m.Value); err != nil {
		return err
	}
	if _, err := labels.NewMatcher(typ, m.Name, m.Value); err != nil {
		return refuse("%v", err)
	}
	return nil
}
