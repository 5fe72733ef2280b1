package query

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// fuzzScope turns fuzzed strings into a scope: both may be bad.
func fuzzScope(tenant, other string, operator bool) Scope {
	s := Scope{Label: "tenant", Tenants: []string{tenant}, All: operator}
	if other != "" {
		s.Tenants = append(s.Tenants, other)
	}
	return s
}

// FuzzPromQL: an accepted query says the same as before, with the tenant matcher in each selector; a refused one is
// the client's mistake.
func FuzzPromQL(f *testing.F) {
	seeds := slices.Clone(attacks)
	for _, d := range []Dialect{PromQL231, PromQL3} {
		g := generator{rand.New(rand.NewPCG(1, uint64(d))), d}
		for range 100 {
			seeds = append(seeds, g.query())
		}
	}
	if len(seeds) < 200 || len(oddTenants) == 0 {
		f.Fatal("no seeds")
	}
	for i, seed := range seeds {
		f.Add(seed, oddTenants[i%len(oddTenants)], []string{"", "b"}[i%2], i%3 == 0)
	}
	confiners := []*Confiner{New(PromQL231, DefaultLimits()), New(PromQL3, DefaultLimits())}
	f.Fuzz(func(t *testing.T, expr, tenant, other string, in231 bool) {
		s := fuzzScope(tenant, other, false)
		m, err := s.Matcher()
		if err != nil {
			return
		}
		own := labels.MustNewMatcher(m.matchType(), m.Name, m.Value)
		c := confiners[1]
		if in231 {
			c = confiners[0]
		}
		if out, err := c.PromQL(s, expr); err != nil {
			wantClientError(t, err)
		} else {
			sameQuery(t, c.dialect, expr, out, own)
		}
		if _, err := c.PromQL(operator, expr); err != nil {
			wantClientError(t, err)
		}
	})
}

// FuzzSelectors: each accepted match[] is one selector with the client's matchers and the tenant's.
func FuzzSelectors(f *testing.F) {
	seeds := append(slices.Clone(attacks), `{}`, `up{job=~"x|y"}`, `{"a.b"="c"}`)
	if len(seeds) < 50 {
		f.Fatal("no seeds")
	}
	for i, seed := range seeds {
		f.Add(seed, "up", oddTenants[i%len(oddTenants)], i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, one, two, tenant string, in231 bool) {
		s := fuzzScope(tenant, "", false)
		m, err := s.Matcher()
		if err != nil {
			return
		}
		d := PromQL3
		if in231 {
			d = PromQL231
		}
		in := []string{one, two}
		got, err := New(d, DefaultLimits()).Selectors(s, in)
		if err != nil {
			wantClientError(t, err)
			return
		}
		for i, sel := range got {
			before, err := d.newParser().ParseMetricSelector(in[i])
			if err != nil {
				t.Fatalf("%s: %v", in[i], err)
			}
			after, err := d.newParser().ParseMetricSelector(sel)
			if err != nil {
				t.Fatalf("%s: %v", sel, err)
			}
			want := append(before, labels.MustNewMatcher(m.matchType(), m.Name, m.Value))
			if !slices.EqualFunc(want, after, func(a, b *labels.Matcher) bool { return a.String() == b.String() }) {
				t.Fatalf("%s became %s", in[i], sel)
			}
		}
		if len(got) != len(in) {
			t.Fatalf("%d selectors for %d", len(got), len(in))
		}
	})
}

// FuzzRemoteRead: an accepted request holds the client's queries with the tenant matcher last in each, and no field
// that is not known here.
func FuzzRemoteRead(f *testing.F) {
	full := oneQuery(
		&prompb.LabelMatcher{Name: "__name__", Value: "up"},
		&prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "tenant", Value: ".*"},
		&prompb.LabelMatcher{Type: prompb.LabelMatcher_NRE, Name: "job", Value: "x|y"},
		&prompb.LabelMatcher{Type: prompb.LabelMatcher_NEQ, Name: "a.b", Value: ""},
	)
	full.AcceptedResponseTypes = []prompb.ReadRequest_ResponseType{chunks, samples}
	full.Queries[0].Hints = &prompb.ReadHints{StepMs: 1, Func: "rate", StartMs: 2, EndMs: 3, Grouping: []string{"a"}, By: true, RangeMs: 4}
	full.Queries = append(full.Queries, &prompb.Query{XXX_unrecognized: []byte{0x0b, 0x0a, 0, 0x0c, 0xaa, 0x06, 1, 'x'}})
	seeds := []*prompb.ReadRequest{full, oneQuery(), {}}
	for _, r := range seeds {
		msg, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg, true)
		f.Add(msg, false)
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	limits := DefaultLimits()
	limits.MaxSelectors, limits.MaxMatchers = 5, 10
	confiners := []*Confiner{New(PromQL231, limits), New(PromQL3, limits)}
	f.Fuzz(func(t *testing.T, msg []byte, in231 bool) {
		c := confiners[1]
		if in231 {
			c = confiners[0]
		}
		if _, _, err := c.RemoteRead(alice, msg, 1<<16); err != nil { // mostly no snappy
			wantClientError(t, err)
		}
		var before prompb.ReadRequest
		wellFormed := before.Unmarshal(msg) == nil
		out, types, err := c.RemoteRead(alice, snappy.Encode(nil, msg), 1<<16)
		if err != nil {
			wantClientError(t, err)
			return
		}
		after := decodeBody(t, out)
		parts := 0
		if !wellFormed || len(before.Queries) != len(after.Queries) || len(after.Queries) > limits.MaxSelectors || !types.Samples && !types.StreamedChunks {
			t.Fatalf("%v became %v", &before, after)
		}
		before.XXX_unrecognized, before.AcceptedResponseTypes = nil, after.AcceptedResponseTypes
		for _, q := range before.Queries {
			q.XXX_unrecognized = nil
			for _, m := range q.Matchers {
				m.XXX_unrecognized = nil
			}
			if q.Hints != nil {
				q.Hints.XXX_unrecognized = nil
				parts += len(q.Hints.Grouping)
			}
			parts += len(q.Matchers)
			own := &prompb.LabelMatcher{Name: "tenant", Value: "a"}
			if !in231 {
				own.Type = prompb.LabelMatcher_RE
			}
			q.Matchers = append(q.Matchers, own)
		}
		want, err := before.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := snappy.Decode(nil, out)
		if err != nil || string(got) != string(want) || parts > limits.MaxMatchers {
			t.Fatalf("%v became %v: %v", &before, after, err)
		}
	})
}

// FuzzDecodeStrings: what is accepted can be written and read again.
func FuzzDecodeStrings(f *testing.F) {
	seeds := []string{`{"status":"success","data":["a","b"]}`, `{"status":"success","data":[]}`, `{"status":"error","error":"x"}`, `null`}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := DecodeStrings(strings.NewReader(in), 1<<16)
		if err != nil {
			var e *Error
			if errors.As(err, &e) {
				t.Errorf("the store's mistake is the client's: %v", err)
			}
			return
		}
		again, err := DecodeStrings(strings.NewReader(string(EncodeStrings(got))), 1<<20)
		if err != nil || !slices.Equal(got, again) {
			t.Fatalf("%q became %q: %v", got, again, err)
		}
	})
}
