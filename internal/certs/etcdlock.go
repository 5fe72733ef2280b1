package certs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lockTTL is how long a lock outlives a holder that was killed. The holder says that it lives three times as often, so that a
// change of etcd's leader, which takes a few seconds, ends no lock.
const lockTTL = 15 * time.Second

// hold is one lock of this process. It stays until Unlock, also when the lock was lost: until then the work under it may go on.
type hold struct {
	lease    clientv3.LeaseID
	revision int64  // at which its key was made: no other lock of that name has it
	stop     func() // ends keeping it alive; nil while it is being taken
}

func (e *etcd) Lock(ctx context.Context, name string) error {
	for {
		ok, err := e.TryLock(ctx, name)
		if ok || err != nil {
			return err
		}
		if err := e.awaitUnlock(ctx, name); err != nil {
			return err
		}
	}
}

// awaitUnlock returns when the lock seems to be free, or after a while, in case it missed that.
func (e *etcd) awaitUnlock(ctx context.Context, name string) error {
	var since int64
	err := e.call(ctx, "lock", func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, e.locks+name)
		if err == nil && len(resp.Kvs) > 0 {
			since = resp.Header.Revision
		}
		return err
	})
	if err != nil {
		return err
	}
	if since == 0 { // free in etcd; work under a lost lock of this process may not be at its end
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
			return nil
		}
	}
	c, err := e.connected(ctx)
	if err != nil {
		return err
	}
	watch, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), lockTTL)
	defer cancel()
	for resp := range c.Watch(watch, e.locks+name, clientv3.WithRev(since+1)) {
		if resp.Err() != nil || len(resp.Events) > 0 {
			break
		}
	}
	return ctx.Err()
}

func (e *etcd) TryLock(ctx context.Context, name string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	h := new(hold)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return false, errClosed
	}
	if e.held[name] != nil {
		e.mu.Unlock()
		return false, nil
	}
	e.held[name] = h // reserved: no other goroutine tries meanwhile
	e.mu.Unlock()
	ok, err := e.take(ctx, name, h)
	if !ok {
		e.mu.Lock()
		delete(e.held, name)
		e.mu.Unlock()
	}
	return ok, err
}

// take makes the lock's key in etcd for h, which is in held, if it is free.
func (e *etcd) take(ctx context.Context, name string, h *hold) (ok bool, err error) {
	// Most who ask find the lock taken: they make no lease for that.
	err = e.call(ctx, "lock", func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, e.locks+name, clientv3.WithCountOnly())
		if err != nil || resp.Count > 0 {
			return err
		}
		lease, err := c.Grant(ctx, int64(lockTTL/time.Second))
		if err != nil {
			return err
		}
		txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(e.locks+name), "=", 0)).
			Then(clientv3.OpPut(e.locks+name, holder(), clientv3.WithLease(lease.ID))).Commit()
		if err != nil || !txn.Succeeded {
			// After an error the key may be there all the same. Without its lease it cannot stay.
			e.revoke(lease.ID)
			return err
		}
		alive, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		e.mu.Lock()
		if e.closed { // meanwhile; the lease ends by itself
			e.mu.Unlock()
			stop()
			return errClosed
		}
		h.lease, h.revision, h.stop, ok = lease.ID, txn.Header.Revision, func() { stop(); done.Wait() }, true
		e.mu.Unlock()
		done.Go(func() { e.keepAlive(alive, name, h) })
		return nil
	})
	return ok, err
}

// keepAlive renews h's lease until ctx ends, or etcd says that it is gone. Any other failure is tried again: the lease outlives
// an etcd that is restarted, by what was left of its time.
func (e *etcd) keepAlive(ctx context.Context, name string, h *hold) {
	tick := time.NewTicker(lockTTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := e.renew(ctx, h)
		switch {
		case errors.Is(err, errLockLost):
			e.log.Warn("a lock was lost; what is done under it is not stored", "lock", name, "cause", "its lease ended while etcd could not be reached, or this process stood still")
			return
		case err != nil && ctx.Err() == nil:
			e.log.Warn("keeping a lock alive failed; trying again", "lock", name, "error", err)
		}
	}
}

// renew gives h's lease its whole time again. errLockLost: it has ended.
func (e *etcd) renew(ctx context.Context, h *hold) error {
	return e.call(ctx, "renew", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.KeepAliveOnce(ctx, h.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return errLockLost
		}
		return err
	})
}

func (e *etcd) Unlock(_ context.Context, name string) error {
	e.mu.Lock()
	h, closed := e.held[name], e.closed
	if h != nil && h.stop != nil {
		delete(e.held, name)
	}
	e.mu.Unlock()
	switch {
	case h == nil && closed:
		return nil
	case h == nil || h.stop == nil: // not held, or being taken by another goroutine
		return errNotHeld
	}
	h.stop()
	// Revoking the lease removes the lock's key only if it is still this lock's.
	return e.call(context.Background(), "unlock", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, h.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return errLockLost
		}
		return err
	})
}

// RenewLockLease ignores the time asked for, which may be hours: the lock lives as long as this process, and no longer.
func (e *etcd) RenewLockLease(ctx context.Context, name string, _ time.Duration) error {
	e.mu.Lock()
	h := e.held[name]
	e.mu.Unlock()
	if h == nil {
		ok, err := e.TryLock(ctx, name)
		if err == nil && !ok {
			err = errNotHeld
		}
		return err
	}
	err := e.renew(ctx, h)
	if !errors.Is(err, errLockLost) {
		return err
	}
	next := new(hold)
	ok, err := e.take(ctx, name, next)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", errLockLost, name)
	}
	if !ok {
		return err
	}
	e.mu.Lock()
	mine := e.held[name] == h
	if mine {
		e.held[name] = next
	}
	e.mu.Unlock()
	if !mine { // Unlock came in between
		next.stop()
		e.revoke(next.lease)
		return errNotHeld
	}
	h.stop()
	return nil
}

// revoke ends a lease, or leaves it to its time.
func (e *etcd) revoke(id clientv3.LeaseID) {
	_ = e.call(context.Background(), "unlock", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, id)
		return err
	})
}

func (e *etcd) Close() {
	e.mu.Lock()
	held := e.held
	e.held, e.closed = map[string]*hold{}, true
	e.mu.Unlock()
	var ends sync.WaitGroup
	for _, h := range held {
		if h.stop != nil {
			ends.Go(func() { h.stop(); e.revoke(h.lease) })
		}
	}
	ends.Wait()
	e.connecting <- struct{}{}
	defer func() { <-e.connecting }()
	if e.client != nil {
		_ = e.client.Close()
		e.client = nil
	}
}
