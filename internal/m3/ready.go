package m3

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// ReadyPath is the route whose answer ReadyError judges.
func ReadyPath(k Kind) string {
	if k == KindPrometheus {
		return "/-/ready"
	}
	return "/ready"
}

// ReadyError says why a member that gave this answer to GET ReadyPath must not be used, or nil. From an m3coordinator a
// status of 200 is not enough: it also answers so before it knows any namespace, so the raw namespace must be listed as
// ready for reads and for writes. body is not kept.
func (c Config) ReadyError(status int, body []byte) error {
	if status != http.StatusOK {
		return fmt.Errorf("readiness answered status %d", status)
	}
	if c.Kind == KindPrometheus {
		return nil
	}
	type namespace struct {
		ID string `json:"id"`
	}
	var answer struct {
		Reads  []namespace `json:"readyReads"`
		Writes []namespace `json:"readyWrites"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("decoding readiness: %w; is this an m3coordinator? (upstream.kind)", err)
	}
	listed := func(list []namespace) bool {
		for _, n := range list {
			if n.ID == c.Namespace {
				return true
			}
		}
		return false
	}
	switch {
	case !listed(answer.Writes):
		return fmt.Errorf("namespace %q is not ready for writes; create it and mark it ready, or mend upstream.namespace", c.Namespace)
	case !listed(answer.Reads):
		return fmt.Errorf("namespace %q is not ready for reads; create it and mark it ready, or mend upstream.namespace", c.Namespace)
	}
	return nil
}
