package measure

import (
	"sync"
	"sync/atomic"
	"time"
)

// Closed has one called on so many connections at once, on each again as soon as it returns, until d is over and it was called
// least times, and once on each at least. It returns how often and in how many seconds, or the first error.
func Closed(connections, least int, d time.Duration, one func() error) (int, float64, error) {
	var (
		start  = time.Now()
		until  = start.Add(d)
		total  atomic.Int64
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
	)
	for range connections {
		wg.Go(func() {
			for first := true; failed.Load() == nil && (first || total.Load() < int64(least) || time.Now().Before(until)); first = false {
				if err := one(); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				total.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, 0, *err
	}
	return int(total.Load()), time.Since(start).Seconds(), nil
}

// Paced has one called at rate times a second for d, and returns the seconds from when each call was due to its end, or the
// first error. A call that is due is not held up by those before it, nor is its latency shortened by having been made late.
func Paced(rate float64, d time.Duration, one func() error) ([]float64, error) {
	var (
		start  = time.Now()
		took   = make([]float64, int(rate*d.Seconds()))
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
	)
	for i := range took {
		due := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			if err := one(); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
			took[i] = time.Since(due).Seconds()
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return took, nil
}
