package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"m3gateway/bench/measure"
)

// attack is how hard slowhttptest tries.
type attack struct {
	seconds     int
	connections int
	share       bool           // of the CPU, as everybody else; else what nobody else wants
	scenes      *regexp.Regexp // rows that are run
}

// What the well-behaved client does meanwhile, from another address of loopback: remote writes over connections that it keeps,
// and some for which it connects anew.
const (
	clientAddress = "127.0.0.2"
	clientSamples = 500
	keptRate      = 60
	newRate       = 30
	attackRate    = 400 // connections a second
)

// scene is one attack on a gateway of its own.
type scene struct {
	name   string
	listen string // further lines of the section listen
	args   []string
	open   bool // at the plain listener, which lets everybody in
}

// scenes: each mode against the HTTPS listener, without a password, and the modes that only matter once one is let in against the
// plain listener; from one address and, with the limit of one address lifted and fewer connections in all than the attacker
// opens, as if it had many.
func scenes() []scene {
	header := []string{"-H", "-i", "5", "-x", "24"}
	body := []string{"-B", "-i", "5", "-s", "65536", "-x", "24", "-t", "POST", "-f", "application/x-www-form-urlencoded"}
	read := []string{"-X", "-w", "64", "-y", "256", "-n", "2", "-z", "8", "-k", "3"}
	var all []scene
	for _, from := range []struct{ name, listen string }{{"one address", ""}, {"many addresses", "  max_connections: 2000\n  max_connections_per_ip: 2000\n"}} {
		all = append(all,
			scene{"slow header, TLS, " + from.name, from.listen, header, false},
			scene{"slow body, TLS, " + from.name, from.listen, body, false},
			scene{"slow read, TLS, " + from.name, from.listen, read, false},
			scene{"slow body, let in, " + from.name, from.listen, body, true},
			scene{"slow read of 1 MiB, let in, " + from.name, from.listen, read, true},
		)
	}
	return all
}

// run prints, for each scene, the client's latencies before, during the same attack on the control, and during the attack on the
// gateway. The error names the scenes that the client felt.
func (a attack) run(ctx context.Context, b *bench) error {
	tool, err := measure.Binary("SLOWHTTPTEST_BIN", "slowhttptest")
	if err != nil {
		fmt.Println("omitted: slowhttptest:", err)
		return nil
	}
	cpu := "with the CPU that nobody else wants"
	if a.share {
		cpu = "with its share of the CPU"
	}
	fmt.Printf(`slowhttptest: %d connections, %d a second, for %d s, %s; as long before it without, and as long
with the same attack on the control, a process that does TLS where the scene has it, and reads on. All the time the client sends %d
samples a request to the gateway, %d requests a second over kept connections and %d over new ones.
`, a.connections, attackRate, a.seconds, cpu, clientSamples, keptRate, newRate)
	fmt.Printf("%-42s %-4s %18s %18s %18s %13s %10s %6s\n", "", "", "before p50/p99 ms", "control p50/p99 ms", "attack p50/p99 ms", "p99 of before", "of control", "failed")
	var felt []string
	for _, sc := range scenes() {
		if !a.scenes.MatchString(sc.name) {
			continue
		}
		unfelt, err := a.play(ctx, b, tool, sc)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		if !unfelt {
			felt = append(felt, sc.name)
		}
	}
	if len(felt) > 0 {
		return fmt.Errorf("a client's p99 was doubled, or a request failed: %s", strings.Join(felt, "; "))
	}
	return nil
}

// felt is what the client saw in a time, by kind of connection: kept and new.
type felt struct {
	seconds []float64 // latencies
	failed  int
	problem error // the first
}

// client sends as the constants say.
type client struct {
	base  string
	kinds [2]*http.Client
}

func newClient(g *gateway) (*client, error) {
	cfg, err := measure.Trusting(g.caFile)
	if err != nil {
		return nil, err
	}
	kept, fresh := measure.Transport(cfg, clientAddress, false), measure.Transport(cfg, clientAddress, false)
	fresh.DisableKeepAlives = true
	return &client{"https://" + g.HTTPS, [2]*http.Client{{Transport: kept, Timeout: time.Minute}, {Transport: fresh, Timeout: time.Minute}}}, nil
}

func (c *client) feel(d time.Duration) ([2]felt, error) {
	var out [2]felt
	body, err := measure.Batch(clientSamples, time.Now())
	if err != nil {
		return out, err
	}
	var wg sync.WaitGroup
	for i, rate := range []float64{keptRate, newRate} {
		wg.Go(func() {
			var mu sync.Mutex
			out[i].seconds, _ = measure.Paced(rate, d, func() error {
				req, err := measure.WriteRequest(c.base, body)
				if err == nil {
					err = measure.Send(c.kinds[i], req)
				}
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					if out[i].failed++; out[i].problem == nil {
						out[i].problem = err
					}
				}
				return nil // it goes on, and counts
			})
		})
	}
	wg.Wait()
	return out, nil
}

// spell is what was seen in one time.
type spell struct {
	felt    [2]felt
	gateway float64 // its CPU, cores
	cost    float64 // the attacker's CPU, seconds
	open    string  // connections, as the attacker counts them at last
}

// spend lets the client send for a.seconds, under an attack on url if that is not empty.
func (a attack) spend(ctx context.Context, g *gateway, c *client, tool, url string, args []string) (spell, error) {
	var sp spell
	d := time.Duration(a.seconds) * time.Second
	from, err := measure.CPU(g.pid)
	if err != nil {
		return sp, err
	}
	finish := func() error { return nil }
	if url != "" {
		args = append([]string{"-c", fmt.Sprint(a.connections), "-r", fmt.Sprint(attackRate), "-l", fmt.Sprint(a.seconds + 1), "-p", "5", "-u", url + "/api/v1/query?query=up"}, args...)
		cmd := exec.CommandContext(ctx, tool, args...)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			return sp, err
		}
		finish = func() error {
			err := cmd.Wait()
			sp.cost, sp.open = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), connected(said.String())
			if errors.As(err, new(*exec.ExitError)) {
				err = nil
			}
			return err
		}
		if !a.share {
			if err := measure.OnlyIdle(cmd.Process.Pid); err != nil {
				return sp, errors.Join(err, cmd.Process.Kill(), finish())
			}
		}
	}
	sp.felt, err = c.feel(d)
	to, err2 := measure.CPU(g.pid)
	sp.gateway = (to - from).Seconds() / d.Seconds()
	return sp, errors.Join(err, err2, finish())
}

// play reports whether the client felt nothing of the scene: no failure, and each p99 under twice what it was before.
func (a attack) play(ctx context.Context, b *bench, tool string, sc scene) (unfelt bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the gateway, too
	g, err := b.gateway(ctx, strings.NewReplacer(" ", "-", ",", "").Replace(sc.name), sc.listen)
	if err != nil {
		return false, err
	}
	c, err := newClient(g)
	if err != nil {
		return false, err
	}
	if _, err := c.feel(2 * time.Second); err != nil { // the password is verified, connections are open
		return false, err
	}
	other, err := control(ctx, g, sc.open)
	if err != nil {
		return false, err
	}
	url := "https://" + g.HTTPS
	if sc.open {
		url = "http://" + g.Plain
	}
	var spells []spell
	for _, target := range []string{"", other, url} {
		sp, err := a.spend(ctx, g, c, tool, target, sc.args)
		if err != nil {
			return false, err
		}
		spells = append(spells, sp)
	}
	return sc.report(spells), nil
}

// report prints what came of the times before, with the control and with the attack.
func (sc scene) report(spells []spell) (unfelt bool) {
	unfelt = true
	name := sc.name
	for i, kind := range []string{"kept", "new"} {
		fmt.Printf("%-42s %-4s", name, kind)
		var p99 []float64
		failed := 0
		for _, sp := range spells {
			f := sp.felt[i]
			p99 = append(p99, measure.Quantile(f.seconds, .99))
			failed += f.failed
			fmt.Printf(" %9.1f / %6.1f", 1000*measure.Median(f.seconds), 1000*p99[len(p99)-1])
		}
		fmt.Printf(" %12.2fx %9.2fx %6d\n", p99[2]/p99[0], p99[2]/p99[1], failed)
		for _, sp := range spells {
			if p := sp.felt[i].problem; p != nil {
				fmt.Println("    the first failure:", p)
			}
		}
		unfelt = unfelt && p99[2] < 2*p99[0] && failed == 0
		name = ""
	}
	fmt.Printf("    gateway's CPU %.2f, %.2f, %.2f cores; attacker's %.1f, %.1f s; connections open at its end: %s of the control, %s of the gateway\n",
		spells[0].gateway, spells[1].gateway, spells[2].gateway, spells[1].cost, spells[2].cost, spells[1].open, spells[2].open)
	return unfelt
}

// connected is the number of connections in the last of the attacker's accounts.
func connected(said string) string {
	said = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(said, "")
	all := regexp.MustCompile(`connected:\s+(\d+)`).FindAllStringSubmatch(said, -1)
	if all == nil {
		return "?"
	}
	return all[len(all)-1][1]
}
