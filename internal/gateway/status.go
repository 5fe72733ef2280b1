package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"m3gateway/internal/auth"
	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
	"m3gateway/internal/remotewrite"
)

// refusal is an answer that is no success.
type refusal struct {
	status int
	kind   string // Prometheus' errorType
	text   string // one line, under 1 KiB, fit for the client
	retry  int    // Retry-After in seconds; 0: none
	allow  string // the Allow header of 405
	// limits are the keys of the limits that the request is over, for the metrics and the audit log.
	limits []string
}

func (r *refusal) Error() string { return r.text }

// over names the limits that r is for.
func (r *refusal) over(keys ...string) *refusal {
	r.limits = keys
	return r
}

func badRequest(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, kind: "bad_data", text: fmt.Sprintf(format, args...)}
}

// wrongCredential is all that a client is told of a credential that is not valid.
const wrongCredential = "unknown user or wrong password"

// seconds are those of Retry-After: whole ones, 1 at least.
func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }

// retryAfter is what senders are told when the trouble is ours or the store's, in seconds: short, since the data waits in
// the sender's memory, but long enough that a herd does not come back at once.
const retryAfter = 5

func unavailable(text string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, kind: "unavailable", text: text, retry: retryAfter}
}

func tooLarge(what string, limit int64, key string) *refusal {
	r := &refusal{status: http.StatusRequestEntityTooLarge, kind: "bad_data",
		text: fmt.Sprintf("%s is over the limit of %d bytes; send smaller batches (queue_config.max_samples_per_send), or raise %s", what, limit, key)}
	if strings.HasPrefix(key, "limits.") { // others are fixed
		return r.over(key)
	}
	return r
}

func unsupportedMedia(format string, args ...any) *refusal {
	return &refusal{status: http.StatusUnsupportedMediaType, kind: "bad_data", text: fmt.Sprintf(format, args...)}
}

// errGone is a client that went away before its answer; nobody reads the status.
var errGone = errors.New("the client went away")

// statusClientGone is logged and counted for errGone; it is never sent.
const statusClientGone = 499

// asExcess answers a read that is over a limit of its tenant: 429 if the same may be taken later, and 422 if only another can,
// as Prometheus answers a query that it understands but does not run to its end.
func asExcess(e *limits.Excess) *refusal {
	keys := []string{"limits.reads." + e.Key}
	if e.Busy {
		return &refusal{status: http.StatusTooManyRequests, kind: "too_many_requests", text: e.Error(), retry: seconds(e.Wait), limits: keys}
	}
	return &refusal{status: http.StatusUnprocessableEntity, kind: "execution", text: e.Error(), limits: keys}
}

// asRefusal is the one place where what a room says becomes a status code. What the senders do with each on a write, as the
// end-to-end test TestWhatSendersDo sees it with their default settings (P Prometheus, V vmagent, O the OpenTelemetry
// Collector's prometheusremotewrite exporter):
//
//	400  all drop the batch and log: for what no retry can mend
//	401  P, O drop; V repeats. The password is wrong, or the client certificate names no user: an operator must act
//	403  P, O drop; V repeats. The user may not write, or not to this tenant
//	404  P, O drop; V repeats; 405 alike: no sender that is set up rightly meets them
//	413  P, O drop; V repeats; only where the request itself is too large, so that retrying can never help
//	415  all drop; the specification lets a sender fall back to another message
//	429  P, O drop unless told otherwise; V repeats: the user or its address has failed too often to be looked at; or the tenant
//	     is over a rate, unless limits.writes.refusal is 503. What we cannot take now for other reasons is 503
//	503  all repeat, with back-off; Retry-After asks for the pause that suits us: for whatever may pass, ours or the store's
//
// 408 is never sent: P and O drop the batch, though the fault is a slow network's.
func asRefusal(err error) *refusal {
	var (
		known   *refusal
		unnamed *auth.CertificateError
		syntax  *remotewrite.SyntaxError
		foreign *remotewrite.ForeignLabelError
		asked   *query.Error
		away    *proxy.Error
		excess  *limits.Excess
		locked  *auth.LockedError
		over    *limits.Over
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, auth.ErrDenied):
		return &refusal{status: http.StatusUnauthorized, kind: "unauthorized", text: wrongCredential}
	case errors.As(err, &locked): // no 401: the credential may be right, and must be brought again
		return &refusal{status: http.StatusTooManyRequests, kind: "too_many_requests", retry: seconds(locked.Wait), limits: []string{"auth.backoff"},
			text: fmt.Sprintf("too many failed attempts of this user or from this address; try again in %d s", seconds(locked.Wait))}
	case errors.Is(err, auth.ErrBusy):
		return &refusal{status: http.StatusServiceUnavailable, kind: "unavailable", text: "too many new credentials wait to be checked", retry: 1, limits: []string{"auth.max_waiting"}}
	case errors.As(err, &unnamed): // 401, which clients answer with a password if they have one
		return &refusal{status: http.StatusUnauthorized, kind: "unauthorized", text: oneLine(unnamed.Error(), 700)}
	case errors.As(err, &syntax): // 400: the bytes will be the same next time
		return badRequest("%v", syntax)
	case errors.Is(err, remotewrite.ErrSnappy):
		return badRequest("%v", err)
	case errors.As(err, &foreign): // 400: the sender's relabelling must be mended
		return badRequest("%v", foreign)
	case errors.As(err, &asked):
		return badRequest("%v", asked)
	case errors.As(err, &over):
		return asOver(over)
	case errors.As(err, &excess):
		return asExcess(excess)
	case errors.Is(err, errGone), errors.Is(err, context.Canceled):
		return &refusal{status: statusClientGone, kind: "canceled", text: errGone.Error()}
	case errors.As(err, &away): // 503: the store may be back soon, and nothing was acknowledged
		if away.Kind == proxy.Canceled {
			return &refusal{status: statusClientGone, kind: "canceled", text: errGone.Error()}
		}
		if away.Kind == proxy.Timeout {
			return &refusal{status: http.StatusServiceUnavailable, kind: "timeout", text: "the store did not answer in time", retry: retryAfter}
		}
		return unavailable("the store cannot be reached")
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{status: http.StatusServiceUnavailable, kind: "timeout", text: "the request took too long", retry: retryAfter}
	}
	return unavailable("the gateway failed to handle the request; its log says why")
}

// writeVerdict maps the store's answer to a write that it did not accept.
func writeVerdict(x *exchange, got stored, res *remotewrite.Result) *refusal {
	k, status := x.state.Store.Kind, got.status
	switch {
	case status == http.StatusBadRequest: // the store judged the data; the same data will be judged alike
		return badRequest("%s: %s", whatIsStored(x, res), storeText(k, got.text))
	case status == http.StatusRequestEntityTooLarge:
		return &refusal{status: status, kind: "bad_data", text: "the batch is larger than the store accepts; send smaller batches"}
	case status >= 500 || status == http.StatusTooManyRequests: // 429 is dropped by default, so it becomes 503
		return unavailable("the store failed to take the batch: " + storeText(k, got.text))
	}
	// Anything else (3xx, 401, 404, 405…) says that the gateway does not speak to the store it was set up for. An operator can
	// mend that, so the sender keeps the data.
	return unavailable(fmt.Sprintf("the upstream answered %d to a write; check upstream.kind and its URLs", status))
}

// whatIsStored says what became of a batch of which the store refused something. One that takes 2.0 tells. M3 stores each series
// by itself. Others take back the whole batch for one bad sample, as a Prometheus does in 1.0, or do not, and nothing shows which.
func whatIsStored(x *exchange, res *remotewrite.Result) string {
	n := res.Samples + res.Histograms
	switch {
	case x.counted && n < x.kept:
		return fmt.Sprintf("stored %d of %d samples, the store refused the others", n, x.kept)
	case x.counted:
		return fmt.Sprintf("stored %d samples, the store refused what came with them", n)
	case x.state.Store.Kind == m3.KindM3:
		return "the store refused a part of the batch, the rest is stored"
	}
	return "the store refused the batch and may have kept nothing of it"
}

// readVerdict maps the store's answer to a read that is no success, to the status and errorType that Prometheus uses.
func readVerdict(k m3.Kind, status int, body []byte) *refusal {
	text := storeText(k, body)
	switch status {
	case http.StatusBadRequest:
		if k == m3.KindM3 && m3Execution(body) {
			return &refusal{status: http.StatusUnprocessableEntity, kind: "execution", text: text}
		}
		return badRequest("%s", text)
	case http.StatusUnprocessableEntity:
		return &refusal{status: status, kind: "execution", text: text}
	case http.StatusGatewayTimeout:
		return &refusal{status: http.StatusServiceUnavailable, kind: "timeout", text: text}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return &refusal{status: http.StatusServiceUnavailable, kind: errorType(k, body), text: text}
	case http.StatusInternalServerError, http.StatusBadGateway:
		if k == m3.KindM3 && m3.QueryAtFault(body) {
			return &refusal{status: http.StatusUnprocessableEntity, kind: "execution", text: text}
		}
		return &refusal{status: http.StatusServiceUnavailable, kind: "unavailable", text: text}
	}
	return unavailable(fmt.Sprintf("the upstream answered %d to a read; check upstream.kind and its URLs", status))
}

// m3Execution tells M3's errors of running a query, which it answers with 400, from those of reading it.
func m3Execution(body []byte) bool {
	text := m3.CleanError(body)
	return !strings.HasPrefix(text, "parse error") && !strings.HasPrefix(text, "invalid ")
}

// storeError is an error answer of the Prometheus API.
type storeError struct {
	ErrorType string `json:"errorType"`
	Error     string `json:"error"`
}

// errorType is the store's errorType, if it is one of Prometheus' for 503.
func errorType(k m3.Kind, body []byte) string {
	var e storeError
	if k == m3.KindPrometheus && json.Unmarshal(body, &e) == nil && (e.ErrorType == "timeout" || e.ErrorType == "canceled") {
		return e.ErrorType
	}
	return "unavailable"
}

// storeText is the store's own words as far as they are fit for a client.
func storeText(k m3.Kind, body []byte) string {
	if k != m3.KindPrometheus {
		return m3.CleanError(body)
	}
	// A Prometheus evaluates only the confined query and the confined batch, so its words name nothing else.
	text := string(body)
	var e storeError
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		text = e.Error
	}
	if text = oneLine(text, 400); text == "" {
		return "the store gave no reason"
	}
	return text
}

// oneLine is s as printable text of one line and at most n bytes.
func oneLine(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// maxText is the most bytes of an answer that gives counts.
const maxText = 1000

// dropped is the answer to a batch of which the gateway refused a part: lead, which says what is stored and has at most 500 bytes,
// then how many samples were lost and why, with one example for each reason as far as they fit, in one line of maxText bytes.
func dropped(lead string, res *remotewrite.Result, x *exchange) *refusal {
	counts, whys := []string{}, []string{}
	room := maxText - len(lead)
	for i, n := range res.Dropped {
		r := remotewrite.Reason(i)
		if n == 0 || !r.Refused() {
			continue
		}
		ex := res.Examples[i]
		why := fmt.Sprintf(" (%s, example %s", explain(r, x), oneLine(ex.Series, 120))
		if r == remotewrite.TooOld || r == remotewrite.TooNew {
			why += " at " + stamp(ex.Timestamp) + ", now " + stamp(x.judged.UnixMilli())
		}
		counts, whys = append(counts, fmt.Sprintf("%s %d", r, n)), append(whys, why+")")
		room -= len(counts[len(counts)-1]) + len(", ")
	}
	text := fmt.Sprintf("%sdropped %d: ", lead, res.Refused())
	room -= len(text) - len(lead)
	for i := range counts {
		if len(whys[i]) <= room {
			counts[i] += whys[i]
			room -= len(whys[i])
		}
	}
	return badRequest("%s", text+strings.Join(counts, ", ")).over(x.droppedBy(res)...)
}

// stamp writes Unix milliseconds as a date if they are one.
func stamp(ms int64) string {
	if ms < 0 || ms > 253402300799999 {
		return strconv.FormatInt(ms, 10) + "ms"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// explain says what a reason means and how to mend it.
func explain(r remotewrite.Reason, x *exchange) string {
	past, future := x.reach.Past, x.reach.Future
	switch r {
	case remotewrite.TooOld:
		return fmt.Sprintf("older than %v", past)
	case remotewrite.TooNew:
		return fmt.Sprintf("more than %v ahead; check the clock", future)
	case remotewrite.InvalidUTF8:
		return "a label value is not UTF-8"
	case remotewrite.InvalidLabelName:
		return "label names are [a-zA-Z_][a-zA-Z0-9_]*; rename it, or set upstream.utf8_names: escape"
	case remotewrite.InvalidMetricName:
		return "__name__ is missing or not [a-zA-Z_:][a-zA-Z0-9_:]*"
	case remotewrite.DuplicateLabel:
		return "a label name twice"
	case remotewrite.LabelTooLong:
		return fmt.Sprintf("names up to %d and values up to %d bytes", x.lane.labels.NameBytes, x.lane.labels.ValueBytes)
	case remotewrite.TooManyLabels:
		return fmt.Sprintf("up to %d labels", x.lane.labels.Labels)
	case remotewrite.ActiveSeries:
		return "the tenant has as many active series as limits.writes.active_series allows, " + x.lane.allowed(func(w *limits.WriteConfig) int64 { return w.ActiveSeries }) + "; those go on"
	case remotewrite.NewSeries:
		return "new series come faster than limits.writes.new_series_per_minute allows, " + x.lane.allowed(func(w *limits.WriteConfig) int64 { return w.NewSeriesPerMinute }) + "; active ones go on"
	case remotewrite.ReservedLabel:
		return "the store keeps this label name for itself"
	case remotewrite.InvalidHistogram:
		return "its buckets, counts and bounds do not fit together, or it has the label le"
	case remotewrite.ForeignTenant:
		return "the tenant label names a tenant that is not this user's"
	case remotewrite.NoTenant:
		return "this user has several tenants; set the tenant label or send X-Tenant"
	}
	return r.String()
}
