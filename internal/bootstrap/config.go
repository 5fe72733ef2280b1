package bootstrap

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// namespaceID is what may stand in a URL, a label of a metric and a folder's name alike.
var namespaceID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// Check calls bad for every field that cannot work, with the remedy.
func (c *Config) Check(bad func(field, problem string)) {
	for i, u := range c.Coordinators.URLs {
		if _, err := baseURL(u); err != nil {
			bad(fmt.Sprintf("coordinators.urls[%d]", i), err.Error())
		}
	}
	c.Placement.check(bad)
	c.checkNamespaces(bad)
}

// baseURL reads a coordinator's address.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("is no coordinator's address; write scheme, host and port, such as http://m3coordinator-admin:7201")
	}
	u.Path = ""
	return u, nil
}

func (p *Placement) check(bad func(field, problem string)) {
	if p.Shards < 1 || p.Shards > 4096 {
		bad("placement.shards", fmt.Sprintf("%d shards are too few or too many; use 64 for up to 12 nodes, 128 or 256 for more: it cannot be changed later", p.Shards))
	}
	if p.ReplicationFactor < 1 || p.ReplicationFactor > 9 {
		bad("placement.replication_factor", fmt.Sprintf("%d is no replication factor; use 3", p.ReplicationFactor))
	}
	switch set := p.StatefulSet != (StatefulSet{}); {
	case set && len(p.Instances) > 0:
		bad("placement.stateful_set", "names the instances, and so does placement.instances; remove one of them")
		return
	case set:
		if p.StatefulSet.Name == "" {
			bad("placement.stateful_set.name", "is missing; write the StatefulSet's name, such as m3dbnode")
		}
		if p.StatefulSet.Replicas < 1 || p.StatefulSet.Replicas > 1000 {
			bad("placement.stateful_set.replicas", fmt.Sprintf("%d is no number of pods; write the StatefulSet's own", p.StatefulSet.Replicas))
			return
		}
		if s := p.StatefulSet; s.Port < 0 || s.Port > 65535 || s.IsolationGroups < 0 {
			bad("placement.stateful_set", "has a port or a number of isolation groups that cannot be; remove them for 9000 and the replication factor")
			return
		}
	case len(p.Instances) == 0:
		bad("placement", "names no database nodes; write stateful_set, or instances")
		return
	}
	ids, endpoints, groups := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, in := range p.instances() {
		at := "placement.stateful_set"
		if len(p.Instances) > 0 {
			at = fmt.Sprintf("placement.instances[%d]", i)
		}
		host, port, err := net.SplitHostPort(in.Endpoint)
		n, err2 := strconv.Atoi(port)
		switch {
		case in.ID == "":
			bad(at+".id", "is missing; write the node's hostID")
		case ids[in.ID]:
			bad(at+".id", fmt.Sprintf("%q is there twice; each node has one of its own", in.ID))
		case err != nil || err2 != nil || host == "" || n < 1 || n > 65535:
			bad(at+".endpoint", fmt.Sprintf("%q is no address of a database node; write host:port, such as m3dbnode-0.m3dbnode:9000", in.Endpoint))
		case endpoints[in.Endpoint]:
			bad(at+".endpoint", fmt.Sprintf("%q is there twice; each node has one of its own", in.Endpoint))
		case in.IsolationGroup == "":
			bad(at+".isolation_group", "is missing; write the node's zone, rack or host: replicas of a shard are kept in different ones")
		case in.Weight < 0:
			bad(at+".weight", fmt.Sprintf("%d is no weight; remove it for 100", in.Weight))
		}
		ids[in.ID], endpoints[in.Endpoint], groups[in.IsolationGroup] = true, true, true
	}
	if len(groups) < p.ReplicationFactor {
		bad("placement", fmt.Sprintf("has %d isolation groups for %d replicas; each replica needs one of its own: add nodes, or lower replication_factor", len(groups), p.ReplicationFactor))
	}
}

// instances are the wanted ones with their defaults, in the order of the file or of the pods.
func (p *Placement) instances() []Instance {
	out := slices.Clone(p.Instances)
	if s := p.StatefulSet; s != (StatefulSet{}) {
		groups, port, service := cmp.Or(s.IsolationGroups, p.ReplicationFactor, 1), cmp.Or(s.Port, defaultPort), cmp.Or(s.Service, s.Name)
		for i := range s.Replicas {
			id := fmt.Sprintf("%s-%d", s.Name, i)
			out = append(out, Instance{ID: id, Endpoint: net.JoinHostPort(id+"."+service, strconv.Itoa(port)), IsolationGroup: fmt.Sprintf("group-%d", i%groups)})
		}
	}
	for i := range out {
		out[i].Zone, out[i].Weight = cmp.Or(out[i].Zone, defaultZone), cmp.Or(out[i].Weight, defaultWeight)
	}
	return out
}

func (c *Config) checkNamespaces(bad func(field, problem string)) {
	var raw []string
	kept := map[[2]time.Duration]string{}
	for _, id := range slices.Sorted(maps.Keys(c.Namespaces)) {
		n, at := c.Namespaces[id].withDefaults(), "namespaces."+id
		if !namespaceID.MatchString(id) {
			bad(at, fmt.Sprintf("%q is no name for a namespace; use letters, digits and underscores", id))
		}
		switch {
		case n.BlockSize <= 0:
			bad(at+".block_size", "is missing; write one that holds about 720 points, such as 1h for raw samples, 12h for 10s, 24h for 1m")
		case n.Retention < n.BlockSize:
			bad(at+".retention", fmt.Sprintf("%v is less than one block of %v; write how long the data are kept, such as 48h", n.Retention, n.BlockSize))
		}
		for name, d := range map[string]time.Duration{"buffer_past": n.BufferPast, "buffer_future": n.BufferFuture} {
			if d <= 0 || n.BlockSize > 0 && d >= n.BlockSize {
				bad(at+"."+name, fmt.Sprintf("%v is not between nothing and a block of %v; 10m is usual", d, n.BlockSize))
			}
		}
		if n.Resolution < 0 {
			bad(at+".resolution", fmt.Sprintf("%v is no resolution; write one such as 1m, or remove it for raw samples", n.Resolution))
		}
		if n.Raw() {
			raw = append(raw, id)
			continue
		}
		key := [2]time.Duration{n.Resolution, n.Retention}
		if other := kept[key]; other != "" {
			bad(at, fmt.Sprintf("has the resolution and the retention of %s, which M3 takes once only; change one of them", other))
		}
		kept[key] = id
	}
	if len(c.Namespaces) > 0 && len(raw) != 1 {
		bad("namespaces", fmt.Sprintf("%d of them have no resolution (%q); exactly one holds the raw samples", len(raw), raw))
	}
}

func (n Namespace) withDefaults() Namespace {
	n.BufferPast, n.BufferFuture = cmp.Or(n.BufferPast, defaultBuffer), cmp.Or(n.BufferFuture, defaultBuffer)
	return n
}

// named is a wanted namespace with its id.
type named struct {
	id string
	Namespace
}

// namespaces are the wanted ones with their defaults: the raw one, then the others from the finest resolution to the coarsest.
func (c *Config) namespaces() []named {
	all := c.Namespaces
	if len(all) == 0 {
		all = DefaultNamespaces()
	}
	var out []named
	for id, n := range all {
		out = append(out, named{id, n.withDefaults()})
	}
	slices.SortFunc(out, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.Resolution, b.Resolution), cmp.Compare(a.id, b.id))
	})
	return out
}

// RawNamespace is the id of the namespace for samples as they came, with how late it takes them.
func (c *Config) RawNamespace() (id string, bufferPast time.Duration) {
	n := c.namespaces()[0]
	return n.id, n.BufferPast
}
