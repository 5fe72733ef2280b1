package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"m3gateway/bench/measure"
)

// labelProxy is the server beside which the gateway is measured, built from its module outside of this one.
const labelProxy = "github.com/prometheus-community/prom-label-proxy@v0.11.1"

// The names of the servers.
const (
	bareName  = "httputil.ReverseProxy: passes on, no password"
	labelName = "prom-label-proxy: one tenant, no password"
	wholeName = "gateway serve: basic auth, access log"
)

// server is what is measured between the client and the sink.
type server struct {
	name string
	url  string
	pid  int
}

// stage has the client and the sink and starts what is measured between them, each a process of its own.
type stage struct {
	measure.Processes
	store   string // address of the sink
	admin   string // URL of the gateway's admin port
	servers []server
	orders  *json.Encoder
	answers *json.Decoder
}

const path = "/api/v1/query_range"

func newStage(ctx context.Context, dir string) (*stage, error) {
	s := &stage{Processes: measure.Processes{Dir: dir}}
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *stage) start(ctx context.Context) error {
	var err error
	if s.store, _, err = s.role(ctx, "sink"); err != nil {
		return err
	}
	in, out, _, err := s.Self(ctx, "client")
	if err != nil {
		return err
	}
	s.orders, s.answers = json.NewEncoder(in), json.NewDecoder(out)

	bare, pid, err := s.role(ctx, "proxy", s.store)
	if err != nil {
		return err
	}
	s.servers = append(s.servers, server{bareName, "http://" + bare + path, pid})
	if err := s.startLabelProxy(ctx); err != nil {
		fmt.Printf("omitted: %s: %v\n", labelName, err)
	}
	binary, err := measure.Build(ctx, s.Dir, "m3gateway/cmd/gateway")
	if err != nil {
		return err
	}
	at := measure.Site{Store: s.store}
	if pid, err = s.Gateway(ctx, binary, filepath.Join(s.Dir, "gateway-files"), &at); err != nil {
		return err
	}
	s.admin = "http://" + at.Admin
	s.servers = append(s.servers, server{wholeName, "http://" + at.Plain + path, pid})
	for _, v := range s.servers { // connections are open and the password is known before a clock is read
		for _, c := range contents() {
			if _, err := s.send(order{URL: v.url, Content: c, Connections: 4, Time: 300 * time.Millisecond}); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	return nil
}

// role starts this binary as a server and returns its address.
func (s *stage) role(ctx context.Context, name string, args ...string) (string, int, error) {
	_, out, pid, err := s.Self(ctx, name, args...)
	if err != nil {
		return "", 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", 0, fmt.Errorf("starting the %s: %w", name, err)
	}
	return strings.TrimSpace(line), pid, nil
}

// startLabelProxy starts the binary that PROM_LABEL_PROXY_BIN names, or installs it.
func (s *stage) startLabelProxy(ctx context.Context) error {
	binary := os.Getenv("PROM_LABEL_PROXY_BIN")
	if binary == "" {
		cmd := exec.CommandContext(ctx, "go", "install", labelProxy)
		cmd.Dir, cmd.Env = s.Dir, append(os.Environ(), "GOBIN="+s.Dir, "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("PROM_LABEL_PROXY_BIN is not set, and go install %s: %w: %.200s", labelProxy, err, out)
		}
		binary = filepath.Join(s.Dir, "prom-label-proxy")
	}
	address, err := measure.Free(1)
	if err != nil {
		return err
	}
	pid, err := s.Run(ctx, measure.Listening(address[0]), binary, "-insecure-listen-address="+address[0], "-upstream=http://"+s.store, "-label=tenant", "-label-value="+measure.Tenant)
	if err != nil {
		return err
	}
	s.servers = append(s.servers, server{labelName, "http://" + address[0] + path, pid})
	return nil
}

// send has the order done.
func (s *stage) send(o order) (done, error) {
	var d done
	if err := s.orders.Encode(o); err != nil {
		return d, err
	}
	if err := s.answers.Decode(&d); err != nil {
		return d, fmt.Errorf("the client ended: %w", err)
	}
	if d.Problem != "" {
		return d, errors.New(d.Problem)
	}
	return d, nil
}

// row is one line of the table: one server asked for one content.
type row struct {
	server  server
	content string
	cost    []float64 // CPU seconds a request, of each round
	speed   []float64 // requests a second, of each round
}

func (s *stage) rows() []row {
	var out []row
	for _, c := range contents() {
		for _, v := range s.servers {
			out = append(out, row{server: v, content: c})
		}
	}
	return out
}

// take measures r once, for d.
func (s *stage) take(ctx context.Context, r *row, d time.Duration) error {
	begun, err := measure.CPU(r.server.pid)
	if err != nil {
		return err
	}
	got, err := s.send(order{URL: r.server.url, Content: r.content, Connections: 4, Time: d})
	if err != nil {
		return err
	}
	ended, err := measure.CPU(r.server.pid)
	if err != nil {
		return err
	}
	r.cost = append(r.cost, (ended-begun).Seconds()/float64(got.Requests))
	r.speed = append(r.speed, float64(got.Requests)/got.Seconds)
	return ctx.Err()
}

// verify is an error unless the servers do what their names say: the bare proxy passes the query on, the others confine it.
func (s *stage) verify(ctx context.Context) error {
	for _, v := range s.servers {
		if _, err := s.send(order{URL: v.url, Content: panel, Connections: 1}); err != nil {
			return err
		}
		body, err := measure.Get(ctx, "http://"+s.store+"/last")
		if err != nil {
			return err
		}
		last, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			return err
		}
		want := 2
		if v.name == bareName {
			want = 0
		}
		if n := strings.Count(string(last), `tenant="`+measure.Tenant+`"`); n != want {
			return fmt.Errorf("%s: the store saw %d selectors with the tenant: %s", v.name, n, last)
		}
	}
	return nil
}

// latency is how long answers took at the fixed rate, directly from the sink and through each server.
type latency struct {
	direct  [][]float64
	servers []server
	through [][][]float64 // by server and round
}

func (s *stage) latency(ctx context.Context, rounds int) (*latency, error) {
	l := &latency{servers: s.servers, through: make([][][]float64, len(s.servers))}
	paced := func(url string) ([]float64, error) {
		d, err := s.send(order{URL: url, Content: panel, Rate: rate, Time: latencyTime})
		return d.Latencies, err
	}
	for round := range rounds {
		took, err := paced("http://" + s.store + path)
		if err != nil {
			return nil, err
		}
		l.direct = append(l.direct, took)
		for i, v := range s.servers {
			if took, err = paced(v.url); err != nil {
				return nil, err
			}
			l.through[i] = append(l.through[i], took)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "latency: round %d of %d\n", round+1, rounds)
	}
	return l, nil
}

// profile takes the gateway's CPU profile under load.
func (s *stage) profile(ctx context.Context, file string) error {
	const d = 10 * time.Second
	sent := make(chan error, 1)
	go func() {
		_, err := s.send(order{URL: s.servers[len(s.servers)-1].url, Content: panel, Connections: 4, Time: d + 2*time.Second})
		sent <- err
	}()
	err := measure.Fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", s.admin, d.Seconds()), file)
	return errors.Join(err, <-sent)
}
