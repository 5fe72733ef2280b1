package audit

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
)

// add adds the lines first to last, and waits until they are written; within a bubble.
func add(l *Log, first, last int) {
	for n := first; n <= last; n++ {
		l.Add(numbered("alice", n))
	}
	synctest.Wait()
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// TestRotation: a file is renamed before a line that it has no room for, as many are kept as are to be, and no line is in two.
func TestRotation(t *testing.T) {
	size := len(appendLine(nil, numbered("alice", 100)))
	for _, keep := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			cfg := Config{File: path, MaxSize: int64(4*size + size/2), Keep: keep}
			l, _ := open(t, cfg, nil)
			add(l, 100, 121) // at once
			for n := 122; n < 142; n++ {
				add(l, n, n) // one by one
			}
			closeLog(t, l)
			l, _ = open(t, cfg, nil) // 42 lines are ten files and a half: it goes on where it was
			add(l, 142, 142)
			closeLog(t, l)
			for i := 0; i <= keep; i++ {
				name := (&file{path: path}).numbered(i)
				first := 140 - 4*i
				want := counting(first, min(first+3, 142))
				if got := numbersOf(t, contentOf(t, name)); !slices.Equal(got, want) || mode(t, name) != 0o600 {
					t.Errorf("keep %d: %s has %v and mode %v, want %v", keep, filepath.Base(name), got, mode(t, name), want)
				}
			}
			if names, _ := filepath.Glob(path + "*"); len(names) != keep+1 {
				t.Errorf("keep %d: %q", keep, names)
			}
		})
	}
}

// TestNoRotation: without a size the file is never renamed.
func TestNoRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, Config{File: path, Keep: 5}, nil)
	for n := range 2000 {
		l.Add(numbered("alice", n))
	}
	closeLog(t, l)
	if names, _ := filepath.Glob(path + "*"); len(names) != 1 || len(numbersOf(t, contentOf(t, path))) != 2000 {
		t.Errorf("%q", names)
	}
}

// TestLongLine: a line longer than a file may be has a file of its own.
func TestLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, Config{File: path, MaxSize: 10, Keep: 5}, nil)
	for n := range 4 {
		l.Add(numbered("alice", n))
	}
	closeLog(t, l)
	for i := range 4 {
		if got := numbersOf(t, contentOf(t, (&file{path: path}).numbered(i))); !slices.Equal(got, []int{3 - i}) {
			t.Errorf("file %d has %v", i, got)
		}
	}
}

// TestMoved: when the file is moved away or deleted, or another is in its place, the next line is in the one at the path.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l, _ := open(t, Config{File: path, MaxSize: 1 << 20}, nil)
		add(l, 1, 2)
		must(t, os.Rename(path, path+".moved"))
		add(l, 3, 3)
		must(t, os.Rename(path, path+".moved2"))
		must(t, os.WriteFile(path, nil, 0o640)) // as logrotate's create does
		add(l, 4, 4)
		if got := mode(t, path); got != 0o640 {
			t.Errorf("mode %v", got)
		}
		must(t, os.Remove(path))
		add(l, 5, 6)
		closeLog(t, l)
		for name, want := range map[string][]int{path + ".moved": {1, 2}, path + ".moved2": {3}, path: {5, 6}} {
			if got := numbersOf(t, contentOf(t, name)); !slices.Equal(got, want) || mode(t, name) != 0o600 {
				t.Errorf("%s has %v and mode %v, want %v", name, got, mode(t, name), want)
			}
		}
	})
}

// TestHalfLine: what a kill left of a line stays a line of its own.
func TestHalfLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	must(t, os.WriteFile(path, []byte("{\"a\":1}\n{\"b"), 0o600))
	for n := range 2 {
		l, _ := open(t, Config{File: path, MaxSize: 1 << 20}, nil)
		l.Add(numbered("alice", n))
		closeLog(t, l)
	}
	lines := strings.SplitAfterN(contentOf(t, path), "\n", 3)
	if got := numbersOf(t, lines[2]); lines[0] != "{\"a\":1}\n" || lines[1] != "{\"b\n" || !slices.Equal(got, []int{0, 1}) {
		t.Errorf("%q", lines)
	}
}

// TestCannotOpen: what cannot be a log is said at the start, with what to do.
func TestCannotOpen(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	for path, want := range map[string]string{
		"none/log": "no such file", "file/log": "not a directory", "dir": "is no regular file", "/dev/null": "is no regular file",
	} {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		_, err := Open(Config{File: path}, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "audit.file cannot be opened: ") || !strings.Contains(err.Error(), "; give the path") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestRotationFails: while files cannot be renamed nothing is written beyond the size, and nothing is lost.
func TestRotationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		size := len(appendLine(nil, numbered("alice", 1)))
		must(t, os.MkdirAll(filepath.Join(path+".1", "in the way"), 0o700))
		l, messages := open(t, Config{File: path, MaxSize: int64(2 * size), Keep: 1}, nil)
		add(l, 1, 5)
		if got := numbersOf(t, contentOf(t, path)); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("%v", got)
		}
		must(t, os.RemoveAll(path+".1"))
		closeLog(t, l)
		if got := numbersOf(t, contentOf(t, path+".1")+contentOf(t, path)); !slices.Equal(got, []int{3, 4, 5}) {
			t.Errorf("%v, told %s", got, messages)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
