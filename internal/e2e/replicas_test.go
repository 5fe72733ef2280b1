//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"

	"m3gateway/internal/certs"
	"m3gateway/internal/faultnet"
	"m3gateway/internal/gatewaytest"
)

// orderedName is the domain that the replicas order a certificate for.
const orderedName = "gw.m3gateway.example"

// lockTime is how long a lock in etcd outlives a holder that was killed.
const lockTime = 15 * time.Second

// fleet is three gateways that share one etcd, behind one address, and the authority that validates at that address.
type fleet struct {
	t        *testing.T
	store    string // URL
	user     user
	etcd     *process
	etcdArgs []string
	endpoint string // of etcd
	pebble   *process
	roots    *x509.CertPool // of the certificates that it issues
	door     *door          // where it validates
	acme     string         // lines of tls.acme
	http     bool           // HTTP-01
	replicas [3]*replica
}

// replica is one gateway; a restart keeps its directory.
type replica struct {
	*process
	dir         string
	https, http string // addresses
	admin       string // URL
}

// startFleet starts etcd and the authority, whose certificates live for validity, and no gateway yet.
func startFleet(t *testing.T, challenge string, validity time.Duration, env ...string) *fleet {
	t.Helper()
	alice, _ := users()
	f := &fleet{t: t, store: gatewaytest.Store(t), user: alice, door: openDoor(t), http: challenge == "http-01"}
	f.startEtcd()

	dead, err := net.Listen("tcp", "127.0.0.1:0") // for the challenge that is not to be asked for
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dead.Close() })
	tlsPort, httpPort := f.door.port(), dead.Addr().(*net.TCPAddr).Port
	if f.http {
		tlsPort, httpPort = httpPort, tlsPort
	}
	dir := t.TempDir()
	pair, caFile, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	resolver := serveNames(t)
	f.pebble = startOn(t, func() (*process, error) {
		listen, management := faultnet.Address(t), faultnet.Address(t)
		conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
			"listenAddress": listen, "managementListenAddress": management, "certificate": pair.CertFile, "privateKey": pair.KeyFile,
			"httpPort": httpPort, "tlsPort": tlsPort,
			"profiles": map[string]any{"default": map[string]any{"description": "of this test", "validityPeriod": int(validity.Seconds())}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		p := runWith(t, env, "pebble", "-config", writeFile(t, filepath.Join(dir, "pebble.json"), string(conf)), "-dnsserver", resolver)
		f.acme = fmt.Sprintf("    directory_url: https://%s/dir\n    root_ca_file: %s\n    challenges: [%s]\n", listen, caFile, challenge)
		return p, f.fetchRoots(p, "https://"+management+"/roots/0", caFile)
	})
	return f
}

// fetchRoots waits for the authority, and learns what its certificates are to be checked against.
func (f *fleet) fetchRoots(p *process, url, caFile string) error {
	client := trusting(f.t, caFile)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		status, body, err := fetch(client, url)
		if err == nil && status == http.StatusOK {
			f.roots = x509.NewCertPool()
			if !f.roots.AppendCertsFromPEM(body) {
				return fmt.Errorf("no root: %s", body)
			}
			return nil
		}
		if p.ended() || time.Now().After(deadline) {
			return fmt.Errorf("pebble: %w: %v", errEnded, err)
		}
	}
}

// fetch gets url without a credential.
func fetch(c *http.Client, url string) (int, []byte, error) {
	return client{http: c, base: url}.do(http.MethodGet, "", "", nil)
}

// startEtcd starts etcd, again with the same data and addresses.
func (f *fleet) startEtcd() {
	f.t.Helper()
	ready := func(p *process) error { return p.ready(f.endpoint + "/health") }
	if f.etcdArgs != nil {
		f.etcd = run(f.t, "etcd", f.etcdArgs...)
		if err := ready(f.etcd); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	f.etcd = startOn(f.t, func() (*process, error) {
		f.endpoint = "http://" + faultnet.Address(f.t)
		f.etcdArgs = []string{"--data-dir", f.t.TempDir(), "--listen-client-urls", f.endpoint, "--advertise-client-urls", f.endpoint,
			"--listen-peer-urls", "http://" + faultnet.Address(f.t), "--unsafe-no-fsync", "--log-level", "error"}
		p := run(f.t, "etcd", f.etcdArgs...)
		return p, ready(p)
	})
}

// start starts replica i, on its addresses of before if it has some, and waits until its admin port answers.
func (f *fleet) start(i int) {
	f.t.Helper()
	r := f.replicas[i]
	again := r != nil
	if !again {
		r = &replica{dir: f.t.TempDir()}
		writeFile(f.t, filepath.Join(r.dir, "htpasswd"), passwd(f.t, f.user))
	}
	start := func() (*process, error) {
		if !again {
			r.https, r.http, r.admin = faultnet.Address(f.t), faultnet.Address(f.t), "http://"+faultnet.Address(f.t)
		}
		plain := ""
		if f.http {
			plain = "  http_address: " + r.http + "\n"
		}
		config := writeFile(f.t, filepath.Join(r.dir, "gateway.yaml"), fmt.Sprintf(`listen:
  https_address: %s
%s  admin_address: %s
  shutdown_delay: 0s
tls:
  acme:
    domains: [%s]
    email: ops@m3gateway.example
    agree_to_terms: true
%s    etcd: {endpoints: [%q], timeout: 2s, encryption_key: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}
    cache_dir: cache
auth:
  htpasswd_file: htpasswd
tenancy:
  users:
    %s: {tenants: [%s]}
upstream:
  kind: prometheus
  urls: [%q]
  health_interval: 500ms
log: {access: false} # what a failed test shows of the log is then about certificates
`, r.https, plain, strings.TrimPrefix(r.admin, "http://"), orderedName, f.acme, f.endpoint, f.user.name, f.user.tenant, f.store))
		p := run(f.t, "gateway", "serve", "--config", config)
		return p, p.ready(r.admin + "/readyz")
	}
	r.process = startOn(f.t, start)
	f.replicas[i] = r
	f.door.lead(f.targets()...)
}

func (f *fleet) startAll() {
	f.t.Helper()
	for i := range f.replicas {
		f.start(i)
	}
}

// targets are where validations go: the addresses of the replicas that run.
func (f *fleet) targets() []string {
	var all []string
	for _, r := range f.replicas {
		if r == nil || r.ended() {
			continue
		}
		if f.http {
			all = append(all, r.http)
		} else {
			all = append(all, r.https)
		}
	}
	return all
}

// serial is the serial number of the certificate that replica i serves for the domain, verified.
func (f *fleet) serial(i int) (string, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", f.replicas[i].https, &tls.Config{RootCAs: f.roots, ServerName: orderedName})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Text(16), nil
}

// agreed waits until all replicas that run serve the same certificate, and one that is not in before, and returns its number.
func (f *fleet) agreed(before ...string) string {
	f.t.Helper()
	var agreed string
	eventually(f.t, "one certificate on all replicas", func() error {
		agreed = ""
		for i, r := range f.replicas {
			if r.ended() {
				continue
			}
			s, err := f.serial(i)
			if err != nil {
				return fmt.Errorf("replica %d: %w", i, err)
			}
			if agreed != "" && s != agreed {
				return fmt.Errorf("certificates %s and %s", s, agreed)
			}
			agreed = s
		}
		if slices.Contains(before, agreed) {
			return errors.New("still the certificate of before")
		}
		return nil
	})
	return agreed
}

// client is a client of replica i that knows it by the domain's name.
func (f *fleet) client(i int, keepAlive bool) client {
	address := f.replicas[i].https
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: f.roots}, DisableKeepAlives: !keepAlive,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	f.t.Cleanup(transport.CloseIdleConnections)
	return client{http: &http.Client{Transport: transport, Timeout: 30 * time.Second}, base: "https://" + orderedName, user: f.user.name, password: f.user.password}
}

// orders counts what the authority's log says of orders begun and of certificates issued.
func (f *fleet) orders() (begun, issued int) {
	f.t.Helper()
	log, err := os.ReadFile(f.pebble.stdout)
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Count(string(log), "Added order "), strings.Count(string(log), "Issued certificate serial ")
}

// oneOrderEach fails unless each certificate but the first replaced one that no other order replaced, and no order came to nothing.
// The authority's log tells, as the gateways say which certificate an order replaces (ARI, RFC 9773). Of orders whose end could not
// be stored, or that were given up for that, there are lost at most, and the next one replaces none. It returns how many orders
// there were.
func (f *fleet) oneOrderEach(lost int) int {
	f.t.Helper()
	eventually(f.t, "no order is open", func() error {
		if begun, issued := f.orders(); begun-issued > lost {
			return fmt.Errorf("%d orders, %d certificates", begun, issued)
		}
		return nil
	})
	log, err := os.ReadFile(f.pebble.stdout)
	if err != nil {
		f.t.Fatal(err)
	}
	replaced := map[string]int{}
	for _, m := range regexp.MustCompile(`ARI: order "[^"]*" is a replacement of "([^"]*)"`).FindAllStringSubmatch(string(log), -1) {
		replaced[m[1]]++
	}
	begun, _ := f.orders()
	if first := begun - len(replaced); begun < 3 || first < 1 || first > 1+lost {
		f.t.Errorf("%d orders, which replaced %v", begun, replaced)
	}
	return begun
}

// holder is the replica that holds the lock of the order, by what it wrote into the lock.
func (f *fleet) holder() int {
	f.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{f.endpoint}, DialTimeout: 10 * time.Second})
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Get(context.Background(), "m3gateway/acme/lock/issue_cert_"+orderedName)
	if err != nil || len(resp.Kvs) != 1 {
		f.t.Fatalf("%v, %v", resp, err)
	}
	text := string(resp.Kvs[0].Value)
	for i, r := range f.replicas {
		if strings.HasSuffix(text, "process "+strconv.Itoa(r.cmd.Process.Pid)) {
			return i
		}
	}
	f.t.Fatalf("nobody holds the lock: %q", text)
	return 0
}

// private fails if anybody else could reach what the replicas keep on disk, beside what the test itself wrote there.
func (f *fleet) private() {
	f.t.Helper()
	for _, r := range f.replicas {
		eventually(f.t, "there is one copy and nothing else", func() error { // a new copy is written beside the old one
			files, err := f.privateFiles(filepath.Join(r.dir, "cache"))
			if err == nil && files != 1 {
				err = fmt.Errorf("%d files", files)
			}
			return err
		})
		if entries, err := os.ReadDir(r.dir); err != nil || len(entries) != 3 { // gateway.yaml, htpasswd, cache
			f.t.Errorf("%v, %v", entries, err)
		}
	}
}

// privateFiles counts the files below dir, and fails if one of them, or dir, is for others' eyes.
func (f *fleet) privateFiles(dir string) (files int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err // it was renamed meanwhile
		}
		want := fs.FileMode(0o700)
		if !d.IsDir() {
			files++
			want = 0o600
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.Contains(string(data), "PRIVATE KEY") {
				f.t.Errorf("%s is readable", path)
			}
		}
		if info.Mode().Perm() != want {
			f.t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	return files, err
}

// door is one address in front of several: each connection goes to the next one.
type door struct {
	l    net.Listener
	open chan struct{} // closed: connections go through; else they wait

	mu      sync.Mutex
	targets []string
	next    int
	through map[string]int // connections by target
	knocks  atomic.Int32   // connections that came, those that wait included
}

func openDoor(t *testing.T) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{l: l, open: make(chan struct{}), through: map[string]int{}}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.knocks.Add(1)
			go d.pass(c)
		}
	}()
	return d
}

func (d *door) port() int { return d.l.Addr().(*net.TCPAddr).Port }

func (d *door) lead(targets ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.targets = targets
}

// pass brings one connection to a target, to the next one if the first does not take it.
func (d *door) pass(c net.Conn) {
	defer c.Close()
	<-d.open
	for range 3 {
		d.mu.Lock()
		if len(d.targets) == 0 {
			d.mu.Unlock()
			return
		}
		target := d.targets[d.next%len(d.targets)]
		d.next++
		d.mu.Unlock()
		up, err := net.Dial("tcp", target)
		if err != nil {
			continue
		}
		defer up.Close()
		d.mu.Lock()
		d.through[target]++
		d.mu.Unlock()
		done := make(chan struct{}, 2)
		go func() { copyAll(up, c); done <- struct{}{} }()
		go func() { copyAll(c, up); done <- struct{}{} }()
		<-done
		return
	}
}

func copyAll(to, from net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// serveNames answers every question for an address with 127.0.0.1, until the test ends.
func serveNames(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		for _, question := range q.Question {
			if question.Qtype == dns.TypeA {
				a.Answer = append(a.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(127, 0, 0, 1)})
			}
		}
		_ = w.WriteMsg(a)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return l.Addr().String()
}

// TestReplicasShareOneOrder: three gateways that start at once place one order, each of them answers the authority, which
// rejects nonces and waits at random, and all serve the one certificate, also after a restart without the authority.
func TestReplicasShareOneOrder(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			f := startFleet(t, challenge, 24*time.Hour, "PEBBLE_WFE_NONCEREJECT=15", "PEBBLE_VA_SLEEPTIME=2")
			f.startAll() // nobody can be validated before all three run
			close(f.door.open)
			serial := f.agreed()
			if begun, issued := f.orders(); begun != 1 || issued != 1 {
				t.Errorf("%d orders, %d certificates", begun, issued)
			}
			f.door.mu.Lock()
			if len(f.door.through) != 3 {
				t.Errorf("validated at %v, want each replica", f.door.through)
			}
			f.door.mu.Unlock()
			f.private()

			f.pebble.kill()
			for i := range f.replicas {
				if code := f.replicas[i].terminate(t); code != 0 {
					t.Errorf("replica %d ended with %d", i, code)
				}
				f.start(i)
			}
			if again := f.agreed(); again != serial {
				t.Errorf("after the restart: %s, before: %s", again, serial)
			}
		})
	}
}

// TestReplicaKilledInAnOrder: the replica that orders is killed while the authority validates; its lock ends, and another one
// finishes.
func TestReplicaKilledInAnOrder(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "tls-alpn-01", 24*time.Hour, "PEBBLE_WFE_NONCEREJECT=15", "PEBBLE_VA_NOSLEEP=1")
	f.startAll()
	eventually(t, "the authority validates", func() error {
		if f.door.knocks.Load() == 0 {
			return errors.New("no connection yet")
		}
		return nil
	})
	victim := f.holder()
	f.replicas[victim].kill()
	killed := time.Now()
	f.door.lead(f.targets()...)
	close(f.door.open)
	serial := f.agreed()
	took := time.Since(killed)
	t.Logf("another replica finished %v after the kill", took.Round(time.Millisecond))
	if took > 2*lockTime {
		t.Errorf("another replica finished only %v after the kill; the lock lives for %v", took, lockTime)
	}
	if begun, issued := f.orders(); begun != 2 || issued != 1 {
		t.Errorf("%d orders, %d certificates; want the one of the killed replica and one more", begun, issued)
	}
	f.start(victim)
	if again := f.agreed(); again != serial {
		t.Errorf("with the restarted replica: %s, before: %s", again, serial)
	}
}

// load asks replica i again and again until stop is closed, each time over a new connection, and beside it over one that is kept.
// Every failure is an error of the test.
func (f *fleet) load(i int, stop <-chan struct{}, total *atomic.Int64) func() {
	var workers sync.WaitGroup
	for _, keep := range []bool{false, true} {
		c := f.client(i, keep)
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				if _, err := c.api(http.MethodGet, "/api/v1/labels", nil); err != nil {
					f.t.Errorf("replica %d, kept connection %v: %v", i, keep, err)
					return
				}
				total.Add(1)
			}
		})
	}
	return workers.Wait
}

// TestRenewalAndOutage: certificates of 45 seconds are renewed under load without a failed request, each by one order, on all
// replicas; when etcd is stopped, the replicas that run and one that starts serve on; when it is back, renewal goes on.
func TestRenewalAndOutage(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "tls-alpn-01", 45*time.Second, "PEBBLE_WFE_NONCEREJECT=15", "PEBBLE_VA_NOSLEEP=1")
	f.startAll() // nobody can be validated before all three run
	close(f.door.open)
	seen := []string{f.agreed()}

	stop := make(chan struct{})
	var total atomic.Int64
	var waits []func()
	for i := range f.replicas {
		waits = append(waits, f.load(i, stop, &total))
	}
	for range 2 {
		seen = append(seen, f.agreed(seen...))
	}
	before := f.oneOrderEach(0)

	// Right after a renewal, so that what is served outlives the outage. The authority may have suggested to renew again at once.
	f.etcd.kill()
	killed := time.Now()
	restarted := 2
	close(stop)
	for _, wait := range waits {
		wait()
	}
	if code := f.replicas[restarted].terminate(t); code != 0 {
		t.Errorf("the replica ended with %d", code)
	}
	f.start(restarted)
	if s := f.agreed(); s != seen[len(seen)-1] {
		t.Errorf("without etcd the certificate is %s, want %s", s, seen[len(seen)-1])
	}
	begun, _ := f.orders()
	stop, waits = make(chan struct{}), nil
	for i := range f.replicas {
		waits = append(waits, f.load(i, stop, &total))
	}
	for i := range f.replicas {
		eventually(t, "the metric says that the storage is down", func() error {
			_, body, err := fetch(http.DefaultClient, f.replicas[i].admin+"/metrics")
			if err == nil && !strings.Contains(string(body), "\nm3gateway_certs_storage_up 0\n") {
				err = errors.New("it does not")
			}
			return err
		})
	}
	f.startEtcd()
	down := time.Since(killed) // what was served must outlive it, and the next order
	next := f.agreed(seen...)
	close(stop)
	for _, wait := range waits {
		wait()
	}
	f.oneOrderEach(begun - before)
	t.Logf("%d requests; certificates %q and, after an outage of %.1f s, %s", total.Load(), seen, down.Seconds(), next)
	if total.Load() < 500 {
		t.Errorf("only %d requests", total.Load())
	}
	f.private()
}
