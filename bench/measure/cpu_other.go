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

// OnlyIdle lets a process have CPU only while nothing else wants it, on Linux.
func OnlyIdle(int) error {
	return errors.New("a process of idle priority needs Linux; run this on Linux")
}
