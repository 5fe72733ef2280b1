package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"m3gateway/internal/m3"
)

// Status is what coordinators say of their cluster.
type Status struct {
	// OK: there is a placement whose shards are all available, every namespace is ready, and every coordinator is for all of them.
	OK           bool                `json:"ok"`
	Problems     []string            `json:"problems"`
	Placement    *m3.Placement       `json:"placement"`
	Namespaces   []m3.Namespace      `json:"namespaces"`
	Coordinators []CoordinatorStatus `json:"coordinators"`
	limits       PastLimits
}

// CoordinatorStatus is the readiness of one coordinator.
type CoordinatorStatus struct {
	Address string `json:"address"`
	// NotReady says why it is not to be used, or is empty.
	NotReady string `json:"not_ready,omitempty"`
}

// Look asks the coordinators at urls. limits are theirs, nil: not known. lookup is Options.Lookup. The error is that of a cluster
// of which no coordinator answers.
func Look(ctx context.Context, urls []string, limits PastLimits, lookup func(context.Context, string) ([]string, error)) (*Status, error) {
	if len(urls) == 0 {
		return nil, errors.New("no coordinator is named; give --url, or --cluster with coordinators.urls")
	}
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	s := &Status{limits: limits, Problems: []string{}}
	var errs []error
	for _, base := range urls {
		if _, err := baseURL(base); err != nil {
			return nil, fmt.Errorf("%s %w", base, err)
		}
		c := coordinator{strings.TrimSuffix(base, "/"), newClient()}
		p, placed, err := c.placement(ctx)
		if err == nil {
			s.Namespaces, err = c.namespaces(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", base, err))
			continue
		}
		if placed {
			s.Placement = &p
		}
		errs = nil
		break
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s.judge()
	for _, base := range urls {
		for _, at := range addresses(ctx, base, lookup) {
			err := at.err
			if err == nil {
				err = s.readyAt(ctx, at.base)
			}
			one := CoordinatorStatus{Address: at.name}
			if err != nil {
				one.NotReady = err.Error()
				s.problem("coordinator %s: %v", at.name, err)
			}
			s.Coordinators = append(s.Coordinators, one)
		}
	}
	s.OK = len(s.Problems) == 0
	return s, nil
}

func (s *Status) problem(format string, args ...any) {
	s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
}

// judge finds what is wrong with placement and namespaces.
func (s *Status) judge() {
	if s.Placement == nil {
		s.problem("there is no placement; gateway m3 init makes one")
	} else {
		for _, in := range s.Placement.Instances {
			if in.Initializing > 0 {
				s.problem("%s has %d of %d shards to bootstrap", in.ID, in.Initializing, in.Shards)
			}
			if in.Leaving > 0 {
				s.problem("%s has %d shards to give away", in.ID, in.Leaving)
			}
		}
	}
	raw := 0
	for _, n := range s.Namespaces {
		switch {
		case n.Ignored:
			s.problem("namespace %s has no aggregationOptions: coordinators pass it over; gateway m3 init --apply sets them", n.ID)
			continue
		case !n.Ready:
			s.problem("namespace %s is not marked ready; gateway m3 init does it", n.ID)
		}
		if !n.Aggregated {
			raw++
		} else if s.limits != nil {
			if err := pairError(n.ID, n.Resolution, s.limits.For(n.Resolution), n.BufferPast); err != nil {
				s.problem("%v", err)
			}
		}
	}
	if raw != 1 {
		s.problem("%d namespaces hold raw samples; coordinators need exactly one", raw)
	}
}

// readyAt is the error of a coordinator that is not ready for one of the namespaces that it should know.
func (s *Status) readyAt(ctx context.Context, base string) error {
	status, body, err := coordinator{base, newClient()}.ask(ctx, http.MethodGet, m3.ReadyPath(m3.KindM3), nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("readiness answered status %d", status)
	}
	known := false
	for _, n := range s.Namespaces {
		if n.Ignored {
			continue
		}
		known = true
		if err := (m3.Config{Kind: m3.KindM3, Namespace: n.ID}).ReadyError(status, body); err != nil {
			return err
		}
	}
	if !known {
		return errors.New("it knows no namespace")
	}
	return nil
}

// WriteTable writes the status for a terminal.
func (s *Status) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "COORDINATOR\tREADY\n")
	for _, c := range s.Coordinators {
		ready := "for all namespaces"
		if c.NotReady != "" {
			ready = "NO: " + c.NotReady
		}
		fmt.Fprintf(w, "%s\t%s\n", c.Address, ready)
	}
	if p := s.Placement; p == nil {
		fmt.Fprint(w, "\nNo placement\n")
	} else {
		fmt.Fprintf(w, "\nPlacement: %d shards, replication factor %d, version %d\n", p.Shards, p.Replicas, p.Version)
		fmt.Fprint(w, "INSTANCE\tENDPOINT\tISOLATION GROUP\tWEIGHT\tAVAILABLE\tINITIALIZING\tLEAVING\n")
		for _, in := range p.Instances {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", in.ID, in.Endpoint, in.IsolationGroup, in.Weight, in.Shards-in.Initializing, in.Initializing, in.Leaving)
		}
	}
	fmt.Fprint(w, "\nNAMESPACE\tSTATE\tRETENTION\tBLOCK\tHOLDS\tSAMPLES TAKEN\tAGGREGATED FROM\n")
	for _, n := range slices.SortedFunc(slices.Values(s.Namespaces), func(a, b m3.Namespace) int { return int((a.Resolution - b.Resolution) / time.Second) }) {
		state := "ready"
		if n.Ignored {
			state = "PASSED OVER"
		} else if !n.Ready {
			state = "NOT READY"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\tfrom %s ago to %s ahead\t%s\n", n.ID, state, short(n.Retention), short(n.BlockSize), aggregationText(n), short(n.BufferPast), short(n.BufferFuture), s.aggregatedFrom(n))
	}
	if s.limits == nil {
		fmt.Fprint(w, "\nThe coordinators' own limits are not known: give --cluster, whose coordinators.config_file has them.\n")
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	if s.OK {
		fmt.Fprint(w, "\nAll is well.\n")
	}
	return w.Flush()
}

// aggregatedFrom is the window of samples that reach an aggregated namespace. How far ahead is the same in every coordinator.
func (s *Status) aggregatedFrom(n m3.Namespace) string {
	switch {
	case !n.Aggregated:
		return "-"
	case s.limits == nil:
		return fmt.Sprintf("samples from %s ago to 1m ahead, by default", short(DefaultPastLimits().For(n.Resolution)))
	}
	return fmt.Sprintf("samples from %s ago to 1m ahead", short(s.limits.For(n.Resolution)))
}
