package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"m3gateway/internal/buf"
	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/metadata"
	"m3gateway/internal/proxy"
	"m3gateway/internal/remotewrite"
)

// maxVerdict is how much of a store's answer to a write is read: an error text.
const maxVerdict = 16 << 10

// write is POST of a remote-write batch. A success means that a store acknowledged every sample that was kept; a sender is
// never told success for a sample that nobody holds.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, x *exchange) error {
	policy, err := x.policy()
	if err != nil {
		return err
	}
	proto, err := writeMedia(r.Header)
	if err != nil {
		return err
	}
	var known bool
	if x.reach, known = x.state.Edges.Reach(); !known { // a sample that the store would lose could not be told from a good one
		return unavailable("the gateway has not learnt yet which timestamps the store takes")
	}
	if err := begin(x); err != nil {
		return err
	}
	defer limits.End(x.lane.tenants)
	body, err := h.writeBody(r, x)
	if err != nil {
		return err
	}
	out, res, err := h.confine(r.Context(), body, proto, policy, x)
	if err != nil {
		return err
	}
	x.kept, x.dropped = res.Samples+res.Histograms, res.Refused()
	h.countDropped(x, &res)
	if err := takeSamples(x, &res); err != nil {
		x.giveUp(out)
		return err
	}
	err = h.deliver(r, x, out, &res)
	if proto == remotewrite.V2 && (err == nil || x.counted) {
		written(w.Header(), &res)
	}
	var verdict *refusal // the store's, on a part of the batch
	if err != nil && (!errors.As(err, &verdict) || verdict.status != http.StatusBadRequest) {
		limits.NotStored(x.lane.tenants, res.Tenants)
		return err
	}
	if err == nil || x.counted {
		countStored(x, &res)
	}
	switch {
	case res.Refused() > 0 && err != nil:
		return dropped(verdict.text+"; the gateway ", &res, x)
	case res.Refused() > 0:
		return dropped(fmt.Sprintf("stored %d samples, ", res.Samples+res.Histograms), &res, x)
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deliver sends the confined batch, which it gives away, whatever it was made of; out is nil if it was divided.
func (h *Handler) deliver(r *http.Request, x *exchange, out *buf.Buffer, res *remotewrite.Result) (err error) {
	switch {
	case x.division != nil:
		err = h.forwardParts(r, x, res)
	case res.Series+res.Metadata > 0:
		err = h.forward(r, x, out, res)
	default:
		out.Release()
	}
	if x.apart != nil {
		err = h.sendApart(r, x, err, res)
	}
	return err
}

// giveUp releases the confined batch in place of that.
func (x *exchange) giveUp(out *buf.Buffer) {
	if x.division != nil {
		x.division.drop()
	} else {
		out.Release()
	}
	if x.apart != nil {
		x.apart.Release()
	}
}

// policy is what a batch is confined to, if the user may write.
func (x *exchange) policy() (*remotewrite.Policy, error) {
	switch {
	case x.lane.write != nil:
		return x.lane.write, nil
	case len(x.lane.grant.Tenants) > 1 && x.lane.grant.Write:
		return nil, badRequest("this user has several tenants; name one with the X-Tenant header")
	}
	return nil, &refusal{status: http.StatusForbidden, kind: "forbidden", text: "this user may not write"}
}

// The headers of 2.0 that say what a receiver wrote.
const (
	samplesWritten    = "X-Prometheus-Remote-Write-Samples-Written"
	histogramsWritten = "X-Prometheus-Remote-Write-Histograms-Written"
	exemplarsWritten  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// written tells a sender of 2.0 what became of its batch, as the specification demands of a receiver; 1.0 has no such answer.
// Exemplars and native histograms that the store has no place for, of a series that was not refused, count as written: a sender
// that misses some logs an error for every batch, for ever, though nothing is wrong that it could mend. What was left out shows
// in the gateway's own metrics, by reason.
func written(head http.Header, res *remotewrite.Result) {
	for name, n := range map[string]int{
		samplesWritten:    res.Samples,
		histogramsWritten: res.Histograms + res.Dropped[remotewrite.NativeHistogram],
		exemplarsWritten:  res.Exemplars + res.Dropped[remotewrite.Exemplar],
	} {
		head.Set(name, strconv.Itoa(n))
	}
}

// writeMedia says which protocol the header announces, and refuses what is not remote write in a snappy block. An absent
// header is taken for 1.0's own, as old senders leave it out.
func writeMedia(head http.Header) (remotewrite.Protocol, error) {
	if v := head["Content-Encoding"]; len(v) > 1 || len(v) == 1 && !strings.EqualFold(v[0], "snappy") {
		return 0, unsupportedMedia("Content-Encoding must be snappy")
	}
	v := head["Content-Type"]
	if len(v) == 0 {
		return remotewrite.V1, nil
	}
	media, params, err := mime.ParseMediaType(v[0])
	if len(v) > 1 || err != nil || media != "application/x-protobuf" {
		return 0, unsupportedMedia("Content-Type must be application/x-protobuf")
	}
	proto, named := params["proto"]
	switch {
	case len(params) == 0, named && proto == "prometheus.WriteRequest":
		return remotewrite.V1, nil
	case named && proto == "io.prometheus.write.v2.Request":
		return remotewrite.V2, nil
	}
	return 0, unsupportedMedia("the protobuf message must be prometheus.WriteRequest or io.prometheus.write.v2.Request")
}

// confine decodes body, which it releases, and returns the batch to be forwarded, encoded; where batches are divided it is nil, and
// x.division has the parts. The loan shrinks to that.
//
// Only as many batches as the CPUs can work on are held decoded, whatever the number of senders: a batch is ten times as
// large then as before and after, and more of them at once would be no faster.
func (h *Handler) confine(ctx context.Context, body *buf.Buffer, proto remotewrite.Protocol, policy *remotewrite.Policy, x *exchange) (*buf.Buffer, remotewrite.Result, error) {
	size := len(body.B)
	n, err := h.decodedLen(body.B, x)
	if err == nil && h.working.Take(ctx, x.lane.tenants[0], n) != nil {
		err = errGone
	}
	if err != nil {
		body.Release()
		return nil, remotewrite.Result{}, err
	}
	defer h.working.Done()
	decoded, err := h.decode(body, int(n), x)
	if err != nil {
		return nil, remotewrite.Result{}, err
	}
	defer decoded.Release()
	x.judged = h.Now() // what has grown too old during a slow upload would be acknowledged by the store and lost
	win := x.reach.At(x.judged)
	x.out = x.state.protocol(proto)
	order := remotewrite.Order{
		Proto: proto, Out: x.out, Policy: policy, MinT: win.Min, MaxT: win.Max,
		Limit: expansion * int(x.state.Limits.DecodedBytes), Plain: x.state.Store.Compression == m3.CompressionNone,
		Admit: x.admits(), Seed: h.seed,
	}
	// What comes out is up to half as long again as what came in; where it is longer, the work is done again with more room.
	room := size + size/2 + 4<<10
	if proto == remotewrite.V2 && x.out == remotewrite.V1 {
		room = 4*size + 4<<10 // each series' labels written out
	}
	if order.Plain {
		room = len(decoded.B) + len(decoded.B)/4 + 4<<10
	}
	c := h.confiners.Get().(*remotewrite.Confiner)
	defer h.confiners.Put(c)
	if x.state.divides {
		res, err := h.divide(c, decoded.B, room, order, x)
		if err == nil {
			h.learn(decoded.B, proto, policy, &res, x)
		}
		return nil, res, err
	}
	for {
		out, res, err := h.encode(c, decoded.B, room, order, x, 0)
		if !errors.Is(err, remotewrite.ErrShort) {
			if err != nil {
				return nil, res, err
			}
			h.learn(decoded.B, proto, policy, &res, x)
			if res.Apart > 0 {
				err = h.confineApart(c, decoded.B, order, x, len(out.B))
			}
			if err != nil {
				out.Release()
			}
			return out, res, err
		}
		room *= 2
	}
}

// learn remembers what the batch, which is confined, says of the tenant's metrics. A batch of several tenants is left out:
// metadata of 1.0 name none.
func (h *Handler) learn(decoded []byte, proto remotewrite.Protocol, policy *remotewrite.Policy, res *remotewrite.Result, x *exchange) {
	names := x.lane.grant.Tenants
	if len(names) != 1 || proto == remotewrite.V1 && res.Metadata+res.Dropped[remotewrite.Metadata] == 0 ||
		proto == remotewrite.V2 && !h.learnt.Due(names[0], x.judged) {
		return
	}
	policy.EachMetadata(decoded, proto, func(m remotewrite.MetricMetadata) {
		h.learnt.Learn(names[0], string(m.Metric), metadata.Entry{Type: m.Type, Help: string(m.Help), Unit: string(m.Unit)})
	})
}

// expansion is how many times limits.decoded_bytes a batch may have with its labels written out.
const expansion = 4

// encode confines the decoded batch into a block of at most room bytes. The loan becomes that of the block, beside the held bytes.
func (h *Handler) encode(c *remotewrite.Confiner, decoded []byte, room int, order remotewrite.Order, x *exchange, held int) (*buf.Buffer, remotewrite.Result, error) {
	if limit := x.state.Limits.InflightBytes; int64(held+len(decoded)+room) > limit { // it would be 503 for ever
		return nil, remotewrite.Result{}, tooLarge("the request with its labels written out", limit, "limits.inflight_bytes")
	}
	if err := x.loan.resize(int64(held + len(decoded) + room)); err != nil {
		return nil, remotewrite.Result{}, err
	}
	block := h.bufs.Get(room)
	defer block.Release()
	enc, res, err := c.Confine(block.B, decoded, order)
	if errors.Is(err, remotewrite.ErrTooLong) {
		err = tooLarge("the request with its labels written out", int64(order.Limit), "limits.decoded_bytes")
	}
	if err != nil {
		return nil, remotewrite.Result{}, err
	}
	res.Tenants = slices.Clone(res.Tenants) // the Confiner's own, and it goes on to the next batch while this one waits
	// The room is generous; what waits for the store takes only what it needs.
	out := h.bufs.Get(len(enc))
	out.B = append(out.B, enc...)
	return out, res, x.loan.resize(int64(held + len(enc)))
}

// decodedLen is the length of the decoded snappy block in body, if the tenant may send as much.
func (h *Handler) decodedLen(body []byte, x *exchange) (int64, error) {
	n, err := remotewrite.DecodedLen(body)
	if err != nil {
		return 0, err
	}
	if limit, key := x.decodedBytes(); int64(n) > limit {
		return 0, tooLarge("the decoded request", limit, key)
	}
	return int64(n), nil
}

// decode undoes the snappy block of n bytes in body and releases it.
func (h *Handler) decode(body *buf.Buffer, n int, x *exchange) (decoded *buf.Buffer, err error) {
	defer body.Release()
	if err := x.loan.resize(int64(len(body.B) + n)); err != nil {
		return nil, err
	}
	decoded = h.bufs.Get(n)
	if decoded.B, err = remotewrite.Decode(decoded.B, body.B); err != nil {
		decoded.Release()
		return nil, err
	}
	return decoded, nil
}

// storeCounts lowers the counts of res to what a store of 2.0 says that it wrote: by the specification nothing of what it does not
// name. false: it names nothing, so that it may not know 2.0.
func storeCounts(head http.Header, res *remotewrite.Result) bool {
	said, wrote := false, [3]int{}
	for i, name := range []string{samplesWritten, histogramsWritten, exemplarsWritten} {
		if n, err := strconv.Atoi(head.Get(name)); err == nil {
			said, wrote[i] = true, max(n, 0)
		}
	}
	if said {
		res.Samples, res.Histograms, res.Exemplars = min(res.Samples, wrote[0]), min(res.Histograms, wrote[1]), min(res.Exemplars, wrote[2])
	}
	return said
}

// forward sends the batch out, which it gives away, and is nil only if the store acknowledged all samples and histograms of it.
// The counts of res become those of the store where that tells them.
func (h *Handler) forward(r *http.Request, x *exchange, out *buf.Buffer, res *remotewrite.Result) error {
	batch := proxy.NewPayload(out)
	defer batch.Drop() // kept for the second question that some answers of the downsampler call for
	got, err := h.send(r, x, batch, nil)
	if err != nil {
		return err
	}
	if x.out == remotewrite.V2 {
		return h.verdict2(x, got, res)
	}
	if x.state.Store.Kind == m3.KindM3 && x.state.Store.StoredNotAggregated == m3.Accept {
		if m3.RawAnswerNeeded(got.status, got.text) {
			if got, err = h.send(r, x, batch, rawOnly()); err != nil {
				return err
			}
			if got.status/100 == 2 {
				h.metrics.raw.Inc()
			}
		} else if m3.StoredNotAggregated(got.status, got.text) {
			h.metrics.raw.Inc()
			return nil
		}
	}
	if got.status/100 != 2 {
		return writeVerdict(x, got, res)
	}
	return nil
}

// verdict2 judges a store's answer to a batch of 2.0.
//
// A receiver that does not know 2.0 says so with 415 or, if it is old, takes the batch for an empty one of 1.0 and says 204,
// or for a broken one and says 400; only one that knows it sends counts. The sender keeps its batch then, and brings it again:
// with protocol auto as 1.0.
// One that knows it and says success must have written all: a part is to be told with a 400.
func (h *Handler) verdict2(x *exchange, got stored, res *remotewrite.Result) error {
	final := got.status/100 == 2 || got.status == http.StatusBadRequest // else the batch comes again, and what it left counts for nothing
	x.counted = final && storeCounts(got.header, res)
	refused := got.status == http.StatusBadRequest && x.state.Store.Protocol != m3.Protocol2
	switch {
	case got.status == http.StatusUnsupportedMediaType, !x.counted && (got.status/100 == 2 || refused):
		if x.state.Store.Protocol == m3.Protocol2 {
			return unavailable("the store does not take remote write 2.0; set upstream.protocol to auto or 1.0")
		}
		if !x.state.only1.Swap(true) {
			h.Log.Warn("the store does not take remote write 2.0; it is sent 1.0 from now on", "upstream", x.upstream, "status", got.status)
		}
		return unavailable("the store does not take remote write 2.0; send the batch again, and it is passed on as 1.0")
	case got.status/100 != 2:
		return writeVerdict(x, got, res)
	case res.Samples+res.Histograms < x.kept:
		return badRequest("stored %d of %d samples, the store left out the others and gave no reason", res.Samples+res.Histograms, x.kept)
	}
	return nil
}

// stored is a store's answer to a write, with the beginning of its text.
type stored struct {
	status int
	header http.Header
	text   []byte
}

// writeRequest is a write of x.out without its body and key, with extra headers.
func writeRequest(x *exchange, extra http.Header) *proxy.Request {
	head := http.Header{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
	}
	if x.out == remotewrite.V2 {
		head["Content-Type"] = []string{"application/x-protobuf;proto=io.prometheus.write.v2.Request"}
		head["X-Prometheus-Remote-Write-Version"] = []string{"2.0.0"}
	}
	for name, v := range extra {
		head[name] = v
	}
	req := &proxy.Request{Method: http.MethodPost, Path: x.state.paths.Write, Header: head, Write: true}
	if x.state.Store.Kind == m3.KindM3 && x.state.Store.StoredNotAggregated == m3.Accept {
		req.Elsewhere = rawOnly() // two coordinators that aggregate parts of one window spoil it
	}
	return req
}

// send makes one upstream write of the batch.
func (h *Handler) send(r *http.Request, x *exchange, batch *proxy.Payload, extra http.Header) (stored, error) {
	req := writeRequest(x, extra)
	req.Body, req.Key = batch.Keep(), x.lane.affinity
	ans, err := x.state.Pool.Do(r.Context(), req)
	if err != nil {
		return stored{}, err
	}
	defer ans.Body.Close()
	x.upstream, x.attempts = ans.Member, x.attempts+ans.Attempts
	return h.storedOf(ans), nil
}

// storedOf reads the answer. A success counts once its header is whole; a text that is cut short is only a poorer explanation.
func (h *Handler) storedOf(ans *proxy.Answer) stored {
	if ans.Elsewhere && ans.StatusCode/100 == 2 {
		h.metrics.raw.Inc()
	}
	text, _ := io.ReadAll(io.LimitReader(ans.Body, maxVerdict))
	return stored{ans.StatusCode, ans.Header, text}
}

// countStored books what the store has acknowledged. Of a part of a batch of several tenants it does not say whose it is: each is
// booked its share.
func countStored(x *exchange, res *remotewrite.Result) {
	for i, n := range res.Tenants {
		if n > 0 {
			x.lane.counters[i].samples.Add(float64(n) * float64(res.Samples+res.Histograms) / float64(x.kept))
		}
	}
}

// countDropped books what was not forwarded. In a batch of several tenants it is booked on the first: a dropped series has
// no tenant that could be trusted.
func (h *Handler) countDropped(x *exchange, res *remotewrite.Result) {
	c := x.lane.counters[0]
	for i, n := range res.Dropped {
		if n > 0 {
			c.dropped[i].Add(float64(n))
		}
	}
	h.metrics.unknown.Add(float64(res.Unknown))
}
