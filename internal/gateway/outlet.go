package gateway

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// codings are how much a client wants each content coding, from 0, not at all, to 1.
type codings struct{ gzip, zstd float64 }

// codingsOf reads Accept-Encoding.
func codingsOf(head http.Header) (c codings) {
	for _, line := range head["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			q := 1.0
			if key, value, ok := strings.Cut(params, "="); ok && strings.EqualFold(strings.TrimSpace(key), "q") {
				var err error
				if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil || !(q >= 0 && q <= 1) {
					q = 0
				}
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "gzip", "x-gzip":
				c.gzip = q
			case "zstd":
				c.zstd = q
			}
		}
	}
	return c
}

// best is the coding for what the gateway compresses itself; "": none. zstd takes less CPU for fewer bytes.
func (c codings) best() string {
	switch {
	case c.zstd > 0 && c.zstd >= c.gzip:
		return "zstd"
	case c.gzip > 0:
		return "gzip"
	}
	return ""
}

// encoder is a *gzip.Writer or a *zstd.Encoder.
type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

const (
	// encoderBytes is what an encoder holds: its window and tables.
	encoderBytes = 2 << 20
	zstdWindow   = 256 << 10
	// worthCoding is the least answer that is compressed.
	worthCoding = 1400
)

// encoders makes the pools of encoders.
func (h *Handler) encoders() {
	h.gzips.New = func() any {
		z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return z
	}
	h.zstds.New = func() any {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return z
	}
}

// outlet writes an answer of status 200 to the client. Until it is known that the answer is worth compressing, nothing is
// sent, so that an early failure can still be told. The headers but for those of the coding are the caller's.
type outlet struct {
	h      *Handler
	w      http.ResponseWriter
	x      *exchange
	coding string // gzip, zstd or "": as the bytes come

	held  []byte // the beginning, with a coding
	begun bool
	enc   encoder
}

// Write returns errGone when the client went away.
func (o *outlet) Write(b []byte) (int, error) {
	if !o.begun {
		if o.coding != "" && len(o.held)+len(b) < worthCoding {
			o.held = append(o.held, b...)
			return len(b), nil
		}
		if err := o.begin(); err != nil {
			return 0, err
		}
	}
	return o.write(b)
}

func (o *outlet) write(b []byte) (int, error) {
	if o.enc != nil {
		n, err := o.enc.Write(b)
		return n, gone(err)
	}
	n, err := o.w.Write(b)
	return n, gone(err)
}

// begin sends the header and what was held back.
func (o *outlet) begin() error {
	o.begun = true
	if o.coding != "" {
		o.compress()
	}
	o.w.WriteHeader(http.StatusOK)
	if len(o.held) == 0 {
		return nil
	}
	_, err := o.write(o.held)
	o.held = nil
	return err
}

// compress sets up the encoder; where there is no memory for one, the answer is sent as it is.
func (o *outlet) compress() {
	if o.x.loan.resize(o.x.loan.held+encoderBytes) != nil {
		return
	}
	pool := &o.h.gzips
	if o.coding == "zstd" {
		pool = &o.h.zstds
	}
	o.enc = pool.Get().(encoder)
	o.enc.Reset(o.w)
	head := o.w.Header()
	head.Set("Content-Encoding", o.coding)
	head.Set("Vary", "Accept-Encoding")
	head.Del("Content-Length")
}

// end finishes the answer, or leaves it unfinished if err says that it is not whole; it returns err, or its own.
func (o *outlet) end(err error) error {
	if err == nil && !o.begun {
		if o.coding != "" { // too short to be worth it
			o.coding = ""
			o.w.Header().Set("Content-Length", strconv.Itoa(len(o.held)))
		}
		err = o.begin()
	}
	if o.enc == nil {
		return err
	}
	if err == nil {
		err = gone(o.enc.Close())
	}
	o.enc.Reset(nil)
	if o.coding == "zstd" {
		o.h.zstds.Put(o.enc)
	} else {
		o.h.gzips.Put(o.enc)
	}
	o.enc = nil
	return err
}

// send200 answers with a body of JSON that is whole.
func (h *Handler) send200(w http.ResponseWriter, r *http.Request, x *exchange, b []byte) error {
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("X-Content-Type-Options", "nosniff")
	out := &outlet{h: h, w: w, x: x, coding: codingsOf(r.Header).best()}
	if out.coding == "" {
		head.Set("Content-Length", strconv.Itoa(len(b)))
	}
	_, err := out.Write(b)
	return out.end(err)
}

// gone turns a failed write to the client into errGone.
func gone(err error) error {
	if err != nil {
		return errGone
	}
	return nil
}
