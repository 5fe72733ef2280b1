package listen

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// wire is one direction of a connection without a network: like a socket it holds so many bytes that are not read yet, which
// net.Pipe does not.
type wire struct {
	mu      sync.Mutex
	held    []byte
	ended   bool          // nothing more is written
	cut     bool          // nothing more is read
	changed chan struct{} // closed and replaced at each change
}

const wireHolds = 64 << 10

func (w *wire) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// step calls try until it is done, or until the deadline.
func (w *wire) step(d *limit, try func() (done bool)) error {
	for {
		late := d.passed()
		w.mu.Lock()
		done, changed := try(), w.changed
		if done {
			close(w.changed)
			w.changed = make(chan struct{})
		}
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-late:
			return os.ErrDeadlineExceeded
		}
	}
}

// limit is a deadline.
type limit struct {
	mu    sync.Mutex
	timer *time.Timer
	late  chan struct{}
}

func (d *limit) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.late
}

func (d *limit) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	select {
	case <-d.late:
		d.late = make(chan struct{})
	default:
	}
	late := d.late
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		close(late)
	default:
		d.timer = time.AfterFunc(left, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if late == d.late {
				close(late)
				d.late = make(chan struct{})
				close(d.late) // it stays passed
			}
		})
	}
}

// wireEnd is an end of a connection.
type wireEnd struct {
	in, out     *wire
	read, write *limit
	from        net.Addr
}

// wires returns the ends of a connection; far sees it come from an address.
func wires(from net.Addr) (near, far *wireEnd) {
	a, b := &wire{changed: make(chan struct{})}, &wire{changed: make(chan struct{})}
	end := func(in, out *wire) *wireEnd {
		return &wireEnd{in, out, &limit{late: make(chan struct{})}, &limit{late: make(chan struct{})}, from}
	}
	return end(a, b), end(b, a)
}

func (e *wireEnd) Read(p []byte) (n int, err error) {
	e2 := e.in.step(e.read, func() bool {
		switch {
		case e.in.cut:
			err = net.ErrClosed
		case len(e.in.held) > 0:
			n = copy(p, e.in.held)
			e.in.held = e.in.held[n:]
		case e.in.ended:
			err = io.EOF
		default:
			return len(p) == 0
		}
		return true
	})
	if e2 != nil {
		return 0, e2
	}
	return n, err
}

func (e *wireEnd) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		e2 := e.out.step(e.write, func() bool {
			room := wireHolds - len(e.out.held)
			switch {
			case e.out.ended || e.out.cut:
				err = io.ErrClosedPipe
			case room == 0:
				return false
			default:
				part := min(room, len(p)-n)
				e.out.held = append(e.out.held, p[n:n+part]...)
				n += part
			}
			return true
		})
		if e2 != nil {
			err = e2
		}
	}
	return n, err
}

func (e *wireEnd) CloseWrite() error {
	e.out.change(func() { e.out.ended = true })
	return nil
}

func (e *wireEnd) Close() error {
	e.out.change(func() { e.out.ended = true })
	e.in.change(func() { e.in.cut = true })
	return nil
}

func (e *wireEnd) LocalAddr() net.Addr                { return e.from }
func (e *wireEnd) RemoteAddr() net.Addr               { return e.from }
func (e *wireEnd) SetReadDeadline(t time.Time) error  { e.read.set(t); return nil }
func (e *wireEnd) SetWriteDeadline(t time.Time) error { e.write.set(t); return nil }
func (e *wireEnd) SetDeadline(t time.Time) error      { e.read.set(t); e.write.set(t); return nil }
