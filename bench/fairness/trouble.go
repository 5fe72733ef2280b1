package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"m3gateway/bench/measure"
)

// troubleRole is this binary as a process that makes trouble until its stdin ends, and prints its counts.
const troubleRole = "trouble"

// The kinds of trouble.
const (
	flood   = "flood"   // another tenant sends fifty times its limit
	attack  = "attack"  // somebody guesses passwords
	control = "control" // the same requests without a password
)

const (
	floodRate = 1000 // requests of floodSize samples a second: fifty times the limit
	floodSize = 1000

	attackRate      = 200 // a second
	attackAddresses = 200
	attackWait      = 10 * time.Second
)

// counts are what trouble met.
type counts struct {
	Made, Taken, Refused, Later, Unanswered int64
	// Newcomer is how long it took until a user never seen before was let in, seconds, by round.
	Newcomer []float64
}

func (c *counts) add(o *counts) {
	c.Made, c.Taken, c.Refused, c.Later, c.Unanswered = c.Made+o.Made, c.Taken+o.Taken, c.Refused+o.Refused, c.Later+o.Later, c.Unanswered+o.Unanswered
	c.Newcomer = append(c.Newcomer, o.Newcomer...)
}

func (c *counts) String() string {
	s := fmt.Sprintf("%d requests: %d taken, %d refused, %d told to come later (429, 503), %d without an answer", c.Made, c.Taken, c.Refused, c.Later, c.Unanswered)
	if len(c.Newcomer) > 0 {
		s += fmt.Sprintf("; a right password never seen before: let in after %.0f ms (%s)", 1e3*measure.Median(c.Newcomer), measure.Range(c.Newcomer, 1e3))
	}
	return s
}

// makeTrouble is the process.
func makeTrouble(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s KIND ADDRESS NEWCOMER", troubleRole)
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	t := trouble{kind: args[0], url: "http://" + args[1], unseen: args[2]}
	if err := t.make(ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(&t.met)
}

type trouble struct {
	kind, url string
	unseen    string // a user who comes for the first time
	clients   []*http.Client
	body      []byte

	mu  sync.Mutex
	met counts
}

func (t *trouble) make(ctx context.Context) (err error) {
	size, rate, from := 1, float64(attackRate), attackAddresses
	if t.kind == flood {
		size, rate, from = floodSize, floodRate, 1
	}
	if t.body, err = measure.Batch(size, time.Now()); err != nil {
		return err
	}
	for i := range from {
		t.clients = append(t.clients, client(fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250)))
	}
	var all sync.WaitGroup
	defer all.Wait()
	if t.kind == attack {
		all.Go(func() { t.newcomer(ctx) })
	}
	begun := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(time.Until(begun.Add(time.Duration(float64(n) / rate * float64(time.Second)))))
		all.Go(func() { t.one(n) })
	}
	return nil
}

// one makes the nth request.
func (t *trouble) one(n int) {
	user, password := "", ""
	switch t.kind {
	case flood:
		user, password = measure.OtherUser, measure.Password
	case attack:
		user, password = fmt.Sprint("user", n), "wrong"
	}
	ctx, stop := context.WithTimeout(context.Background(), attackWait)
	defer stop()
	status, err := t.send(ctx, t.clients[n%len(t.clients)], user, password)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.met.Made++
	switch {
	case err != nil:
		t.met.Unanswered++
	case status/100 == 2:
		t.met.Taken++
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		t.met.Later++
	default:
		t.met.Refused++
	}
}

// newcomer has the unseen user come with the right password, once the attack is under way.
func (t *trouble) newcomer(ctx context.Context) {
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return
	}
	begun := time.Now()
	status, err := t.send(context.WithoutCancel(ctx), client("127.2.0.1"), t.unseen, measure.Password)
	if err == nil && status == http.StatusNoContent {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.met.Newcomer = append(t.met.Newcomer, time.Since(begun).Seconds())
	}
}

// send posts the batch, without credentials if user is empty, and returns the status.
func (t *trouble) send(ctx context.Context, c *http.Client, user, password string) (int, error) {
	req, err := measure.WriteRequest(t.url, t.body)
	if err != nil {
		return 0, err
	}
	req.Header.Del("Authorization")
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.Do(req.WithContext(ctx))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// client has connections of its own, from an address of loopback.
func client(from string) *http.Client {
	return &http.Client{Transport: measure.Transport(nil, from, false)}
}
