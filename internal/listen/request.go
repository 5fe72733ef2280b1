package listen

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// pace is how fast a request's body must come.
type pace struct {
	grace time.Duration
	rate  int64 // bytes a second after grace
	whole time.Duration
}

// deadline is when, counted from the first attempt to read the body, a sender of whom got bytes have come is too slow.
func (p pace) deadline(got int64) time.Duration {
	left := p.whole - p.grace
	if left <= 0 || got/p.rate > int64(left/time.Second) {
		return p.whole
	}
	due := time.Duration(got/p.rate)*time.Second + time.Duration(got%p.rate)*time.Second/time.Duration(p.rate)
	return min(p.whole, p.grace+due)
}

// leftover is how long net/http may read on in a body that its handler has not read to the end, before it answers. What was sent
// in one piece with its header is there by then; the answer to a sender that is slower ends the connection.
const leftover = time.Second

// guard serves h within what a client may take of each request: time to send its body and to take the answer. It ends
// connections that have served enough in such a way that no request is lost.
//
// A body that is late gives os.ErrDeadlineExceeded to its reader, which is to answer 503; other HTTP/2 streams of the connection
// go on. The deadline ends with the body: net/http lifts it before it reads on to notice that the client has gone, so it neither
// cancels a request that takes long to answer nor closes an idle connection.
func (l *listener) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		if c == nil { // never: ConnContext has put it there
			http.Error(w, "the connection is not known", http.StatusInternalServerError)
			return
		}
		c.requested()
		if l.retire(c, time.Now()) {
			w.Header().Set("Connection", "close") // of HTTP/2, net/http makes GOAWAY of it
		}
		if r.ProtoMajor == 2 {
			w = &pacedAnswer{ResponseWriter: w, rc: http.NewResponseController(w), timeout: l.limit.caps.write}
			defer func() {
				if r.Context().Err() != nil {
					c.served.reset(time.Now())
				}
			}()
		}
		if r.ContentLength == 0 {
			h.ServeHTTP(w, r)
			return
		}
		paced := *r // net/http keeps r, and knows its own kind of body
		b := &pacedBody{ReadCloser: r.Body, rc: http.NewResponseController(w), pace: l.pace, late: l.metrics.slow.Inc}
		paced.Body = b
		if r.ProtoMajor == 1 {
			c.unread.Store(true)
			// For what net/http itself reads of a body, before it sends an answer that is longer than its buffer.
			_ = b.rc.SetReadDeadline(time.Now().Add(l.pace.whole))
		}
		h.ServeHTTP(w, &paced)
		switch {
		case r.ProtoMajor != 1, b.closed, b.slow:
		case b.ended:
			c.unread.Store(false)
		default:
			_ = b.rc.SetReadDeadline(time.Now().Add(leftover))
		}
	})
}

// pacedBody is a body that must keep its pace, or reads of it end with os.ErrDeadlineExceeded.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	pace  pace
	late  func()
	begun time.Time     // of the first Read: what comes before may take its time without the sender's fault
	armed time.Duration // the deadline in force, counted from begun
	got   int64
	ended bool // read to its end
	slow  bool // it was late
	// closed: net/http has read what is left, or given it up.
	closed bool
}

func (b *pacedBody) Close() error {
	b.closed = true
	return b.ReadCloser.Close()
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if d := b.pace.deadline(b.got); d > b.armed {
		if b.begun.IsZero() {
			b.begun = time.Now()
		}
		if err := b.rc.SetReadDeadline(b.begun.Add(d)); err != nil {
			return 0, err // a body that is not bounded in time is not read
		}
		b.armed = d
	}
	n, err := b.ReadCloser.Read(p)
	b.got += int64(n)
	switch {
	case err == io.EOF:
		b.ended = true
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.slow = true
		b.late()
	}
	return n, err
}

// pacedAnswer is the answer on an HTTP/2 stream whose client must take the next piece of it in time. A stream can stand still
// while its connection does not.
type pacedAnswer struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	armed   time.Time // when the deadline was set
}

func (a *pacedAnswer) arm() {
	// Setting it costs a message to the connection's goroutine: one holds for a while.
	if now := time.Now(); now.Sub(a.armed) > a.timeout/8 {
		a.armed = now
		_ = a.rc.SetWriteDeadline(now.Add(a.timeout))
	}
}

func (a *pacedAnswer) WriteHeader(status int) {
	a.arm()
	a.ResponseWriter.WriteHeader(status)
}

func (a *pacedAnswer) Write(b []byte) (int, error) {
	a.arm()
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the stream.
func (a *pacedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// served is what a connection has done so far, as far as it decides how long it lives.
type served struct {
	mu      sync.Mutex
	resets  int       // streams that the client has given up since since
	since   time.Time // at most a minute ago
	retired bool
}

// reset counts a stream that was given up.
func (s *served) reset(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.since) >= time.Minute {
		s.since, s.resets = now, 0
	}
	s.resets++
}

// retire reports whether the connection must end after the request under way. A request of HTTP/1.1 is then answered with
// "Connection: close", one of HTTP/2 is followed by GOAWAY: in both the client sends the next one over a new connection, which
// may lead to another replica.
func (l *listener) retire(c *conn, now time.Time) bool {
	s := &c.served
	s.mu.Lock()
	defer s.mu.Unlock()
	why := l.metrics.aged
	switch {
	case l.draining.Load():
		return true
	case s.resets > l.maxResets:
		why = l.metrics.reset
	case now.Sub(c.born) < c.age:
		return false
	}
	if !s.retired {
		s.retired = true
		why.Inc()
	}
	return true
}

// lifetime is the age of a connection whose share of chance is r, in [0, 1): between three quarters of most and most. Connections
// that were opened at the same moment, as after a restart, must not end at the same moment.
func lifetime(most time.Duration, r float64) time.Duration {
	return most - time.Duration(r*float64(most)/4)
}
