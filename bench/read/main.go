// Command read measures what one dashboard query costs the gateway in CPU, beside a bare reverse proxy and beside prom-label-proxy.
//
// All rows are taken in one run, interleaved in rounds, so that their ratios hold on a busy machine. Each server is a process of
// its own in front of the same sink, which answers every query with the same bytes; the CPU clock of the one that is measured is
// read, and no other. It needs Linux, which has such a clock for another process.
//
// After the table come the latency that each server adds at a fixed rate, and what came of each target, missed ones included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"m3gateway/bench/measure"
)

// latencyRounds are those of latency, at most; in each, queries are sent each way for latencyTime at rate a second.
const (
	latencyRounds = 7
	latencyTime   = 3 * time.Second
	rate          = 500
)

// options are the command line.
type options struct {
	rounds  int
	span    time.Duration // of one row in one round
	profile string        // file for the gateway's CPU profile; empty: none is taken
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench/read:", err)
		os.Exit(1)
	}
}

// run is the harness, or one of the processes that it starts from its own binary.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "sink":
			return sink(os.Stdin, os.Stdout)
		case "proxy":
			return bareProxy(os.Stdin, os.Stdout, args[1])
		case "client":
			return client(os.Stdin, os.Stdout)
		}
	}
	var o options
	flags := flag.NewFlagSet("read", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 15, "rounds; each row is measured once in each, latency in at most seven")
	flags.DurationVar(&o.span, "time", 400*time.Millisecond, "how long each row is measured in each round")
	flags.StringVar(&o.profile, "profile", "", "file to write a CPU profile of the gateway to, taken after the measurement")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.span < 100*time.Millisecond {
		return errors.New("no arguments, one round and 100ms at least; see -help")
	}
	return o.measure(ctx)
}

// measure prints the whole report.
func (o *options) measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-read-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := newStage(ctx, dir)
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Println(measure.Heading("go run ./bench/read"))
	fmt.Println(describe())
	alone, err := confinement(ctx, o.rounds)
	if err != nil {
		return err
	}
	rows := s.rows()
	for round := range o.rounds {
		for i := range rows {
			if err := s.take(ctx, &rows[i], o.span); err != nil {
				return fmt.Errorf("%s, %s: %w", rows[i].server.name, rows[i].content, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
	}
	if err := s.verify(ctx); err != nil {
		return err
	}
	fmt.Println(table(rows, alone))
	late, err := s.latency(ctx, min(o.rounds, latencyRounds))
	if err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	fmt.Println(late)
	if o.profile != "" {
		if err := s.profile(ctx, filepath.Clean(o.profile)); err != nil {
			return fmt.Errorf("profiling the gateway: %w", err)
		}
	}
	fmt.Print(targets(rows, late, alone))
	return nil
}
