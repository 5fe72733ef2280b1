// Command listen attacks a running gateway with testssl.sh, h2spec and slowhttptest, and measures what a well-behaved client feels of it.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"m3gateway/bench/measure"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == controlRole {
		if err := serveControl(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench/listen, control:", err)
			os.Exit(1)
		}
		return
	}
	parts := flag.String("parts", "testssl,h2spec,slow", "which `parts` to run")
	scenes := flag.String("scenes", "", "of slow, only the rows whose names match this `expression`")
	seconds := flag.Int("seconds", 20, "length of each slow attack, of the one on the control, and of the quiet time before")
	connections := flag.Int("connections", 4000, "connections of each slow attack")
	share := flag.Bool("share", false, "let the slow attacks have their share of the machine's CPU, and not only what nobody else wants")
	flag.Parse()
	chosen, err := regexp.Compile(*scenes)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = run(ctx, strings.Split(*parts, ","), attack{*seconds, *connections, *share, chosen})
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/listen:", err)
		os.Exit(1)
	}
}

// answerBytes is the size of the store's answers to reads: what a slow reader has to read.
const answerBytes = 1 << 20

// bench is what all parts share.
type bench struct {
	dir    string
	binary string // gateway
	store  string // address
}

// gateway is a running `gateway serve`.
type gateway struct {
	measure.Site
	pid         int
	caFile, pem string // of the authority; of the certificate and its key
}

// gateway starts one, whose plain listener lets everybody in, until ctx ends.
func (b *bench) gateway(ctx context.Context, name, listen string) (*gateway, error) {
	dir := filepath.Join(b.dir, name)
	files := filepath.Join(dir, "tls")
	g := &gateway{Site: measure.Site{Store: b.store, Listen: listen, Open: true}, caFile: filepath.Join(files, "ca.crt"), pem: filepath.Join(files, "server.pem")}
	p := measure.Processes{Dir: b.dir}
	var err error
	if g.pid, err = p.Gateway(ctx, b.binary, dir, &g.Site); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, p.Stop)
	return g, nil
}

func run(ctx context.Context, parts []string, a attack) error {
	dir, err := os.MkdirTemp("", "bench-listen-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	if b.binary, err = measure.Build(ctx, dir, "m3gateway/cmd/gateway"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.store = l.Addr().String()
	srv := &http.Server{Handler: measure.Store(answerBytes)}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	fmt.Println(measure.Heading("go run ./bench/listen"))
	for _, part := range []struct {
		name string
		run  func(context.Context, *bench) error
	}{{"testssl", testssl}, {"h2spec", h2spec}, {"slow", a.run}} {
		if !slices.Contains(parts, part.name) {
			continue
		}
		fmt.Println()
		began := time.Now()
		if err := part.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Printf("(%s took %.0f s)\n", part.name, time.Since(began).Seconds())
	}
	return nil
}
