package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// open opens a log whose own messages are in the buffer, which is read after Close only.
func open(t testing.TB, cfg Config, stdout io.Writer) (*Log, *bytes.Buffer) {
	t.Helper()
	messages := new(bytes.Buffer)
	l, err := Open(cfg, stdout, slog.New(slog.NewTextHandler(messages, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return l, messages
}

// numbered is an entry that is known again by its error.
func numbered(user string, n int) *Entry {
	return &Entry{Time: moment, User: user, Client: netip.MustParseAddr("192.0.2.1"), Route: "query", Queries: []string{"up"}, Status: 200, Error: fmt.Sprintf("number %d", n)}
}

// numbersOf are the numbers of the lines in text, which must all be whole.
func numbersOf(t *testing.T, text string) (out []int) {
	t.Helper()
	for l := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscanf(readLine(t, []byte(l)).Error, "number %d", &n); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		out = append(out, n)
	}
	return out
}

// counting is first, first+1, … last.
func counting(first, last int) (out []int) {
	for n := first; n <= last; n++ {
		out = append(out, n)
	}
	return out
}

func (l *Log) counts() (written, full, failed int) {
	return int(testutil.ToFloat64(l.metrics.lines)), int(testutil.ToFloat64(l.metrics.full)), int(testutil.ToFloat64(l.metrics.failed))
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOff: without an output nothing is written, and nothing waits.
func TestOff(t *testing.T) {
	l, _ := open(t, Defaults(), nil)
	l.Add(numbered("alice", 1))
	closeLog(t, l)
	if written, full, failed := l.counts(); l.On() || written+full+failed != 0 {
		t.Errorf("on %v, counts %d %d %d", l.On(), written, full, failed)
	}
}

func TestStdout(t *testing.T) {
	var out bytes.Buffer
	l, _ := open(t, Config{Stdout: true}, &out)
	for n := range 100 {
		l.Add(numbered("alice", n))
	}
	closeLog(t, l)
	l.Add(numbered("alice", 100))
	closeLog(t, l)
	if got := numbersOf(t, out.String()); !slices.Equal(got, counting(0, 99)) {
		t.Errorf("got %v", got)
	}
	if written, full, failed := l.counts(); written != 100 || full != 0 || failed != 1 {
		t.Errorf("counts %d %d %d", written, full, failed)
	}
}

// TestFull: with an output that takes nothing, lines without a user have half of the room and those of users all of it; no Add waits,
// what has no room is counted, and what had comes out whole, in order.
func TestFull(t *testing.T) {
	r, w := io.Pipe() // takes a write only as far as it is read
	l, _ := open(t, Config{Stdout: true}, w)
	size := len(appendLine(nil, numbered("", 100000)))
	half := waitingBytes / 2 / size
	for n := range half + 10 {
		l.Add(numbered("", 100000+n))
	}
	if _, full, _ := l.counts(); full != 10 {
		t.Errorf("%d of %d lines without a user are dropped", full, half+10)
	}
	userSize := len(appendLine(nil, numbered("alice", 500000)))
	room := (waitingBytes - half*size) / userSize
	for n := range room + 7 {
		l.Add(numbered("alice", 500000+n))
	}
	l.Add(numbered("", 0))
	if _, full, failed := l.counts(); full != 10+7+1 || failed != 0 {
		t.Errorf("%d lines are dropped as full, %d as failed", full, failed)
	}
	var text []byte
	var reading sync.WaitGroup
	reading.Go(func() { text, _ = io.ReadAll(r) })
	closeLog(t, l)
	_ = w.Close()
	reading.Wait()
	want := append(counting(100000, 100000+half-1), counting(500000, 500000+room-1)...)
	if got := numbersOf(t, string(text)); !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	}
}

// TestCloseGivesUp: an output that takes nothing holds Close up for 5 s, or as long as its caller has, and the lines are told of.
func TestCloseGivesUp(t *testing.T) {
	for _, has := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			l, _ := open(t, Config{Stdout: true}, w)
			l.Add(numbered("alice", 1))
			l.Add(numbered("alice", 2))
			ctx, cancel := context.WithTimeout(t.Context(), has)
			defer cancel()
			begin := time.Now()
			err := l.Close(ctx)
			if took := time.Since(begin); took != min(has, flushTime) || err == nil || err.Error() != "2 lines of the audit log could not be written to standard output" {
				t.Errorf("after %v: %v", took, err)
			}
			_ = r.Close()
			<-l.done
		})
	}
}

// TestFailed: while the file cannot be written, lines wait, then they are dropped as failed; it is told once, and all that waited is
// written when it can be. Nothing is written twice.
func TestFailed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l, messages := open(t, Config{File: filepath.Join(dir, "log")}, nil)
		l.Add(numbered("alice", 0))
		synctest.Wait()
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		n := 1
		l.Add(numbered("alice", n))
		time.Sleep(10 * retry)
		if got := testutil.ToFloat64(l.metrics.failing); got != 1 {
			t.Errorf("failing is %v", got)
		}
		for _, _, failed := l.counts(); failed == 0; _, _, failed = l.counts() {
			n++
			l.Add(numbered("alice", n))
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retry)
		synctest.Wait()
		if got := testutil.ToFloat64(l.metrics.failing); got != 0 {
			t.Errorf("failing is %v", got)
		}
		l.Add(numbered("alice", n+1))
		closeLog(t, l)
		want := append(counting(0, n-1), n+1)
		if got := numbersOf(t, contentOf(t, filepath.Join(dir, "log"))); !slices.Equal(got, want) {
			t.Errorf("%d lines, want %d", len(got), len(want))
		}
		if written, full, failed := l.counts(); written != len(want) || full != 0 || failed != 1 {
			t.Errorf("counts %d %d %d", written, full, failed)
		}
		if m := messages.String(); strings.Count(m, "cannot be written") != 1 || strings.Count(m, "is written again") != 1 || strings.Count(m, "\n") != 2 {
			t.Errorf("told:\n%s", m)
		}
	})
}

// TestCloseWhileFailing: Close tries once more, and does not wait for longer.
func TestCloseWhileFailing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	for _, mended := range []bool{false, true} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			l, _ := open(t, Config{File: filepath.Join(dir, "log")}, nil)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			l.Add(numbered("alice", 1))
			synctest.Wait()
			if mended {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			begin := time.Now()
			if err := l.Close(t.Context()); (err == nil) != mended || time.Since(begin) != 0 {
				t.Errorf("mended %v: after %v: %v", mended, time.Since(begin), err)
			}
		})
	}
}

// TestMany: goroutines add while the file is renamed again and again, and the log is closed among them. Every line is written whole,
// once, or counted as dropped.
func TestMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, Config{File: path, MaxSize: 64 << 10, Keep: 1000}, nil)
	const adders, each = 8, 2000
	var work sync.WaitGroup
	for a := range adders {
		work.Go(func() {
			for n := range each {
				if a == 0 && n == each/2 {
					closeLog(t, l)
				}
				l.Add(numbered([]string{"", "alice"}[n%2], a*each+n))
			}
		})
	}
	work.Wait()
	closeLog(t, l)
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, f := range files {
		for _, n := range numbersOf(t, contentOf(t, f)) {
			if seen[n] {
				t.Errorf("line %d is there twice", n)
			}
			seen[n] = true
		}
	}
	if written, full, failed := l.counts(); written != len(seen) || written+full+failed != adders*each || len(files) < 3 {
		t.Errorf("%d lines in %d files; counts %d %d %d", len(seen), len(files), written, full, failed)
	}
}

func BenchmarkAdd(b *testing.B) {
	l, _ := open(b, Config{Stdout: true}, io.Discard)
	e := whole()
	e.Confined = []string{strings.Repeat(`sum by (job) (rate(http_requests_total{job="a",tenant="team-a"}[5m]))`, 5)}
	b.ReportAllocs()
	for b.Loop() {
		l.Add(e)
	}
}
