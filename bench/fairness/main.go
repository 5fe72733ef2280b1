// Command fairness measures what a steady tenant feels of another that sends fifty times its limit, and cached clients of somebody who guesses passwords.
//
//	this process: the steady client, and the store ──> gateway <── the trouble, at idle priority as if on other machines
//
// Rounds without, with a control and with the trouble take turns.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"m3gateway/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) > 1 && os.Args[1] == troubleRole {
		err = makeTrouble(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:])
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench/fairness:", err)
		os.Exit(1)
	}
}

const (
	limit      = 20_000 // samples a second of each tenant
	steadyRate = 150    // requests of steadySize samples a second: three quarters of the limit
	steadySize = 100
	attackCost = 12
)

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fairness", flag.ContinueOnError)
	rounds := flags.Int("rounds", 8, "rounds of each measurement, with and without the trouble")
	span := flags.Duration("time", 4*time.Second, "how long each is measured in each round")
	share := flags.Bool("share", false, "the trouble gets its share of the CPUs, too, in place of what nobody else wants")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *rounds < 1 || *span < time.Second {
		return errors.New("no arguments, one round and 1s at least; see -help")
	}
	dir, err := os.MkdirTemp("", "bench-fairness-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := measure.Build(ctx, dir, "./cmd/gateway")
	if err != nil {
		return err
	}
	fmt.Print(measure.Heading("go run ./bench/fairness"), "\n\n")
	for _, sc := range []scenario{
		{
			name: "flood", kinds: []string{flood}, site: measure.Site{Sections: fmt.Sprintf("limits: {writes: {samples_per_second: %d}}", limit)},
			says: fmt.Sprintf("limits.writes.samples_per_second is %d; a steady tenant sends %d, another %d", limit, steadyRate*steadySize, floodRate*floodSize),
		},
		{
			name: "attack", kinds: []string{control, attack}, site: measure.Site{Cost: attackCost, Crowd: *rounds},
			says: fmt.Sprintf("%d wrong passwords a second, bcrypt cost %d, from %d addresses, each of another user, while a client that is known goes on; control: as many requests without a password", attackRate, attackCost, attackAddresses),
		},
	} {
		sc.rounds, sc.span, sc.share = *rounds, *span, *share
		if err := sc.run(ctx, binary, filepath.Join(dir, sc.name)); err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
	}
	return nil
}

// scenario is what is measured of one gateway: alone, and beside each kind of trouble.
type scenario struct {
	name, says string
	kinds      []string
	site       measure.Site

	rounds int
	span   time.Duration
	share  bool
	took   [][][]float64 // seconds, by kind, alone first, and by round
	counts []counts      // by kind
}

func (sc *scenario) run(ctx context.Context, binary, dir string) error {
	store := httptest.NewServer(measure.Store(0))
	defer store.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	processes := measure.Processes{Dir: dir}
	defer processes.Stop()
	sc.site.Store = strings.TrimPrefix(store.URL, "http://")
	if _, err := processes.Gateway(ctx, binary, dir, &sc.site); err != nil {
		return err
	}
	c := &http.Client{Transport: measure.Transport(nil, "127.0.0.1", false)}
	if _, err := sc.steady(c); err != nil { // connections and the password are known then
		return err
	}
	sc.took, sc.counts = make([][][]float64, 1+len(sc.kinds)), make([]counts, len(sc.kinds))
	for round := range sc.rounds {
		took, err := sc.steady(c)
		if err != nil {
			return err
		}
		sc.took[0] = append(sc.took[0], took)
		for i, kind := range sc.kinds {
			if took, err = sc.beside(ctx, &processes, c, kind, round, &sc.counts[i]); err != nil {
				return fmt.Errorf("beside the %s: %w", kind, err)
			}
			sc.took[1+i] = append(sc.took[1+i], took)
		}
	}
	sc.report()
	return nil
}

// steady returns the latencies of the steady tenant's writes, all of which must be taken.
func (sc *scenario) steady(c *http.Client) ([]float64, error) {
	body, err := measure.Batch(steadySize, time.Now())
	if err != nil {
		return nil, err
	}
	return measure.Paced(steadyRate, sc.span, func() error {
		req, err := measure.WriteRequest("http://"+sc.site.Plain, body)
		if err != nil {
			return err
		}
		return measure.Send(c, req)
	})
}

// beside is steady while a process makes trouble.
func (sc *scenario) beside(ctx context.Context, p *measure.Processes, c *http.Client, kind string, round int, n *counts) ([]float64, error) {
	end, out, pid, err := p.Self(ctx, troubleRole, kind, sc.site.Plain, measure.CrowdName(round))
	if err != nil {
		return nil, err
	}
	if !sc.share {
		if err := measure.OnlyIdle(pid); err != nil {
			return nil, err
		}
	}
	time.Sleep(time.Second)
	took, err := sc.steady(c)
	if err := errors.Join(err, end.Close()); err != nil {
		return nil, err
	}
	var made counts
	if err := json.NewDecoder(out).Decode(&made); err != nil {
		return nil, fmt.Errorf("what the trouble met: %w", err)
	}
	n.add(&made)
	return took, nil
}

// report prints what the steady client felt: quantiles of all rounds together, and those of each round as their range.
func (sc *scenario) report() {
	fmt.Printf("%s: %s\n", sc.name, sc.says)
	for i, kind := range sc.kinds {
		fmt.Printf("  %-8s %v\n", kind, &sc.counts[i])
	}
	fmt.Printf("\n%-6s %26s", "ms", "alone")
	for _, kind := range sc.kinds {
		fmt.Printf(" %26s %6s", "beside the "+kind, "ratio")
	}
	fmt.Println()
	for _, q := range []float64{.5, .9, .99} {
		fmt.Printf("p%-5g", 100*q)
		var alone float64
		for i, rounds := range sc.took {
			var all []float64
			for _, took := range rounds {
				all = append(all, took...)
			}
			each, together := measure.Quantiles(rounds, q), measure.Quantile(all, q)
			fmt.Printf(" %26s", fmt.Sprintf("%.2f (%s)", 1e3*together, measure.Range(each, 1e3)))
			if i == 0 {
				alone = together
			} else {
				fmt.Printf(" %6.2f", together/alone)
			}
		}
		fmt.Println()
	}
	fmt.Println()
}
