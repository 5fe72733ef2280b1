package query

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/golang/snappy"
)

// ReadAnswerLen is the length of a SAMPLES answer, a snappy block, when it is decoded.
func ReadAnswerLen(body []byte) (int, error) {
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return 0, fmt.Errorf("the store's remote-read answer: %w", err)
	}
	return n, nil
}

// StripSamples returns a SAMPLES answer, a snappy-compressed prometheus.ReadResponse, without strip in its label sets. body
// stays the caller's; the result is a buffer of its own. Beside body it takes some three times ReadAnswerLen.
func StripSamples(body []byte, strip Label) ([]byte, error) {
	msg, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("the store's remote-read answer: %w", err)
	}
	// ReadResponse.results, QueryResult.timeseries, TimeSeries.labels
	out, err := stripFields(make([]byte, 0, len(msg)), msg, strip, 1, 1, 1)
	if err != nil {
		return nil, err
	}
	return snappy.Encode(nil, out), nil
}

// maxFrame bounds a frame of a streamed answer, as Prometheus does when it reads one.
const maxFrame = 50_000_000

// StripChunks copies a STREAMED_XOR_CHUNKS answer, frame by frame, without strip in the label sets of its
// ChunkedReadResponses. room is told how many bytes the largest frame so far takes, before they are taken, and may refuse. A
// failure of dst, src or room is returned as it is.
func StripChunks(dst io.Writer, src io.Reader, strip Label, room func(n int64) error) error {
	var (
		in         = bufio.NewReaderSize(src, jsonBuffer)
		castagnoli = crc32.MakeTable(crc32.Castagnoli)
		frame, out []byte
	)
	for {
		if _, err := in.Peek(1); err == io.EOF {
			return nil
		}
		size, err := binary.ReadUvarint(in)
		if err != nil {
			return broken(err)
		}
		if size > maxFrame {
			return fmt.Errorf("a frame of the store's remote-read answer has %d bytes, more than %d", size, maxFrame)
		}
		if n := int(size); n > cap(frame) {
			if err := room(2 * int64(n)); err != nil {
				return err
			}
			frame = make([]byte, n)
		}
		frame = frame[:size]
		var sum [4]byte
		if _, err := io.ReadFull(in, sum[:]); err != nil {
			return broken(err)
		}
		if _, err := io.ReadFull(in, frame); err != nil {
			return broken(err)
		}
		if crc32.Checksum(frame, castagnoli) != binary.BigEndian.Uint32(sum[:]) {
			return errors.New("a frame of the store's remote-read answer does not fit its checksum")
		}
		// ChunkedReadResponse.chunked_series, ChunkedSeries.labels
		const head = binary.MaxVarintLen64 + 4
		if out, err = stripFields(append(out[:0], make([]byte, head)...), frame, strip, 1, 1); err != nil {
			return err
		}
		body := out[head:]
		start := head - 4
		binary.BigEndian.PutUint32(out[start:], crc32.Checksum(body, castagnoli))
		var length [binary.MaxVarintLen64]byte
		n := binary.PutUvarint(length[:], uint64(len(body)))
		start -= n
		copy(out[start:], length[:n])
		if _, err := dst.Write(out[start:]); err != nil {
			return err
		}
	}
}

// broken is the error of an answer that ends in the middle.
func broken(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stripFields appends the protobuf message msg to dst without the labels that are strip. path leads to them: the field
// numbers of the messages on the way, the last that of the labels.
func stripFields(dst, msg []byte, strip Label, path ...uint64) ([]byte, error) {
	for at := 0; at < len(msg); {
		key, body, after, err := protoField(msg, at)
		if err != nil {
			return nil, err
		}
		switch {
		case key != path[0]<<3|2:
			dst = append(dst, msg[at:after]...)
		case len(path) == 1:
			same, err := isLabel(msg[body:after], strip)
			if err != nil {
				return nil, err
			}
			if !same {
				dst = append(dst, msg[at:after]...)
			}
		default:
			dst = binary.AppendUvarint(dst, key)
			// The length comes first and is known last: room for the longest that it can be.
			room := len(binary.AppendUvarint(nil, uint64(after-body)))
			start := len(dst)
			if dst, err = stripFields(append(dst, make([]byte, room)...), msg[body:after], strip, path[1:]...); err != nil {
				return nil, err
			}
			var length [binary.MaxVarintLen64]byte
			n := binary.PutUvarint(length[:], uint64(len(dst)-start-room))
			copy(dst[start:], length[:n])
			if n < room {
				copy(dst[start+n:], dst[start+room:])
				dst = dst[:len(dst)-room+n]
			}
		}
		at = after
	}
	return dst, nil
}

var errNotRead = errors.New("the store's remote-read answer is not the message that was expected")

// protoField reads the field of msg at at: its key, and where its payload begins and ends.
func protoField(msg []byte, at int) (key uint64, body, after int, err error) {
	key, n := binary.Uvarint(msg[at:])
	if n <= 0 {
		return 0, 0, 0, errNotRead
	}
	body = at + n
	left := uint64(len(msg) - body)
	size := uint64(0)
	switch key & 7 {
	case 0:
		if _, n = binary.Uvarint(msg[body:]); n <= 0 {
			return 0, 0, 0, errNotRead
		}
		size = uint64(n)
	case 1:
		size = 8
	case 2:
		if size, n = binary.Uvarint(msg[body:]); n <= 0 {
			return 0, 0, 0, errNotRead
		}
		body += n
		left -= uint64(n)
	case 5:
		size = 4
	default:
		return 0, 0, 0, errNotRead
	}
	if size > left {
		return 0, 0, 0, errNotRead
	}
	return key, body, body + int(size), nil
}

// isLabel reports whether the Label message msg is l.
func isLabel(msg []byte, l Label) (bool, error) {
	var name, value []byte
	for at := 0; at < len(msg); {
		key, body, after, err := protoField(msg, at)
		if err != nil {
			return false, err
		}
		switch key {
		case 1<<3 | 2:
			name = msg[body:after]
		case 2<<3 | 2:
			value = msg[body:after]
		}
		at = after
	}
	return string(name) == l.Name && string(value) == l.Value, nil
}
