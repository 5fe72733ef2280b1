package m3

import (
	"encoding/json"
	"regexp"
	"strings"
)

// RestrictHeader is the header that makes an m3coordinator AND a matcher on label to every fetch of a read, whatever its
// query says: the second lock behind the rewritten query. Set it, never add it: the first of two copies would count.
//
// One tenant becomes EQUAL, several REGEXP; M3 anchors a REGEXP at both ends, as Prometheus does. Empty tenant names are
// left out, as they would match series without the label; no tenant at all becomes a pair of matchers that no series
// satisfies, never "no restriction". "strip" is sent empty, since leaving it out would drop the label from some answers.
func RestrictHeader(label string, tenants []string) (name, value string) {
	type matcher struct {
		Name  string `json:"name"`
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	var quoted []string
	var last string
	for _, t := range tenants {
		if t != "" {
			last = t
			quoted = append(quoted, regexp.QuoteMeta(t))
		}
	}
	var match []matcher
	switch len(quoted) {
	case 0:
		match = []matcher{{label, "EXISTS", ""}, {label, "NOTEXISTS", ""}}
	case 1:
		match = []matcher{{label, "EQUAL", last}}
	default:
		match = []matcher{{label, "REGEXP", strings.Join(quoted, "|")}}
	}
	text, err := json.Marshal(struct {
		Match []matcher `json:"match"`
		Strip []string  `json:"strip"`
	}{match, []string{}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return "M3-Restrict-By-Tags-JSON", string(text)
}
