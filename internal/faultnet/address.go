package faultnet

import "testing"

// Address is host:port of loopback that belongs to the test until it ends. Nobody listens there, so that connections are refused,
// until the test or a process that it starts does; that may stop and come back. Nobody else gets the port by chance in between, as
// happens to one that was free a moment ago.
func Address(tb testing.TB) string {
	tb.Helper()
	addr, err := reserve(tb, "127.0.0.1", "0")
	if err != nil {
		tb.Fatal(err)
	}
	return addr
}
