// Command tls measures what TLS costs the gateway in CPU, for a write and for a connection with and without a resumed session, beside other servers.
//
// They do the same TLS and check the same password. All rows are taken in one run, interleaved in rounds, so that their ratios
// hold on a busy machine. It needs Linux, which tells the CPU time of another process.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"m3gateway/bench/measure"
)

func main() {
	rounds := flag.Int("rounds", 7, "rounds of all rows")
	span := flag.Duration("span", 500*time.Millisecond, "time of one row in one round")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, max(*rounds, 1), *span)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/tls:", err)
		os.Exit(1)
	}
}

// bench is what all servers share.
type bench struct {
	dir       string
	processes *measure.Processes
	store     string // address
	pem       string // file of the certificate and its key, of all servers
	caFile    string
}

func run(ctx context.Context, rounds int, span time.Duration) error {
	dir, err := os.MkdirTemp("", "bench-tls-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: measure.Store(0)}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	b := &bench{dir: dir, processes: &measure.Processes{Dir: dir}, store: l.Addr().String()}
	defer b.processes.Stop()
	heading := measure.Heading("go run ./bench/tls")
	servers, omitted, err := b.servers(ctx)
	if err != nil {
		return err
	}
	rows, err := b.rows(servers)
	if err != nil {
		return err
	}
	for n := range rounds + 1 { // the first opens connections, gets sessions and verifies passwords
		for _, r := range rows {
			if err := r.once(span, n == 0); err != nil {
				return fmt.Errorf("%s, %s: %w", r.group, r.name, err)
			}
		}
	}
	fmt.Printf("%s\nTLS:     1.3, AES-128-GCM, X25519, a certificate of ECDSA P-256, unless the row says otherwise\n", heading)
	fmt.Printf("rows:    CPU of the server, user and system; median of %d interleaved rounds (lowest-highest), as the machine may be shared\n", rounds)
	for _, o := range omitted {
		fmt.Println("omitted:", o)
	}
	group := ""
	for _, r := range append(rows, connections(rows)...) {
		if r.group != group {
			group = r.group
			fmt.Printf("\n%-66s %22s %10s %12s\n", group, "ms each", "a core/s", "measured/s")
		}
		measured := ""
		if r.rate != nil {
			measured = fmt.Sprintf("%.0f", measure.Median(r.rate))
		}
		fmt.Printf("%-66s %22s %10.0f %12s\n", r.name, measure.Spread(r.cost, 1), 1000/measure.Median(r.cost), measured)
	}
	return nil
}
