package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	waitingBytes = 4 << 20         // of lines that are not written yet
	batchBytes   = 64 << 10        // that are written at once; more than a line
	retry        = time.Second     // from a write that failed to the next
	flushTime    = 5 * time.Second // that Close takes at most
)

// Log is the audit log. It is safe for concurrent use. The zero value writes nothing.
//
//	Add ──line──> waiting, 4 MiB ──batch──> the one goroutine ──> file or standard output
//
// A line waits until it is written, or is dropped and counted before it waits: where writing fails, what waits is tried again.
type Log struct {
	out     output // nil: nothing is written
	log     *slog.Logger
	metrics *metrics
	lines   sync.Pool     // of *[]byte, where lines are put together
	wake    chan struct{} // something waits
	closing chan struct{}
	done    chan struct{} // closed once the goroutine has ended

	mu      sync.Mutex // held for copying, never for writing
	waiting ring
	failing bool
	closed  bool
}

// Open begins the log that cfg, which has been checked, says; stdout is where its lines go with Stdout. What goes wrong later is told
// to log, once for each change.
func Open(cfg Config, stdout io.Writer, log *slog.Logger, reg registerer) (*Log, error) {
	l := &Log{
		log: log, metrics: newMetrics(reg), wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	l.lines.New = func() any { b := make([]byte, 0, 1<<10); return &b }
	switch {
	case cfg.File != "":
		f, err := openFile(cfg)
		if err != nil {
			return nil, fmt.Errorf("audit.file cannot be opened: %w; give the path of a file in a directory that the gateway's user may write to, or set audit.stdout", err)
		}
		l.out = f
	case cfg.Stdout:
		l.out = &stream{w: stdout}
	default:
		return l, nil
	}
	l.waiting.b = make([]byte, waitingBytes)
	go l.run()
	return l, nil
}

// On reports whether lines are written, so that nothing need be put together for Add.
func (l *Log) On() bool { return l.out != nil }

// Add writes e down, soon. It keeps nothing of e, and waits for nothing: a line that has no room is dropped and counted. Lines
// without a User find no room once half of it is taken, so that whoever has no credential cannot crowd out what users did.
func (l *Log) Add(e *Entry) {
	if l.out == nil {
		return
	}
	b := l.lines.Get().(*[]byte)
	*b = appendLine((*b)[:0], e)
	room := waitingBytes
	if e.User == "" {
		room /= 2
	}
	l.mu.Lock()
	full, failing := l.closed || l.waiting.used+len(*b) > room, l.closed || l.failing
	if !full {
		l.waiting.push(*b)
	}
	l.mu.Unlock()
	l.lines.Put(b)
	switch {
	case full && failing:
		l.metrics.failed.Inc()
	case full:
		l.metrics.full.Inc()
	default:
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Close writes what waits and ends the log. It gives up when ctx ends, or after 5 s; the error says how many lines are lost. What is
// added afterwards is dropped and counted.
func (l *Log) Close(ctx context.Context) error {
	if l.out == nil {
		return nil
	}
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if !again {
		close(l.closing)
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	select {
	case <-l.done:
	case <-ctx.Done(): // a pipe that nobody reads
	}
	l.mu.Lock()
	lost := l.waiting.count()
	l.mu.Unlock()
	if lost > 0 {
		return fmt.Errorf("%d lines of the audit log could not be written to %s", lost, l.out)
	}
	return nil
}

// run writes what waits until the log is closed. Lines stay in waiting until they are written, so that they count as long.
func (l *Log) run() {
	defer close(l.done)
	defer l.out.close()
	batch := make([]byte, batchBytes)
	for {
		l.mu.Lock()
		lines := l.waiting.peek(batch)
		last := l.closed
		l.mu.Unlock()
		if len(lines) == 0 {
			if last {
				return
			}
			select {
			case <-l.wake:
			case <-l.closing:
			}
			continue
		}
		done, err := l.out.write(lines)
		l.wrote(lines[:done], err)
		if err == nil {
			continue
		}
		if last {
			return
		}
		select {
		case <-time.After(retry):
		case <-l.closing: // one more try
		}
	}
}

// wrote notes that lines are written, and err that others could not be.
func (l *Log) wrote(lines []byte, err error) {
	l.metrics.lines.Add(float64(bytes.Count(lines, []byte{'\n'})))
	l.mu.Lock()
	l.waiting.drop(len(lines))
	changed := l.failing != (err != nil)
	l.failing = err != nil
	l.mu.Unlock()
	switch {
	case changed && err != nil:
		l.metrics.failing.Set(1)
		l.log.Error("the audit log cannot be written; it is tried again, and lines are dropped once 4 MiB wait", "output", l.out.String(), "error", err)
	case changed:
		l.metrics.failing.Set(0)
		l.log.Info("the audit log is written again", "output", l.out.String())
	}
}
