//go:build !race

package isolation

// requests are the length of the sequence, by default.
const requests = 12_500
