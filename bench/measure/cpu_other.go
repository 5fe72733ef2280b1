//go:build !linux

package measure

import (
	"errors"
	"time"
)

// CPU is the CPU time of a process, which only Linux tells of another one.
func CPU(int) (time.Duration, error) {
	return 0, errors.New("reading the CPU clock of another process needs Linux; run this on Linux")
}
