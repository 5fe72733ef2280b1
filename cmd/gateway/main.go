// Command gateway is the authenticating, tenant-isolating front door of a Prometheus long-term store.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/alecthomas/kong"

	"m3gateway/internal/auth"
)

const description = `An authenticating front door to a Prometheus long-term store (M3 coordinators, or Prometheus) that keeps tenants apart.

Examples:
  gateway passwd alice >> users.htpasswd
  gateway check --config gateway.yaml
  gateway serve --config gateway.yaml
  gateway upstreams --config gateway.yaml`

type cli struct {
	Serve     serveCmd     `cmd:"" help:"Run the gateway until SIGTERM; SIGHUP reloads."`
	Check     checkCmd     `cmd:"" help:"Check a configuration and everything it names; print what it means."`
	Upstreams upstreamsCmd `cmd:"" help:"Show the members of a running gateway's upstream: state, share, latency, ejections."`
	Smoke     smokeCmd     `cmd:"" help:"Try a running gateway from outside: write, read, and be refused."`
	Plan      planCmd      `cmd:"" help:"Say what an M3 cluster needs in disk, files, memory and cores."`
	M3        m3Cmd        `cmd:"" name:"m3" help:"Set up an M3 cluster, and show how it is."`
	Passwd    passwdCmd    `cmd:"" help:"Ask for a password and print the user's htpasswd line."`
	Token     tokenCmd     `cmd:"" help:"Make a bearer token and print it and the line of the tokens file."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// streams are the process's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// json prints v for other programs.
func (s streams) json(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program but for the process: it returns the exit status, 1 for a failed command, 2 for a wrong command line, or
// what the command's error asks for.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	std := streams{stdin, stdout, stderr}
	exited := false // --help was answered
	parser, err := kong.New(new(cli),
		kong.Name("gateway"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100, NoExpandSubcommands: true}),
		kong.Vars{"cost": strconv.Itoa(auth.DefaultCost)},
		kong.Writers(stdout, stderr), kong.Exit(func(int) { exited = true }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(std),
	)
	if err != nil {
		fmt.Fprintln(stderr, "gateway:", err)
		return 1
	}
	command, err := parser.Parse(args)
	switch {
	case exited:
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "gateway: %v\nTry: gateway --help\n", err)
		return 2
	}
	err = command.Run()
	if p := (*problems)(nil); errors.As(err, &p) {
		fmt.Fprintln(stderr, err)
		return 1
	}
	if err != nil {
		fmt.Fprintln(stderr, "gateway:", err)
		if e := (*exitStatus)(nil); errors.As(err, &e) {
			return e.code
		}
		return 1
	}
	return 0
}
