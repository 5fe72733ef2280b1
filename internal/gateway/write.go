package gateway

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"m3gateway/internal/buf"
	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
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
	switch x.state.rawOf(got) {
	case rawStored:
		h.metrics.raw.Inc()
		return nil
	case rawUnknown:
		if got, err = h.send(r, x, batch, rawOnly()); err != nil {
			return err
		}
		if got.status/100 == 2 {
			h.metrics.raw.Inc()
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
	if x.state.acceptsRaw() {
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

// acceptsRaw says whether what the store has raw counts as stored.
func (s *State) acceptsRaw() bool {
	return s.Store.Kind == m3.KindM3 && s.Store.StoredNotAggregated == m3.Accept
}

// rawness is what a store's answer to a write says of the raw samples, beside its status.
type rawness int

const (
	rawUnnamed rawness = iota // nothing
	rawStored                 // all are stored, though its downsampler refused some
	rawUnknown                // its downsampler refused some, and the store must be asked once more, for raw alone, to know
)

// rawOf reads an answer, where raw samples count.
func (s *State) rawOf(got stored) rawness {
	switch {
	case !s.acceptsRaw():
		return rawUnnamed
	case m3.RawAnswerNeeded(got.status, got.text):
		return rawUnknown
	case m3.StoredNotAggregated(got.status, got.text):
		return rawStored
	}
	return rawUnnamed
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
