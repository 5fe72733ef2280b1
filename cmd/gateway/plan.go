package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"m3gateway/internal/m3"
	"m3gateway/internal/plan"
)

type planCmd struct {
	Series            string   `placeholder:"NUMBER" help:"Active series of all tenants (default 1000000)."`
	ScrapeInterval    string   `name:"scrape-interval" placeholder:"TIME" help:"Time between two samples of a series (default 15s)."`
	Churn             string   `placeholder:"SHARE" help:"Share of the series that a day replaces by new ones (default 0.1)."`
	Nodes             string   `placeholder:"NUMBER" help:"Database nodes (default 3)."`
	Replicas          string   `placeholder:"NUMBER" help:"Replication factor (default 3)."`
	Shards            string   `placeholder:"NUMBER" help:"Shards of the placement (default 64)."`
	Coordinators      string   `placeholder:"NUMBER" help:"Coordinators (default 2)."`
	BufferPastLimits  string   `name:"buffer-past-limits" placeholder:"TIME" help:"The coordinators' downsample.bufferPastLimits (default 5m; 0: M3's own table)."`
	Disk              string   `placeholder:"SIZE" help:"Disk of a node, such as 100GiB: then the plan says what fits."`
	Memory            string   `placeholder:"SIZE" help:"Memory of a node."`
	CoordinatorMemory string   `name:"coordinator-memory" placeholder:"SIZE" help:"Memory of a coordinator."`
	Namespace         []string `sep:"none" placeholder:"NAME,PART=VALUE,…" help:"A namespace, as agg,resolution=1m,retention=1y,block=12h,buffer-past=10m,share=1; without a resolution it is the raw one. Repeat it for each. Default: those of deploy/k8s."`
	Assume            []string `sep:"none" placeholder:"KEY=VALUE" help:"Another value for an assumption; the plan lists them all."`
	FromCluster       string   `name:"from-cluster" placeholder:"URL" help:"Read namespaces, nodes, replicas and shards from this coordinator."`
	WhatIf            []string `name:"what-if" sep:"none" placeholder:"KEY=VALUE,…" help:"Compare with the plan where this is changed: a flag's name, NAMESPACE.retention, .block, .resolution, .buffer-past or .share, an assumption, drop=NAMESPACE, or add=NAME;retention=1y;…. Repeat it for more."`
	JSON              bool     `name:"json" help:"Print the plan as JSON."`
	HTML              string   `name:"html" placeholder:"FILE" help:"Write the plan as a page with charts that follows its sliders; - is standard output."`
}

// Help is shown by gateway plan --help.
func (*planCmd) Help() string {
	return `Says what an M3 cluster needs, in disk, files, memory and cores, and what each namespace costs:

  gateway plan --series 2000000 --nodes 6 --disk 500GiB --memory 64GiB
  gateway plan --from-cluster http://m3coordinator:7201 --series 800000 --what-if default.block=3h --what-if nodes=6
  gateway plan --html plan.html`
}

func (c *planCmd) Run(ctx context.Context, std streams) error {
	if c.JSON && c.HTML == "-" {
		return errors.New("--json and --html - both write to standard output; give --html a file")
	}
	in, err := c.input(ctx, std.err)
	if err != nil {
		return err
	}
	base, variants, err := c.plans(in)
	if err != nil {
		return err
	}
	if c.HTML != "" {
		if err := c.page(std.out, in); err != nil || c.HTML == "-" {
			return err
		}
	}
	if c.JSON {
		return std.json(struct {
			plan.Plan
			WhatIf []plan.Variant `json:"what_if,omitempty"`
		}{base, variants})
	}
	if err := base.WriteTable(std.out); err != nil || len(variants) == 0 {
		return err
	}
	return plan.WriteComparison(std.out, base, variants)
}

// input is the plan's input: the defaults, then the cluster's own, then the flags.
func (c *planCmd) input(ctx context.Context, warn io.Writer) (plan.Input, error) {
	in := plan.Defaults()
	if c.FromCluster != "" {
		if len(c.Namespace) > 0 || c.Nodes+c.Replicas+c.Shards != "" {
			return in, errors.New("--from-cluster reads the namespaces and the placement; for other ones use --what-if, such as --what-if nodes=6")
		}
		if err := fromCluster(ctx, c.FromCluster, &in, warn); err != nil {
			return in, err
		}
		if c.Series == "" {
			fmt.Fprintf(warn, "warning: a coordinator does not say how many series are active; the plan is for %s (--series)\n", plan.Count(in.Series))
		}
	}
	for _, s := range []struct{ key, value string }{
		{"series", c.Series}, {"scrape-interval", c.ScrapeInterval}, {"churn", c.Churn}, {"nodes", c.Nodes}, {"replicas", c.Replicas}, {"shards", c.Shards},
		{"coordinators", c.Coordinators}, {"buffer-past-limits", c.BufferPastLimits}, {"disk", c.Disk}, {"memory", c.Memory}, {"coordinator-memory", c.CoordinatorMemory},
	} {
		if s.value == "" {
			continue
		}
		if err := in.Set(s.key, s.value); err != nil {
			return in, fmt.Errorf("--%w", err)
		}
	}
	if len(c.Namespace) > 0 {
		in.Namespaces = nil
	}
	for _, text := range c.Namespace {
		if err := in.Set("add", text); err != nil {
			return in, fmt.Errorf("--namespace: %w", err)
		}
	}
	for _, text := range c.Assume {
		if err := in.Change(text); err != nil {
			return in, fmt.Errorf("--assume: %w", err)
		}
	}
	return in, nil
}

// plans are the plan of in and its variants.
func (c *planCmd) plans(in plan.Input) (plan.Plan, []plan.Variant, error) {
	if err := in.Validate(); err != nil {
		return plan.Plan{}, nil, err
	}
	var variants []plan.Variant
	for _, change := range c.WhatIf {
		other := in.Clone()
		if err := other.Change(change); err != nil {
			return plan.Plan{}, nil, fmt.Errorf("--what-if: %w", err)
		}
		if err := other.Validate(); err != nil {
			return plan.Plan{}, nil, fmt.Errorf("--what-if %s: %w", change, err)
		}
		variants = append(variants, plan.Variant{Change: change, Plan: plan.Compute(other)})
	}
	return plan.Compute(in), variants, nil
}

// page writes the HTML page to its file, or to out.
func (c *planCmd) page(out io.Writer, in plan.Input) error {
	if c.HTML == "-" {
		return plan.WritePage(out, in)
	}
	f, err := os.Create(c.HTML)
	if err != nil {
		return err
	}
	return errors.Join(plan.WritePage(f, in), f.Close())
}

const (
	// clusterTimeout has room for the 10 s after which a coordinator without etcd answers from memory.
	clusterTimeout = 20 * time.Second
	// maxClusterAnswer bounds, in bytes, an answer that is read.
	maxClusterAnswer = 16 << 20
)

// fromCluster puts the namespaces and the placement that a coordinator knows into in.
func fromCluster(ctx context.Context, base string, in *plan.Input, warn io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	body, err := get(ctx, base, m3.NamespacesPath)
	if err != nil {
		return err
	}
	namespaces, err := m3.ParseRegistry(body)
	if err != nil {
		return fmt.Errorf("%s: %w", base, err)
	}
	if body, err = get(ctx, base, m3.PlacementPath); err != nil {
		return err
	}
	placement, err := m3.ParsePlacement(body)
	if err != nil {
		return fmt.Errorf("%s: %w", base, err)
	}
	in.Nodes, in.Replicas, in.Shards, in.ShardsPerNode = len(placement.Instances), placement.Replicas, placement.Shards, 0
	for _, i := range placement.Instances {
		in.ShardsPerNode = max(in.ShardsPerNode, i.Shards)
	}
	in.Namespaces = nil
	for _, n := range namespaces {
		if n.Ignored {
			fmt.Fprintf(warn, "warning: namespace %q has no aggregationOptions: coordinators pass it over, and so does the plan\n", n.ID)
			continue
		}
		if n.Aggregated && !n.All {
			fmt.Fprintf(warn, "warning: mapping rules choose the series of namespace %q; the plan gives it all of them (--what-if %s.share=0.1)\n", n.ID, n.ID)
		}
		in.Namespaces = append(in.Namespaces, plan.Namespace{
			Name: n.ID, RetentionSeconds: n.Retention.Seconds(), BlockSeconds: n.BlockSize.Seconds(), BufferPastSeconds: n.BufferPast.Seconds(),
			ResolutionSeconds: n.Resolution.Seconds(), Share: 1,
		})
	}
	return nil
}

// get is the body of a coordinator's answer to a GET.
func get(ctx context.Context, base, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--from-cluster: %w; write the coordinator's address, such as http://m3coordinator:7201", err)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("--from-cluster: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxClusterAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer to %s: %w", req.URL.Redacted(), err)
	case resp.StatusCode == http.StatusNotFound && path == m3.PlacementPath:
		return nil, fmt.Errorf("%s has no placement yet; plan without --from-cluster", base)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answered %d; is this an m3coordinator?", req.URL.Redacted(), resp.StatusCode)
	case len(body) > maxClusterAnswer:
		return nil, fmt.Errorf("%s answered more than %d bytes; is this an m3coordinator?", req.URL.Redacted(), maxClusterAnswer)
	}
	return body, nil
}
