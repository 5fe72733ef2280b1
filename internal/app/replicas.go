package app

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// startCounting tells the handler among how many gateways the limits of l are divided: once, or again and again as DNS says. end ends
// that, and waits for it.
func (g *Gateway) startCounting(l *live) (end func()) {
	cfg := l.Config.Limits.Replicas
	if cfg.DNS == "" {
		g.handler.Divide(cfg.Count)
		return func() {}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(cfg.Interval)
		defer tick.Stop()
		failing := false
		for {
			n, err := addresses(ctx, cfg.DNS, cfg.Interval)
			switch {
			case err == nil:
				g.handler.Divide(n)
			case ctx.Err() == nil && !failing: // the last number stays: a name server that is away is no reason to change limits
				g.log.Warn("limits.replicas.dns cannot be looked up; the last number of replicas stays in use", "name", cfg.DNS, "error", err)
			}
			failing = err != nil
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() { stop(); <-done }
}

// addresses is how many gateways have an address under name, 1 at least; one may have an address of each family.
func addresses(ctx context.Context, name string, timeout time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return 0, err
	}
	four, six := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, a := range found {
		if a = a.Unmap(); a.Is4() {
			four[a] = true
		} else {
			six[a] = true
		}
	}
	return int64(max(1, len(four), len(six))), nil
}
