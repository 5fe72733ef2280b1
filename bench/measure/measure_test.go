package measure

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	var calls atomic.Int64
	count := func() error { calls.Add(1); return nil }
	if n, _, err := Closed(3, 0, 0, count); err != nil || n != 3 || calls.Load() != 3 {
		t.Errorf("once on each connection: %d of %d, %v", n, calls.Load(), err)
	}
	if n, _, err := Closed(2, 50, 0, count); err != nil || n < 50 {
		t.Errorf("fifty at least: %d, %v", n, err)
	}
	if took, err := Paced(1000, 20*time.Millisecond, count); err != nil || len(took) != 20 {
		t.Errorf("twenty in time: %d, %v", len(took), err)
	}
	bad := errors.New("bad")
	if _, _, err := Closed(2, 5, 0, func() error { return bad }); err != bad {
		t.Errorf("an error: %v", err)
	}
	if _, err := Paced(1000, 3*time.Millisecond, func() error { return bad }); err != bad {
		t.Errorf("an error at a rate: %v", err)
	}
}

func TestWeigh(t *testing.T) {
	v := []float64{4, 1, 3, 2}
	if Median(v) != 2.5 || Quantile(v, .99) != 4 || Spread(v, 10) != "25.00 (10.00-40.00)" || Ratios(v, v)[3] != 1 || v[0] != 4 {
		t.Error(Median(v), Quantile(v, .99), Spread(v, 10), v)
	}
	text := Targets([]Aim{AtMost("a", 2, 1), AtLeast("b", 2, 1)})
	if !strings.Contains(text, "MISSED  a") || !strings.Contains(text, "met     b") {
		t.Error(text)
	}
}

func TestCPU(t *testing.T) {
	own, err := CPUWithChildren(os.Getpid())
	if err != nil || own <= 0 {
		t.Errorf("%v, %v", own, err)
	}
}
