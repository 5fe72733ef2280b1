package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"m3gateway/internal/bootstrap"
	"m3gateway/internal/config"
)

type m3Cmd struct {
	Init   m3InitCmd   `cmd:"" help:"Make the cluster be as a file describes; never delete."`
	Status m3StatusCmd `cmd:"" help:"Show placement, namespaces and the coordinators' readiness."`
}

// Help is shown by gateway m3 --help.
func (*m3Cmd) Help() string {
	return `  gateway m3 init --cluster cluster.yaml
  gateway m3 status --url http://m3coordinator:7201`
}

type m3InitCmd struct {
	Cluster string        `default:"cluster.yaml" placeholder:"FILE" help:"The cluster as it is wanted (default cluster.yaml)."`
	URL     []string      `name:"url" placeholder:"URL" help:"A coordinator, in place of those of the file. Repeat it for more."`
	Apply   bool          `help:"Change what is there and differs, where M3 can: retention, aggregation, more database nodes."`
	Timeout time.Duration `default:"10m" help:"How long to wait for each thing (default 10m)."`
}

// Help is shown by gateway m3 init --help.
func (*m3InitCmd) Help() string {
	return `Creates what is missing, in order, and waits for it: placement, namespaces, database nodes that have them, shards, coordinators. A second run changes nothing. What is there and differs is shown, and nothing is changed without --apply. Nothing is ever deleted.

Exit status: 0 the cluster is as it is wanted, 1 a failure or a time-out, 2 a wrong command line, 3 the cluster differs.`
}

// Run ends with exit status 3 if the cluster differs from the file.
func (c *m3InitCmd) Run(ctx context.Context, std streams) error {
	want, limits, err := config.LoadCluster(c.Cluster)
	if err != nil {
		return found(c.Cluster, err)
	}
	if len(c.URL) > 0 {
		want.Coordinators.URLs = c.URL
	}
	err = bootstrap.Init(ctx, want, limits, bootstrap.Options{Apply: c.Apply, Timeout: c.Timeout, Out: std.out, Now: time.Now})
	if drift := (*bootstrap.Drift)(nil); errors.As(err, &drift) {
		return &exitStatus{3, err}
	}
	return err
}

type m3StatusCmd struct {
	URL     []string `name:"url" placeholder:"URL" help:"A coordinator. Repeat it for more. Default: those of --cluster."`
	Cluster string   `placeholder:"FILE" help:"A cluster.yaml, for its coordinators and their limits."`
	JSON    bool     `name:"json" help:"Print the status as JSON."`
}

// Help is shown by gateway m3 status --help.
func (*m3StatusCmd) Help() string { return "Exit status: 0 all is well, 1 something is not." }

func (c *m3StatusCmd) Run(ctx context.Context, std streams) error {
	want, limits := new(bootstrap.Config), bootstrap.PastLimits(nil)
	if c.Cluster != "" {
		var err error
		if want, limits, err = config.LoadCluster(c.Cluster); err != nil {
			return found(c.Cluster, err)
		}
	}
	if len(c.URL) > 0 {
		want.Coordinators.URLs = c.URL
	}
	status, err := bootstrap.Look(ctx, want.Coordinators.URLs, limits, nil)
	if err != nil {
		return err
	}
	if c.JSON {
		err = std.json(status)
	} else {
		err = status.WriteTable(std.out)
	}
	if err == nil && !status.OK {
		err = errors.New("the cluster is not well")
	}
	return err
}

// exitStatus is an error with an exit status of its own.
type exitStatus struct {
	code int
	error
}

func (e *exitStatus) Unwrap() error { return e.error }

// checkCluster checks a cluster.yaml against itself, against the coordinators' own file, and against the gateway's window.
func checkCluster(file string, past time.Duration) (warnings []string, err error) {
	want, limits, err := config.LoadCluster(file)
	if err != nil {
		return nil, err
	}
	if limits == nil {
		warnings = append(warnings, file+": coordinators.config_file is not set, so that downsample.bufferPastLimits is not checked against the namespaces")
	} else if warnings, err = want.CheckPair(limits); err != nil {
		return nil, err
	}
	raw, bufferPast := want.RawNamespace()
	if past > bufferPast {
		return nil, fmt.Errorf("limits.window.past is %v, and namespace %s takes nothing older than %v: M3 would acknowledge samples of new series and lose them; lower limits.window.past", past, raw, bufferPast)
	}
	return warnings, nil
}
