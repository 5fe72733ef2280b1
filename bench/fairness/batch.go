package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/golang/snappy"
)

// batch is a remote-write 1.0 request of n series with one sample each at now.
func batch(n int, now time.Time) []byte {
	var out []byte
	for i := range n {
		var ts []byte
		for _, l := range [][2]string{{"__name__", "bench_total"}, {"instance", fmt.Sprintf("10.0.%d.%d:9090", i/250, i%250)}, {"job", "fairness"}} {
			label := field(field(nil, 1, []byte(l[0])), 2, []byte(l[1]))
			ts = field(ts, 1, label)
		}
		sample := binary.LittleEndian.AppendUint64([]byte{0x09}, math.Float64bits(float64(i)))
		sample = binary.AppendUvarint(append(sample, 0x10), uint64(now.UnixMilli()))
		out = field(out, 1, field(ts, 2, sample))
	}
	return snappy.Encode(nil, out)
}

// field appends a field of bytes.
func field(dst []byte, number byte, b []byte) []byte {
	return append(binary.AppendUvarint(append(dst, number<<3|2), uint64(len(b))), b...)
}
