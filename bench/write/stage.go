package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience bounds the start of a process.
const patience = 30 * time.Second

// stage has the sender and the sink, each a process of its own, and starts what is measured between them.
type stage struct {
	dir     string // for files of the processes
	binary  string // gateway
	store   string // address of the sink
	orders  *json.Encoder
	answers *json.Decoder
	end     []func() // stops the processes, last one first
}

// newStage builds the gateway into dir and starts the sink. The sender starts with the first gateway, whose authority it trusts.
func newStage(ctx context.Context, dir string) (*stage, error) {
	s := &stage{dir: dir, binary: filepath.Join(dir, "gateway")}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "m3gateway/cmd/gateway").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the gateway (run this inside the module): %w\n%s", err, out)
	}
	_, out, err := s.self(ctx, "sink")
	if err != nil {
		return nil, err
	}
	store, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	s.store = strings.TrimSpace(store)
	return s, nil
}

// hire starts the sender of b. ca is the authority it trusts.
func (s *stage) hire(ctx context.Context, b *batch, ca string) error {
	in, out, err := s.self(ctx, "sender")
	if err != nil {
		return err
	}
	s.orders, s.answers = json.NewEncoder(in), json.NewDecoder(out)
	return s.orders.Encode(job{CAFile: ca, Large: b.large, Made: b.made, Contents: append(curveContents(), content{Samples: samples, Second: true})})
}

// self starts this binary in another role. It ends when its stdin does.
func (s *stage) self(ctx context.Context, role string) (io.WriteCloser, io.Reader, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, exe, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	s.end = append(s.end, func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return in, out, nil
}

// process is a server between the sender and the sink.
type process struct {
	url   string // of its write route, without TLS
	https string // the same with TLS; a gateway's only
	admin string // a gateway's only
	pid   int
	late  bool // it works on after it has answered
}

// cpu is what the process and its children have used.
func (p *process) cpu() (time.Duration, error) {
	sum, err := cpuTime(p.pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children(p.pid) {
		t, err := cpuTime(child)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// children are the processes that pid has started, as nginx its workers.
func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, word := range strings.Fields(string(text)) {
		var n int
		if _, err := fmt.Sscan(word, &n); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// run starts a server and returns once the URL ready answers 200, or, if it is empty, once address takes connections. What it
// prints goes to a file.
func (s *stage) run(ctx context.Context, address, ready string, command ...string) (int, error) {
	name := filepath.Base(command[0])
	log, err := os.CreateTemp(s.dir, name+"-*.log")
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if name == "gateway" { // its access log costs what it costs, but is not kept
		cmd.Stdout, cmd.Stderr = nil, nil
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	s.end = append(s.end, func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := answers(ctx, address, ready)
		if err == nil {
			return cmd.Process.Pid, nil
		}
		text, _ := os.ReadFile(log.Name())
		select {
		case <-ended:
			return 0, fmt.Errorf("%s ended before it was ready; a port may have been taken, so try again: %s", name, text)
		default:
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%s is not ready: %w\n%s", name, err, text)
		}
	}
}

func answers(ctx context.Context, address, ready string) error {
	if ready == "" {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	body, err := get(ctx, ready)
	if err == nil {
		err = body.Close()
	}
	return err
}

// free are n addresses of loopback that nobody listens on.
func free(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// serve starts a gateway whose files are in dir. Its log goes to /dev/null, the access log with it.
func (s *stage) serve(ctx context.Context, dir string, at site) (*process, error) {
	ports, err := free(3)
	if err != nil {
		return nil, err
	}
	at.https, at.plain, at.admin, at.store = ports[0], ports[1], ports[2], s.store
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := configure(dir, at, time.Now())
	if err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, s.binary, "check", "--config", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gateway check: %w\n%s", err, out)
	}
	p := &process{url: "http://" + at.plain + "/api/v1/write", https: "https://" + at.https + "/api/v1/write", admin: "http://" + at.admin}
	p.pid, err = s.run(ctx, at.plain, p.admin+"/readyz", s.binary, "serve", "--config", file)
	return p, err
}

// stop ends every process.
func (s *stage) stop() {
	for i := len(s.end) - 1; i >= 0; i-- {
		s.end[i]()
	}
	s.end = nil
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
	from, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	d, err := s.send(o)
	if err != nil {
		return 0, 0, err
	}
	to, err := p.cpu()
	for deadline := time.Now().Add(patience); p.late && err == nil; {
		before := to
		time.Sleep(100 * time.Millisecond)
		if to, err = p.cpu(); to-before < time.Millisecond || time.Now().After(deadline) {
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

// verify is an error unless a request of 1.0 through p reaches the sink whole and confined.
func (s *stage) verify(p *process) error {
	if _, err := s.send(order{URL: p.url, Content: content{Samples: samples}, Connections: 1}); err != nil {
		return err
	}
	body, err := get(context.Background(), "http://"+s.store+"/last")
	if err != nil {
		return err
	}
	defer body.Close()
	block, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if err := confined(block); err != nil {
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
	err := fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", g.admin, d.Seconds()), file)
	return errors.Join(err, <-sent)
}

func fetch(ctx context.Context, url, file string) error {
	body, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// get is the body of an answer of status 200. The caller closes it.
func get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return resp.Body, nil
}
