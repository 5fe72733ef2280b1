package buf

import "testing"

func TestGetHoldsN(t *testing.T) {
	var p Pool
	for _, n := range []int{0, 1, 4095, 4096, 4097, 1 << 20, 1<<20 + 1, 1 << 26, 1<<26 + 1} {
		b := p.Get(n)
		if cap(b.B) < n || len(b.B) != 0 {
			t.Fatalf("Get(%d): len %d, cap %d", n, len(b.B), cap(b.B))
		}
		b.Release()
	}
}

func TestGrownBufferStaysInAClassItFits(t *testing.T) {
	var p Pool
	for range 100 {
		b := p.Get(100)
		b.B = append(b.B[:cap(b.B)], make([]byte, 5000)...)
		b.Release()
		if c := p.Get(8192); cap(c.B) < 8192 {
			t.Fatalf("cap %d", cap(c.B))
		}
	}
}

func TestReleaseTwicePanics(t *testing.T) {
	var p Pool
	b := p.Get(10)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	b.Release()
}

func TestReleasedIsMangledUnderRace(t *testing.T) {
	if !mangle {
		t.Skip("only under the race detector")
	}
	var p Pool
	b := p.Get(4)
	b.B = append(b.B, "live"...)
	s := b.B
	b.Release()
	if string(s) == "live" {
		t.Fatal("released bytes are intact")
	}
}

func TestSteadyLoanDoesNotAllocate(t *testing.T) {
	if mangle {
		t.Skip("sync.Pool drops entries at random under the race detector")
	}
	var p Pool
	p.Get(1 << 16).Release()
	if n := testing.AllocsPerRun(1000, func() { p.Get(1 << 16).Release() }); n > 0.1 {
		t.Fatalf("%v allocations a loan", n)
	}
}
