package gateway

import (
	"errors"
	"net/http"

	"m3gateway/internal/proxy"
	"m3gateway/internal/remotewrite"
)

// Senders put exemplars into series of their own. A receiver of 1.0 takes those; one of 2.0 must refuse them, as the specification
// wants a sample or a histogram in each series. So they follow a batch of 2.0 in a request of 1.0: after it, since a store looks
// for the series that an exemplar belongs to.

// confineApart makes x.apart of the exemplars of the decoded batch that 2.0 has no place for, while the loan also covers held bytes.
func (h *Handler) confineApart(c *remotewrite.Confiner, decoded []byte, order remotewrite.Order, x *exchange, held int) error {
	order.Out, order.Apart = remotewrite.V1, true
	for room := len(decoded) + 4<<10; ; room *= 2 {
		out, _, err := h.encode(c, decoded, room, order, x, held)
		if errors.Is(err, remotewrite.ErrShort) {
			continue
		}
		x.apart = out
		return err
	}
}

// sendApart sends x.apart, which it gives away, once the batch itself has come to its end, which is what err says of it. What it
// returns is what the sender is to be told: err, or that the exemplars' fate is open. Only those that the store took count as
// written.
func (h *Handler) sendApart(r *http.Request, x *exchange, err error, res *remotewrite.Result) error {
	exemplars := proxy.NewPayload(x.apart)
	defer exemplars.Drop()
	x.apart = nil
	if verdict := (*refusal)(nil); err != nil && (!errors.As(err, &verdict) || verdict.status != http.StatusBadRequest) {
		return err // the sender brings all of it again
	}
	x.out = remotewrite.V1
	got, failed := h.send(r, x, exemplars, nil)
	switch {
	case failed != nil:
		return failed
	case got.status/100 == 2:
		res.Exemplars += res.Apart
	case got.status == http.StatusTooManyRequests || got.status >= 500:
		return writeVerdict(x, got, res)
	default: // the same exemplars would be refused again, and the samples are stored
		x.lane.counters[0].dropped[remotewrite.Exemplar].Add(float64(res.Apart))
	}
	return err
}
