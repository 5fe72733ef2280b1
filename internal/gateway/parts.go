package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"m3gateway/internal/buf"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/remotewrite"
)

// With upstream.routing: series a batch falls into parts: each series belongs to one member of the upstream, which aggregates it.
// The sender is told success only when every part was acknowledged.

// division is a batch in parts. Each holds one reference of its body until forwardParts, or drop, takes it.
type division struct {
	split *proxy.Split
	parts []proxy.Part
}

func (d *division) drop() {
	for _, p := range d.parts {
		p.Body.Drop()
	}
	d.parts = nil
}

// evenParts is how many bytes the parts may have in all to be given the whole room each.
const evenParts = 1 << 20

// divide makes x.division of the decoded batch, which has about room bytes when it is encoded. The loan becomes that of the parts.
func (h *Handler) divide(c *remotewrite.Confiner, decoded []byte, room int, order remotewrite.Order, x *exchange) (remotewrite.Result, error) {
	split := x.state.Pool.Split()
	n := max(split.Parts(), 1) // where there is no member, the batch is judged all the same
	each := room
	if n*room > evenParts { // the hash makes them alike, but for a batch of few series
		each = room/n*3/2 + 64<<10
	}
	blocks := make([]*buf.Buffer, n)
	dsts := make([][]byte, n)
	for ; ; each *= 2 {
		if err := x.reserve(int64(len(decoded) + n*each)); err != nil {
			return remotewrite.Result{}, err
		}
		for i := range blocks {
			blocks[i] = h.bufs.Get(each)
			dsts[i] = blocks[i].B
		}
		encoded, res, err := c.ConfineParts(dsts, decoded, order, remotewrite.Split{Parts: n, Part: split.Part})
		if err == nil {
			x.division = h.gatherParts(split, encoded)
			res.Tenants = slices.Clone(res.Tenants) // the Confiner's own, and it goes on to the next batch while this one waits
		}
		for _, b := range blocks {
			b.Release()
		}
		if errors.Is(err, remotewrite.ErrShort) {
			continue
		}
		if err != nil {
			return remotewrite.Result{}, tooLong(err, &order)
		}
		held := int64(0)
		for _, p := range encoded {
			held += int64(len(p.Bytes))
		}
		return res, x.loan.resize(held)
	}
}

// gatherParts copies what there is to send: what waits for the store takes only what it needs.
func (h *Handler) gatherParts(split *proxy.Split, encoded []remotewrite.Block) *division {
	d := &division{split: split, parts: make([]proxy.Part, 0, len(encoded))}
	for i, b := range encoded {
		if n, err := remotewrite.DecodedLen(b.Bytes); err == nil && n == 0 {
			continue
		}
		out := h.bufs.Get(len(b.Bytes))
		out.B = append(out.B, b.Bytes...)
		d.parts = append(d.parts, proxy.Part{Number: i, Body: proxy.NewPayload(out), Samples: b.Samples})
	}
	return d
}

// partAnswer is what a part was answered: by the store, or not at all.
type partAnswer struct {
	stored
	err error
}

// forwardParts sends x.division, which it gives away, and is nil only if the store acknowledged all of it. The counts of res become
// those of what was acknowledged where that can be told.
func (h *Handler) forwardParts(r *http.Request, x *exchange, res *remotewrite.Result) error {
	d := x.division
	if len(d.parts) == 0 {
		return nil
	}
	defer d.drop() // kept for the second question that some answers of the downsampler call for
	lent := slices.Clone(d.parts)
	for _, p := range lent {
		p.Body.Keep()
	}
	answers := make([]partAnswer, len(lent))
	out := x.state.Pool.Send(r.Context(), writeRequest(x, nil), d.split, lent, func(i int, a *proxy.Answer) proxy.Verdict {
		answers[i].stored = h.storedOf(a)
		return h.judgePart(r, x, d, i, &answers[i])
	})
	for i, p := range out.Parts {
		x.attempts += p.Attempts
		if p.Err != nil {
			answers[i].err = p.Err
		}
	}
	worst := answers[out.Worst]
	x.upstream = out.Parts[out.Worst].Member
	switch {
	case out.Verdict == proxy.Acknowledged:
		return nil
	case worst.err != nil:
		return worst.err
	case out.Verdict == proxy.Undecided || worst.status != http.StatusBadRequest || len(out.Parts) == 1:
		return writeVerdict(x, worst.stored, res)
	}
	return h.partlyRefused(x, worst.stored, out.Acknowledged, res)
}

// judgePart says what the answer to part i means, which it replaces where the store must be asked once more.
func (h *Handler) judgePart(r *http.Request, x *exchange, d *division, i int, got *partAnswer) proxy.Verdict {
	switch x.state.rawOf(got.stored) {
	case rawStored:
		h.metrics.raw.Inc()
		return proxy.Acknowledged
	case rawUnknown:
		part := d.parts[i]
		part.Body.Keep()
		raw := x.state.Pool.Send(r.Context(), writeRequest(x, rawOnly()), d.split, []proxy.Part{part}, func(_ int, a *proxy.Answer) proxy.Verdict {
			got.stored = h.storedOf(a)
			return verdictOf(got.status)
		})
		if got.err = raw.Parts[0].Err; raw.Verdict == proxy.Acknowledged {
			h.metrics.raw.Inc()
		}
		return raw.Verdict
	}
	return verdictOf(got.status)
}

// verdictOf is what a status says of the samples sent: only the two by which a store judges the data make sending again pointless.
func verdictOf(status int) proxy.Verdict {
	switch {
	case status/100 == 2:
		return proxy.Acknowledged
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge:
		return proxy.Refused
	}
	return proxy.Undecided
}

// partlyRefused is the answer to a batch of which one part or more was refused, and the others were acknowledged. M3 stores each
// series by itself, so that of a refused part it may hold all others. Samples, histograms and exemplars cannot be told apart in
// what a part had: with more than samples, no counts are given.
func (h *Handler) partlyRefused(x *exchange, got stored, acknowledged int, res *remotewrite.Result) error {
	rest := "the store refused the others and may have kept nothing of them"
	if x.state.Store.Kind == m3.KindM3 {
		rest = "of the others the store refused some, and stored the rest"
	}
	if res.Histograms+res.Exemplars == 0 {
		res.Samples, x.counted = acknowledged, true
	}
	return badRequest("%s", oneLine(fmt.Sprintf("stored %d of %d samples for certain; %s: %s", acknowledged, x.kept, rest, storeText(x.state.Store.Kind, got.text)), 480))
}

// rawOnly are the headers with which a coordinator leaves its downsampler alone.
func rawOnly() http.Header {
	name, value := m3.RawOnlyHeader()
	return http.Header{name: {value}}
}
