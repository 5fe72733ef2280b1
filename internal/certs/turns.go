package certs

import "sync"

// turns does one thing at a time for each key. Whoever asks while one is under way waits for its end, and then shares the next one
// with all others who came meanwhile: an answer is never older than the question. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	last map[string]*turn // the one that has not begun, or else the one under way
}

type turn struct {
	begun bool // guarded by turns.mu
	done  chan struct{}
	value []byte
	err   error
}

func (t *turns) do(key string, f func() ([]byte, error)) ([]byte, error) {
	t.mu.Lock()
	before := t.last[key]
	if before != nil && !before.begun {
		t.mu.Unlock()
		<-before.done
		return before.value, before.err
	}
	mine := &turn{done: make(chan struct{}), begun: before == nil}
	if t.last == nil {
		t.last = map[string]*turn{}
	}
	t.last[key] = mine
	t.mu.Unlock()
	if before != nil {
		<-before.done
		t.mu.Lock()
		mine.begun = true
		t.mu.Unlock()
	}
	mine.value, mine.err = f()
	t.mu.Lock()
	if t.last[key] == mine {
		delete(t.last, key)
	}
	t.mu.Unlock()
	close(mine.done)
	return mine.value, mine.err
}
