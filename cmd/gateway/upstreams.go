package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"m3gateway/internal/app"
	"m3gateway/internal/config"
)

type upstreamsCmd struct {
	Config string `default:"gateway.yaml" placeholder:"FILE" help:"Configuration file that names the admin port (default gateway.yaml)."`
	Admin  string `placeholder:"URL" help:"The admin port, as http://127.0.0.1:9091, in place of the configuration's."`
	JSON   bool   `name:"json" help:"Print what the admin port answers."`
}

// maxUpstreams bounds, in bytes, the answer that is read: a thousand members take about a megabyte.
const maxUpstreams = 16 << 20

// Run asks a running gateway.
func (c *upstreamsCmd) Run(ctx context.Context, std streams) error {
	url := c.Admin
	if url == "" {
		cfg, _, err := config.Load(c.Config)
		if err != nil {
			return found(c.Config, err)
		}
		if url, err = adminURL(cfg.Listen.AdminAddress); err != nil {
			return err
		}
	}
	body, err := fetch(ctx, strings.TrimRight(url, "/")+"/upstreams")
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := std.out.Write(body)
		return err
	}
	var pool app.Upstreams
	if err := json.Unmarshal(body, &pool); err != nil {
		return fmt.Errorf("%s answered no upstreams: %w; is this the admin port of a gateway?", url, err)
	}
	return printPool(std.out, pool, time.Now())
}

// adminURL is where a process on the same machine finds the admin port that listens on address.
func adminURL(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("listen.admin_address: %w; name the admin port with --admin", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w; write it as http://127.0.0.1:9091", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the admin port: %w; is the gateway running there? (--admin)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxUpstreams))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s; is this the admin port of a gateway?", url, resp.Status)
	}
	return body, nil
}

// printPool writes a line for each member's reads and writes.
func printPool(out io.Writer, pool app.Upstreams, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Writes are routed by %s. In the last 10 s:\n", pool.Routing)
	for _, t := range []struct {
		name string
		app.Traffic
	}{{"writes", pool.Writes}, {"reads", pool.Reads}} {
		note := ""
		if t.Panic {
			note = "; no member is fit, all are used"
		}
		fmt.Fprintf(w, "  %s\t%d\t%d of %d further attempts\t%s%s\n", t.name, t.Requests, t.Added, t.Allowed, duration(t.LatencySeconds), note)
	}
	fmt.Fprint(w, "\nMEMBER\tFOR\tSTATE\tSINCE\tSHARE\tREQUESTS\tFAILED\tLATENCY\tIN FLIGHT\tEJECTIONS\tWHY\n")
	for _, m := range pool.Members {
		name := m.URL
		if m.Leaving {
			name += " (leaving)"
		}
		for _, s := range []struct {
			op, flight string
			app.UpstreamSide
		}{{"writes", fmt.Sprint(m.InFlight), m.Writes}, {"reads", "", m.Reads}} {
			why := s.Why
			if s.Until != nil {
				why = strings.TrimPrefix(why+"; until "+s.Until.Format(time.TimeOnly)+" UTC", "; ")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f%%\t%d\t%d\t%s\t%s\t%d\t%s\n", name, s.op, s.State, ago(now, s.Since), 100*s.Share,
				s.Requests, s.Failures, duration(s.LatencySeconds), s.flight, s.Ejections, why)
			name = ""
		}
	}
	for _, h := range pool.Handovers {
		fmt.Fprintf(w, "\nSamples from %s on are owned by %s.\n", h.From.Format(time.RFC3339), strings.Join(h.Members, ", "))
	}
	return w.Flush()
}

// duration is a time in seconds to three digits or so, "-" for none.
func duration(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	d := time.Duration(seconds * float64(time.Second))
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(unit / 10).String()
		}
	}
	return d.String()
}

// ago is the time since then, in its two largest units or so.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return now.Sub(then).Round(time.Second).String()
}
