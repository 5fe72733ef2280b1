package limits

import (
	"fmt"
	"strconv"
	"time"
)

// ReadConfig is `limits.reads`: what each tenant may ask of the store. 0 is no limit.
type ReadConfig struct {
	// Range is the longest time that one read may span, from its start to its end or by the [ranges] of its expression. Default 0.
	Range time.Duration `yaml:"range"`
	// Lookback is how old the oldest sample may be that a read touches. Default 0.
	Lookback time.Duration `yaml:"lookback"`
	// Points is the most points of one series in an answer: its range over its step. Default 11000, which is Prometheus' own.
	Points int64 `yaml:"points"`
	// SubqueryPoints is the most points of one series that a subquery computes on the way. Default 100000.
	SubqueryPoints int64 `yaml:"subquery_points"`
	// RequestsPerSecond is the rate of reads that the store is asked for, and RequestsBurst how many may come at once; 0: those of
	// 10 s. Default 0.
	RequestsPerSecond int64 `yaml:"requests_per_second"`
	RequestsBurst     int64 `yaml:"requests_burst"`
	// Concurrent is the most reads of a tenant under way. Default 100.
	Concurrent int64 `yaml:"concurrent"`
	// Queue is how many more may wait for a place, and QueueWait for how long, before they are refused. Default 100, 5s.
	Queue     int64         `yaml:"queue"`
	QueueWait time.Duration `yaml:"queue_wait"`
	// Timeout is how long the store may think about one read, and be silent in the middle of an answer. Default 2m.
	Timeout time.Duration `yaml:"timeout"`
	// AnswerBytes is the longest answer, as it comes from the store. Default 256MiB.
	AnswerBytes int64 `yaml:"answer_bytes" unit:"bytes"`
}

func readDefaults() ReadConfig {
	return ReadConfig{
		Points: 11_000, SubqueryPoints: 100_000, Concurrent: 100, Queue: 100, QueueWait: 5 * time.Second, Timeout: 2 * time.Minute, AnswerBytes: 256 << 20,
	}
}

func (c *ReadConfig) check(bad func(field, problem string)) {
	const century = 100 * 365 * 24 * time.Hour
	for field, d := range map[string]time.Duration{"range": c.Range, "lookback": c.Lookback} {
		if d < 0 || d > century {
			bad("reads."+field, fmt.Sprintf("%v cannot be a limit; use a duration such as 9600h, or 0s for none", d))
		}
	}
	for field, n := range map[string]int64{"points": c.Points, "subquery_points": c.SubqueryPoints, "concurrent": c.Concurrent,
		"requests_per_second": c.RequestsPerSecond, "requests_burst": c.RequestsBurst} {
		if n < 0 {
			bad("reads."+field, fmt.Sprintf("%d cannot be a limit; use a number above 0, or 0 for none", n))
		}
	}
	if c.RequestsBurst > 0 && c.RequestsPerSecond == 0 {
		bad("reads.requests_burst", "is of use only beside the rate; set that, or remove this")
	}
	if c.Queue < 0 || c.Queue > 10_000 {
		bad("reads.queue", "must be 0 to 10000; use 0 to refuse at once what is over reads.concurrent")
	}
	if c.QueueWait < 100*time.Millisecond || c.QueueWait > time.Minute {
		bad("reads.queue_wait", fmt.Sprintf("%v cannot work; use 100ms to 1m", c.QueueWait))
	}
	if c.Timeout < time.Second || c.Timeout > 10*time.Minute {
		bad("reads.timeout", fmt.Sprintf("%v cannot work; use 1s to 10m, the most that a store takes", c.Timeout))
	}
	if c.AnswerBytes != 0 && c.AnswerBytes < 64<<10 {
		bad("reads.answer_bytes", fmt.Sprintf("%d bytes are too few for an answer; use 64KiB or more, or 0 for no limit", c.AnswerBytes))
	}
}

// part is c for one of n replicas.
func (c ReadConfig) part(n int64) ReadConfig {
	for _, v := range []*int64{&c.RequestsPerSecond, &c.RequestsBurst, &c.Concurrent, &c.Queue} {
		*v = share(*v, n)
	}
	return c
}

// Read is what a read asks for. Times and durations are in milliseconds, times since 1970.
type Read struct {
	Start, End int64 // equal: one moment
	Step       int64 // of the points between them; 0: there are none
	Oldest     int64 // the oldest moment that it touches
	Longest    int64 // the most time that a selector of its expression reads for one point: its [range], and those around it
	Subquery   int64 // the most points of a series that one of its subqueries computes
}

// Excess is a read that is over a limit. Its text is for the client.
type Excess struct {
	// Key is the limit's under limits.reads.
	Key string
	// Busy: the limit is one of what is under way, so that the same read may be taken later.
	Busy bool
	// Wait is after what time it may be, if that is known.
	Wait time.Duration
	text string
}

func (e *Excess) Error() string { return e.text }

// over makes an Excess: what is asked, the key of the limit and its value, and what to do.
func over(asked, key, limit, remedy string) *Excess {
	return &Excess{Key: key, text: fmt.Sprintf("%s; limits.reads.%s allows %s; %s", asked, key, limit, remedy)}
}

// Judge returns the limit that r is over at now, or nil.
func (c *ReadConfig) Judge(r Read, now time.Time) *Excess {
	span := max(r.End-r.Start, r.Longest)
	if c.Range > 0 && span > c.Range.Milliseconds() {
		return over("the query spans "+length(span), "range", c.Range.String(), "ask for a shorter time")
	}
	if age := now.UnixMilli() - r.Oldest; c.Lookback > 0 && age > c.Lookback.Milliseconds() {
		return over("the query looks back "+length(age), "lookback", c.Lookback.String(), "ask for a later time")
	}
	if c.Points > 0 && r.Step > 0 && (r.End-r.Start)/r.Step > c.Points { // as Prometheus counts: the first point is free
		return over(fmt.Sprintf("the query asks for %d points per series", (r.End-r.Start)/r.Step), "points", strconv.FormatInt(c.Points, 10),
			"use a longer step or a shorter range")
	}
	if c.SubqueryPoints > 0 && r.Subquery > c.SubqueryPoints {
		return over(fmt.Sprintf("a subquery computes %d points per series", r.Subquery), "subquery_points", strconv.FormatInt(c.SubqueryPoints, 10),
			"use a longer step or a shorter range in it")
	}
	return nil
}

// Earliest is the start of a read until end that names none, in Unix ms; false: no limit says one.
func (c *ReadConfig) Earliest(now time.Time, end int64) (int64, bool) {
	var start int64
	if c.Range > 0 {
		start = end - c.Range.Milliseconds()
	}
	if c.Lookback > 0 && (c.Range == 0 || now.Add(-c.Lookback).UnixMilli() > start) {
		start = now.Add(-c.Lookback).UnixMilli()
	}
	return start, c.Range > 0 || c.Lookback > 0
}

// TooSlow is the Excess of a read that the store has thought about for all of allowed, which is at most Timeout.
func (c *ReadConfig) TooSlow(allowed time.Duration) *Excess {
	return over(fmt.Sprintf("the query took more than %v", allowed), "timeout", c.Timeout.String(), "ask for fewer series or a shorter time")
}

// TooLong is the Excess of an answer of n bytes or more.
func (c *ReadConfig) TooLong(n int64) *Excess {
	return over(fmt.Sprintf("the answer has %d bytes or more", n), "answer_bytes", strconv.FormatInt(c.AnswerBytes, 10), "ask for fewer series or a shorter time")
}

// length writes milliseconds as a duration.
func length(ms int64) string {
	if ms > (1<<63-1)/int64(time.Millisecond) {
		return "more than 292 years"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}
