package limits

import "sync"

// Unit is what a Budget lends.
type Unit int

// The units of Budgets. A process has one Budget of each.
const (
	InBytes Unit = iota
	InRequests
	units
)

// Budget bounds the bytes, or the number, of all requests under way. Half of it is whoever's comes first; of the rest, a tenant gets
// no more than its share among the tenants with requests under way, by their weights, and an eighth is for others than the one that
// has most. So the tenant that is most over its share is the one that is refused. It is safe for concurrent use.
type Budget struct {
	unit        Unit
	mu          sync.Mutex
	total, left int64
	weights     int64 // of the tenants that hold some
}

// holding is what a tenant holds of a Budget, and its weight while that is something; guarded by the Budget's lock.
type holding struct{ n, weight int64 }

// NewBudget has nothing to lend before Resize.
func NewBudget(unit Unit) *Budget { return &Budget{unit: unit} }

// Acquire takes n for a request of t, which holds have already, or nothing and reports false: where there is not as much, or t would
// have more than its share. The only request of a tenant is never over its share. What was acquired is given back by Release.
func (b *Budget) Acquire(t *Tenant, have, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &t.held[b.unit]
	if n > b.left {
		return false
	}
	if h.n > have && b.left-n < b.total/2 && h.n+n > b.total/8*7/b.weights*h.weight {
		return false
	}
	b.left -= n
	if h.n == 0 {
		h.weight = max(1, t.weight.Load())
		b.weights += h.weight
	}
	h.n += n
	return true
}

// Release gives n of t back.
func (b *Budget) Release(t *Tenant, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	h := &t.held[b.unit]
	if h.n -= n; h.n == 0 && n > 0 {
		b.weights -= h.weight
	}
}

// Resize makes the whole total, as a reload does; what is lent stays lent.
func (b *Budget) Resize(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += total - b.total
	b.total = total
}

// Left is what could be acquired now; negative while a smaller total waits for old loans.
func (b *Budget) Left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}
