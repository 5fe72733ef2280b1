package m3

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// refusals is the error text of a write whose errors are all bad requests: how many there are, and one of them.
var refusals = regexp.MustCompile(`^bad_request_errors: count=([1-9][0-9]*), last=((?s:.+))$`)

// aggregationRefusal is one line of the downsampler's refusal of one sample; there is a line for each rule that refuses it.
var aggregationRefusal = regexp.MustCompile(`^datapoint for aggregation too far in (?:past|future): off_by=[0-9a-zµ.-]+, ` +
	`timestamp=[0-9TZ:+-]+, (?:past|future)_limit=[0-9TZ:+-]+, ` +
	`timestamp_unix_nanos=-?[0-9]+, (?:past|future)_limit_unix_nanos=-?[0-9]+$`)

// StoredNotAggregated says that this answer to a write proves every sample of the batch to be in the raw namespace, as
// surely as status 200 would: only the downsampler refused one, so that only its aggregated copies are missing.
//
// Why it holds for count=1 alone (M3 2e397f7f, remote/write.go and ingest/write.go; v1.5.0 answers alike): the
// coordinator offers each sample first to the downsampler, then the batch to the raw namespace, and collects one error
// for each sample the downsampler refused and one for each series the raw namespace refused. Status 400 means that all of
// them are bad requests; the text gives their number and one of them in full, not necessarily the most serious: when the
// raw namespace refused exactly one series, the one shown is still the downsampler's. So count=1 with the downsampler's
// text leaves no room for another error, and any greater count does; RawAnswerNeeded is the way out then.
func StoredNotAggregated(status int, body []byte) bool {
	count, ok := aggregationRefusals(status, body)
	return ok && count == "1"
}

// RawAnswerNeeded says that this answer to a write shows a refusal by the downsampler while others are counted, not
// shown. The same bytes sent once more with RawOnlyHeader settle it: that answer is the raw namespace's alone, writing a
// raw sample twice leaves one, and the downsampler, which has taken what it accepts, is not asked again.
func RawAnswerNeeded(status int, body []byte) bool {
	count, ok := aggregationRefusals(status, body)
	return ok && count != "1"
}

// RawOnlyHeader is the header with which an m3coordinator writes to the raw namespace and not to the downsampler.
func RawOnlyHeader() (name, value string) {
	return "M3-Metrics-Type", "unaggregated"
}

// aggregationRefusals is the number of errors, if all are bad requests and every line shown is the downsampler's.
func aggregationRefusals(status int, body []byte) (count string, ok bool) {
	if status != http.StatusBadRequest {
		return "", false
	}
	m := refusals.FindStringSubmatch(errorText(body))
	if m == nil {
		return "", false
	}
	for line := range strings.SplitSeq(m[2], "\n") {
		if !aggregationRefusal.MatchString(line) {
			return "", false
		}
	}
	return m[1], true
}

// errorText is the error of an error answer in JSON, "" if body is anything else.
func errorText(body []byte) string {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Status != "error" {
		return ""
	}
	return answer.Error
}
