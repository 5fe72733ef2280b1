package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"m3gateway/internal/m3"
)

// Options are how Init goes about it.
type Options struct {
	// Apply changes what differs, where M3 can.
	Apply bool
	// Timeout is for each wait.
	Timeout time.Duration
	// Poll is the time between two looks. 0: 2 s.
	Poll time.Duration
	// Out gets a line for each step, and for each wait whenever there is news or half a minute has passed.
	Out io.Writer
	Now func() time.Time
	// Lookup finds the addresses of a coordinator's name. nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
}

const (
	defaultPoll   = 2 * time.Second
	progressEvery = 30 * time.Second
)

// run is one Init.
type run struct {
	*Config
	Options
	at coordinator
}

// Init makes the cluster be as c says: placement, namespaces, namespaces ready, shards available, coordinators ready. Only what is
// missing is created, so that a second run changes nothing. What is there and differs is a *Drift, before anything is changed,
// unless o.Apply is set and M3 can change it. limits are the coordinators' (nil: not known). c must have passed Check.
func Init(ctx context.Context, c *Config, limits PastLimits, o Options) error {
	r, err := newRun(c, o)
	if err != nil {
		return err
	}
	if limits != nil {
		warnings, err := c.CheckPair(limits)
		if err != nil {
			return err
		}
		for _, w := range warnings {
			r.say("warning: %s", w)
		}
	}
	s, have, err := r.look(ctx)
	if err != nil {
		return err
	}
	if limits != nil {
		if err := c.checkRegistered(limits, have); err != nil {
			return err
		}
	}
	for _, note := range s.notes {
		r.say("note: %s", note)
	}
	if d := (&Drift{s.differ}); len(d.Differences) > 0 {
		d.write(o.Out)
		if !o.Apply || slices.ContainsFunc(d.Differences, func(d Difference) bool { return d.Fixed }) {
			return d
		}
	}
	if err := r.do(ctx, s); err != nil {
		return err
	}
	if err := r.waits(ctx, s); err != nil {
		return err
	}
	if s.none() {
		r.say("no change: the cluster is as it is wanted, and ready")
		return nil
	}
	if s, _, err = r.look(ctx); err != nil {
		return err
	}
	if d := (&Drift{s.differ}); len(d.Differences) > 0 || !s.none() {
		d.write(o.Out)
		return errors.New("the coordinator took every change, and the cluster still differs; is somebody else changing it?")
	}
	r.say("done: the cluster is as it is wanted, and ready")
	return nil
}

func newRun(c *Config, o Options) (*run, error) {
	if len(c.Coordinators.URLs) == 0 {
		return nil, errors.New("no coordinator is named; write coordinators.urls, or give --url")
	}
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupHost
	}
	return &run{Config: c, Options: o}, nil
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.Out, format+"\n", args...) }

// look waits for a coordinator and reads what there is.
func (r *run) look(ctx context.Context) (s steps, have []m3.Namespace, err error) {
	err = r.wait(ctx, "a coordinator that answers", func(ctx context.Context) (string, []string) {
		var missing string
		var pods []string
		for _, base := range r.Coordinators.URLs {
			r.at = coordinator{strings.TrimSuffix(base, "/"), newClient()}
			placement, placed, err := r.at.placement(ctx)
			if err == nil {
				have, err = r.at.namespaces(ctx)
			}
			if err == nil {
				s = r.compare(placement, placed, have)
				return "", nil
			}
			missing, pods = fmt.Sprintf("%s: %v", base, err), append(pods, base)
		}
		return missing, pods
	})
	return s, have, err
}

// do creates and changes.
func (r *run) do(ctx context.Context, s steps) error {
	if s.init || len(s.add) > 0 {
		req, path, what := placementRequest{Shards: r.Placement.Shards, Replicas: r.Placement.ReplicationFactor}, m3.PlacementPath+"/init", "placement"
		list := r.Placement.instances()
		if !s.init {
			req, path, what, list = placementRequest{}, m3.PlacementPath, "instances to the placement", s.add
		}
		var ids []string
		for _, in := range list {
			host, port, err := net.SplitHostPort(in.Endpoint)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(port)
			if err != nil {
				return err
			}
			ids = append(ids, in.ID)
			req.Instances = append(req.Instances, instanceRequest{in.ID, in.IsolationGroup, in.Zone, in.Weight, in.Endpoint, host, n})
		}
		if err := r.at.change(ctx, http.MethodPost, path, req); err != nil {
			return fmt.Errorf("adding the %s: %w", what, err)
		}
		r.say("added the %s: %s", what, strings.Join(ids, ", "))
	}
	for _, n := range s.create {
		err := r.at.change(ctx, http.MethodPost, m3.NamespacesPath, n.request())
		if answer := (*refusal)(nil); errors.As(err, &answer) && answer.status == http.StatusConflict {
			return fmt.Errorf("namespace %s was created by someone else meanwhile; run again", n.id)
		}
		if err != nil {
			return fmt.Errorf("creating namespace %s: %w", n.id, err)
		}
		r.say("created namespace %s: %s, for %s, in blocks of %s", n.id, n.holds(), short(n.Retention), short(n.BlockSize))
	}
	for _, n := range s.update {
		req := namespaceRequest{n.id, namespaceOptions{Retention: &retentionOptions{Period: n.Retention.String()}, Aggregation: n.aggregation()}}
		if err := r.at.change(ctx, http.MethodPut, m3.NamespacesPath, req); err != nil {
			return fmt.Errorf("changing namespace %s: %w", n.id, err)
		}
		r.say("changed namespace %s", n.id)
	}
	return nil
}

// waits are for what the database nodes and the coordinators do by themselves.
func (r *run) waits(ctx context.Context, s steps) error {
	for _, id := range s.unready {
		err := r.wait(ctx, "the database nodes to have namespace "+id, func(ctx context.Context) (string, []string) {
			err := r.at.change(ctx, http.MethodPost, m3.NamespacesPath+"/ready", map[string]string{"name": id})
			if err == nil {
				return "", nil
			}
			_, pods := r.shards(ctx)
			return err.Error(), pods
		})
		if err != nil {
			return err
		}
		r.say("namespace %s is ready", id)
	}
	if err := r.wait(ctx, "all shards to be available", r.shards); err != nil {
		return err
	}
	return r.wait(ctx, "the coordinators to be ready for every namespace", r.ready)
}

// shards says which of them are not available yet, and on which nodes.
func (r *run) shards(ctx context.Context) (missing string, pods []string) {
	p, placed, err := r.at.placement(ctx)
	if err != nil || !placed {
		return fmt.Sprintf("the placement is not known (%v)", err), []string{r.at.base}
	}
	var texts []string
	for _, in := range p.Instances {
		if in.Initializing > 0 || in.Leaving > 0 {
			texts = append(texts, fmt.Sprintf("%s has %d of %d to bootstrap and %d to give away", in.ID, in.Initializing, in.Shards, in.Leaving))
		}
		if in.Initializing > 0 { // who gives away waits for who takes
			pods = append(pods, in.ID)
		}
	}
	if len(pods) == 0 { // whatever is wrong is not in the placement
		for _, in := range p.Instances {
			pods = append(pods, in.ID)
		}
	}
	return strings.Join(texts, "; "), pods
}

// ready says which coordinators, at which addresses, are not ready for a wanted namespace.
func (r *run) ready(ctx context.Context) (missing string, pods []string) {
	var texts []string
	for _, base := range r.Coordinators.URLs {
		for _, at := range addresses(ctx, base, r.Lookup) {
			if err := r.readyAt(ctx, at); err != nil {
				texts, pods = append(texts, fmt.Sprintf("%s: %v", at.name, err)), append(pods, at.name)
			}
		}
	}
	return strings.Join(texts, "; "), pods
}

func (r *run) readyAt(ctx context.Context, at address) error {
	if at.err != nil {
		return at.err
	}
	status, body, err := coordinator{at.base, newClient()}.ask(ctx, http.MethodGet, m3.ReadyPath(m3.KindM3), nil)
	if err != nil {
		return err
	}
	for _, n := range r.namespaces() {
		if err := (m3.Config{Kind: m3.KindM3, Namespace: n.id}).ReadyError(status, body); err != nil {
			return err
		}
	}
	return nil
}

// address is one coordinator.
type address struct {
	name, base string // as shown, and as asked
	err        error
}

// addresses are all that the host of base has; with TLS only base itself, whose name the certificate must have.
func addresses(ctx context.Context, base string, lookup func(context.Context, string) ([]string, error)) []address {
	u, err := url.Parse(base)
	if err != nil {
		return []address{{base, base, err}}
	}
	base = strings.TrimSuffix(base, "/")
	if net.ParseIP(u.Hostname()) != nil || u.Scheme == "https" {
		return []address{{base, base, nil}}
	}
	ips, err := lookup(ctx, u.Hostname())
	if err != nil || len(ips) == 0 {
		return []address{{base, base, fmt.Errorf("its name has no address (%w); are its pods running?", orEmpty(err))}}
	}
	slices.Sort(ips)
	var out []address
	for _, ip := range ips {
		host := ip
		if u.Port() != "" {
			host = net.JoinHostPort(ip, u.Port())
		} else if strings.Contains(ip, ":") {
			host = "[" + ip + "]"
		}
		out = append(out, address{base + " at " + ip, u.Scheme + "://" + host, nil})
	}
	return out
}

func orEmpty(err error) error {
	if err == nil {
		return errors.New("an empty answer")
	}
	return err
}

// wait calls look until nothing is missing, or the time is over, when it says which pods to look at. It shows progress.
func (r *run) wait(ctx context.Context, what string, look func(context.Context) (missing string, pods []string)) error {
	began, told, shown := r.Now(), time.Time{}, ""
	for {
		missing, pods := look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := r.Now()
		waited := now.Sub(began).Round(time.Second)
		switch {
		case missing == "":
			if !told.IsZero() {
				r.say("waited %v for %s", waited, what)
			}
			return nil
		case now.Sub(began) >= r.Timeout:
			return fmt.Errorf("timed out after %v, waiting for %s: %s; look at %s", waited, what, missing, lookAt(pods))
		case missing != shown || now.Sub(told) >= progressEvery:
			r.say("waiting for %s (%v of %v): %s", what, waited, r.Timeout, missing)
			shown, told = missing, now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.Poll):
		}
	}
}

// lookAt says where the log is that has the reason.
func lookAt(pods []string) string {
	if len(pods) == 0 {
		return "the coordinators"
	}
	if strings.Contains(pods[0], "://") {
		return "the coordinator " + pods[0] + " (on Kubernetes: kubectl get pods -o wide, then kubectl logs of the one with that address)"
	}
	return "the database node " + pods[0] + " (on Kubernetes: kubectl logs " + pods[0] + ")"
}
