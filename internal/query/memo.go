package query

import "sync"

const (
	// memoBytes is about what the memory of confined queries takes.
	memoBytes = 8 << 20
	// memoQuery is the longest expression that is remembered, and memoEntry about what an entry takes beside its texts.
	memoQuery = 4 << 10
	memoEntry = 300
)

// memo remembers confined queries, since a dashboard asks the same ones again and again. It is safe for concurrent use.
//
// What a query becomes depends on its text, the scope's matcher and the Confiner, whose own the memo is. The key holds the
// first two in full, so that what is found was made, and verified, for the same matcher. The matcher's text names its
// label, type and value without doubt, and is empty only if there is none.
type memo struct {
	mu sync.Mutex
	// Entries are made in young; when that is half of memoBytes, it becomes old, and what was old is forgotten.
	young, old map[memoKey]Query
	bytes      int // of young
}

type memoKey struct{ matcher, expr string }

func (m *memo) find(matcher, expr string) (Query, bool) {
	if len(expr) > memoQuery {
		return Query{}, false
	}
	key := memoKey{matcher, expr}
	m.mu.Lock()
	defer m.mu.Unlock()
	if q, ok := m.young[key]; ok {
		return q, true
	}
	q, ok := m.old[key]
	if ok {
		m.addLocked(key, q)
	}
	return q, ok
}

func (m *memo) add(matcher, expr string, q Query) {
	if len(expr) > memoQuery || len(q.Text) > 16*memoQuery {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addLocked(memoKey{matcher, expr}, q)
}

func (m *memo) addLocked(key memoKey, q Query) {
	size := memoEntry + len(key.matcher) + len(key.expr) + len(q.Text) + 32*len(q.Reach.grids)
	if m.young == nil || m.bytes+size > memoBytes/2 {
		m.young, m.old, m.bytes = map[memoKey]Query{}, m.young, 0
	}
	m.young[key] = q
	m.bytes += size
}
