package m3

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxQueryProblem bounds, in bytes, the part of a parse error that is passed on.
const maxQueryProblem = 300

// queryProblem is a parse error; its position is dropped, as it counts in the confined query and not in the client's.
var queryProblem = regexp.MustCompile(`^(?:invalid parameter "query": )?[0-9]+:[0-9]+: (parse error: .+)$`)

// parameterProblem names a parameter of the Prometheus API that the store would not read.
var parameterProblem = regexp.MustCompile(`^(?:error parsing param: |invalid parameter "|could not parse |invalid )` +
	`(query|time|start|end|step|timeout|match\[\]|timestamp|matchers)\b`)

// CleanError turns a store's error answer into a text fit for a client. Only a parse error of the query, which speaks of
// nothing but the query, keeps its own words; any other text may name nodes, addresses, namespaces or series and becomes
// one of a fixed set of phrases. An unknown text becomes a phrase that gives nothing away.
func CleanError(body []byte) string {
	text := errorText(body)
	if m := queryProblem.FindStringSubmatch(text); m != nil && presentable(m[1]) {
		return m[1]
	}
	if m := parameterProblem.FindStringSubmatch(text); m != nil {
		return "invalid parameter: " + m[1]
	}
	for _, p := range []struct{ part, phrase string }{
		{"query timed out", "the query timed out in the store"},
		{"query exceeded limit", "the query reads more than the store's limits allow; select fewer series or a shorter range"},
		{"query aborted due to", "the query reads more than the store's limits allow; select fewer series or a shorter range"},
		{"too many samples", "the query reads more than the store's limits allow; select fewer series or a shorter range"},
		{"many-to-many matching not allowed", "many-to-many matching not allowed: matching labels must be unique on one side"},
		{"multiple matches for labels", "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"},
		{"same labelset", "the result of the query contains two series with the same labels"},
		{"error parsing regexp", "invalid regular expression"},
		{dfaStates, regexpTooLarge},
		{regexpInstructions, regexpTooLarge},
		{"invalid label name", "a series has a label name that the store cannot query"},
		{"modifier is disabled", "the store does not support the @ modifier"},
		{"negative offset is disabled", "the store does not support negative offsets"},
		{"datapoint for aggregation too far in past", "a sample is too old for the store's aggregated copies"},
		{"datapoint for aggregation too far in future", "a sample is too far in the future for the store's aggregated copies"},
		{"datapoint too far in past", "a sample is older than the store accepts"},
		{"datapoint too far in future", "a sample is farther in the future than the store accepts"},
		{"tags duplicate", "a series has the same label twice"},
		{"tag value empty", "a series has a label without a value"},
		{"tag name empty", "a series has a label without a name"},
		{"no tags", "a series has no labels"},
		{"label literal is too long", "a label is longer than the store accepts"},
		{"invalid non-UTF8 field", "a label is not valid UTF-8"},
		{"write query with no datapoints", "a series has no samples"},
		{"exceeds rate limit", "the store takes no more new series at the moment"},
		{"snappy: corrupt input", "the store could not decode the request"},
		{"proto: ", "the store could not decode the request"},
		{"not yet initialized", "the store is starting"},
		{"not yet bootstrapped", "the store is starting"},
		{"consistency", "the store could not reach enough of its nodes"},
	} {
		if strings.Contains(text, p.part) {
			return p.phrase
		}
	}
	return "the store answered with an error"
}

// The index of M3's database nodes takes regular expressions of up to 10,000 states, which is about the length of all their
// alternatives without what those share at their beginnings. Of a larger one the coordinator says 500.
const (
	dfaStates          = "dfa contains more than"
	regexpInstructions = "too many instructions"
	regexpTooLarge     = "a regular expression of the query, or that of the user's tenants, is too large for the store"
)

// QueryAtFault says that an answer of status 500 is about the query: no other member and no other time has a better one.
func QueryAtFault(body []byte) bool { return CleanError(body) == regexpTooLarge }

// presentable says that s is short, one line of valid UTF-8, and printable.
func presentable(s string) bool {
	return len(s) <= maxQueryProblem && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
