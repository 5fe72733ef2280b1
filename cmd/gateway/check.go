package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"m3gateway/internal/app"
	"m3gateway/internal/certs"
	"m3gateway/internal/config"
	"m3gateway/internal/m3"
	"m3gateway/internal/tenant"
)

type checkCmd struct {
	Config  string `default:"gateway.yaml" placeholder:"FILE" help:"Configuration file (default gateway.yaml)."`
	Cluster string `placeholder:"FILE" help:"Check this cluster.yaml, too, with the coordinators' own configuration that it names."`
}

// Run asks the store for nothing but the window that limits.window leaves to it; it is no mistake of the configuration if the
// store does not answer.
func (c *checkCmd) Run(ctx context.Context, std streams) error {
	loaded, err := app.Load(c.Config)
	if err != nil {
		return found(c.Config, err)
	}
	// New reads acme.root_ca_file, which serve reads once, at its start.
	if _, err := certs.New(loaded.Config.TLS, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		return found(c.Config, err)
	}
	for _, w := range slices.Concat(loaded.Table.Warnings(), loaded.Certs.Warnings(time.Now())) {
		fmt.Fprintln(std.err, "warning:", w)
	}
	if c.Cluster != "" {
		warnings, err := checkCluster(c.Cluster, loaded.Config.Limits.Window.Past.Fixed)
		if err != nil {
			return found(c.Cluster, err)
		}
		for _, w := range warnings {
			fmt.Fprintln(std.err, "warning:", w)
		}
	}
	window := "as the store says, which is not learnt (limits.window)"
	if reach, err := loaded.Window(ctx); err != nil {
		fmt.Fprintf(std.err, "warning: limits.window is auto and was not learnt: %v; until it is, a gateway answers writes with 503\n", err)
	} else {
		window = reach.String()
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s is valid.\n", c.Config)
	printListeners(w, loaded)
	printAccess(w, loaded)
	fmt.Fprintf(w, "Samples are taken\t%s\n", window)
	printUpstream(w, loaded.Config.Upstream)
	if c.Cluster != "" {
		fmt.Fprintf(w, "\n%s is valid.\n", c.Cluster)
	}
	return w.Flush()
}

func printListeners(w io.Writer, loaded *app.Loaded) {
	cfg := loaded.Config
	fmt.Fprintf(w, "\nListeners\n  https\t%s\n", cfg.Listen.HTTPSAddress)
	if cfg.Listen.HTTPAddress != "" {
		fmt.Fprintf(w, "  http\t%s\n", cfg.Listen.HTTPAddress)
	}
	if p := cfg.Listen.Plain; p.Fixed() != "" {
		fmt.Fprintf(w, "  plain\t%s, where everyone is user %q, without a password\n", p.Address, p.User)
	} else if p.Address != "" {
		fmt.Fprintf(w, "  plain\t%s\n", p.Address)
	}
	fmt.Fprintf(w, "  admin\t%s\n", cfg.Listen.AdminAddress)

	fmt.Fprint(w, "\nCertificates\n")
	for _, line := range loaded.Certs.Describe() {
		fmt.Fprintf(w, "  %s\n", line)
	}
	if a := cfg.TLS.ACME; len(a.Domains) > 0 {
		kept := a.StorageDir
		if len(a.Etcd.Endpoints) > 0 {
			kept = fmt.Sprintf("etcd (%s) below %s", strings.Join(a.Etcd.Endpoints, ", "), a.Etcd.Prefix)
		}
		fmt.Fprintf(w, "  %s: ordered from %s, kept in %s\n", strings.Join(a.Domains, ", "), a.DirectoryURL, kept)
	}
	if c := cfg.TLS.ClientAuth; c.Mode != certs.ClientNone {
		fmt.Fprintf(w, "  of clients: %s, signed by %s\n", c.Mode, c.CAFile)
	}
}

// printAccess writes who may do what, and the labels that hold for what they send.
func printAccess(w io.Writer, loaded *app.Loaded) {
	cfg := loaded.Config
	fmt.Fprint(w, "\nUSER\tRIGHTS\tTENANTS\n")
	tenants := map[string]bool{}
	for _, g := range loaded.Table.Grants() {
		names := strings.Join(g.Tenants, ", ")
		if g.All {
			names = "* (every tenant)"
		}
		for _, name := range g.Tenants {
			tenants[name] = true
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", g.User, rights(g), names)
	}
	for name := range cfg.Tenancy.Tenants {
		tenants[name] = true
	}

	fmt.Fprint(w, "\nTENANT\tLABELS SET ON EVERY SAMPLE\n")
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		var labels []string
		for _, l := range loaded.Table.Enforced(name) {
			labels = append(labels, fmt.Sprintf("%s=%q", l.Name, l.Value))
		}
		fmt.Fprintf(w, "%s\t%s\n", name, strings.Join(labels, ", "))
	}
	fmt.Fprintf(w, "\nA client's own label %q\t%s\n", cfg.Tenancy.Label, clientLabel(cfg.Tenancy.ClientLabel))
}

func printUpstream(w io.Writer, up config.Upstream) {
	store := string(up.Store.Kind)
	if up.Store.Kind == m3.KindM3 {
		store += fmt.Sprintf(", namespace %q must be ready", up.Store.Namespace)
	}
	fmt.Fprintf(w, "\nUpstream\n  kind\t%s\n", store)
	pool := up.Pool
	for _, u := range pool.URLs {
		fmt.Fprintf(w, "  member\t%s\n", u)
	}
	if pool.DNS.Name != "" {
		fmt.Fprintf(w, "  members\t%s at every address of %s, looked up every %v\n", pool.DNS.Scheme, pool.DNS.Name, pool.DNS.Interval)
	}
}

func rights(g tenant.Grant) string {
	switch {
	case g.Read && g.Write:
		return "read, write"
	case g.Read:
		return "read"
	case g.Write:
		return "write"
	default:
		return "none"
	}
}

func clientLabel(policy tenant.ClientLabel) string {
	switch policy {
	case tenant.Reject:
		return "refuses the request (client_label: reject)"
	case tenant.Allow:
		return "is kept if it names a tenant of the user (client_label: allow)"
	default:
		return "is replaced (client_label: override)"
	}
}
