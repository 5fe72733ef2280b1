package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"m3gateway/internal/app"
)

type serveCmd struct {
	Config string `default:"gateway.yaml" placeholder:"FILE" help:"Configuration file (default gateway.yaml)."`
}

// Run serves until ctx ends, then drains.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	loaded, err := app.Load(c.Config)
	if err != nil {
		return found(c.Config, err)
	}
	g, err := app.New(loaded, app.Options{Version: versionText(), Log: std.err, Stdout: std.out, Reload: reload})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}
