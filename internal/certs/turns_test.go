package certs

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns: a thousand who ask at once cause two look-ups, one at a time, and nobody is given an answer from before the question.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		var calls, inside atomic.Int32
		var value atomic.Value
		value.Store("old")
		look := func() ([]byte, error) {
			if inside.Add(1) > 1 {
				t.Error("two look-ups at once")
			}
			defer inside.Add(-1)
			calls.Add(1)
			seen := value.Load().(string)
			time.Sleep(time.Second)
			return []byte(seen), nil
		}
		var askers sync.WaitGroup
		askers.Go(func() {
			if got, _ := all.do("k", look); string(got) != "old" {
				t.Errorf("the first: %s", got)
			}
		})
		time.Sleep(100 * time.Millisecond)
		value.Store("new")
		for range 1000 {
			askers.Go(func() {
				if got, err := all.do("k", look); string(got) != "new" || err != nil {
					t.Errorf("asked after the change: %s, %v", got, err)
				}
			})
		}
		begin := time.Now()
		askers.Wait()
		if took := time.Since(begin); calls.Load() != 2 || took > 2*time.Second {
			t.Errorf("%d look-ups, %v", calls.Load(), took)
		}
		if len(all.last) != 0 {
			t.Errorf("%d are left", len(all.last))
		}
		// Other keys wait for nobody; errors are passed on.
		for i := range 3 {
			askers.Go(func() {
				_, err := all.do(fmt.Sprint(i), func() ([]byte, error) { time.Sleep(time.Second); return nil, errNotHeld })
				if err != errNotHeld {
					t.Error(err)
				}
			})
		}
		begin = time.Now()
		askers.Wait()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("three keys took %v", took)
		}
	})
}
