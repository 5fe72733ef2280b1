package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// etcd is a storage in an etcd cluster, for any number of gateways:
//
//	PREFIX/data/KEY   a sealed value (see sealer); KEY as certmagic names it, with slashes
//	PREFIX/lock/NAME  a lock: the text names its holder; it is under a lease of lockTTL that the holder keeps alive
//
// Nothing else is kept below PREFIX. A directory is there as long as a key is below it. Each request to etcd is bounded by
// timeout. No request waits for the connection to come back longer than that; the client reconnects by itself.
//
// A lock is the one key PREFIX/lock/NAME, made in a transaction only if it is not there, under a lease of its own; it
// ends by the lease's end. So nobody can end a lock but its holder, and etcd itself, lockTTL after the holder last said
// that it lives. What is stored below certificates/…/NAME while this process has the lock issue_cert_NAME is stored only if it
// still has it: a holder that was stopped and goes on too late cannot mix its key with another's certificate.
type etcd struct {
	cfg     clientv3.Config
	data    string // PREFIX/data/
	locks   string // PREFIX/lock/
	timeout time.Duration
	sealer  *sealer
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time

	tokens     turns
	connecting chan struct{} // has one entry while client is being made or looked at
	client     *clientv3.Client

	mu     sync.Mutex
	held   map[string]*hold // by lock name
	closed bool
}

// maxReconnect bounds the pause between two tries to reach an etcd that was down.
const maxReconnect = 3 * time.Second

// openEtcd prepares the client and connects to nothing yet: an etcd that is down keeps no gateway from starting.
func openEtcd(cfg Etcd, files *etcdFiles, log *slog.Logger, m *metrics, now func() time.Time) *etcd {
	return &etcd{
		cfg: clientv3.Config{
			Endpoints: cfg.Endpoints, Username: cfg.Username, Password: cfg.Password, TLS: files.tls,
			DialTimeout: cfg.Timeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: cfg.Timeout,
			Logger: zap.NewNop(), // each failure comes back as an error, and is logged with what it means
			DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnect},
				MinConnectTimeout: cfg.Timeout,
			})},
		},
		data: cfg.Prefix + "/data/", locks: cfg.Prefix + "/lock/", timeout: cfg.Timeout,
		sealer: files.sealer, log: log, metrics: m, now: now,
		connecting: make(chan struct{}, 1), held: map[string]*hold{},
	}
}

// etcdFiles is what the files and secrets of an Etcd section hold.
type etcdFiles struct {
	tls    *tls.Config // nil: no TLS
	sealer *sealer
}

// readEtcdFiles reads them. The client's own certificate is read anew at each connection, as such certificates are renewed.
func readEtcdFiles(cfg Etcd) (*etcdFiles, error) {
	sealer, err := newSealer(cfg.EncryptionKey)
	if err != nil {
		return nil, fmt.Errorf("acme.etcd.encryption_key %w", err)
	}
	files := &etcdFiles{sealer: sealer}
	if !cfg.secure() {
		return files, nil
	}
	files.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		if files.tls.RootCAs, err = readPool(cfg.CAFile); err != nil {
			return nil, fmt.Errorf("reading acme.etcd.ca_file: %w", err)
		}
	}
	if cfg.CertFile != "" {
		pair := Pair{CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
		if _, err := read(pair); err != nil {
			return nil, fmt.Errorf("reading acme.etcd.cert_file and key_file: %w", err)
		}
		files.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			e, err := read(pair)
			if err != nil {
				return nil, err
			}
			return &e.cert, nil
		}
	}
	return files, nil
}

// readPool reads a bundle of PEM certificates.
func readPool(file string) (*x509.CertPool, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}

func (e *etcd) String() string { return "etcd " + strings.Join(e.cfg.Endpoints, ", ") }

// connected returns the client. Where a password is set, making one needs an etcd that answers, so it is tried again at each
// call until it has succeeded once.
func (e *etcd) connected(ctx context.Context) (*clientv3.Client, error) {
	select {
	case e.connecting <- struct{}{}:
		defer func() { <-e.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e.client != nil {
		return e.client, nil
	}
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	c, err := clientv3.New(e.cfg)
	if err != nil {
		return nil, err
	}
	e.client = c
	return c, nil
}

// call does one request within timeout. An error is counted, and says that it is etcd's.
func (e *etcd) call(ctx context.Context, op string, f func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	c, err := e.connected(ctx)
	if err == nil {
		err = f(ctx, c)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, errLockLost):
		return err
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %v", e.timeout)
	}
	e.metrics.storageErrors.WithLabelValues(op).Inc()
	e.renewLogin(c)
	return fmt.Errorf("etcd: %s: %w", op, err)
}

// renewLogin gives up a client with a password that had an error, so that the next call logs in anew: an etcd 3.4 that was
// restarted knows none of the tokens it gave out, and refuses with them even the request for a new one.
func (e *etcd) renewLogin(c *clientv3.Client) {
	if c == nil || e.cfg.Username == "" {
		return
	}
	e.connecting <- struct{}{}
	defer func() { <-e.connecting }()
	if e.client == c {
		e.client = nil
		time.AfterFunc(e.timeout, func() { _ = c.Close() }) // others may be in the middle of a request
	}
}

// Ready makes etcd agree on a read below the prefix, which a member that is cut off from the others cannot.
func (e *etcd) Ready(ctx context.Context) error {
	return e.call(ctx, "ready", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Get(ctx, e.data, clientv3.WithCountOnly())
		return err
	})
}

func (e *etcd) Store(ctx context.Context, key string, value []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	sealed := e.sealer.seal(key, value, e.now())
	return e.call(ctx, "store", func(ctx context.Context, c *clientv3.Client) error {
		return e.guarded(ctx, c, key, clientv3.OpPut(e.data+key, string(sealed)))
	})
}

func (e *etcd) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return e.call(ctx, "delete", func(ctx context.Context, c *clientv3.Client) error {
		return e.guarded(ctx, c, key, clientv3.OpDelete(e.data+key), clientv3.OpDelete(e.data+key+"/", clientv3.WithPrefix()))
	})
}

// guarded does all of ops, or none if the lock that guards key was this process' and is no longer.
func (e *etcd) guarded(ctx context.Context, c *clientv3.Client, key string, ops ...clientv3.Op) error {
	txn := c.Txn(ctx)
	if name, h := e.guard(key); h != nil {
		txn = txn.If(clientv3.Compare(clientv3.CreateRevision(e.locks+name), "=", h.revision))
	}
	resp, err := txn.Then(ops...).Commit()
	if err == nil && !resp.Succeeded {
		err = errLockLost
	}
	return err
}

// guard returns the lock of this process that protects key.
func (e *etcd) guard(key string) (string, *hold) {
	parts := strings.Split(key, "/")
	if len(parts) < 3 || parts[0] != "certificates" {
		return "", nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, h := range e.held {
		if domain, ok := strings.CutPrefix(name, issueLock); ok && h.stop != nil && certmagic.StorageKeys.Safe(domain) == parts[2] {
			return name, h
		}
	}
	return "", nil
}

// issueLock begins the name of certmagic's lock for an order or a renewal; the domain follows.
const issueLock = "issue_cert_"

// Load asks etcd for one challenge's token at a time, for all who want it: whoever reaches the gateway may pretend to be the
// authority and ask for tokens, and the etcd may be the one that a store depends on.
func (e *etcd) Load(ctx context.Context, key string) ([]byte, error) {
	if strings.Contains(key, "/challenge_tokens/") {
		return e.tokens.do(key, func() ([]byte, error) {
			value, _, err := e.load(context.WithoutCancel(ctx), "load", key)
			return value, err
		})
	}
	value, _, err := e.load(ctx, "load", key)
	return value, err
}

func (e *etcd) load(ctx context.Context, op, key string) (value []byte, modified time.Time, err error) {
	if err := checkKey(key); err != nil {
		return nil, time.Time{}, err
	}
	err = e.call(ctx, op, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, e.data+key)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return fs.ErrNotExist
		}
		value, modified, err = e.sealer.open(key, resp.Kvs[0].Value)
		return err
	})
	return value, modified, err
}

// Exists is false also if etcd does not answer, as its interface has no error: see authority.mayOrder.
func (e *etcd) Exists(ctx context.Context, key string) bool {
	if checkKey(key) != nil {
		return false
	}
	found := false
	err := e.call(ctx, "exists", func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Txn(ctx).Then(clientv3.OpGet(e.data+key, clientv3.WithCountOnly()),
			clientv3.OpGet(e.data+key+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
		if err == nil {
			for _, r := range resp.Responses {
				found = found || r.GetResponseRange().Count > 0
			}
		}
		return err
	})
	return err == nil && found
}

func (e *etcd) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, modified, err := e.load(ctx, "stat", key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: modified, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		var keys []string
		if keys, err = e.List(ctx, key, false); len(keys) > 0 {
			return certmagic.KeyInfo{Key: key}, nil
		}
	}
	return certmagic.KeyInfo{}, err
}

// List returns the keys right below prefix, or all of them, directories included. An empty prefix is that of all.
func (e *etcd) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	below := ""
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, err
		}
		below = prefix + "/"
	}
	var keys []string
	err := e.call(ctx, "list", func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, e.data+below, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 && prefix != "" {
			return fs.ErrNotExist
		}
		for _, kv := range resp.Kvs {
			rest := strings.TrimPrefix(string(kv.Key), e.data+below)
			for i, r := range rest {
				if r == '/' {
					keys = append(keys, below+rest[:i])
				}
				if r == '/' && !recursive {
					rest = ""
					break
				}
			}
			if rest != "" {
				keys = append(keys, below+rest)
			}
		}
		return nil
	})
	slices.Sort(keys)
	return slices.Compact(keys), err
}
