//go:build e2e

package certs

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"m3gateway/internal/faultnet"
)

// etcdServers are the etcd binaries to test with: the one that M3GATEWAY_ETCD names (module internal/e2e/etcd), and the machine's
// own, such as Debian's 3.4, if it has one.
func etcdServers(t *testing.T) []string {
	t.Helper()
	built := os.Getenv("M3GATEWAY_ETCD")
	if built == "" {
		t.Fatal("M3GATEWAY_ETCD must name an etcd binary; build it in internal/e2e/etcd: go build -o DIR/etcd go.etcd.io/etcd/server/v3")
	}
	all := []string{built}
	if own, err := exec.LookPath("etcd"); err == nil {
		all = append(all, own)
	}
	return all
}

// etcdServer is a running etcd that keeps its data and addresses when it is started again.
type etcdServer struct {
	t        *testing.T
	args     []string
	binary   string
	endpoint string
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
	out      *lockedBuffer
}

// startEtcd starts an etcd with further flags.
func startEtcd(t *testing.T, binary, scheme string, flags ...string) *etcdServer {
	t.Helper()
	s := &etcdServer{t: t, binary: binary, out: &lockedBuffer{}}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			log := s.out.String()
			t.Logf("etcd:\n%s", log[max(0, len(log)-4000):])
		}
	})
	for range 10 { // where addresses are not kept for the test, one may be taken
		s.endpoint = scheme + "://" + faultnet.Address(t)
		s.args = append([]string{"--data-dir", t.TempDir(), "--listen-client-urls", s.endpoint, "--advertise-client-urls", s.endpoint,
			"--listen-peer-urls", "http://" + faultnet.Address(t), "--unsafe-no-fsync"}, flags...)
		if v, _ := exec.Command(binary, "--version").Output(); bytes.Contains(v, []byte("Version: 3.4.")) {
			s.args = slices.DeleteFunc(s.args, func(a string) bool { return a == "--unsafe-no-fsync" })
		}
		if s.start() {
			return s
		}
		if !strings.Contains(s.out.String(), "address already in use") {
			break
		}
	}
	t.Fatal("etcd does not start")
	return nil
}

// start returns true when etcd accepts connections, false if it ended.
func (s *etcdServer) start() bool {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	must(s.t, s.cmd.Start())
	cmd, ended := s.cmd, make(chan struct{})
	s.ended = ended
	go func() { _ = cmd.Wait(); close(ended) }()
	_, addr, _ := strings.Cut(s.endpoint, "://")
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
	return false
}

func (s *etcdServer) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// raw is a client of the server that knows nothing of the format.
func (s *etcdServer) raw() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint}, DialTimeout: 5 * time.Second})
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

func testKey(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func TestEtcdContract(t *testing.T) {
	for _, binary := range etcdServers(t) {
		t.Run(binary, func(t *testing.T) {
			t.Parallel()
			server := startEtcd(t, binary, "http")
			t.Cleanup(func() { onlyData(t, server, "test/clear/data/", "test/encrypted/data/") })
			for name, key := range map[string]string{"clear": "", "encrypted": testKey('k')} {
				t.Run(name, func(t *testing.T) {
					t.Parallel() // most of the time is a wait for a lease's end
					runContract(t, func(t *testing.T) storage {
						s := etcdAt(server.endpoint, "test/"+name, key)
						t.Cleanup(s.Close)
						return s
					})
				})
			}
		})
	}
}

// onlyData fails if the server has keys below other prefixes, such as a lock that is left.
func onlyData(t *testing.T, server *etcdServer, prefixes ...string) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.endpoint}, DialTimeout: 5 * time.Second})
	must(t, err)
	defer c.Close()
	resp, err := c.Get(context.Background(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(t, err)
	for _, kv := range resp.Kvs {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(string(kv.Key), p) }) {
			t.Errorf("key %q", kv.Key)
		}
	}
	if len(resp.Kvs) == 0 {
		t.Error("nothing was stored")
	}
}

// TestEtcdOutage: requests fail within their timeout while etcd is down, also at the start; a lock outlives a restart of etcd; all
// goes on when it is back.
func TestEtcdOutage(t *testing.T) {
	for _, binary := range etcdServers(t) {
		t.Run(binary, func(t *testing.T) {
			t.Parallel()
			server := startEtcd(t, binary, "http")
			s := etcdAt(server.endpoint, "test", "")
			s.timeout = time.Second
			t.Cleanup(s.Close)
			ctx := t.Context()
			for deadline := time.Now().Add(time.Minute); ; { // a second may be short for a server that has only just started
				err := s.Store(ctx, "a/b", []byte("x"))
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
			must(t, s.Lock(ctx, "held"))

			server.stop()
			late := etcdAt(server.endpoint, "test", "") // a gateway that starts without etcd
			late.timeout = time.Second
			t.Cleanup(late.Close)
			for _, s := range []*etcd{s, late} {
				for op, f := range map[string]func() error{
					"ready": func() error { return s.Ready(ctx) },
					"store": func() error { return s.Store(ctx, "a/b", []byte("y")) },
					"load":  func() error { _, err := s.Load(ctx, "a/b"); return err },
					"stat":  func() error { _, err := s.Stat(ctx, "a/b"); return err },
					"list":  func() error { _, err := s.List(ctx, "a", true); return err },
					"lock":  func() error { return s.Lock(ctx, "other") },
					"try":   func() error { _, err := s.TryLock(ctx, "other"); return err },
				} {
					begin := time.Now()
					if err := f(); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "etcd") {
						t.Errorf("%s: %v", op, err)
					}
					if took := time.Since(begin); took > 10*time.Second {
						t.Errorf("%s took %v", op, took)
					}
				}
				if s.Exists(ctx, "a/b") {
					t.Error("it exists while nobody can know")
				}
			}

			if !server.start() {
				t.Fatal("etcd does not start again")
			}
			awaitReady(t, s, late)
			if got, err := late.Load(ctx, "a/b"); err != nil || string(got) != "x" {
				t.Errorf("%q, %v", got, err)
			}
			must(t, s.RenewLockLease(ctx, "held", 0))
			if ok, err := late.TryLock(ctx, "held"); ok || err != nil {
				t.Errorf("the lock did not outlive etcd's restart: %v, %v", ok, err)
			}
			must(t, s.Unlock(ctx, "held"))
			must(t, late.Lock(ctx, "held"))
			must(t, late.Unlock(ctx, "held"))
		})
	}
}

func awaitReady(t *testing.T, all ...*etcd) {
	t.Helper()
	for _, s := range all {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			err := s.Ready(t.Context())
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
}

// TestEtcdLostLock: a holder whose lease has ended, as of a process that stood still, stores nothing under its lock, takes
// nobody else's lock away, and gets the lock again when it is free.
func TestEtcdLostLock(t *testing.T) {
	server := startEtcd(t, etcdServers(t)[0], "http")
	a, b, ctx := etcdAt(server.endpoint, "test", ""), etcdAt(server.endpoint, "test", ""), t.Context()
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	const lock, key = issueLock + "*.example.org", "certificates/ca/wildcard_.example.org/wildcard_.example.org.key"
	must(t, a.Lock(ctx, lock))
	must(t, a.Store(ctx, key, []byte("a's")))
	lose := func() {
		_, err := server.raw().Revoke(ctx, a.held[lock].lease)
		must(t, err)
	}
	lose()
	if err := a.Store(ctx, key, []byte("too late")); !errors.Is(err, errLockLost) {
		t.Errorf("Store under a lock that is free: %v", err)
	}
	must(t, b.Lock(ctx, lock))
	must(t, b.Store(ctx, key, []byte("b's")))
	if err := a.Store(ctx, key, []byte("too late")); !errors.Is(err, errLockLost) {
		t.Errorf("Store under a lock of another: %v", err)
	}
	if err := a.Delete(ctx, key); !errors.Is(err, errLockLost) {
		t.Errorf("Delete: %v", err)
	}
	must(t, a.Store(ctx, "certificates/ca/other.example/other.example.key", []byte("x")))
	if err := a.RenewLockLease(ctx, lock, time.Hour); !errors.Is(err, errLockLost) {
		t.Errorf("RenewLockLease: %v", err)
	}
	if got, err := b.Load(ctx, key); err != nil || string(got) != "b's" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, b.Unlock(ctx, lock))
	must(t, a.RenewLockLease(ctx, lock, time.Hour)) // free again: taken again
	must(t, a.Store(ctx, key, []byte("a's again")))
	if ok, err := b.TryLock(ctx, lock); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	lose()
	must(t, b.Lock(ctx, lock))
	if err := a.Unlock(ctx, lock); !errors.Is(err, errLockLost) {
		t.Errorf("Unlock of a lost lock: %v", err)
	}
	if ok, err := a.TryLock(ctx, lock); ok || err != nil {
		t.Errorf("b's lock is gone: %v, %v", ok, err)
	}
	must(t, b.Unlock(ctx, lock))
}

// TestEtcdKeepsLocksAlive: a lock outlives its lease's first time as long as its holder lives.
func TestEtcdKeepsLocksAlive(t *testing.T) {
	t.Parallel()
	server := startEtcd(t, etcdServers(t)[0], "http")
	a, b, ctx := etcdAt(server.endpoint, "test", ""), etcdAt(server.endpoint, "test", ""), t.Context()
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	must(t, a.Lock(ctx, "long"))
	wait, cancel := context.WithTimeout(ctx, lockTTL+lockTTL/2)
	defer cancel()
	if err := b.Lock(wait, "long"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	must(t, a.Unlock(ctx, "long"))
}

// TestEtcdFormat: what rests in etcd is the documented format, and with a key nothing of the value is readable.
func TestEtcdFormat(t *testing.T) {
	server := startEtcd(t, etcdServers(t)[0], "http")
	ctx, c := t.Context(), server.raw()
	at := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	secret := []byte("-----BEGIN PRIVATE KEY-----")
	for prefix, key := range map[string]string{"clear": "", "sealed": testKey('s')} {
		s := etcdAt(server.endpoint, prefix, key)
		s.now = func() time.Time { return at }
		t.Cleanup(s.Close)
		must(t, s.Store(ctx, "acme/x.key", secret))
		resp, err := c.Get(ctx, prefix+"/data/acme/x.key")
		must(t, err)
		raw := resp.Kvs[0].Value
		if want := "m3gw\x01" + map[string]string{"": "\x00"}[key]; !strings.HasPrefix(string(raw), want) || bytes.Contains(raw, secret) != (key == "") {
			t.Errorf("%s: %q", prefix, raw)
		}
		if info, err := s.Stat(ctx, "acme/x.key"); err != nil || !info.Modified.Equal(at) || info.Size != int64(len(secret)) {
			t.Errorf("%s: %+v, %v", prefix, info, err)
		}
		// Another program's value is an error, not an absence: nothing may be ordered in its place.
		_, err = c.Put(ctx, prefix+"/data/acme/foreign", "hello")
		must(t, err)
		if _, err := s.Load(ctx, "acme/foreign"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "not written by m3gateway") {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}

// TestEtcdTLSAndPassword: TLS with a client certificate, and a user who may write below the prefix alone; also when etcd is down
// at the start.
func TestEtcdTLSAndPassword(t *testing.T) {
	for _, binary := range etcdServers(t) {
		t.Run(binary, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			pair, caFile, err := Development(filepath.Join(dir, "server"), []string{"127.0.0.1"}, time.Now())
			must(t, err)
			own := newTestCA(t)
			client := own.pair("client.pem", time.Hour, "gateway")
			clientCA := filepath.Join(dir, "clients.crt")
			write(t, clientCA, pemOf(own.cert.Leaf.Raw))
			server := startEtcd(t, binary, "https", "--cert-file", pair.CertFile, "--key-file", pair.KeyFile, "--client-cert-auth", "--trusted-ca-file", clientCA)

			cfg := Defaults().ACME.Etcd
			cfg.Endpoints, cfg.Prefix, cfg.CAFile = []string{server.endpoint}, "gw/acme", caFile
			cfg.CertFile, cfg.KeyFile = client.CertFile, client.KeyFile
			cfg.Username, cfg.Password, cfg.Timeout = "gateway", "s3cret", 20*time.Second // etcd hashes the password first
			open := func(change func(*Etcd)) *etcd {
				cfg := cfg
				change(&cfg)
				files, err := readEtcdFiles(cfg)
				must(t, err)
				s := etcdAt("", "", "")
				s = openEtcd(cfg, files, s.log, s.metrics, time.Now)
				t.Cleanup(s.Close)
				return s
			}
			files, err := readEtcdFiles(cfg)
			must(t, err)
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.endpoint}, TLS: files.tls, DialTimeout: 5 * time.Second})
			must(t, err)
			t.Cleanup(func() { c.Close() })
			enableAuth(t, c, cfg)

			ctx := t.Context()
			s := open(func(*Etcd) {})
			must(t, s.Store(ctx, "a", []byte("x")))
			must(t, s.Lock(ctx, "l"))
			must(t, s.RenewLockLease(ctx, "l", 0))
			must(t, s.Unlock(ctx, "l"))
			must(t, s.Ready(ctx))
			for name, change := range map[string]func(*Etcd){
				"another prefix":        func(e *Etcd) { e.Prefix = "elsewhere" },
				"a wrong password":      func(e *Etcd) { e.Password = "wrong" },
				"no client certificate": func(e *Etcd) { e.CertFile = "" },
				"another authority":     func(e *Etcd) { e.CAFile = clientCA },
			} {
				err := open(change).Store(ctx, "a", []byte("y"))
				if err == nil || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%s: %v", name, err)
				}
			}
			server.stop()
			late := open(func(*Etcd) {})
			if err := late.Ready(ctx); err == nil {
				t.Error("ready while etcd is down")
			}
			if !server.start() {
				t.Fatal("etcd does not start again")
			}
			awaitReady(t, s, late)
			if got, err := late.Load(ctx, "a"); err != nil || string(got) != "x" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func enableAuth(t *testing.T, c *clientv3.Client, cfg Etcd) {
	t.Helper()
	ctx := t.Context()
	for _, f := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "r00t"); return err },
		func() error { _, err := c.RoleAdd(ctx, "root"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.UserAdd(ctx, cfg.Username, cfg.Password); return err },
		func() error { _, err := c.RoleAdd(ctx, "gateway"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "gateway", cfg.Prefix+"/", clientv3.GetPrefixRangeEnd(cfg.Prefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserGrantRole(ctx, cfg.Username, "gateway"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		must(t, f())
	}
}
