package gateway

import (
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"m3gateway/internal/audit"
	"m3gateway/internal/remotewrite"
	"m3gateway/internal/tenant"
)

// record writes a read, or a request that was refused, into the audit log. Writes that came to a success, or whose sender went away,
// are not in it.
func (h *Handler) record(r *http.Request, x *exchange, route string, status int, bytes int64, took time.Duration) {
	if !h.Trail.On() || x.write && (x.refusal == nil || status == statusClientGone) {
		return
	}
	e := audit.Entry{
		Time: x.now, User: x.user, Claimed: x.claimed, Client: x.client, Listener: x.listener, Route: route, Path: pattern(r), Label: x.values,
		Queries: x.asked, Confined: x.confined, Status: status, BytesIn: int64(x.bytesIn), BytesOut: bytes, Took: took, Upstream: x.upstream,
	}
	if x.values != "" { // the label stands before the selectors
		e.Queries = e.Queries[1:]
	}
	if len(e.Queries) == 1 && e.Queries[0] == "" { // all metadata
		e.Queries = nil
	}
	if x.lane != nil {
		e.Tenants = x.lane.named()
	}
	if ref := x.refusal; ref != nil {
		e.Error, e.Limits = ref.text, ref.limits
	}
	h.Trail.Add(&e)
}

// named are the lane's tenants as logs name them.
func (l *lane) named() []string {
	if l.grant.All {
		return []string{tenant.Everyone}
	}
	return l.grant.Tenants
}

// pattern is the route's path with its parameters unfilled; empty: no route has the request's path.
func pattern(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil {
		return c.RoutePattern()
	}
	return ""
}

// droppedBy are the keys of the limits that samples of a batch were dropped for. A label may be too long, or one too many, for the
// store's own bounds alone; and which of name and value was too long is not told apart.
func (x *exchange) droppedBy(res *remotewrite.Result) (keys []string) {
	sizes := &x.lane.sizes
	for _, l := range []struct {
		reason remotewrite.Reason
		set    bool
		key    string
	}{
		{remotewrite.TooOld, true, "limits.window.past"},
		{remotewrite.TooNew, true, "limits.window.future"},
		{remotewrite.TooManyLabels, sizes.Labels > 0, "limits.writes.labels"},
		{remotewrite.LabelTooLong, sizes.NameBytes > 0, "limits.writes.name_bytes"},
		{remotewrite.LabelTooLong, sizes.ValueBytes > 0, "limits.writes.value_bytes"},
		{remotewrite.ActiveSeries, true, "limits.writes.active_series"},
		{remotewrite.NewSeries, true, "limits.writes.new_series_per_minute"},
	} {
		if l.set && res.Dropped[l.reason] > 0 {
			keys = append(keys, l.key)
		}
	}
	return keys
}
