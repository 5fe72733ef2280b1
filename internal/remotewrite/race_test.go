//go:build race

package remotewrite

// rounds are how many of n generated requests are tried. The race detector makes each ten times as dear and finds in them nothing that
// values decide; without it all are tried.
func rounds(n int) int { return n / 8 }
