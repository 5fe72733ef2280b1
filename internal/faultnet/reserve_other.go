//go:build !linux

package faultnet

import (
	"net"
	"testing"
)

// reserve finds a port that is free now. Only on Linux it can be kept.
func reserve(_ testing.TB, ip, port string) (addr string, err error) {
	l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
