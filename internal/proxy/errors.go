package proxy

import "fmt"

// Kind is why there is no answer, or none to its end.
type Kind string

const (
	// NoMember: no upstream is known.
	NoMember Kind = "no_member"
	// Connect: no connection, or no TLS handshake, within Config.ConnectTimeout. The upstream has seen nothing.
	Connect Kind = "connect"
	// Timeout: the attempt's own time or the caller's deadline ran out. The upstream may have done the work.
	Timeout Kind = "timeout"
	// Reset: the connection broke, or what came was no HTTP answer. The upstream may have done the work.
	Reset Kind = "reset"
	// Canceled: the caller went away.
	Canceled Kind = "canceled"
	// Invalid: the request could not be sent to anyone, such as for a line break in a header.
	Invalid Kind = "invalid"
)

// Error is a request without a whole answer. Its text names a member and is for the operator, not for clients.
type Error struct {
	Kind   Kind
	Member string // "" for NoMember
	Err    error
	stale  bool // Kind is Reset, on a connection that had been idle
	ours   bool // Kind is Timeout, for the Pool's own patience
}

func (e *Error) Error() string {
	if e.Member == "" {
		return fmt.Sprintf("upstream: %s: %v", e.Kind, e.Err)
	}
	return fmt.Sprintf("upstream %s: %s: %v", e.Member, e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
