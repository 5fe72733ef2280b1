package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// twoUpstreams is a gateway before two members, and a batch of which each gets a part.
func twoUpstreams(t *testing.T, kind, extra string) (*gatewaytest.Gateway, [2]*upstream, []prompb.TimeSeries) {
	us := [2]*upstream{newUpstream(t, ok), newUpstream(t, ok)}
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Kind: kind, Upstreams: []string{us[0].URL, us[1].URL}, UpstreamExtra: extra})
	var batch []prompb.TimeSeries
	for i := range 64 {
		batch = append(batch, up("id", fmt.Sprint(i)))
	}
	return g, us, batch
}

// TestPartsByMember: each series of a batch reaches one member, always the same one, and none is lost or sent twice.
func TestPartsByMember(t *testing.T) {
	g, us, batch := twoUpstreams(t, "m3", "")
	owner := map[string]int{}
	for round := range 3 {
		if a := g.Write("alice", batch[round:]); a.Status != 204 {
			t.Fatalf("%+v", a)
		}
		n := 0
		for i, u := range us {
			for _, saw := range u.take() {
				for _, ts := range saw.batch(t).Timeseries {
					n++
					id := fmt.Sprint(ts.Labels)
					if was, known := owner[id]; known && was != i {
						t.Errorf("%s came to member %d and %d", id, was, i)
					}
					owner[id] = i
				}
			}
		}
		if n != len(batch)-round {
			t.Errorf("the members saw %d series of %d", n, len(batch)-round)
		}
	}
	count := [2]int{}
	for _, i := range owner {
		count[i]++
	}
	if count[0] < 10 || count[1] < 10 {
		t.Errorf("the members have %v series", count)
	}
}

// TestPartsJoined: the sender is told success only if each part was acknowledged; one that is undecided brings the batch again.
func TestPartsJoined(t *testing.T) {
	const twice = `{"status":"error","error":"bad_request_errors: count=1, last=tags duplicate"}`
	for name, tc := range map[string]struct {
		statuses [2]int
		want     int
		says     string
	}{
		"both":                   {[2]int{200, 200}, 204, ""},
		"one fails":              {[2]int{200, 429}, 503, ""},
		"one refuses":            {[2]int{200, 400}, 400, "for certain; of the others the store refused some, and stored the rest: a series has the same label twice"},
		"both refuse":            {[2]int{400, 400}, 400, "stored 0 of 64 samples for certain"},
		"one fails, one refuses": {[2]int{400, 429}, 503, ""},
		"one is no store":        {[2]int{200, 404}, 503, "check upstream.kind"},
	} {
		for flip := range 2 {
			g, us, batch := twoUpstreams(t, "m3", "  max_attempts: 1\n")
			for i, u := range us {
				u.say(tc.statuses[(i+flip)%2], twice)
			}
			a := g.Write("alice", batch)
			if a.Status != tc.want || !strings.Contains(a.Body, tc.says) || len(a.Body) > 1024 || strings.Count(strings.TrimSpace(a.Body), "\n") > 0 {
				t.Errorf("%s: %d %q", name, a.Status, a.Body)
			}
			if retry := a.Header.Get("Retry-After"); (retry != "") != (tc.want == 503) {
				t.Errorf("%s: Retry-After %q", name, retry)
			}
		}
	}
}

// TestPartsRawQuestion: only the part whose downsampler refused is asked again, raw.
func TestPartsRawQuestion(t *testing.T) {
	const hidden = `{"status":"error","error":"bad_request_errors: count=2, last=datapoint for aggregation too far in past: off_by=45.001890911s, timestamp=2026-11-22T00:37:35Z, past_limit=2026-11-22T00:38:20Z, timestamp_unix_nanos=1795307855053000000, past_limit_unix_nanos=1795307900054890911"}`
	g, us, batch := twoUpstreams(t, "m3", "")
	var mu sync.Mutex
	asked := 0
	us[1].answer = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("M3-Metrics-Type") == "unaggregated" {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return
		}
		w.WriteHeader(400)
		fmt.Fprint(w, hidden)
	}
	if a := g.Write("alice", batch); a.Status != 204 {
		t.Errorf("%+v", a)
	}
	if n := len(us[0].take()); n != 1 || asked != 1 {
		t.Errorf("the part that was taken came %d times, the other was asked again %d times", n, asked)
	}
}
