package query

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

// metricLabel is the label that holds a metric's name.
const metricLabel = "__name__"

// Scope says which series a caller may read.
type Scope struct {
	Label   string   // name of the enforced tenant label
	Tenants []string // values of Label the caller may read; unused when All
	All     bool     // operator: every series; Tenants is ignored
}

// Matcher is the condition that every selector of a confined query carries: Name = Value or, if Regexp, Name =~ Value.
// Prometheus and M3 anchor regular expressions at both ends.
type Matcher struct {
	Name   string
	Value  string
	Regexp bool
}

// Matcher returns the condition that confines s. Values are sorted and de-duplicated, and escaped if there are several.
// It is an error for s to be unconfined (All) or to name no tenant: no scope ever turns into "everything".
// An empty tenant is an error because label="" matches the series that lack the label.
func (s Scope) Matcher() (Matcher, error) {
	switch {
	case s.All:
		return Matcher{}, errors.New("an unconfined scope has no matcher")
	case !classicName(s.Label) || s.Label == metricLabel:
		return Matcher{}, fmt.Errorf("tenant label %q is not a plain label name", s.Label)
	case len(s.Tenants) == 0:
		return Matcher{}, errors.New("scope names no tenant")
	}
	for _, t := range s.Tenants {
		if t == "" || !utf8.ValidString(t) {
			return Matcher{}, fmt.Errorf("tenant %q is empty or not UTF-8", t)
		}
	}
	if len(s.Tenants) == 1 {
		return Matcher{Name: s.Label, Value: s.Tenants[0]}, nil
	}
	values := slices.Clone(s.Tenants)
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) == 1 {
		return Matcher{Name: s.Label, Value: values[0]}, nil
	}
	for i, v := range values {
		values[i] = regexp.QuoteMeta(v)
	}
	return Matcher{Name: s.Label, Value: strings.Join(values, "|"), Regexp: true}, nil
}

// confinement is a Scope made ready for one call. The zero value is of no use; make it with newConfinement.
type confinement struct {
	all     bool
	matcher Matcher
	text    string // the matcher as PromQL; empty only if all
}

func newConfinement(s Scope) (confinement, error) {
	if s.All {
		return confinement{all: true}, nil
	}
	m, err := s.Matcher()
	if err != nil {
		return confinement{}, fmt.Errorf("confining a query: %w", err)
	}
	text := appendMatcher(nil, m.Name, m.matchType(), m.Value)
	return confinement{matcher: m, text: string(text)}, nil
}

func (m Matcher) matchType() labels.MatchType {
	if m.Regexp {
		return labels.MatchRegexp
	}
	return labels.MatchEqual
}

// holds reports whether a selector with these matchers stays inside the scope.
func (c confinement) holds(ms []*labels.Matcher) bool {
	return c.all || slices.ContainsFunc(ms, func(m *labels.Matcher) bool {
		return m.Name == c.matcher.Name && m.Type == c.matcher.matchType() && m.Value == c.matcher.Value
	})
}
