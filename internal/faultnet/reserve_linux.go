package faultnet

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
)

// reserve binds a socket to a port of ip, to any free one if port is "0", until the test ends. The socket does not listen: Linux
// then refuses connections, gives the port to nobody who asks for any free one, and lets whoever asks for this one listen there, if
// both say SO_REUSEADDR, as Go's listeners do.
func reserve(tb testing.TB, ip, port string) (addr string, err error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("socket: %w", err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	own := &syscall.SockaddrInet4{Addr: netip.MustParseAddr(ip).As4(), Port: int(number)}
	if err := syscall.Bind(fd, own); err != nil {
		return "", fmt.Errorf("bind %s:%s: %w", ip, port, err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return "", fmt.Errorf("getsockname: %w", err)
	}
	return net.JoinHostPort(ip, strconv.Itoa(bound.(*syscall.SockaddrInet4).Port)), nil
}
