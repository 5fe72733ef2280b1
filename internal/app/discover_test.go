package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"m3gateway/internal/limits"
)

// store is asked by a discovery and answers as told.
type store struct {
	mu     sync.Mutex
	answer func(context.Context) (limits.Store, error)
	asked  []time.Duration // since the beginning
	begin  time.Time
}

func (s *store) ask(ctx context.Context) (limits.Store, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Since(s.begin))
	answer := s.answer
	s.mu.Unlock()
	return answer(ctx)
}

func (s *store) set(answer func(context.Context) (limits.Store, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// journal is a log; take returns what was written since the last call.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.b.Reset()
	return j.b.String()
}

func says(past, future time.Duration) func(context.Context) (limits.Store, error) {
	return func(context.Context) (limits.Store, error) {
		return limits.Store{Namespace: "default", Past: past, Future: future}, nil
	}
}

func fails(text string) func(context.Context) (limits.Store, error) {
	return func(context.Context) (limits.Store, error) { return limits.Store{}, errors.New(text) }
}

// hangs answers only when it is given up.
func hangs(ctx context.Context) (limits.Store, error) {
	<-ctx.Done()
	return limits.Store{}, ctx.Err()
}

// slowly answers after 10 s, as a coordinator that has lost its etcd does.
func slowly(answer func(context.Context) (limits.Store, error)) func(context.Context) (limits.Store, error) {
	return func(ctx context.Context) (limits.Store, error) {
		select {
		case <-time.After(10 * time.Second):
			return answer(ctx)
		case <-ctx.Done():
			return limits.Store{}, ctx.Err()
		}
	}
}

// discovering runs a discovery with f beside it, in a bubble.
func discovering(t *testing.T, s *store, f func(e *limits.Edges, log *journal)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.begin = time.Now()
		e := limits.NewEdges(limits.WindowConfig{Past: limits.Side{Auto: true}, Future: limits.Side{Auto: true}})
		log := new(journal)
		d := &discovery{ask: s.ask, edges: e, log: slog.New(slog.NewTextHandler(log, nil)), metrics: newMetrics("test"), interval: 30 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		first, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			d.run(ctx, first)
		}()
		f(e, log)
		log.take()
		end := time.Now()
		cancel()
		<-done
		if took, text := time.Since(end), log.take(); took > 0 || text != "" { // not even a question under way holds up a reload or a stop
			t.Errorf("ended after %v; log:\n%s", took, text)
		}
		<-first
	})
}

// pass lets d go by, in the bubble's time.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func want(t *testing.T, e *limits.Edges, past, future time.Duration) {
	t.Helper()
	r, known := e.Reach()
	if known != (past > 0) || r.Past != past || r.Future != future {
		t.Errorf("in use: %v (known %v), want %v and %v", r, known, past, future)
	}
}

func TestDiscoveryWaitsForASlowAnswer(t *testing.T) {
	s := &store{answer: slowly(says(10*time.Minute, 5*time.Minute))}
	discovering(t, s, func(e *limits.Edges, log *journal) {
		pass(9 * time.Second)
		want(t, e, 0, 0)
		pass(2 * time.Second)
		want(t, e, 10*time.Minute, 5*time.Minute)
	})
}

// TestDiscoveryKeepsTheLastValue: whatever the store does, what it said once stays in use; it is asked every 30 s to 1 min, and
// the log has a line for what changes, not for every round.
func TestDiscoveryKeepsTheLastValue(t *testing.T) {
	s := &store{answer: says(10*time.Minute, 10*time.Minute)}
	discovering(t, s, func(e *limits.Edges, log *journal) {
		pass(0)
		want(t, e, 10*time.Minute, 10*time.Minute)
		if got := log.take(); strings.Count(got, "learnt limits.window") != 1 {
			t.Errorf("log:\n%s", got)
		}
		for what, answer := range map[string]func(context.Context) (limits.Store, error){
			"answered 500": fails("answered 500"), context.DeadlineExceeded.Error(): hangs, "no namespace": slowly(fails("no namespace")),
		} {
			s.set(answer)
			pass(10 * time.Minute)
			want(t, e, 10*time.Minute, 10*time.Minute)
			if got := log.take(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, what) || !strings.Contains(got, "from 10m0s ago") {
				t.Errorf("%s: log:\n%s", what, got)
			}
		}
		s.set(slowly(says(10*time.Minute, 10*time.Minute)))
		pass(10 * time.Minute)
		want(t, e, 10*time.Minute, 10*time.Minute)
		if got := log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "learnt limits.window") {
			t.Errorf("log:\n%s", got)
		}
		for i, at := range s.asked[1:] {
			if pause := at - s.asked[i]; pause < 30*time.Second || pause > 75*time.Second { // up to 15 s of them an answer's
				t.Errorf("asked again after %v", pause)
			}
		}
		if len(s.asked) < 30 {
			t.Errorf("asked %d times", len(s.asked))
		}

		s.set(says(5*time.Minute, time.Minute))
		pass(2 * time.Minute)
		want(t, e, 5*time.Minute, time.Minute)
		s.set(says(20*time.Minute, time.Minute))
		pass(10 * time.Minute)
		want(t, e, 5*time.Minute, time.Minute)
		if got := log.take(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "restart the gateway") || !strings.Contains(got, "buffer_past=20m0s") {
			t.Errorf("log:\n%s", got)
		}
	})
}

// TestDiscoveryHurriesAtFirst: nobody can write before the first answer, so a failure is followed by another question soon.
func TestDiscoveryHurriesAtFirst(t *testing.T) {
	s := &store{answer: fails("connection refused")}
	discovering(t, s, func(e *limits.Edges, log *journal) {
		pass(time.Minute)
		want(t, e, 0, 0)
		if n, text := len(s.asked), log.take(); n < 25 || n > 35 || strings.Count(text, "connection refused") != 1 {
			t.Errorf("asked %d times in a minute; log:\n%s", n, text)
		}
		s.set(says(time.Minute, time.Minute))
		pass(3 * time.Second)
		want(t, e, time.Minute, time.Minute)
	})
}

func TestDiscoveryEndsAmidAQuestion(t *testing.T) {
	s := &store{answer: hangs}
	discovering(t, s, func(e *limits.Edges, _ *journal) {
		pass(time.Second)
		want(t, e, 0, 0)
	})
	if len(s.asked) != 1 {
		t.Errorf("asked %d times", len(s.asked))
	}
}
