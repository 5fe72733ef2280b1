package certs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
)

// storage is certmagic's storage with all that certmagic only asks for where it finds it. Keys are slash-separated names. What
// is not there is an fs.ErrNotExist.
//
// A lock has one holder in all processes that share the storage, and in this process too. It ends with Unlock, and soon after
// the holder's process. Lock waits for it; TryLock does not. Unlock of a lock that is not held by this process is an
// error and touches nobody else's. RenewLockLease says whether the lock is still held, and takes it again if it was lost and is free:
// certmagic calls it before each attempt at an order, and looks afterwards whether the order is still needed.
type storage interface {
	certmagic.Storage
	certmagic.TryLocker
	certmagic.LockLeaseRenewer
	// String names the storage in the log.
	String() string
	// Ready returns nil if the storage answers.
	Ready(ctx context.Context) error
	// Close ends all locks of this process, for which it may take a few seconds. What is called after it fails, but for Unlock.
	Close()
}

var (
	errClosed   = errors.New("the gateway is ending")
	errNotHeld  = errors.New("the lock is not held by this process")
	errLockLost = errors.New("the lock was lost to another replica, or its lease ended while the storage could not be reached")
)

// checkKey returns an error unless key is one name, or several with single slashes between them.
func checkKey(key string) error {
	bad := func(part string) bool {
		return part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f })
	}
	if slices.ContainsFunc(strings.Split(key, "/"), bad) {
		return fmt.Errorf("%q is no storage key", key)
	}
	return nil
}
