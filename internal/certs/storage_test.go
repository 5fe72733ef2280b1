package certs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// replicas opens one more storage that shares what the others of the same test hold, as another gateway would.
type replicas func(t *testing.T) storage

// contract is what every storage must do.
var contract = []struct {
	name string
	test func(t *testing.T, open replicas)
}{
	{"values", testValues},
	{"what is not there", testAbsent},
	{"keys that are none", testBadKeys},
	{"directories", testDirectories},
	{"values are whole", testWholeValues},
	{"several replicas", testShared},
	{"one holder", testOneHolder},
	{"one holder in one process", testOneHolderInProcess},
	{"a lock is waited for", testLockWaits},
	{"a wait can end", testLockCanceled},
	{"only the holder unlocks", testOnlyTheHolderUnlocks},
	{"names of locks", testLockNames},
	{"lease renewal", testRenewLease},
	{"mutual exclusion under load", testMutualExclusion},
	{"close frees the locks", testCloseFrees},
	{"a killed holder", testKilledHolder},
	{"certmagic's own check", testCertmagicCheck},
}

func runContract(t *testing.T, open replicas) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testValues(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	begin := time.Now().Add(-time.Second)
	for _, value := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{0, 255, '\n'}, 100_000), []byte("one again")} {
		must(t, s.Store(ctx, "certificates/ca/example.org/example.org.key", value))
		got, err := s.Load(ctx, "certificates/ca/example.org/example.org.key")
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("%d bytes, %v; stored %d", len(got), err, len(value))
		}
		info, err := s.Stat(ctx, "certificates/ca/example.org/example.org.key")
		if err != nil || info.Key != "certificates/ca/example.org/example.org.key" || !info.IsTerminal || info.Size != int64(len(value)) ||
			info.Modified.Before(begin) || info.Modified.After(time.Now().Add(time.Second)) {
			t.Errorf("%+v, %v", info, err)
		}
	}
	must(t, s.Delete(ctx, "certificates/ca/example.org/example.org.key"))
	if _, err := s.Load(ctx, "certificates/ca/example.org/example.org.key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Delete: %v", err)
	}
}

func testAbsent(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	must(t, s.Store(ctx, "absent/other", []byte("x")))
	for _, key := range []string{"none", "absent/none", "absent/othe", "absent/other2", "absent/other/below"} {
		if _, err := s.Load(ctx, key); err == nil || key != "absent/other/below" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load %s: %v", key, err)
		}
		if _, err := s.Stat(ctx, key); err == nil || key != "absent/other/below" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat %s: %v", key, err)
		}
		if _, err := s.List(ctx, key, true); err == nil || key != "absent/other/below" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List %s: %v", key, err)
		}
		if key != "absent/other/below" {
			if s.Exists(ctx, key) {
				t.Errorf("%s exists", key)
			}
			must(t, s.Delete(ctx, key)) // no error, by the contract
		}
	}
	if _, err := s.List(ctx, "absent/other", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of a value: %v", err)
	}
}

func testBadKeys(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	must(t, s.Store(ctx, "bad/key", []byte("x")))
	for _, key := range []string{"", "/", "/bad/key", "bad//key", "bad/key/", "bad/../bad/key", "../x", "bad/./key", "a\x00b", "a\nb", `a\b`} {
		if err := s.Store(ctx, key, []byte("y")); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Store %q: %v", key, err)
		}
		if _, err := s.Load(ctx, key); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load %q: %v", key, err)
		}
		if _, err := s.Stat(ctx, key); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat %q: %v", key, err)
		}
		if err := s.Delete(ctx, key); err == nil {
			t.Errorf("Delete %q", key)
		}
		if s.Exists(ctx, key) {
			t.Errorf("%q exists", key)
		}
	}
	if got, err := s.Load(ctx, "bad/key"); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func testDirectories(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	for _, key := range []string{"d/a/1", "d/a/2", "d/a/x/3", "d/ab/4", "d/b", "d2/5"} {
		must(t, s.Store(ctx, key, []byte(key)))
	}
	for _, c := range []struct {
		prefix    string
		recursive bool
		want      string
	}{
		{"d", false, "d/a d/ab d/b"},
		{"d", true, "d/a d/a/1 d/a/2 d/a/x d/a/x/3 d/ab d/ab/4 d/b"},
		{"d/a", false, "d/a/1 d/a/2 d/a/x"},
		{"d/a", true, "d/a/1 d/a/2 d/a/x d/a/x/3"},
		{"", false, "d d2"},
		{"", true, "d d/a d/a/1 d/a/2 d/a/x d/a/x/3 d/ab d/ab/4 d/b d2 d2/5"},
	} {
		got, err := s.List(ctx, c.prefix, c.recursive)
		got = slices.DeleteFunc(got, func(k string) bool { return c.prefix == "" && !strings.HasPrefix(k, "d") }) // of other tests
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("List %q %v: %q, %v", c.prefix, c.recursive, got, err)
		}
	}
	for _, key := range []string{"d", "d/a", "d/a/x"} {
		if info, err := s.Stat(ctx, key); err != nil || info.IsTerminal || info.Key != key || !s.Exists(ctx, key) {
			t.Errorf("%s: %+v, %v", key, info, err)
		}
		if _, err := s.Load(ctx, key); err == nil {
			t.Errorf("a directory was loaded: %s", key)
		}
	}
	must(t, s.Delete(ctx, "d/a"))
	got, err := s.List(ctx, "d", true)
	slices.Sort(got)
	if err != nil || strings.Join(got, " ") != "d/ab d/ab/4 d/b" {
		t.Errorf("after Delete of d/a: %q, %v", got, err)
	}
	if s.Exists(ctx, "d/a/1") || s.Exists(ctx, "d/a") {
		t.Error("d/a is still there")
	}
}

// testWholeValues: a reader sees one of the values stored, whole, whoever writes.
func testWholeValues(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	value := func(c byte) []byte { return bytes.Repeat([]byte{c}, 20_000) }
	must(t, a.Store(ctx, "whole", value('a')))
	var writers sync.WaitGroup
	for i, s := range []storage{a, b} {
		writers.Go(func() {
			for range 30 {
				if err := s.Store(ctx, "whole", value('a'+byte(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 60 {
		got, err := b.Load(ctx, "whole")
		if err != nil || len(got) != 20_000 || !bytes.Equal(got, value(got[0])) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	writers.Wait()
}

func testShared(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	must(t, a.Store(ctx, "shared/x", []byte("from a")))
	if got, err := b.Load(ctx, "shared/x"); err != nil || string(got) != "from a" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, b.Delete(ctx, "shared"))
	if a.Exists(ctx, "shared/x") {
		t.Error("what b deleted exists for a")
	}
	must(t, a.Ready(ctx))
}

func testOneHolder(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	must(t, a.Lock(ctx, "one"))
	if ok, err := b.TryLock(ctx, "one"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if ok, err := b.TryLock(ctx, "two"); !ok || err != nil {
		t.Errorf("another name: %v, %v", ok, err)
	}
	must(t, a.Unlock(ctx, "one"))
	if ok, err := b.TryLock(ctx, "one"); !ok || err != nil {
		t.Errorf("after Unlock: %v, %v", ok, err)
	}
	must(t, b.Unlock(ctx, "one"))
	must(t, b.Unlock(ctx, "two"))
}

func testOneHolderInProcess(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	must(t, s.Lock(ctx, "own"))
	if ok, err := s.TryLock(ctx, "own"); ok || err != nil {
		t.Errorf("the holder got it twice: %v, %v", ok, err)
	}
	must(t, s.Unlock(ctx, "own"))
	must(t, s.Lock(ctx, "own"))
	must(t, s.Unlock(ctx, "own"))
}

func testLockWaits(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	for _, waiter := range []storage{a, b} {
		must(t, a.Lock(ctx, "wait"))
		var unlocked atomic.Bool
		got := make(chan error, 1)
		go func() {
			err := waiter.Lock(ctx, "wait")
			if err == nil && !unlocked.Load() {
				err = errors.New("two holders")
			}
			got <- err
		}()
		select {
		case err := <-got:
			t.Fatalf("did not wait: %v", err)
		case <-time.After(300 * time.Millisecond):
		}
		unlocked.Store(true)
		must(t, a.Unlock(ctx, "wait"))
		select {
		case err := <-got:
			must(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("the lock is free, and its waiter does not have it")
		}
		must(t, waiter.Unlock(ctx, "wait"))
	}
}

func testLockCanceled(t *testing.T, open replicas) {
	a, b := open(t), open(t)
	must(t, a.Lock(t.Context(), "canceled"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Lock(ctx, "canceled"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: %v", err)
	}
	if ok, err := b.TryLock(ctx, "free"); ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("TryLock: %v, %v", ok, err)
	}
	must(t, a.Unlock(t.Context(), "canceled"))
	must(t, b.Lock(t.Context(), "canceled"))
	must(t, b.Unlock(t.Context(), "canceled"))
}

func testOnlyTheHolderUnlocks(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	must(t, a.Lock(ctx, "mine"))
	if err := b.Unlock(ctx, "mine"); !errors.Is(err, errNotHeld) {
		t.Errorf("another's lock: %v", err)
	}
	if err := b.RenewLockLease(ctx, "mine", time.Minute); err == nil {
		t.Error("another's lock was renewed")
	}
	if ok, err := b.TryLock(ctx, "mine"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	must(t, a.Unlock(ctx, "mine"))
	if err := a.Unlock(ctx, "mine"); !errors.Is(err, errNotHeld) {
		t.Errorf("a second Unlock: %v", err)
	}
}

// testLockNames: different names are different locks, whatever is in them, and no lock is a value.
func testLockNames(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	names := []string{"n", "n ", "N", "n_", "n/m", "n.lock", "../n", "*.n", "wildcard_.n", "n\x00", strings.Repeat("n", 400)}
	for _, name := range names {
		if ok, err := a.TryLock(ctx, name); !ok || err != nil {
			t.Errorf("%q: %v, %v", name, ok, err)
		}
	}
	for _, name := range names {
		if ok, err := b.TryLock(ctx, name); ok || err != nil {
			t.Errorf("%q: %v, %v", name, ok, err)
		}
		if b.Exists(ctx, name) {
			t.Errorf("%q is a value", name)
		}
		must(t, a.Unlock(ctx, name))
	}
}

func testRenewLease(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	must(t, a.Lock(ctx, "renewed"))
	must(t, a.RenewLockLease(ctx, "renewed", 6*time.Hour))
	if ok, err := b.TryLock(ctx, "renewed"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	must(t, a.Unlock(ctx, "renewed"))
	// A lock that was lost and is free is taken again.
	must(t, b.RenewLockLease(ctx, "renewed", time.Minute))
	if err := a.RenewLockLease(ctx, "renewed", time.Minute); !errors.Is(err, errNotHeld) {
		t.Errorf("%v", err)
	}
	must(t, b.Unlock(ctx, "renewed"))
}

func testMutualExclusion(t *testing.T, open replicas) {
	all := []storage{open(t), open(t), open(t)}
	var inside, rounds atomic.Int32
	var workers sync.WaitGroup
	for i := range 9 {
		s := all[i%3]
		workers.Go(func() {
			for range 4 {
				if err := s.Lock(t.Context(), "crowd"); err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				time.Sleep(2 * time.Millisecond)
				rounds.Add(1)
				inside.Add(-1)
				if err := s.Unlock(t.Context(), "crowd"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	if rounds.Load() != 36 {
		t.Errorf("%d rounds", rounds.Load())
	}
}

func testCloseFrees(t *testing.T, open replicas) {
	a, b, ctx := open(t), open(t), t.Context()
	must(t, a.Lock(ctx, "closed"))
	a.Close()
	if ok, err := b.TryLock(ctx, "closed"); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	must(t, a.Unlock(ctx, "closed")) // by work that ends later
	if ok, err := a.TryLock(ctx, "after"); ok || !errors.Is(err, errClosed) {
		t.Errorf("TryLock after Close: %v, %v", ok, err)
	}
	if err := a.Lock(ctx, "after"); !errors.Is(err, errClosed) {
		t.Errorf("Lock after Close: %v", err)
	}
	if ok, err := b.TryLock(ctx, "closed"); ok || err != nil {
		t.Errorf("b lost its lock: %v, %v", ok, err)
	}
	must(t, b.Unlock(ctx, "closed"))
}

// The environment of the process that testKilledHolder starts from this test binary.
const (
	holdEnv     = "M3GATEWAY_TEST_HOLD"      // the lock's name
	holdDirEnv  = "M3GATEWAY_TEST_HOLD_DIR"  // of a directory
	holdEtcdEnv = "M3GATEWAY_TEST_HOLD_ETCD" // endpoint and prefix of an etcd, with a space between them
)

// TestMain is also the program of the holder that is killed: it takes the lock, says so and waits.
func TestMain(m *testing.M) {
	name := os.Getenv(holdEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	s, err := openForHolder()
	if err == nil {
		err = s.Lock(context.Background(), name)
	}
	fmt.Println("held:", err)
	time.Sleep(time.Hour)
}

func openForHolder() (storage, error) {
	if dir := os.Getenv(holdDirEnv); dir != "" {
		return openDirectory(dir, slog.New(slog.DiscardHandler))
	}
	endpoint, prefix, _ := strings.Cut(os.Getenv(holdEtcdEnv), " ")
	return etcdAt(endpoint, prefix, ""), nil
}

// testKilledHolder: a lock ends soon after its holder was killed, and not before.
func testKilledHolder(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"=killed")
	switch s := s.(type) {
	case *directory:
		cmd.Env = append(cmd.Env, holdDirEnv+"="+s.files.Path)
	case *etcd:
		cmd.Env = append(cmd.Env, holdEtcdEnv+"="+s.cfg.Endpoints[0]+" "+strings.TrimSuffix(s.data, "/data/"))
	}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer cmd.Process.Kill()
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "held: <nil>\n" {
		t.Fatalf("the other process: %q, %v", line[:n], err)
	}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if err := s.Lock(short, "killed"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("its lock: %v", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	killed := time.Now()
	long, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	must(t, s.Lock(long, "killed"))
	t.Logf("locked %v after the holder was killed", time.Since(killed).Round(time.Millisecond))
	must(t, s.Unlock(ctx, "killed"))
}

// testCertmagicCheck: certmagic cleans the storage by its own means, with every method.
func testCertmagicCheck(t *testing.T, open replicas) {
	s, ctx := open(t), t.Context()
	must(t, s.Store(ctx, "ocsp/example.org-1", []byte("no answer")))
	must(t, certmagic.CleanStorage(ctx, s, certmagic.CleanStorageOptions{Logger: zap.NewNop(), OCSPStaples: true, ExpiredCerts: true}))
	if s.Exists(ctx, "ocsp/example.org-1") || !s.Exists(ctx, "last_clean.json") {
		t.Error("not cleaned")
	}
}

func TestDirectoryContract(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	runContract(t, func(t *testing.T) storage {
		d, err := openDirectory(dir, slog.New(slog.DiscardHandler))
		must(t, err)
		t.Cleanup(d.Close)
		return d
	})
	checkModes(t, dir)
}

// checkModes fails if others could reach anything in dir, or if nothing is in it. It returns the number of private keys.
func checkModes(t *testing.T, dir string) (keys int) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if filepath.Ext(path) == ".key" {
			keys++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
	return keys
}
