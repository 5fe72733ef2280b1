package limits

import "sync"

// Budget bounds the bytes of all requests under way. Half of them are whoever's comes first; of the rest, a tenant gets no more than
// its share among the tenants with requests under way, by their weights, and an eighth is for others than the one that has most. So
// the tenant that is most over its share is the one that is refused. It is safe for concurrent use.
type Budget struct {
	mu          sync.Mutex
	total, left int64
	weights     int64 // of the tenants that hold some
}

// NewBudget has total bytes to lend.
func NewBudget(total int64) *Budget { return &Budget{total: total, left: total} }

// Acquire takes n bytes from the budget, or nothing and reports false. What was acquired is given back by Release.
func (b *Budget) Acquire(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

// AcquireFor is Acquire for a request of t, which holds have bytes already; it is also false where t would have more than its share.
// The only request of a tenant is never over its share. What was acquired is given back by ReleaseFor.
func (b *Budget) AcquireFor(t *Tenant, have, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	if t.held > have && b.left-n < b.total/2 {
		weights, own := b.weights, t.heldWeight
		if t.held+n > b.total/8*7/weights*own {
			return false
		}
	}
	b.left -= n
	if t.held == 0 {
		t.heldWeight = max(1, t.weight.Load())
		b.weights += t.heldWeight
	}
	t.held += n
	return true
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}

// ReleaseFor gives n bytes of t back.
func (b *Budget) ReleaseFor(t *Tenant, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	if t.held -= n; t.held == 0 && n > 0 {
		b.weights -= t.heldWeight
	}
}

// Resize changes the total by delta bytes, as a reload does; what is lent stays lent.
func (b *Budget) Resize(delta int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += delta
	b.left += delta
}

// Left is what could be acquired now; negative while a smaller total waits for old loans.
func (b *Budget) Left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}
