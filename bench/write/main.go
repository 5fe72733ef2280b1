// Command write measures what one remote-write request costs the gateway in CPU, beside the bare codec and beside prompb.
//
// All rows are taken in one run, interleaved in rounds, so that their ratios hold on a busy machine. The harness starts the
// gateway, other servers for the same job, a store that answers 204 and a sender as processes of their own; the CPU clock of
// the one that is measured is read, and no other. It needs Linux, which has such a clock for another process.
//
// After the table come the latency that the gateway adds, the curve of CPU over senders, tenants and samples of a request, and
// what came of each target, missed ones included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"m3gateway/bench/measure"
)

// samples of one request.
const samples = 5000

// profileTime is how long each profile is taken.
const profileTime = 15 * time.Second

// curveRounds are those of the curve, at most.
const curveRounds = 7

// latencyRounds are those of latency, at most; in each, requests are sent each way for latencyTime.
const (
	latencyRounds = 7
	latencyTime   = 3 * time.Second
)

// options are the command line.
type options struct {
	rounds  int
	span    time.Duration // of one row in one round
	profile string        // directory for CPU profiles; empty: none are taken
	save    string        // file for the batch; empty: it is not kept
	plot    string        // file for the picture of the curve; empty: none is drawn
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench/write:", err)
		os.Exit(1)
	}
}

// run is the harness, or one of the two processes that the harness starts from its own binary.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "sink":
			return sink(os.Stdin, os.Stdout)
		case "sender":
			return sender(os.Stdin, os.Stdout)
		}
	}
	var o options
	flags := flag.NewFlagSet("write", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 13, "rounds; each row is measured once in each, each point of the curve in at most seven")
	flags.DurationVar(&o.span, "time", 400*time.Millisecond, "how long each row is measured in each round")
	flags.StringVar(&o.profile, "profile", "", "directory to write CPU profiles to, taken after the measurement")
	flags.StringVar(&o.save, "save", "", "file to keep the batch in: one request body, snappy")
	flags.StringVar(&o.plot, "plot", "", "file to draw the curve in, as SVG")
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
	dir, err := os.MkdirTemp("", "bench-write-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := newBatch(dir, time.Now())
	if err != nil {
		return fmt.Errorf("making the batch: %w", err)
	}
	if o.save != "" {
		if err := os.WriteFile(o.save, b.body, 0o644); err != nil {
			return err
		}
	}
	l, err := newLocal(b)
	if err != nil {
		return err
	}
	if err := l.agree(); err != nil {
		return err
	}
	s, err := newStage(ctx, dir)
	if err != nil {
		return err
	}
	defer s.Stop()
	fmt.Println(measure.Heading("go run ./bench/write"))
	fmt.Println(b.describe())
	g, rows, err := o.rows(ctx, s, l)
	if err != nil {
		return err
	}
	if o.profile != "" {
		if err := o.profiles(ctx, l, s, g); err != nil {
			return err
		}
	}
	objects, bytes, err := l.allocations()
	if err != nil {
		return err
	}
	fmt.Println(rowsTable(rows, objects, bytes))
	fmt.Printf("size:    the confined batch leaves as %d bytes; searched for repeats as a whole, as %d\n\n", l.encoded, l.encodedWhole)
	return o.rest(ctx, s, g, rows)
}

// rows measures the table, and returns the ordinary gateway too.
func (o *options) rows(ctx context.Context, s *stage, l *local) (*process, []row, error) {
	g, rows, err := s.gateways(ctx, l.batch)
	if err != nil {
		return nil, nil, err
	}
	more, omitted, err := s.otherRows(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, line := range omitted {
		fmt.Println(line)
	}
	rows = append(append(l.rows(), rows...), more...)
	before := runtime.GOMAXPROCS(1) // no row of this process may spread its garbage collection over another core
	defer runtime.GOMAXPROCS(before)
	for round := range o.rounds {
		for i := range rows {
			if err := rows[i].take(ctx, o.span); err != nil {
				return nil, nil, fmt.Errorf("row %q: %w", rows[i].name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
	}
	return g, rows, s.verify(g)
}

// rest measures and prints what the table does not show: latency, the curve and, last, what came of the targets.
func (o *options) rest(ctx context.Context, s *stage, g *process, rows []row) error {
	added, err := s.latency(ctx, g, min(o.rounds, latencyRounds), latencyTime)
	if err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	fmt.Println(added.describe(measure.Median(find(rows, floorName).cost)))
	many, err := s.serve(ctx, filepath.Join(s.Dir, "crowd"), measure.Site{Crowd: crowd})
	if err != nil {
		return err
	}
	curve, err := s.curve(ctx, many, min(o.rounds, curveRounds), o.span)
	if err != nil {
		return fmt.Errorf("curve: %w", err)
	}
	fmt.Println(table(curve))
	if o.plot != "" {
		if err := os.WriteFile(o.plot, []byte(plot(curve)), 0o644); err != nil {
			return err
		}
	}
	fmt.Print(targets(rows, curve, added))
	return nil
}

// profiles writes one CPU profile of remotewrite alone and one of the whole gateway.
func (o *options) profiles(ctx context.Context, l *local, s *stage, g *process) error {
	if err := os.MkdirAll(o.profile, 0o755); err != nil {
		return err
	}
	if err := l.profile(filepath.Join(o.profile, "remotewrite.pprof"), profileTime); err != nil {
		return fmt.Errorf("profiling remotewrite: %w", err)
	}
	if err := s.profile(ctx, g, filepath.Join(o.profile, "gateway.pprof"), profileTime); err != nil {
		return fmt.Errorf("profiling the gateway: %w", err)
	}
	return nil
}

// grown is b with room for n bytes and no content.
func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, 0, n)
	}
	return b[:0]
}
