package faultnet

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Balancer passes TCP connections to backends in turn, as a load balancer in front of gateways does: new connections go to those
// whose health URL answers 200, connections that are open stay where they are.
type Balancer struct {
	addr string

	mu       sync.Mutex
	backends []*Backend
	next     int
}

// Backend is one server behind a Balancer.
type Backend struct {
	Addr   string // host:port
	Health string // URL
	well   bool   // guarded by Balancer.mu
}

// NewBalancer starts a balancer until the test ends.
func NewBalancer(tb testing.TB, backends ...*Backend) *Balancer {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &Balancer{addr: l.Addr().String(), backends: backends}
	done := make(chan struct{})
	var work sync.WaitGroup
	b.look()
	work.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.look()
			case <-done:
				return
			}
		}
	})
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { b.pass(c.(*net.TCPConn), done) })
		}
	})
	tb.Cleanup(func() {
		close(done)
		_ = l.Close()
		work.Wait()
	})
	return b
}

// Addr is host:port of the balancer.
func (b *Balancer) Addr() string { return b.addr }

// look asks every backend for its health.
func (b *Balancer) look() {
	client := http.Client{Timeout: time.Second}
	for _, x := range b.backends {
		resp, err := client.Get(x.Health)
		well := err == nil && resp.StatusCode == http.StatusOK
		if err == nil {
			_ = resp.Body.Close()
		}
		b.mu.Lock()
		x.well = well
		b.mu.Unlock()
	}
}

// Well is how many backends are.
func (b *Balancer) Well() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.backends {
		if x.well {
			n++
		}
	}
	return n
}

// connect is a connection to the next backend that is well and takes it, or nil.
func (b *Balancer) connect() *net.TCPConn {
	for range b.backends {
		b.mu.Lock()
		x := b.backends[b.next%len(b.backends)]
		b.next++
		well := x.well
		b.mu.Unlock()
		if !well {
			continue
		}
		if c, err := net.DialTimeout("tcp", x.Addr, time.Second); err == nil {
			return c.(*net.TCPConn)
		}
	}
	return nil
}

func (b *Balancer) pass(client *net.TCPConn, done <-chan struct{}) {
	defer client.Close()
	server := b.connect()
	if server == nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
		both.Go(func() {
			if _, err := io.Copy(way[1], way[0]); err != nil {
				_ = way[1].Close()
			}
			_ = way[1].CloseWrite()
		})
	}
	ended := make(chan struct{})
	go func() { both.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-done:
		_, _ = client.Close(), server.Close()
		<-ended
	}
}
