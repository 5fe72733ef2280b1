package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"

	"m3gateway/internal/buf"
	"m3gateway/internal/limits"
)

// loan is what one request holds of the budgets: its bytes, and itself.
type loan struct {
	budget   *limits.Budget
	requests *limits.Budget
	tenant   *limits.Tenant // whose share it is of; nil before begin, when nothing is held
	held     int64
}

// resize makes the loan n bytes. It fails, leaving the loan as it was, when the budget has no more.
func (l *loan) resize(n int64) error {
	if n > l.held && !l.budget.Acquire(l.tenant, l.held, n-l.held) {
		return unavailable("the gateway holds as many bytes as limits.inflight_bytes allows, or this tenant's share of them").over("limits.inflight_bytes")
	}
	if n < l.held {
		l.budget.Release(l.tenant, l.held-n)
	}
	l.held = n
	return nil
}

// begin makes the request one of t's. It fails when no more may be under way.
func (l *loan) begin(t *limits.Tenant) error {
	if !l.requests.Acquire(t, 0, 1) {
		return unavailable("the gateway works on as many requests as limits.inflight_requests allows, or this tenant's share of them").over("limits.inflight_requests")
	}
	l.tenant = t
	return nil
}

// close gives everything back.
func (l *loan) close() {
	if l.tenant == nil {
		return
	}
	l.budget.Release(l.tenant, l.held)
	l.requests.Release(l.tenant, 1)
	l.held, l.tenant = 0, nil
}

// firstRead is what is reserved for a body of unknown length before its first byte.
const firstRead = 64 << 10

// readBody reads the whole body of r, at most limit bytes, into a buffer that the caller releases. Every byte is in the loan
// before it is read.
func (h *Handler) readBody(r *http.Request, limit int64, key string, l *loan) (*buf.Buffer, error) {
	size := r.ContentLength
	if size > limit {
		return nil, tooLarge("the request body", limit, key)
	}
	if size < 0 {
		size = min(firstRead, limit)
	}
	if err := l.resize(size + 1); err != nil {
		return nil, err
	}
	b := h.bufs.Get(int(size) + 1) // one more, so that the end is seen without growing
	for {
		if len(b.B) == cap(b.B) {
			bigger := min(int64(2*cap(b.B)), limit+1)
			if err := l.resize(bigger); err != nil {
				b.Release()
				return nil, err
			}
			next := h.bufs.Get(int(bigger))
			next.B = append(next.B, b.B...)
			b.Release()
			b = next
		}
		n, err := r.Body.Read(b.B[len(b.B):min(int64(cap(b.B)), limit+1)])
		b.B = b.B[:len(b.B)+n]
		if int64(len(b.B)) > limit {
			b.Release()
			return nil, tooLarge("the request body", limit, key)
		}
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil:
			b.Release()
			return nil, bodyError(err)
		}
	}
}

// bodyError says what a failed read of a client's body means: a slow sender keeps its data and is told to come back; one that
// went away is told nothing.
func bodyError(err error) error {
	var timeout net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return &refusal{status: http.StatusServiceUnavailable, kind: "timeout", retry: retryAfter, limits: []string{"listen.body_timeout", "listen.body_min_rate"},
			text: "the body came too slowly (listen.body_timeout and body_min_rate); nothing of it is stored"}
	}
	return errGone
}
