//go:build race

package isolation

// requests are the length of the sequence, by default: a tenth of what it is without the race detector, which makes each ten
// times as slow.
const requests = 1_250
