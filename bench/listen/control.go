package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"

	"m3gateway/bench/measure"
)

// controlRole is the first argument of the process that is attacked in the gateway's place.
const controlRole = "control"

// serveControl does TLS with the certificate in the file that args name, or none without one, and then reads what comes and no more,
// as long as the other side wants. It prints its address and ends with stdin.
func serveControl(args []string, stdin io.Reader, stdout io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	plain := l
	if len(args) > 0 {
		cert, err := tls.LoadX509KeyPair(args[0], args[0])
		if err != nil {
			return err
		}
		plain = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	fmt.Fprintln(stdout, l.Addr())
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// control starts the process until ctx ends, and returns its URL.
func control(ctx context.Context, g *gateway, open bool) (string, error) {
	scheme, args := "https://", []string{g.pem}
	if open {
		scheme, args = "http://", nil
	}
	p := measure.Processes{}
	_, out, _, err := p.Self(ctx, controlRole, args...)
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, p.Stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	return scheme + strings.TrimSpace(line), err
}
