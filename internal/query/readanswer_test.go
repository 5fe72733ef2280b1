package query

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// readLabels are label sets and what Strip own makes of them.
func readLabels() (in, want [][]prompb.Label) {
	name, tenant, job := prompb.Label{Name: "__name__", Value: "up"}, prompb.Label{Name: "tenant", Value: "a"}, prompb.Label{Name: "job", Value: strings.Repeat("x", 300)}
	foreign, other := prompb.Label{Name: "tenant", Value: "b"}, prompb.Label{Name: "tenan", Value: "a"}
	return [][]prompb.Label{{name, job, tenant}, {tenant}, {}, {name, foreign}, {other}, {tenant, tenant, name}},
		[][]prompb.Label{{name, job}, {}, {}, {name, foreign}, {other}, {name}}
}

func TestStripSamples(t *testing.T) {
	in, want := readLabels()
	answer := func(sets [][]prompb.Label) *prompb.ReadResponse {
		r := &prompb.ReadResponse{Results: []*prompb.QueryResult{{}, {}}}
		for i, set := range sets {
			ts := &prompb.TimeSeries{Labels: set, Samples: []prompb.Sample{{Value: float64(i), Timestamp: int64(i) << 40}, {}},
				Exemplars:  []prompb.Exemplar{{Labels: []prompb.Label{{Name: "tenant", Value: "a"}}, Value: 1}},
				Histograms: []prompb.Histogram{{Sum: 5, PositiveDeltas: []int64{1, -2}}}}
			r.Results[1].Timeseries = append(r.Results[1].Timeseries, ts)
		}
		return r
	}
	marshal := func(r *prompb.ReadResponse) []byte {
		b, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	body := snappy.Encode(nil, marshal(answer(in)))
	if n, err := ReadAnswerLen(body); err != nil || n != len(marshal(answer(in))) {
		t.Errorf("decoded length %d, %v", n, err)
	}
	out, err := StripSamples(body, own)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := snappy.Decode(nil, out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(msg, marshal(answer(want))) {
		var got prompb.ReadResponse
		t.Errorf("got %v, %v", &got, got.Unmarshal(msg))
	}
	whole := marshal(answer(in))
	for cut := 1; cut < len(whole); cut += 7 {
		var r prompb.ReadResponse
		if _, err := StripSamples(snappy.Encode(nil, whole[:cut]), own); (err == nil) != (r.Unmarshal(whole[:cut]) == nil) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, bad := range []string{"", "x", "\xff\xff\xff\xff\xff\x0f"} {
		if _, err := StripSamples([]byte(bad), own); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// frames writes messages as a streamed answer.
func frames(t *testing.T, sets [][]prompb.Label) []byte {
	t.Helper()
	var out []byte
	for i, set := range sets {
		msg, err := (&prompb.ChunkedReadResponse{
			QueryIndex:    int64(i),
			ChunkedSeries: []*prompb.ChunkedSeries{{Labels: set, Chunks: []prompb.Chunk{{MinTimeMs: 1, MaxTimeMs: 2, Type: prompb.Chunk_XOR, Data: bytes.Repeat([]byte{byte(i)}, 100)}}}},
		}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out = binary.AppendUvarint(out, uint64(len(msg)))
		out = binary.BigEndian.AppendUint32(out, crc32.Checksum(msg, crc32.MakeTable(crc32.Castagnoli)))
		out = append(out, msg...)
	}
	return out
}

func TestStripChunks(t *testing.T) {
	in, want := readLabels()
	whole := frames(t, in)
	free := func(int64) error { return nil }
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(whole), "bytes": iotest.OneByteReader(bytes.NewReader(whole))} {
		var out bytes.Buffer
		if err := StripChunks(&out, r, own, free); err != nil || !bytes.Equal(out.Bytes(), frames(t, want)) {
			t.Errorf("%s: %v, %d bytes", name, err, out.Len())
		}
	}
	if err := StripChunks(io.Discard, strings.NewReader(""), own, free); err != nil {
		t.Errorf("no series at all: %v", err)
	}
	ends := map[int]bool{}
	for n := range in {
		ends[len(frames(t, in[:n]))] = true
	}
	for cut := 1; cut < len(whole); cut++ {
		if err := StripChunks(io.Discard, bytes.NewReader(whole[:cut]), own, free); !ends[cut] && err != io.ErrUnexpectedEOF || ends[cut] && err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	bent := bytes.Clone(whole)
	bent[20] ^= 1
	if err := StripChunks(io.Discard, bytes.NewReader(bent), own, free); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a bent frame: %v", err)
	}
	if err := StripChunks(io.Discard, bytes.NewReader(binary.AppendUvarint(nil, maxFrame+1)), own, free); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an immense frame: %v", err)
	}
	full := errors.New("no room")
	if err := StripChunks(io.Discard, bytes.NewReader(whole), own, func(int64) error { return full }); err != full {
		t.Errorf("no room: %v", err)
	}
	if err := StripChunks(failing{full}, bytes.NewReader(whole), own, free); err != full {
		t.Errorf("dst failed: %v", err)
	}
}

// FuzzStripSamples: what comes out is what prompb makes of the same message.
func FuzzStripSamples(f *testing.F) {
	in, _ := readLabels()
	seeds := [][]byte{{}}
	for _, set := range in {
		msg, err := (&prompb.ReadResponse{Results: []*prompb.QueryResult{{Timeseries: []*prompb.TimeSeries{{Labels: set, Samples: []prompb.Sample{{Value: 1}}}}}}}).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, msg)
	}
	if len(seeds) < 2 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		var want, got prompb.ReadResponse
		wellFormed := want.Unmarshal(msg) == nil
		out, err := StripSamples(snappy.Encode(nil, msg), own)
		if err != nil || !wellFormed {
			return
		}
		for _, q := range want.Results {
			for _, ts := range q.Timeseries {
				kept := ts.Labels[:0]
				for _, l := range ts.Labels {
					if l.Name != "tenant" || l.Value != "a" {
						kept = append(kept, l)
					}
				}
				ts.Labels = kept
			}
		}
		plain, err := snappy.Decode(nil, out)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Unmarshal(plain); err != nil || got.String() != want.String() {
			t.Fatalf("%x became %x, %v", msg, plain, err)
		}
	})
}
