package proxy

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// op is what a request does. Members are judged for each apart.
type op uint8

const (
	reading op = iota
	writing
	ops // how many there are
)

func (o op) String() string {
	if o == writing {
		return "write"
	}
	return "read"
}

// member is one upstream server. It is never changed to another; a name that moves to a new identity is a new member.
type member struct {
	url     string // scheme://host:port: the identity in routing, metrics and logs
	scheme  string
	address string // host:port to connect to
	host    string // the Host header
	hash    uint64

	plain, clear2 http.RoundTripper // its connections; clear2, HTTP/2 without TLS, is nil without Config.H2C

	count    attemptCounters
	inFlight atomic.Int64
	heard    atomic.Int64  // when it last answered anything, in Unix nanoseconds
	silent   atomic.Bool   // it is out because it cannot be reached or does not answer: nobody should wait for it
	h2c      atomic.Bool   // it speaks HTTP/2 without TLS
	nudge    chan struct{} // asks for a probe before its time
	probed   chan struct{} // closed after the first probe
	leave    context.CancelFunc

	leaving time.Time // guarded by Pool.mu; when discovery no longer had it; zero: it is a member
	sides   [ops]side // guarded by Pool.mu but for the tallies
}

// side is how fit a member is for reads, or for writes.
type side struct {
	fault   string    // why the last probe says no; "": it says yes
	misses  int       // probes in a row without an answer in time
	ejected time.Time // until then it is out for what requests met; zero: it is not
	cause   string    // of that
	backoff int       // ejections that followed on one another
	times   int       // ejections in all
	fit     bool      // it may be used, by fault and ejected
	since   time.Time // of fit

	pace  pace         // of its answers
	ramp  atomic.Int64 // when its slow start began, in Unix nanoseconds; 0: it had none
	tally              // what requests met
}

// why says why the side is not fit, "" if it is.
func (s *side) why() string {
	if !s.ejected.IsZero() {
		return s.cause
	}
	return s.fault
}

// tally counts what requests met on a member in the last ten seconds.
type tally struct {
	lately // a: requests, b: failures among them
	row    atomic.Int32
}

// book takes note of a request, and says how many failures in a row that makes.
func (t *tally) book(now time.Time, failed bool) (row int) {
	if !failed {
		t.add(now, 1, 0)
		t.row.Store(0)
		return 0
	}
	t.add(now, 1, 1)
	return int(t.row.Add(1))
}

// slowLeast is the share of its usual load that a member begins a slow start with.
const slowLeast = 0.1

// share is how much of its usual load the side is to be given: 1, or less while it starts slowly.
func (s *side) share(now time.Time, slow time.Duration) float64 {
	began := s.ramp.Load()
	passed := now.UnixNano() - began
	if began == 0 || passed >= int64(slow) {
		return 1
	}
	return max(slowLeast, float64(passed)/float64(slow))
}

// cost is what one more request on m costs, in seconds of waiting: what is before it, by how long m takes.
func (m *member) cost(o op, now time.Time, usual float64, slow time.Duration) float64 {
	return float64(m.inFlight.Load()+1) * (m.sides[o].pace.at(now, usual) + 1e-6) / m.sides[o].share(now, slow)
}

// heardSince says that m has answered something after t.
func (m *member) heardSince(t time.Time) bool { return m.heard.Load() > t.UnixNano() }

// askNow asks for a probe of m before its time.
func (m *member) askNow() {
	select {
	case m.nudge <- struct{}{}:
	default: // already asked for
	}
}

// state is what a Pool knows of its members.
type state struct {
	mu      sync.Mutex
	list    []*member // guarded by mu; sorted by URL, those that are leaving among them
	eras    []era     // guarded by mu; newest first; none: all are out for writes
	founded time.Time // guarded by mu; when eras came to be
}
