package m3

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// ReadyPath is the route whose answer Ready judges.
func ReadyPath(k Kind) string {
	if k == KindPrometheus {
		return "/-/ready"
	}
	return "/ready"
}

// Ready says why a member that gave this answer to GET ReadyPath must not be used for writes, and for reads, or nil. From an
// m3coordinator a status of 200 is not enough: it also answers so before it knows any namespace, so the raw namespace must be
// listed as ready. With another status it is not ready for anything, whatever it lists. body is not kept.
func (c Config) Ready(status int, body []byte) (writes, reads error) {
	if status != http.StatusOK {
		err := fmt.Errorf("readiness answered status %d", status)
		return err, err
	}
	if c.Kind == KindPrometheus {
		return nil, nil
	}
	type namespace struct {
		ID string `json:"id"`
	}
	var answer struct {
		Reads  []namespace `json:"readyReads"`
		Writes []namespace `json:"readyWrites"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		err = fmt.Errorf("decoding readiness: %w; is this an m3coordinator? (upstream.kind)", err)
		return err, err
	}
	listed := func(list []namespace, what string) error {
		if slices.Contains(list, namespace{c.Namespace}) {
			return nil
		}
		return fmt.Errorf("namespace %q is not ready for %s; create it and mark it ready, or mend upstream.namespace", c.Namespace, what)
	}
	return listed(answer.Writes, "writes"), listed(answer.Reads, "reads")
}

// ReadyError says why a member that gave this answer must not be used for both writes and reads, or nil.
func (c Config) ReadyError(status int, body []byte) error {
	writes, reads := c.Ready(status, body)
	return cmp.Or(writes, reads)
}

// ProbeQuery is the route and the parameters of a cheap query, to GET, that proves a store of kind m3 to read: its readiness is
// good up to 20 s before its database nodes have read their index. "" for kind prometheus, whose readiness says enough. The
// query finds nothing, but asks every shard of the raw namespace for it.
func ProbeQuery(k Kind) (path, params string) {
	if k == KindPrometheus {
		return "", ""
	}
	return PathsOf(k).Query, url.Values{"query": {"m3gateway_probe"}, "timeout": {"1s"}}.Encode()
}

// ProbeError says why a member that gave this answer to ProbeQuery must not be read from, or nil. A refusal of the query, such
// as for a limit of the store, is an answer like any other. body is not kept.
func ProbeError(status int, body []byte) error {
	if status >= http.StatusInternalServerError {
		return fmt.Errorf("a query answered status %d: %s", status, CleanError(body))
	}
	return nil
}
