// Command fairness measures what a steady tenant feels of another that sends fifty times its limit, and cached clients of somebody who guesses passwords.
//
// The gateway is a process of its own; clients and store share the machine with it, so that a part of what is added is theirs. Rounds
// with and without the trouble take turns.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"m3gateway/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench/fairness:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fairness", flag.ContinueOnError)
	rounds := flags.Int("rounds", 5, "rounds of each measurement, with and without the trouble")
	span := flags.Duration("time", 4*time.Second, "how long each is measured in each round")
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
	b := bench{rounds: *rounds, span: *span}
	for i, scenario := range []struct {
		site measure.Site
		run  func(context.Context) error
	}{
		{measure.Site{Sections: fmt.Sprintf("limits: {writes: {samples_per_second: %d}}", limit)}, b.flood},
		{measure.Site{Cost: attackCost}, b.attack},
	} {
		if err := b.with(ctx, binary, filepath.Join(dir, fmt.Sprint(i)), scenario.site, scenario.run); err != nil {
			return err
		}
	}
	return nil
}

const (
	limit      = 20_000 // samples a second of each tenant
	steadyRate = 150    // requests of steadySize samples a second: three quarters of the limit
	steadySize = 100
	floodRate  = 1000 // requests of floodSize samples a second: fifty times the limit
	floodSize  = 1000

	attackCost = 12
	attackRate = 200 // wrong passwords a second
)

// bench is a gateway and what is measured of it.
type bench struct {
	rounds int
	span   time.Duration
	at     measure.Site
}

// with runs a scenario with a gateway of its own.
func (b *bench) with(ctx context.Context, binary, dir string, site measure.Site, scenario func(context.Context) error) error {
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer store.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	processes := measure.Processes{Dir: dir}
	defer processes.Stop()
	b.at = site
	b.at.Store = strings.TrimPrefix(store.URL, "http://")
	if _, err := processes.Gateway(ctx, binary, dir, &b.at); err != nil {
		return err
	}
	return scenario(ctx)
}

// client has connections of its own, from an address of loopback.
func client(from string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
}

// send posts body as user and returns the status.
func (b *bench) send(ctx context.Context, c *http.Client, user, password string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.at.Plain+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth(user, password)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// steady returns the latencies of the steady tenant's writes, all of which must be taken.
func (b *bench) steady(ctx context.Context, c *http.Client) ([]float64, error) {
	return measure.Paced(steadyRate, b.span, func() error {
		status, err := b.send(ctx, c, measure.User, measure.Password, batch(steadySize, time.Now()))
		if err == nil && status != http.StatusNoContent {
			err = fmt.Errorf("the steady tenant was answered %d", status)
		}
		return err
	})
}

// compare measures the steady tenant by turns alone and beside trouble, which goes on until its context ends.
func (b *bench) compare(ctx context.Context, trouble func(context.Context)) (alone, beside [][]float64, err error) {
	c := client("127.0.0.1")
	if _, err := b.steady(ctx, c); err != nil { // connections and the password are known then
		return nil, nil, err
	}
	for range b.rounds {
		took, err := b.steady(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		alone = append(alone, took)
		within, end := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { trouble(within) })
		time.Sleep(500 * time.Millisecond)
		took, err = b.steady(ctx, c)
		end()
		wg.Wait()
		if err != nil {
			return nil, nil, err
		}
		beside = append(beside, took)
	}
	return alone, beside, nil
}

// pour calls one at rate a second until ctx ends, each on its own.
func pour(ctx context.Context, rate float64, one func(n int)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	begun := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(time.Until(begun.Add(time.Duration(float64(n) / rate * float64(time.Second)))))
		wg.Go(func() { one(n) })
	}
}

// counter counts answers by status.
type counter struct{ taken, refused, failed atomic.Int64 }

func (c *counter) add(status int, err error) {
	switch {
	case err != nil || status >= 500:
		c.failed.Add(1)
	case status/100 == 2:
		c.taken.Add(1)
	default:
		c.refused.Add(1)
	}
}

// flood has bob send fifty times his limit.
func (b *bench) flood(ctx context.Context) error {
	var n counter
	c := client("127.0.0.2")
	alone, beside, err := b.compare(ctx, func(ctx context.Context) {
		body := batch(floodSize, time.Now())
		pour(ctx, floodRate, func(int) { n.add(b.send(context.WithoutCancel(ctx), c, "bob", measure.Password, body)) })
	})
	if err != nil {
		return err
	}
	fmt.Printf("flood: limits.writes.samples_per_second is %d; a steady tenant sends %d, another %d\n", limit, steadyRate*steadySize, floodRate*floodSize)
	fmt.Printf("       of the other's requests %d were taken, %d refused with 429, %d failed\n\n", n.taken.Load(), n.refused.Load(), n.failed.Load())
	report(alone, beside)
	return nil
}

// attack has somebody guess passwords, each of another user and from one of 200 addresses; then a user who was never there before
// comes with the right one.
func (b *bench) attack(ctx context.Context) error {
	var n counter
	clients := make([]*http.Client, 200)
	for i := range clients {
		clients[i] = client(fmt.Sprintf("127.1.0.%d", i+1))
	}
	body := batch(1, time.Now())
	var first atomic.Int64
	var once sync.Once
	alone, beside, err := b.compare(ctx, func(ctx context.Context) {
		var wg sync.WaitGroup
		once.Do(func() {
			wg.Go(func() {
				time.Sleep(2 * time.Second)
				begun := time.Now()
				if status, err := b.send(context.WithoutCancel(ctx), client("127.0.0.3"), "bob", measure.Password, body); err == nil && status == http.StatusNoContent {
					first.Store(int64(time.Since(begun)))
				}
			})
		})
		pour(ctx, attackRate, func(i int) {
			within, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer stop()
			n.add(b.send(within, clients[i%len(clients)], fmt.Sprint("user", i), "wrong", body))
		})
		wg.Wait()
	})
	if err != nil {
		return err
	}
	fmt.Printf("attack: %d wrong passwords a second, bcrypt cost %d, from %d addresses, each of another user; a client that is known goes on\n", attackRate, attackCost, len(clients))
	fmt.Printf("        of the attempts %d were let in, %d refused, %d were not answered within 10 s or were told to come later\n", n.taken.Load(), n.refused.Load(), n.failed.Load())
	fmt.Printf("        a right password of a user never seen before was let in after %v; 0s: never\n\n", time.Duration(first.Load()).Round(time.Millisecond))
	report(alone, beside)
	return nil
}

// report prints what the steady client felt.
func report(alone, beside [][]float64) {
	fmt.Printf("%-10s %32s %32s %10s\n", "ms", "alone", "beside", "ratio")
	for _, q := range []float64{.5, .9, .99} {
		a, b := measure.Quantiles(alone, q), measure.Quantiles(beside, q)
		fmt.Printf("p%-9g %32s %32s %10.2f\n", 100*q, measure.Spread(a, 1e3), measure.Spread(b, 1e3), measure.Median(b)/measure.Median(a))
	}
	fmt.Println()
}
