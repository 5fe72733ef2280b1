package certs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// directory is a storage in a directory, for one gateway, or several that share its file system:
//
//	DIR/certificates/AUTHORITY/NAME/NAME.key, .crt, .json
//	DIR/acme/AUTHORITY/users/MAIL/…                         the account
//	DIR/acme/AUTHORITY/challenge_tokens/NAME.json           of an open order
//	DIR/ocsp/…                                              stapled answers
//	DIR/locks/HASH.lock                                     HASH = SHA-256 of the lock's name, first 16 bytes, in hex
//
// Directories have mode 0700 and files 0600. A value is replaced by rename, whole or not at all. A lock is held by a lock of the
// operating system on its file, which ends with the process, however it ends. The file stays.
type directory struct {
	files *certmagic.FileStorage

	mu   sync.Mutex
	held map[string]*os.File // by lock name
}

// lockPoll is the mean time between two tries for a lock that is held.
const lockPoll = 200 * time.Millisecond

// openDirectory makes dir if it is not there, and warns of one that others may write.
func openDirectory(dir string, log *slog.Logger) (*directory, error) {
	if err := os.MkdirAll(filepath.Join(dir, "locks"), 0o700); err != nil {
		return nil, fmt.Errorf("creating acme.storage_dir: %w; give a directory that the gateway's user may write", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening acme.storage_dir: %w", err)
	}
	if p := info.Mode().Perm(); p&0o022 != 0 {
		log.Warn("others may write the directory of the ACME keys; use chmod 700", "storage_dir", dir, "mode", fmt.Sprintf("%#o", p))
	}
	return &directory{files: &certmagic.FileStorage{Path: dir}, held: map[string]*os.File{}}, nil
}

func (d *directory) String() string { return d.files.Path }

func (d *directory) Ready(context.Context) error { return nil }

func (d *directory) Store(ctx context.Context, key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return d.files.Store(ctx, key, value)
}

func (d *directory) Load(ctx context.Context, key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return d.files.Load(ctx, key)
}

func (d *directory) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return d.files.Delete(ctx, key)
}

func (d *directory) Exists(ctx context.Context, key string) bool {
	_, err := d.Stat(ctx, key)
	return err == nil
}

func (d *directory) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := checkKey(key); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return d.files.Stat(ctx, key)
}

// List returns the keys right below prefix, or all of them, directories included. An empty prefix is that of all.
func (d *directory) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, err
		}
	}
	if info, err := d.files.Stat(ctx, prefix); err == nil && info.IsTerminal {
		return nil, fs.ErrNotExist // a value has nothing below it
	}
	keys, err := d.files.List(ctx, prefix, recursive)
	if prefix == "" {
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == "locks" || strings.HasPrefix(k, "locks/") })
	}
	return keys, err
}

func (d *directory) Lock(ctx context.Context, name string) error {
	for {
		ok, err := d.TryLock(ctx, name)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll/2 + rand.N(lockPoll)):
		}
	}
}

func (d *directory) TryLock(ctx context.Context, name string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == nil {
		return false, errClosed
	}
	if d.held[name] != nil {
		return false, nil
	}
	sum := sha256.Sum256([]byte(name))
	f, err := os.OpenFile(filepath.Join(d.files.Path, "locks", hex.EncodeToString(sum[:16])+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, fmt.Errorf("opening a lock's file: %w", err)
	}
	ok, err := lockFile(f)
	if !ok || err != nil {
		f.Close()
		if err != nil {
			err = fmt.Errorf("locking %s: %w; acme.storage_dir must be on a file system with locks", f.Name(), err)
		}
		return false, err
	}
	// For whoever looks; nothing reads it.
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%s\n%s\n", name, holder())
	}
	d.held[name] = f
	return true, nil
}

func (d *directory) Unlock(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.held[name]
	if f == nil {
		if d.held == nil {
			return nil // Close has unlocked it
		}
		return errNotHeld
	}
	delete(d.held, name)
	return f.Close()
}

func (d *directory) RenewLockLease(ctx context.Context, name string, _ time.Duration) error {
	d.mu.Lock()
	held := d.held[name] != nil
	d.mu.Unlock()
	if held {
		return nil
	}
	ok, err := d.TryLock(ctx, name)
	if err == nil && !ok {
		return errNotHeld
	}
	return err
}

func (d *directory) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.held {
		f.Close()
	}
	d.held = nil
}

// holder names this process in a lock, for the operator.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("host %s, process %d", host, os.Getpid())
}
