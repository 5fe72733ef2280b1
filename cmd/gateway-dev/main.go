// Command gateway-dev is the same gateway in front of an embedded store, for a first look and for tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"m3gateway/internal/app"
	"m3gateway/internal/devstore"
)

const description = `The gateway in front of an embedded Prometheus store, with two tenants, ready to be tried.

It serves on loopback, makes its own certificate and passwords, and prints what to paste into
prometheus.yml, Grafana and a shell. Not for production: that is "gateway serve".`

type cli struct {
	HTTPSAddress string `name:"https-address" default:"127.0.0.1:8443" placeholder:"ADDR" help:"Where clients connect (default ${default})."`
	AdminAddress string `name:"admin-address" default:"127.0.0.1:9091" placeholder:"ADDR" help:"Metrics and health (default ${default})."`
	DataDir      string `name:"data-dir" placeholder:"DIR" help:"Keeps samples, passwords and certificate over restarts (default: a new temporary directory)."`
	SelfScrape   bool   `name:"self-scrape" default:"true" negatable:"" help:"Send the gateway's own metrics through its own front door (default true)."`
	JSON         bool   `name:"json" help:"Print one JSON object when ready, instead of the text."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var c cli
	kong.Parse(&c, kong.Name("gateway-dev"), kong.Description(description), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}))
	if err := c.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gateway-dev:", err)
		os.Exit(1)
	}
}

// makeDataDir settles where everything is kept.
func (c *cli) makeDataDir() (err error) {
	if c.DataDir == "" {
		if c.DataDir, err = os.MkdirTemp("", "m3gateway-dev-"); err != nil {
			return err
		}
	}
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	return os.MkdirAll(c.DataDir, 0o700)
}

// run serves until ctx ends.
func (c *cli) run(ctx context.Context, stdout io.Writer) (err error) {
	if err := c.makeDataDir(); err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(c.DataDir, "gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()

	storeURL, closeStore, err := openStore(filepath.Join(c.DataDir, "store"), slog.New(slog.NewTextHandler(logFile, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore()) }()

	setup, err := prepare(c, storeURL, time.Now())
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	loaded, err := app.Load(setup.configFile)
	if err != nil {
		return err
	}
	g, err := app.New(loaded, app.Options{Version: "dev", Log: logFile, Reload: reload})
	if err != nil {
		return err
	}
	setup.https, setup.admin = g.HTTPSAddr().String(), g.AdminAddr().String()

	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() {
		client, err := setup.client()
		if err == nil {
			err = waitReady(ctx, client, "http://"+setup.admin+"/readyz")
		}
		if err != nil {
			return // ctx ended, or Run's own error says what is wrong
		}
		if c.SelfScrape {
			// The first scrape is stored before anything is announced, so that the printed query has an answer.
			if err := sendOnce(ctx, client, g.Gatherer(), setup, time.Now()); err != nil {
				fmt.Fprintln(logFile, "self-scrape:", err)
			}
			background.Go(func() { selfScrape(ctx, client, g.Gatherer(), setup, logFile) })
		}
		setup.announce(stdout, c)
	})
	return g.Run(ctx)
}

// openStore serves the embedded store on a loopback port of its own and returns its URL.
func openStore(dir string, log *slog.Logger) (url string, closeStore func() error, err error) {
	store, err := devstore.Open(devstore.Config{Dir: dir}, log)
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(err, store.Close())
	}
	srv := &http.Server{Handler: store.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	return "http://" + l.Addr().String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := srv.Shutdown(ctx)
		<-served
		return errors.Join(err, store.Close())
	}, nil
}

// waitReady returns when url answers 200.
func waitReady(ctx context.Context, client *http.Client, url string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
