package gateway

import (
	"context"
	"errors"
	"slices"

	"m3gateway/internal/buf"
	"m3gateway/internal/m3"
	"m3gateway/internal/metadata"
	"m3gateway/internal/remotewrite"
)

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
	if err := x.reserve(int64(held + len(decoded) + room)); err != nil {
		return nil, remotewrite.Result{}, err
	}
	block := h.bufs.Get(room)
	defer block.Release()
	enc, res, err := c.Confine(block.B, decoded, order)
	if err != nil {
		return nil, remotewrite.Result{}, tooLong(err, &order)
	}
	res.Tenants = slices.Clone(res.Tenants) // the Confiner's own, and it goes on to the next batch while this one waits
	// The room is generous; what waits for the store takes only what it needs.
	out := h.bufs.Get(len(enc))
	out.B = append(out.B, enc...)
	return out, res, x.loan.resize(int64(held + len(enc)))
}

// writtenOut is what a batch with its labels is called where it is too large.
const writtenOut = "the request with its labels written out"

// reserve makes the loan size bytes.
func (x *exchange) reserve(size int64) error {
	if limit := x.state.Limits.InflightBytes; size > limit { // it would be 503 for ever
		return tooLarge(writtenOut, limit, "limits.inflight_bytes")
	}
	return x.loan.resize(size)
}

// tooLong is err, or what it means if it is that the encoded batch is over the order's limit.
func tooLong(err error, order *remotewrite.Order) error {
	if errors.Is(err, remotewrite.ErrTooLong) {
		return tooLarge(writtenOut, int64(order.Limit), "limits.decoded_bytes")
	}
	return err
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
