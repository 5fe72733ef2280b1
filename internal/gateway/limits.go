package gateway

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"m3gateway/internal/buf"
	"m3gateway/internal/limits"
	"m3gateway/internal/remotewrite"
)

// asOver answers a write that is over a limit of its tenant: 429 or 503 if the same may be taken later, as the tenant's senders need
// it, and 413 if it never can.
func asOver(e *limits.Over) *refusal {
	r := &refusal{status: e.Status, kind: "too_many_requests", text: e.Error(), limits: []string{"limits.writes." + e.Key}}
	if e.Status == http.StatusRequestEntityTooLarge {
		r.kind = "bad_data"
		return r
	}
	r.retry = seconds(e.Wait)
	return r
}

// labelsWithin are the bounds of a series' labels: what the store can hold, or less where the tenant's limits say so.
func labelsWithin(w *limits.WriteConfig) remotewrite.Limits {
	l := labelLimits
	for _, b := range []struct {
		bound *int
		limit int64
	}{{&l.Labels, w.Labels}, {&l.NameBytes, w.NameBytes}, {&l.ValueBytes, w.ValueBytes}} {
		if b.limit > 0 {
			*b.bound = int(min(int64(*b.bound), b.limit))
		}
	}
	return l
}

// requestBytes is the largest body of a write, and the key of the limit.
func (x *exchange) requestBytes() (int64, string) {
	if n := x.lane.sizes.RequestBytes; n > 0 && n < x.state.Limits.RequestBytes {
		return n, "limits.writes.request_bytes"
	}
	return x.state.Limits.RequestBytes, "limits.request_bytes"
}

// decodedBytes is the largest decoded write, and the key of the limit.
func (x *exchange) decodedBytes() (int64, string) {
	if n := x.lane.sizes.DecodedBytes; n > 0 && n < x.state.Limits.DecodedBytes {
		return n, "limits.writes.decoded_bytes"
	}
	return x.state.Limits.DecodedBytes, "limits.decoded_bytes"
}

// begin lets a write in before its body is read; it is to be ended if it was let in.
func begin(x *exchange) error {
	if e := limits.Begin(x.lane.tenants, x.now); e != nil {
		return e
	}
	return nil
}

// writeBody reads the body of a write, and counts its bytes. The caller releases it.
func (h *Handler) writeBody(r *http.Request, x *exchange) (*buf.Buffer, error) {
	size, key := x.requestBytes()
	body, err := h.readBody(r, size, key, &x.loan)
	if err != nil {
		return nil, err
	}
	x.bytesIn = len(body.B)
	if e := limits.Bytes(x.lane.tenants, int64(len(body.B)), x.now); e != nil {
		body.Release()
		return nil, e
	}
	return body, nil
}

// takeSamples judges the confined batch as a whole and counts its samples, before anything of it is sent on.
func takeSamples(x *exchange, res *remotewrite.Result) error {
	for _, t := range x.lane.tenants {
		if e := t.Request(res.Series, x.kept); e != nil {
			return e
		}
	}
	if e := limits.Samples(x.lane.tenants, res.Tenants, x.judged); e != nil {
		return e
	}
	return nil
}

// admits is Order.Admit for the tenants' active series; nil: they have no limit of them.
func (x *exchange) admits() func(int, uint64) (remotewrite.Reason, bool) {
	batches := make([]limits.SeriesBatch, len(x.lane.tenants))
	limited := false
	for i, t := range x.lane.tenants {
		if s := t.Series(); s != nil {
			batches[i] = s.At(x.judged)
			limited = true
		}
	}
	if !limited {
		return nil
	}
	return func(tenant int, id uint64) (remotewrite.Reason, bool) {
		switch batches[tenant].Take(id) {
		case limits.TooManyTotal:
			return remotewrite.ActiveSeries, false
		case limits.TooManyNew:
			return remotewrite.NewSeries, false
		}
		return 0, true
	}
}

// allowed is what a limit of the lane's tenants allows here, the tightest.
func (l *lane) allowed(of func(*limits.WriteConfig) int64) string {
	least := int64(0)
	for _, t := range l.tenants {
		w := t.Writes()
		if n := of(&w); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return strconv.FormatInt(least, 10)
}

// limitsOf answers who asks, what it may, and how near it is, as far as this gateway knows: of its own tenants, and of no other.
func (h *Handler) limitsOf(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if _, err := h.params(r, x); err != nil {
		return err
	}
	g := &x.lane.grant
	h.sharing.Lock()
	replicas := h.replicas
	h.sharing.Unlock()
	body, _ := x.requestBytes()
	decoded, _ := x.decodedBytes()
	answer := whoAmI{
		User: x.user, All: g.All, Rights: []string{}, Replicas: replicas, Tenants: []tenantLimits{},
		Request: map[string]any{
			"request_bytes": body, "decoded_bytes": decoded, "labels": x.lane.labels.Labels, "name_bytes": x.lane.labels.NameBytes, "value_bytes": x.lane.labels.ValueBytes,
		},
	}
	if g.Read {
		answer.Rights = append(answer.Rights, "read")
	}
	if g.Write {
		answer.Rights = append(answer.Rights, "write")
	}
	if reach, known := x.state.Edges.Reach(); known {
		answer.Window = map[string]string{"past": reach.Past.String(), "future": reach.Future.String()}
	}
	for _, t := range x.lane.counted {
		o := tenantLimits{Tenant: t.Name(), Usage: []nearness{}}
		if g.Write {
			o.Writes = setLimits(t.Writes())
		}
		if g.Read {
			o.Reads = setLimits(t.Reads())
		}
		for _, u := range h.tenants.Usage(t, x.now) {
			if reads := strings.HasPrefix(u.Key, "reads."); reads && g.Read || !reads && g.Write {
				o.Usage = append(o.Usage, nearness(u))
			}
		}
		answer.Tenants = append(answer.Tenants, o)
	}
	return h.success(w, r, x, answer)
}

// whoAmI is the answer of limitsOf.
type whoAmI struct {
	User   string   `json:"user"`
	All    bool     `json:"allTenants,omitempty"`
	Rights []string `json:"rights"`
	// Replicas is how many gateways share the limits of a tenant; those below are this one's part.
	Replicas int64             `json:"replicas"`
	Window   map[string]string `json:"window,omitempty"`
	Request  map[string]any    `json:"request"` // what holds for one write
	Tenants  []tenantLimits    `json:"tenants"`
}

type tenantLimits struct {
	Tenant string         `json:"tenant"`
	Writes map[string]any `json:"writes,omitempty"` // of who may write
	Reads  map[string]any `json:"reads,omitempty"`  // of who may read
	Usage  []nearness     `json:"usage"`
}

// nearness is a limits.Usage.
type nearness struct {
	Key  string  `json:"limit"`
	Most float64 `json:"most"`
	Used float64 `json:"used"`
}

// eachLimit gives f the limits of a section that are set, by their keys.
func eachLimit(section any, f func(key string, v any)) {
	v := reflect.ValueOf(section)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			f(v.Type().Field(i).Tag.Get("yaml"), v.Field(i).Interface())
		}
	}
}

// setLimits are those of a section that are set, by their keys, as an answer shows them.
func setLimits(section any) map[string]any {
	out := map[string]any{}
	eachLimit(section, func(key string, v any) {
		if d, ok := v.(time.Duration); ok {
			v = d.String()
		}
		out[key] = v
	})
	return out
}
