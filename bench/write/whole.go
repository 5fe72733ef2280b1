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

// whole is a running `gateway serve` between a sender and a sink, each a process of its own.
type whole struct {
	gateway *exec.Cmd
	admin   string // URL
	sink    string // URL
	orders  *json.Encoder
	answers *json.Decoder
	end     []func() // stops the processes, last one first
}

// startWhole builds the gateway into dir, starts the three processes and sends the first requests, so that connections are
// open and the password is known.
func startWhole(ctx context.Context, dir string, b *batch) (w *whole, err error) {
	w = &whole{}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	binary := filepath.Join(dir, "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "m3gateway/cmd/gateway").CombinedOutput(); err != nil {
		return w, fmt.Errorf("building the gateway (run this inside the module): %w\n%s", err, out)
	}
	_, out, err := w.self(ctx, "sink")
	if err != nil {
		return w, err
	}
	store, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return w, fmt.Errorf("starting the sink: %w", err)
	}
	store = strings.TrimSpace(store)
	w.sink = "http://" + store
	https, err := w.serve(ctx, dir, binary, store)
	if err != nil {
		return w, err
	}
	in, out, err := w.self(ctx, "sender")
	if err != nil {
		return w, err
	}
	w.orders, w.answers = json.NewEncoder(in), json.NewDecoder(out)
	j := job{URL: "https://" + https + "/api/v1/write", CAFile: filepath.Join(dir, "tls", "ca.crt"), Raw: b.raw, Made: b.made}
	if err := w.orders.Encode(j); err != nil {
		return w, err
	}
	if _, err := w.send(order{Connections: 8, Time: time.Second}); err != nil {
		return w, err
	}
	return w, w.verify()
}

// self starts this binary in another role. It ends when its stdin does.
func (w *whole) self(ctx context.Context, role string) (io.WriteCloser, io.Reader, error) {
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
	w.end = append(w.end, func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return in, out, nil
}

// serve starts the gateway and returns its HTTPS address once it is ready. Its log goes to /dev/null, the access log with it.
func (w *whole) serve(ctx context.Context, dir, binary, store string) (string, error) {
	https, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer https.Close()
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer admin.Close()
	at := site{https: https.Addr().String(), admin: admin.Addr().String(), store: store}
	file, err := configure(dir, at, time.Now())
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, binary, "check", "--config", file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gateway check: %w\n%s", err, out)
	}
	https.Close() // the ports are the gateway's from here
	admin.Close()
	w.gateway = exec.CommandContext(ctx, binary, "serve", "--config", file)
	if err := w.gateway.Start(); err != nil {
		return "", err
	}
	ended := make(chan struct{})
	go func() {
		_ = w.gateway.Wait()
		close(ended)
	}()
	w.end = append(w.end, func() {
		_ = w.gateway.Process.Signal(os.Interrupt)
		<-ended
	})
	w.admin = "http://" + at.admin
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if body, err := get(ctx, w.admin+"/readyz"); err == nil {
			return at.https, body.Close()
		} else if time.Now().After(deadline) {
			return "", fmt.Errorf("the gateway is not ready: %w", err)
		}
		select {
		case <-ended:
			return "", errors.New("the gateway ended before it was ready: a port may have been taken; run this again")
		default:
		}
	}
}

// stop ends every process.
func (w *whole) stop() {
	for i := len(w.end) - 1; i >= 0; i-- {
		w.end[i]()
	}
	w.end = nil
}

// send has the order done and returns the number of requests.
func (w *whole) send(o order) (int, error) {
	if err := w.orders.Encode(o); err != nil {
		return 0, err
	}
	var d done
	if err := w.answers.Decode(&d); err != nil {
		return 0, fmt.Errorf("the sender ended: %w", err)
	}
	if d.Problem != "" {
		return 0, errors.New(d.Problem)
	}
	if d.Requests == 0 {
		return 0, errors.New("no request was sent")
	}
	return d.Requests, nil
}

// rows are the whole gateway under the same requests on few connections and on more.
func (w *whole) rows() []row {
	var out []row
	for _, n := range []int{2, 4} {
		out = append(out, row{name: fmt.Sprintf("%s, %d connections", wholeName, n), once: func(_ context.Context, d time.Duration) (int, time.Duration, error) {
			from, err := cpuTime(w.gateway.Process.Pid)
			if err != nil {
				return 0, 0, err
			}
			requests, err := w.send(order{Connections: n, Time: d})
			if err != nil {
				return 0, 0, err
			}
			to, err := cpuTime(w.gateway.Process.Pid)
			return requests, to - from, err
		}})
	}
	return out
}

// wholeName begins the name of every row of the whole gateway.
const wholeName = "gateway serve: TLS, HTTP/1.1, basic auth"

// verify is an error unless the last request reached the sink whole and confined.
func (w *whole) verify() error {
	body, err := get(context.Background(), w.sink+"/last")
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
func (w *whole) profile(ctx context.Context, file string, d time.Duration) error {
	sent := make(chan error, 1)
	go func() {
		_, err := w.send(order{Connections: 4, Time: d + 2*time.Second})
		sent <- err
	}()
	err := fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", w.admin, d.Seconds()), file)
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
