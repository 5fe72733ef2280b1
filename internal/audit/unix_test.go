//go:build unix

package audit

import (
	"bytes"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
)

// TestNoRoom: where the file cannot grow, in the middle of a line, every line is there in the end, and the half one is ended. A limit
// on the size of files makes write(2) fail as a full disk does.
func TestNoRoom(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l, messages := open(t, Config{File: path}, nil)
		add(l, 1, 2)
		var before syscall.Rlimit
		must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
		const limit = 1000
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: before.Max}))
		add(l, 3, 50)
		must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
		if b := contentOf(t, path); len(b) != limit || strings.HasSuffix(b, "\n") {
			t.Errorf("%d bytes, not cut in a line: %q", len(b), b)
		}
		closeLog(t, l)
		got := contentOf(t, path)
		at := limit + bytes.IndexByte([]byte(got[limit:]), '\n')
		half := strings.LastIndexByte(got[:limit], '\n') + 1
		if n := numbersOf(t, got[:half]+got[at+1:]); at != limit || !slices.Equal(n, counting(1, 50)) {
			t.Errorf("the half line ends at %d; lines %v", at, n)
		}
		if written, full, failed := l.counts(); written != 50 || full+failed != 0 || !strings.Contains(messages.String(), "file too large") {
			t.Errorf("counts %d %d %d, told %s", written, full, failed, messages)
		}
	})
}

// TestPipe: a pipe in the file's place is refused at once, though nobody reads it.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	must(t, syscall.Mkfifo(path, 0o600))
	if _, err := Open(Config{File: path}, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("%v %v", info, err)
	}
}
