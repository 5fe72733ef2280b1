package gateway

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"m3gateway/internal/auth"
	"m3gateway/internal/limits"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/query"
	"m3gateway/internal/remotewrite"
	"m3gateway/internal/tenant"
)

// Parts are what one state of the gateway is built from.
type Parts struct {
	Users *auth.Users
	// Tokens are the bearer tokens; nil: none are taken.
	Tokens *auth.Tokens
	// Certificates are what client certificates mean; RequireCertificate that no request is answered without one.
	Certificates       *auth.Certificates
	RequireCertificate bool
	Table              *tenant.Table
	Limits             limits.Config
	// Edges is the window in force; it may change during the life of a State.
	Edges *limits.Edges
	Store m3.Config
	Pool  *proxy.Pool
	Realm string
	// ReadTimeout is the longest that a client may ask a query to take.
	ReadTimeout time.Duration
}

// State is everything that a request is judged by: immutable but for what is learnt of the store, built whole at each load of the configuration, and swapped by
// Handler.Use, so that no request sees half of a change.
type State struct {
	Parts
	paths    m3.Paths
	confiner *query.Confiner
	lanes    map[string]*lane // by user
	tenants  []string         // of all users, sorted
	counted  []string         // tenants, and tenant.Everyone if there are users who may read all, sorted
	divides  bool             // writes are divided by series among the members
	// only1 is learnt: with upstream.protocol: auto, the store has shown that it does not take remote write 2.0.
	only1 *atomic.Bool
}

// protocol is what the store is sent of a batch that came in as p.
func (s *State) protocol(p remotewrite.Protocol) remotewrite.Protocol {
	switch {
	case s.Store.Kind == m3.KindM3, s.Store.Protocol == m3.Protocol1, s.divides, s.only1.Load():
		return remotewrite.V1
	case s.Store.Protocol == m3.Protocol2:
		return remotewrite.V2
	}
	return p
}

// lane is what one user may do, or one user narrowed to one of its tenants.
type lane struct {
	grant    tenant.Grant
	scope    query.Scope
	restrict [2]string // the store's own lock on reads: header name and value; empty: none
	// write is nil where the user may not write or must name a tenant first.
	write    *remotewrite.Policy
	counters []*tenantCounters // of the policy's tenants, in its order
	affinity string
	// counted are those whose limits count the lane's requests: tenants, or tenant.Everyone of an operator.
	counted []*limits.Tenant
	// tenants are the states of grant's tenants, in its order, and sizes what holds for one request in the name of all of them.
	tenants []*limits.Tenant
	sizes   limits.WriteConfig
	labels  remotewrite.Limits
	// reads are the limits of what one read of the lane may ask.
	reads *limits.ReadConfig
	// strip is left out of what the lane reads; without a name: nothing is.
	strip query.Label
	// operator: the user may read every tenant, so that each of its reads is audited.
	operator bool
	// narrow holds the lanes of single tenants, for users of several.
	narrow map[string]*lane
}

// labelLimits bound a series so that no batch is refused as a whole: M3 loses a batch over one name or value of 65,536 bytes.
var labelLimits = remotewrite.Limits{NameBytes: 1024, ValueBytes: 32 << 10, Labels: 512}

// rules is what the store demands of a series. M3 stores names outside the classic characters but answers no query
// that meets them, for as long as they are kept; it cuts __m3 labels off in aggregated namespaces, so that two series become one.
func rules(store m3.Config, lim remotewrite.Limits) remotewrite.Rules {
	if store.Kind == m3.KindPrometheus {
		return remotewrite.Rules{Limits: lim, UTF8Names: true, Histograms: true, Exemplars: true, Metadata: true}
	}
	return remotewrite.Rules{
		Limits: lim, Reserved: []string{"__m3", "__rollup__", "__option_id_scheme__"},
		Escape: store.UTF8Names == m3.NamesEscape, Classic: store.NativeHistograms == m3.HistogramsClassic,
	}
}

func dialect(k m3.Kind) query.Dialect {
	if k == m3.KindPrometheus {
		return query.PromQL3
	}
	return query.PromQL231
}

// Build makes the state of parts. One user or tenant that cannot be built fails the whole.
func (h *Handler) Build(parts Parts) (*State, error) {
	s := &State{
		Parts:    parts,
		paths:    m3.PathsOf(parts.Store.Kind),
		confiner: query.New(dialect(parts.Store.Kind), query.DefaultLimits()),
		lanes:    map[string]*lane{},
		divides:  parts.Pool.Routing() == proxy.BySeries,
		only1:    new(atomic.Bool),
	}
	everyone := false
	for _, g := range parts.Table.Grants() {
		everyone = everyone || g.All
		l, err := h.lane(s, g)
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", g.User, err)
		}
		if len(g.Tenants) > 1 {
			l.narrow = map[string]*lane{}
			for _, name := range g.Tenants {
				one, _ := g.Narrow(name)
				if l.narrow[name], err = h.lane(s, one); err != nil {
					return nil, fmt.Errorf("user %q: %w", g.User, err)
				}
			}
		}
		if parts.Table.Strip(g) {
			l.strip = query.Label{Name: parts.Table.LabelName(), Value: g.Tenants[0]}
		}
		s.lanes[g.User] = l
		s.tenants = append(s.tenants, g.Tenants...)
	}
	slices.Sort(s.tenants)
	s.tenants = slices.Compact(s.tenants)
	s.counted = append(s.counted, s.tenants...)
	if everyone {
		s.counted = append(s.counted, tenant.Everyone)
		slices.Sort(s.counted)
	}
	return s, nil
}

func (h *Handler) lane(s *State, g tenant.Grant) (*lane, error) {
	l := readLane(s, g)
	for _, name := range g.Tenants {
		l.tenants = append(l.tenants, h.tenants.Of(name))
	}
	l.counted = l.tenants
	if g.All {
		l.counted = []*limits.Tenant{h.tenants.Of(tenant.Everyone)}
	}
	mode := map[tenant.ClientLabel]remotewrite.Mode{
		tenant.Override: remotewrite.Override, tenant.Reject: remotewrite.Reject, tenant.Allow: remotewrite.Allow,
	}[s.Table.ClientLabel()]
	if !g.Write || g.All || len(g.Tenants) > 1 && mode != remotewrite.Allow {
		return l, nil
	}
	var enforced []remotewrite.TenantLabels
	for _, name := range g.Tenants {
		t := remotewrite.TenantLabels{Tenant: name}
		for _, e := range s.Table.Enforced(name) {
			t.Labels = append(t.Labels, remotewrite.Label(e))
		}
		enforced = append(enforced, t)
		l.counters = append(l.counters, h.metrics.tenant(name))
	}
	// Aggregating coordinators must see every sample of a series, so a tenant's writes keep to one member while it is well.
	l.affinity = g.Tenants[0]
	var err error
	l.write, err = remotewrite.NewPolicy(s.Table.LabelName(), mode, rules(s.Store, l.labels), enforced)
	return l, err
}

func readLane(s *State, g tenant.Grant) *lane {
	lim := s.Limits.Together(g.Tenants)
	l := &lane{
		grant: g, scope: query.Scope{Label: s.Table.LabelName(), Tenants: g.Tenants, All: g.All}, reads: &lim.Reads,
		sizes: lim.Writes, labels: labelsWithin(&lim.Writes),
	}
	if g.All {
		l.operator = true
	}
	if s.Store.Kind == m3.KindM3 && !g.All {
		l.restrict[0], l.restrict[1] = m3.RestrictHeader(s.Table.LabelName(), g.Tenants)
	}
	return l
}

// laneOf is the lane of user, narrowed to the tenant that the values of the X-Tenant header name.
func (s *State) laneOf(user string, named []string) (*lane, error) {
	l, ok := s.lanes[user]
	if !ok {
		return nil, &refusal{status: 403, kind: "forbidden", text: "this user has no tenant"}
	}
	switch {
	case len(named) == 0:
		return l, nil
	case len(named) > 1:
		return nil, badRequest("X-Tenant must be sent once")
	case len(l.grant.Tenants) == 1 && named[0] == l.grant.Tenants[0]:
		return l, nil
	case l.narrow[named[0]] != nil:
		return l.narrow[named[0]], nil
	}
	if g, ok := l.grant.Narrow(named[0]); ok && l.operator {
		one := readLane(s, g)
		one.operator, one.counted = true, l.counted
		return one, nil
	}
	return nil, &refusal{status: 403, kind: "forbidden", text: "X-Tenant names a tenant that this user does not have"}
}
