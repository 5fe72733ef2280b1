package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"m3gateway/internal/buf"
)

var (
	errBodyClosed = errors.New("proxy: request body read after Close")
	errBodyGone   = errors.New("proxy: request body opened after its buffer was released")
	// ErrAnswerTooLarge is the read error of an answer that is longer than Request.MaxAnswer.
	ErrAnswerTooLarge = errors.New("the upstream's answer is larger than allowed")
)

// Payload owns a request's body and lends it to every attempt. The buffer is released once, when its holders and the last
// reader have let go: the transport may still read after RoundTrip has returned, and says by Close when it no longer does.
// A nil *Payload is an empty body.
type Payload struct {
	mu   sync.Mutex
	buf  *buf.Buffer
	refs int // guarded by mu; one for each holder, and one for each reader not yet closed
}

// NewPayload takes b over. The caller holds the first reference: it ends with Drop, or with a call of Do.
func NewPayload(b *buf.Buffer) *Payload {
	return &Payload{buf: b, refs: 1}
}

// Keep adds a reference, so that one body may serve a further request, and returns p.
func (p *Payload) Keep() *Payload {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refs++
	return p
}

func (p *Payload) size() int {
	if p == nil {
		return 0
	}
	return len(p.buf.B)
}

// open lends the bytes to one reader, from their start. It is a Request.GetBody.
func (p *Payload) open() (io.ReadCloser, error) {
	if p.size() == 0 {
		return http.NoBody, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refs == 0 {
		return nil, errBodyGone
	}
	p.refs++
	return &payloadReader{payload: p, rest: p.buf.B}, nil
}

// Drop ends a reference.
func (p *Payload) Drop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refs--
	if p.refs == 0 {
		p.buf.Release()
	}
}

// payloadReader is one attempt's request body. Close waits for a Read under way, so that no byte is read afterwards.
type payloadReader struct {
	mu      sync.Mutex
	payload *Payload // nil once closed
	rest    []byte
}

func (r *payloadReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.payload == nil {
		return 0, errBodyClosed
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *payloadReader) Close() error {
	r.mu.Lock()
	p := r.payload
	r.payload, r.rest = nil, nil
	r.mu.Unlock()
	if p != nil {
		p.Drop()
	}
	return nil
}

// answerBody is the body of an answer. It keeps the attempt's context alive until Close, and names what breaks it off.
type answerBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc // the attempt's
	fail   func(error) *Error      // names an error of the attempt
	max    int64                   // 0: no limit
	read   int64                   // never more than max+1
	once   sync.Once
	done   func()

	// patience is what is left of the time that may be spent waiting for bytes, by the clock now. A slow reader of the answer
	// takes nothing of it. nil now: another limit holds.
	now      func() time.Time
	patience time.Duration
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.max > 0 {
		if b.read > b.max {
			return 0, ErrAnswerTooLarge
		}
		if room := b.max - b.read + 1; int64(len(p)) > room {
			p = p[:room]
		}
	}
	n, err := b.wait(p)
	b.read += int64(n)
	if b.max > 0 && b.read > b.max {
		return n - 1, ErrAnswerTooLarge
	}
	if err != nil && err != io.EOF {
		return n, b.fail(err)
	}
	return n, err
}

// wait reads, for as long as patience lasts.
func (b *answerBody) wait(p []byte) (int, error) {
	if b.now == nil {
		return b.ReadCloser.Read(p)
	}
	began := b.now()
	timer := time.AfterFunc(max(b.patience, 0), func() { b.cancel(errAttemptTime) })
	n, err := b.ReadCloser.Read(p)
	timer.Stop()
	b.patience -= b.now().Sub(began)
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.done)
	return err
}

// discard reads a short rest, so that the connection can be used again, and closes.
func (b *answerBody) discard() {
	const most, longest = 64 << 10, 250 * time.Millisecond
	timer := time.AfterFunc(longest, func() { b.cancel(nil) })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, b.ReadCloser, most) // the answer is thrown away, and so is what breaks it off
	_ = b.Close()
}
