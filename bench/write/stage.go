package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"m3gateway/bench/measure"
)

// stage has the sender and the sink, each a process of its own, and starts what is measured between them.
type stage struct {
	measure.Processes
	binary  string   // gateway
	store   string   // the first of the stores
	stores  []string // addresses of the sink
	orders  *json.Encoder
	answers *json.Decoder
}

// newStage builds the gateway into dir and starts the sink. The sender starts with the first gateway, whose authority it trusts.
func newStage(ctx context.Context, dir string) (*stage, error) {
	s := &stage{Processes: measure.Processes{Dir: dir}}
	var err error
	if s.binary, err = measure.Build(ctx, dir, "m3gateway/cmd/gateway"); err != nil {
		return nil, err
	}
	_, out, _, err := s.Self(ctx, "sink")
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if s.stores = strings.Fields(line); err != nil || len(s.stores) != mostMembers {
		s.Stop()
		return nil, fmt.Errorf("starting the sink: it said %q: %w", line, err)
	}
	s.store = s.stores[0]
	return s, nil
}

// hire starts the sender of b. ca is the authority it trusts.
func (s *stage) hire(ctx context.Context, b *batch, ca string) error {
	in, out, _, err := s.Self(ctx, "sender")
	if err != nil {
		return err
	}
	s.orders, s.answers = json.NewEncoder(in), json.NewDecoder(out)
	return s.orders.Encode(job{CAFile: ca, Large: b.large, Made: b.made, Contents: append(curveContents(), content{Samples: samples, Second: true})})
}

// process is a server between the sender and the sink.
type process struct {
	url   string // of its write route, without TLS
	https string // the same with TLS; a gateway's only
	admin string // a gateway's only
	pid   int
	late  bool // it works on after it has answered
	// members are the stores before which a gateway stands.
	members []string
}

// serve starts a gateway whose files are in dir. Its log goes to /dev/null, the access log with it.
func (s *stage) serve(ctx context.Context, dir string, at measure.Site) (*process, error) {
	at.Store, at.PerIP = s.store, 5000 // all connections of a curve come from one address
	pid, err := s.Gateway(ctx, s.binary, dir, &at)
	return &process{
		url: "http://" + at.Plain + "/api/v1/write", https: "https://" + at.HTTPS + "/api/v1/write", admin: "http://" + at.Admin, pid: pid,
		members: append([]string{at.Store}, at.Members...),
	}, err
}

// send has the order done.
func (s *stage) send(o order) (done, error) {
	var d done
	if err := s.orders.Encode(o); err != nil {
		return d, err
	}
	if err := s.answers.Decode(&d); err != nil {
		return d, fmt.Errorf("the sender ended: %w", err)
	}
	if d.Problem != "" {
		return d, errors.New(d.Problem)
	}
	if d.Requests == 0 {
		return d, errors.New("no request was sent")
	}
	return d, nil
}

// measured is the CPU that p uses while the order is done.
func (s *stage) measured(p *process, o order) (int, time.Duration, error) {
	from, err := measure.CPUWithChildren(p.pid)
	if err != nil {
		return 0, 0, err
	}
	d, err := s.send(o)
	if err != nil {
		return 0, 0, err
	}
	to, err := measure.CPUWithChildren(p.pid)
	for deadline := time.Now().Add(measure.Patience); p.late && err == nil; {
		before := to
		time.Sleep(100 * time.Millisecond)
		if to, err = measure.CPUWithChildren(p.pid); to-before < time.Millisecond || time.Now().After(deadline) {
			break
		}
	}
	return d.Requests, to - from, err
}

// warm sends the first requests of a row, so that connections are open and the password is known.
func (s *stage) warm(o order) error {
	o.Time = 300 * time.Millisecond
	_, err := s.send(o)
	return err
}

// row measures p under order o.
func (s *stage) row(name string, p *process, o order) (row, error) {
	if err := s.warm(o); err != nil {
		return row{}, fmt.Errorf("%s: %w", name, err)
	}
	return row{name: name, once: func(_ context.Context, d time.Duration) (int, time.Duration, error) {
		o.Time = d
		return s.measured(p, o)
	}}, nil
}

// verify is an error unless a request of 1.0 through p reaches its members whole and confined, each with a part of it.
func (s *stage) verify(p *process) error {
	if _, err := s.send(order{URL: p.url, Content: content{Samples: samples}, Connections: 1}); err != nil {
		return err
	}
	var blocks [][]byte
	for _, m := range p.members {
		body, err := measure.Get(context.Background(), "http://"+m+"/last")
		if err != nil {
			return err
		}
		block, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			return err
		}
		blocks = append(blocks, block)
	}
	if err := confined(blocks...); err != nil {
		return fmt.Errorf("what the gateway forwarded: %w", err)
	}
	return nil
}

// profile takes the gateway's CPU profile of whole seconds, at least d, under load.
func (s *stage) profile(ctx context.Context, g *process, file string, d time.Duration) error {
	sent := make(chan error, 1)
	go func() {
		_, err := s.send(order{URL: g.url, Content: content{Samples: samples}, Connections: 4, Time: d + 2*time.Second})
		sent <- err
	}()
	err := measure.Fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", g.admin, d.Seconds()), file)
	return errors.Join(err, <-sent)
}
