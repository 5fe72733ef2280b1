package faultnet

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestAddress: who connects is refused but while somebody listens there on purpose, who may come and go.
func TestAddress(t *testing.T) {
	addr := Address(t)
	refused := func() {
		t.Helper()
		if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v, %v; want it refused", c, err)
		}
	}
	for range 3 {
		refused()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := net.Listen("tcp", addr); err == nil {
			second.Close()
			t.Error("two listen there")
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		accepted.Close()
		c.Close()
		l.Close()
	}
	refused()
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if l.Addr().String() == addr {
			t.Fatal("somebody else got it")
		}
	}
}
