package measure

import (
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the CPU time that all threads of process pid have used, user and system; 0 is this process. Its unit is the
// scheduler's nanosecond, for every process alike.
func CPU(pid int) (time.Duration, error) {
	clock := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
	if pid != 0 {
		clock = ^int32(pid)<<3 | 2 // clock_getcpuclockid(3): the scheduler's clock of a whole process
	}
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// OnlyIdle lets process pid have CPU only while nothing else wants it, as if it were on a machine of its own.
func OnlyIdle(pid int) error {
	return unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}
