// Package remotewrite turns write-request bytes into confined write-request bytes and counts; it knows no HTTP, clock, logs or metrics.
//
// The wire, as the Prometheus remote-write 1.0 specification gives it; one letter is one byte:
//
//	snappy block:  varint(decoded length) | elements…
//	WriteRequest   0a len TimeSeries*  |  1a len MetricMetadata*
//	TimeSeries     0a len Label*  |  12 len Sample*  |  1a len Exemplar*  |  22 len Histogram*
//	Label          0a len name  |  12 len value
//	Sample         09 8 bytes value (absent when 0)  |  10 varint timestamp ms (absent when 0)
//
// What comes out is canonical: labels sorted, in the shape above, with no field but these, so that the store sees exactly
// what was judged. What goes in may be any legal encoding: fields in any order, repeated scalars (the last wins), split
// and non-minimal lengths.
package remotewrite
