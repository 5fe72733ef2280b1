// Package metadata remembers what each tenant's writes said of its metrics, within bounds that no other tenant's writes change.
package metadata

import (
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Entry is what a write said of a metric.
type Entry struct {
	Type string `json:"type"` // counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown
	Help string `json:"help"`
	Unit string `json:"unit"`
}

const (
	maxName = 512
	maxUnit = 64
	// maxHelp cuts a longer help.
	maxHelp = 1024
	// perMetric is how many different entries of one metric are kept: the newest. More than one means that senders disagree.
	perMetric = 4
	// entryBytes is about what an entry takes beside its texts.
	entryBytes = 200

	// total is what the tables of all tenants may take, shared out evenly; least and most bound a tenant's part.
	total = 128 << 20
	least = 16 << 10
	most  = 4 << 20
)

// Table holds the entries of all tenants. It is safe for concurrent use.
type Table struct {
	mu      sync.Mutex
	room    int // bytes of each tenant
	tenants map[string]*shelf
}

// shelf holds the entries of one tenant.
type shelf struct {
	mu      sync.Mutex
	metrics map[string]*list.Element // of *metric
	order   *list.List               // the metric that was written last is first
	bytes   int
	sampled time.Time
}

type metric struct {
	name    string
	entries []Entry // the newest first
}

// New is a Table for tenants many tenants.
func New(tenants int) *Table {
	t := &Table{tenants: map[string]*shelf{}}
	t.Resize(tenants)
	return t
}

// Resize shares the room out among so many tenants, as after a reload. A tenant's part depends on that number alone, so that
// what is remembered of one does not depend on what others write.
func (t *Table) Resize(tenants int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.room = min(max(total/max(tenants, 1), least), most)
}

// Keep forgets every tenant that is not among names, which are sorted.
func (t *Table) Keep(names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.tenants {
		if _, ok := slices.BinarySearch(names, name); !ok {
			delete(t.tenants, name)
		}
	}
}

func (t *Table) shelf(tenant string, create bool) (s *shelf, room int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s = t.tenants[tenant]
	if s == nil && create {
		s = &shelf{metrics: map[string]*list.Element{}, order: list.New()}
		t.tenants[tenant] = s
	}
	return s, t.room
}

// Due reports whether a batch of tenant that comes at now is to be looked at, where every batch says the same: one a second is
// enough. It counts as looked at.
func (t *Table) Due(tenant string, now time.Time) bool {
	s, _ := t.shelf(tenant, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.sampled); d >= 0 && d < time.Second {
		return false
	}
	s.sampled = now
	return true
}

// Learn keeps what a write of tenant said of the metric name. When the tenant's room is full, the metrics that were written
// longest ago make place. What is no text or has no name is left out.
func (t *Table) Learn(tenant, name string, e Entry) {
	if name == "" || len(name) > maxName || len(e.Unit) > maxUnit || !utf8.ValidString(name) || !utf8.ValidString(e.Help) || !utf8.ValidString(e.Unit) {
		return
	}
	if len(e.Help) > maxHelp {
		e.Help = strings.ToValidUTF8(e.Help[:maxHelp], "")
	}
	s, room := t.shelf(tenant, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.metrics[name]
	if at == nil {
		at = s.order.PushFront(&metric{name: strings.Clone(name)})
		s.metrics[at.Value.(*metric).name] = at
		s.bytes += entryBytes + len(name)
	}
	s.order.MoveToFront(at)
	m := at.Value.(*metric)
	if i := slices.Index(m.entries, e); i >= 0 {
		m.entries = slices.Insert(slices.Delete(m.entries, i, i+1), 0, e)
		return
	}
	e.Help, e.Unit = strings.Clone(e.Help), strings.Clone(e.Unit)
	m.entries = slices.Insert(m.entries, 0, e)
	s.bytes += e.size()
	if len(m.entries) > perMetric {
		s.bytes -= m.entries[perMetric].size()
		m.entries = m.entries[:perMetric]
	}
	for s.bytes > room && s.order.Len() > 1 {
		s.drop(s.order.Back())
	}
}

func (e *Entry) size() int { return entryBytes + len(e.Help) + len(e.Unit) }

func (s *shelf) drop(at *list.Element) {
	m := s.order.Remove(at).(*metric)
	delete(s.metrics, m.name)
	s.bytes -= entryBytes + len(m.name)
	for i := range m.entries {
		s.bytes -= m.entries[i].size()
	}
}

// Question says which metrics are asked for.
type Question struct {
	Metric    string // "": all
	Limit     int    // of metrics; below 0: all
	PerMetric int    // entries; 0 or below: all
}

// Of returns what is known of the metrics of tenants; all: of every tenant. Where the limit cuts, the first metrics by name
// are returned. The entries of a metric are those of the first tenant, the newest first, then those of the next.
func (t *Table) Of(tenants []string, all bool, q Question) map[string][]Entry {
	if all {
		t.mu.Lock()
		tenants = nil
		for name := range t.tenants {
			tenants = append(tenants, name)
		}
		t.mu.Unlock()
		slices.Sort(tenants)
	}
	found := map[string][]Entry{}
	for _, name := range tenants {
		if s, _ := t.shelf(name, false); s != nil {
			s.find(q.Metric, found)
		}
	}
	names := make([]string, 0, len(found))
	for name, entries := range found {
		names = append(names, name)
		if q.PerMetric > 0 && len(entries) > q.PerMetric {
			found[name] = entries[:q.PerMetric]
		}
	}
	if q.Limit >= 0 && len(names) > q.Limit {
		slices.Sort(names)
		for _, name := range names[q.Limit:] {
			delete(found, name)
		}
	}
	return found
}

func (s *shelf) find(name string, found map[string][]Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(name string, at *list.Element) {
		for _, e := range at.Value.(*metric).entries {
			if !slices.Contains(found[name], e) {
				found[name] = append(found[name], e)
			}
		}
	}
	if name == "" {
		for name, at := range s.metrics {
			add(name, at)
		}
	} else if at := s.metrics[name]; at != nil {
		add(name, at)
	}
}
