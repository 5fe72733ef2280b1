package remotewrite

import (
	"encoding/binary"
	"errors"

	"github.com/golang/snappy"
)

// ErrSnappy is a body that is no snappy block.
var ErrSnappy = errors.New("the body is not a snappy block; send Content-Encoding: snappy")

// DecodedLen is the length that body claims to decode to, read from its first bytes; nothing is allocated.
func DecodedLen(body []byte) (int, error) {
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return 0, ErrSnappy
	}
	return n, nil
}

// Decode decodes body into dst, whose capacity must be DecodedLen(body) at least, and returns the decoded bytes.
func Decode(dst, body []byte) ([]byte, error) {
	out, err := snappy.Decode(dst[:cap(dst)], body)
	if err != nil {
		return nil, ErrSnappy
	}
	return out, nil
}

// Encode returns src as a snappy block of its own.
func Encode(src []byte) []byte { return snappy.Encode(nil, src) }

// blockSize is the piece of a request that snappy compresses by itself. Each piece is encoded as soon as it is whole, while
// it is still in the CPU's nearest cache, so that the confined request never lies in memory as a whole.
const blockSize = 1 << 16

const (
	// headerRoom is the longest length prefix of a block; the length is known last.
	headerRoom = 5
	// literal2 is a literal whose length less one follows in two bytes.
	literal2 = 61 << 2
)

// output is what of a confined request is written so far.
type output struct {
	dst    []byte // the confined bytes that are not encoded yet
	piece  []byte // one encoded piece
	length int    // of what is encoded, before it was
	limit  int
	plain  bool
	elements
	last   emitted                       // the last series that came out in the common shape
	credit int                           // of series that repeated what was before
	kept   struct{ series, samples int } // histogram samples, too
}

// begin makes ready to write a block into dst.
func (w *output) begin(dst []byte, o Order) error {
	if cap(dst) < headerRoom {
		return ErrShort
	}
	w.dst, w.length, w.limit, w.plain = w.dst[:0], 0, o.Limit, o.Plain
	w.elements = elements{out: dst[:cap(dst)], n: headerRoom}
	w.last.known, w.credit, w.kept.series, w.kept.samples = false, enoughCredit, 0, 0
	if w.piece == nil {
		w.piece = make([]byte, snappy.MaxEncodedLen(blockSize))
		w.dst = make([]byte, 0, blockSize+blockSize/4)
	}
	return nil
}

// flush encodes every whole piece of dst, and the rest as well if all is set.
func (w *output) flush(all bool) error {
	at := 0
	for len(w.dst)-at >= blockSize || all && at < len(w.dst) {
		piece := w.dst[at:min(at+blockSize, len(w.dst))]
		at += len(piece)
		if w.length += len(piece); w.length > w.limit {
			return ErrTooLong
		}
		if err := w.encode(piece); err != nil {
			return err
		}
	}
	w.dst = w.dst[:copy(w.dst, w.dst[at:])]
	return nil
}

// encode appends the elements of one piece.
func (w *output) encode(piece []byte) error {
	if w.plain {
		if !w.room(3 + len(piece)) {
			return ErrShort
		}
		w.literal3(piece)
		return nil
	}
	block := snappy.Encode(w.piece, piece)
	_, head := binary.Uvarint(block) // the piece's own length
	if !w.room(len(block) - head) {
		return ErrShort
	}
	w.ready(block[head:])
	return nil
}

// end encodes what is left and returns the whole block.
func (w *output) end() ([]byte, error) {
	if err := w.flush(true); err != nil {
		return nil, err
	}
	if !w.room(0) {
		return nil, ErrShort
	}
	w.close()
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(w.length))
	copy(w.out[headerRoom-n:headerRoom], head[:n])
	return w.out[headerRoom-n : w.n], nil
}
