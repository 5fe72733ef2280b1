//go:build !race

package audit

import (
	"io"
	"testing"
)

// TestAddAllocatesNothing: a line costs no garbage. (Under the race detector pools forget on purpose.)
func TestAddAllocatesNothing(t *testing.T) {
	l, _ := open(t, Config{Stdout: true}, io.Discard)
	defer closeLog(t, l)
	e := whole()
	if n := testing.AllocsPerRun(1000, func() { l.Add(e) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
