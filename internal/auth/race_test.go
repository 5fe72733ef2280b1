//go:build race

package auth

// raceEnabled: the race detector allocates and makes sync.Pool drop values, so allocations are not counted under it.
const raceEnabled = true
