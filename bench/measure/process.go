// Package measure runs the servers of a measurement as processes of their own, reads their CPU clocks and weighs what came of it.
package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Patience bounds the start of a process.
const Patience = 30 * time.Second

// Processes are the servers of one measurement. Dir is for what they print.
type Processes struct {
	Dir string
	end []func() // ends them, last one first
}

// Self starts this binary in another role. It ends when its stdin does.
func (p *Processes) Self(ctx context.Context, role string, args ...string) (io.WriteCloser, io.Reader, int, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, 0, err
	}
	cmd := exec.CommandContext(ctx, exe, append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, 0, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, 0, fmt.Errorf("starting the %s: %w", role, err)
	}
	p.end = append(p.end, func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return in, out, cmd.Process.Pid, nil
}

// Run starts a server and returns its process once it is ready. What it prints goes to a file, but a gateway's log to /dev/null.
func (p *Processes) Run(ctx context.Context, ready Ready, command ...string) (int, error) {
	name := filepath.Base(command[0])
	log, err := os.CreateTemp(p.Dir, name+"-*.log")
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
	p.end = append(p.end, func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	for deadline := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		err := ready(ctx)
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

// Gateway configures and starts the gateway that binary is, with its files in dir. Its addresses are put into at.
func (p *Processes) Gateway(ctx context.Context, binary, dir string, at *Site) (int, error) {
	ports, err := Free(3)
	if err != nil {
		return 0, err
	}
	at.HTTPS, at.Plain, at.Admin = ports[0], ports[1], ports[2]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	file, err := at.Configure(dir, time.Now())
	if err != nil {
		return 0, err
	}
	if out, err := exec.CommandContext(ctx, binary, "check", "--config", file).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("gateway check: %w\n%s", err, out)
	}
	return p.Run(ctx, Answering("http://"+at.Admin+"/readyz"), binary, "serve", "--config", file)
}

// Stop ends every process.
func (p *Processes) Stop() {
	for i := len(p.end) - 1; i >= 0; i-- {
		p.end[i]()
	}
	p.end = nil
}

// Build builds a command of this module into dir and returns its path.
func Build(ctx context.Context, dir, pkg string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(pkg))
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s (run this inside the module): %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// CPUWithChildren is what the process and those that it has started have used.
func CPUWithChildren(pid int) (time.Duration, error) {
	sum, err := CPU(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children(pid) {
		t, err := CPU(child)
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

// Free are n addresses of loopback that nobody listens on.
func Free(n int) ([]string, error) {
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

// Fetch writes what Get reads from url into file.
func Fetch(ctx context.Context, url, file string) error {
	body, err := Get(ctx, url)
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
