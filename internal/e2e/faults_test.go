//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"m3gateway/internal/certs"
	"m3gateway/internal/faultnet"
)

// The fault matrix: each fault befalls the member that a tenant's writes go to, one of two, or either of the two among which its
// batches are divided, under the steady load of a real Prometheus, of senders that repeat what was not acknowledged, and of a
// reader. The gateways run with the defaults of their configuration. Nothing that was acknowledged may be lost, whatever happens,
// and each sender must be heard again when it is over.

// faultTimes say how long a case takes, and how many there are at a time.
type faultTimes struct {
	before, during, after time.Duration
	pace                  time.Duration // between the writes of a sender
	together              int
}

// timesOfFaults are short, with all cases at once, unless M3GATEWAY_FAULTS is long: then two at a time, so that latencies mean
// more. During is more than the defaults need to find a member out that says nothing.
func timesOfFaults(cases int) faultTimes {
	if os.Getenv("M3GATEWAY_FAULTS") == "long" {
		return faultTimes{before: 4 * time.Second, during: 12 * time.Second, after: 5 * time.Second, pace: writerPace, together: 2}
	}
	return faultTimes{before: 3 * time.Second, during: 12 * time.Second, after: 2 * time.Second, pace: 3 * writerPace, together: cases}
}

// beforeHandover is longer than a round of probes, as all members that are found in the first one count as having been there all
// along: one that comes later owns series from a bound on that is known 10 s before.
const beforeHandover = 10 * time.Second

// faultCase is a gateway before two members, one of which something befalls.
type faultCase struct {
	name   string
	strike func(t *testing.T, c *faultCase) // t is the whole matrix's, whose end ends what is started
	lift   func(t *testing.T, c *faultCase)
	// own says that the members' processes are the case's alone, as something befalls them.
	own bool
	// named says that the members are found by name.
	named bool
	// refusals are allowed: the fault is an answer that judges the data.
	refusals bool
	// divided says that the case is one for routing: series too.
	divided bool
	// series is for the case with that routing: each batch is divided among the members.
	series bool

	stores  []*prometheus // nil where the store is not ours
	proxies []*faultnet.Proxy
	names   *faultnet.NameServer
	home    int // the member that it befalls
	gateway *gateway
	user    user
	load    *load
	row     string
}

func faultCases() []*faultCase {
	fault := func(f faultnet.Fault) func(*testing.T, *faultCase) {
		return func(_ *testing.T, c *faultCase) { c.proxies[c.home].Set(f) }
	}
	none := fault(faultnet.Fault{})
	write := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/write") }
	signal := func(s syscall.Signal) func(*testing.T, *faultCase) {
		return func(t *testing.T, c *faultCase) {
			if err := c.stores[c.home].cmd.Process.Signal(s); err != nil {
				t.Error(err)
			}
		}
	}
	restart := func(t *testing.T, c *faultCase) {
		s := c.stores[c.home]
		<-s.done
		s.restart(t)
	}
	names := func(addresses ...string) func(*testing.T, *faultCase) {
		return func(_ *testing.T, c *faultCase) {
			c.names.Set("store.test", faultnet.Record{Addresses: addresses, TTL: 1})
		}
	}
	feel := func(m faultnet.Mood) func(*testing.T, *faultCase) {
		return func(_ *testing.T, c *faultCase) { c.names.Feel(m) }
	}
	return []*faultCase{
		{name: "kill -9, started again", divided: true, own: true, strike: signal(syscall.SIGKILL), lift: restart},
		{name: "SIGTERM, started again", own: true, strike: signal(syscall.SIGTERM), lift: restart},
		{name: "SIGSTOP, SIGCONT", divided: true, own: true, strike: signal(syscall.SIGSTOP), lift: signal(syscall.SIGCONT)},
		{name: "restarted at once", own: true, lift: func(*testing.T, *faultCase) {}, strike: func(t *testing.T, c *faultCase) {
			c.stores[c.home].terminate(t)
			c.stores[c.home].restart(t)
		}},
		{name: "connections refused", strike: fault(faultnet.Fault{Refuse: true}), lift: none},
		{name: "reset at the first byte", strike: fault(faultnet.Fault{ResetAfter: -1}), lift: none},
		{name: "reset at byte 700", divided: true, strike: fault(faultnet.Fault{ResetAfter: 700}), lift: none},
		{name: "half-open connections", divided: true, strike: fault(faultnet.Fault{HalfOpen: true}), lift: none},
		{name: "black hole", divided: true, strike: fault(faultnet.Fault{BlackHole: true}), lift: none},
		{name: "500 to writes", divided: true, strike: fault(faultnet.Fault{Status: 500, Only: write}), lift: none},
		{name: "503 to everything", strike: fault(faultnet.Fault{Status: 503}), lift: none},
		{name: "400 to writes", divided: true, refusals: true, strike: fault(faultnet.Fault{Status: 400, Only: write}), lift: none},
		{name: "answers after 30 s", divided: true, strike: fault(faultnet.Fault{Delay: 30 * time.Second}), lift: none},
		{name: "answers at 1 B/s", divided: true, strike: fault(faultnet.Fault{BytesPerSecond: 1}), lift: none},
		{name: "the name moves, and back", divided: true, named: true, strike: names("127.0.0.3"), lift: names("127.0.0.2")},
		{name: "one more member, and one less", divided: true, named: true, strike: names("127.0.0.2", "127.0.0.3"), lift: names("127.0.0.2")},
		{name: "the name's address dies and moves", divided: true, named: true, lift: none, strike: func(t *testing.T, c *faultCase) {
			fault(faultnet.Fault{Refuse: true})(t, c)
			names("127.0.0.3")(t, c)
		}},
		{name: "name server says nothing", named: true, strike: feel(faultnet.Mute), lift: feel(faultnet.Helpful)},
		{name: "name server fails", named: true, strike: feel(faultnet.Failing), lift: feel(faultnet.Helpful)},
	}
}

// bySeries are the cases whose gateway divides batches.
func bySeries() (out []*faultCase) {
	for _, c := range faultCases() {
		if c.divided {
			c.series, c.name = true, c.name+", by series"
			out = append(out, c)
		}
	}
	return out
}

func TestFaultMatrix(t *testing.T) {
	cases := slices.Concat(faultCases(), bySeries())
	times := timesOfFaults(len(cases))
	began := time.Now()
	phase := func(name string) { t.Logf("%s after %.1f s", name, time.Since(began).Seconds()) }
	shared := []*prometheus{startReceiver(t), startReceiver(t)}
	var starting sync.WaitGroup
	for i, c := range cases {
		c.user = user{fmt.Sprintf("user%d", i), "al1ce-Secret", fmt.Sprintf("tenant%d", i)}
		starting.Go(func() {
			c.stores = shared
			if c.own {
				c.stores = []*prometheus{startReceiver(t), startReceiver(t)}
			}
			c.start(t)
		})
	}
	starting.Wait()
	if t.Failed() {
		return
	}
	sender := startSenderTo(t, cases)
	phase("all started")
	var running sync.WaitGroup // parallel subtests would be as many as there are CPUs, and these mostly wait
	turns := make(chan struct{}, times.together)
	for _, c := range cases {
		running.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			c.run(t, times)
		})
	}
	running.Wait()
	phase("all over")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.verify(t, sender) })
	}
	phase("all read back")
	t.Log(table(cases))
}

// table is what was seen.
func table(cases []*faultCase) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-44s %9s %6s %7s %7s %10s %10s %10s %9s %8s\n", fmt.Sprintf("batches of %d samples; one of two members", seriesOfWriter),
		"requests", "acked", "lost", "failed", "recovered", "p99 before", "p99", "longest", "reads")
	for _, c := range cases {
		b.WriteString(c.row)
	}
	return b.String()
}

// start starts the proxies and the gateway, and finds out which member the fault is to befall.
func (c *faultCase) start(t *testing.T) {
	dir := t.TempDir()
	pair, caFile, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Error(err)
		return
	}
	var upstream string
	if c.named {
		c.proxies = faultnet.NewProxies(t, []string{"127.0.0.2", "127.0.0.3"}, c.stores[0].addr, c.stores[1].addr)
		c.names = faultnet.NewNameServer(t)
		c.names.Set("store.test", faultnet.Record{Addresses: []string{"127.0.0.2"}, TTL: 1})
		_, port, _ := net.SplitHostPort(c.proxies[0].Addr())
		upstream = fmt.Sprintf("  dns: {name: \"store.test:%s\", server: %q}\n", port, c.names.Addr())
	} else {
		var urls []string
		for _, s := range c.stores {
			p := faultnet.NewProxy(t, s.addr)
			c.proxies, urls = append(c.proxies, p), append(urls, "http://"+p.Addr())
		}
		upstream = fmt.Sprintf("  urls: [%s]\n", strings.Join(urls, ", "))
	}
	if c.series {
		upstream += "  routing: series\n"
		if c.named {
			upstream += "  handover: 1s\n"
		}
	}
	writeFile(t, filepath.Join(dir, "htpasswd"), passwd(t, c.user))
	g := &gateway{caFile: caFile}
	g.process = startOn(t, func() (*process, error) {
		g.addr = faultnet.Address(t)
		admin := faultnet.Address(t)
		g.url, g.admin = "https://"+g.addr, "http://"+admin
		config := writeFile(t, filepath.Join(dir, "gateway.yaml"), fmt.Sprintf(`listen: {https_address: %s, admin_address: %s, shutdown_delay: 1s}
tls: {certificates: [{cert_file: %s, key_file: %s}]}
auth: {htpasswd_file: htpasswd}
tenancy: {users: {%s: {tenants: [%s]}}}
upstream:
  kind: prometheus
%s`, g.addr, admin, pair.CertFile, pair.KeyFile, c.user.name, c.user.tenant, upstream))
		p := run(t, "gateway", "serve", "--config", config)
		return p, p.ready(g.admin + "/readyz")
	})
	c.gateway = g
}

// startSenderTo is one real Prometheus that writes what it scrapes of itself through the gateway of every case.
func startSenderTo(t *testing.T, cases []*faultCase) *prometheus {
	t.Helper()
	return startPrometheus(t, func(addr string) string {
		var remotes strings.Builder
		for i, c := range cases {
			fmt.Fprintf(&remotes, `  - url: %s/api/v1/write
    name: case%d
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
    queue_config: {batch_send_deadline: 1s, max_shards: 2, min_backoff: 50ms, max_backoff: 500ms}
    metadata_config: {send: false}
`, c.gateway.url, i, c.user.name, c.user.password, c.gateway.caFile)
		}
		return fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: self
    static_configs: [{targets: [%q]}]
    metric_relabel_configs: [{source_labels: [__name__], regex: "up|go_.*", action: keep}]
remote_write:
%s`, addr, &remotes)
	})
}

// run lets the fault strike and end under load.
func (c *faultCase) run(t *testing.T, times faultTimes) {
	handover := c.series && c.named // to the second member
	if handover {
		times.before = beforeHandover
	}
	c.load = startLoad(t, c.gateway.client(t, c.user), 3, times.pace)
	defer c.load.end()
	time.Sleep(times.before)
	if !c.named {
		eventually(t, c.name+": the members have had writes", func() error { // on a slow machine later than that
			written := writtenTo(t, c.gateway, c.proxies)
			for i, n := range written {
				if n > written[c.home] {
					c.home = i
				}
				if n == 0 && c.series {
					return fmt.Errorf("member %d has had no part of any batch", i)
				}
			}
			if written[c.home] == 0 {
				return errors.New("nothing was written")
			}
			return nil
		})
	}
	struck := time.Now()
	c.strike(t, c)
	time.Sleep(time.Until(struck.Add(times.during)))
	if handover {
		eventually(t, c.name+": the member that came has its share", func() error {
			if written := writtenTo(t, c.gateway, c.proxies); written[1] == 0 {
				return fmt.Errorf("it has had nothing: %v", written)
			}
			return nil
		})
	}
	c.lift(t, c)
	lifted := time.Now()
	if err := c.load.acknowledgedSince(lifted); err != nil {
		t.Errorf("%s: %v", c.name, err)
	}
	time.Sleep(times.after)
	c.load.end()
	c.row = c.load.row(c.name, struck, lifted)
	for status, n := range c.load.statuses() {
		if status/100 == 4 && !c.refusals {
			t.Errorf("%s: %d writes were answered %d", c.name, n, status)
		}
	}
}

// verify reads back what was acknowledged, of the load and of the real Prometheus, from both stores together.
func (c *faultCase) verify(t *testing.T, sender *prometheus) {
	if c.load == nil {
		return
	}
	lost := 0
	type sample struct {
		series string
		ms     int64
	}
	for _, w := range c.load.writers {
		stored := map[sample]bool{}
		for _, s := range c.stores {
			for _, r := range c.read(t, s, fmt.Sprintf("%s{tenant=%q}[15m]", w.metric, c.user.tenant)) {
				for _, p := range r.Values {
					if w.sent[p.ms] != p.value {
						t.Errorf("%s: read %s at %d, sent was %q", c.name, p.value, p.ms, w.sent[p.ms])
					}
					stored[sample{r.Metric["n"], p.ms}] = true
				}
			}
		}
		for ms := range w.acked {
			for n := range seriesOfWriter {
				if !stored[sample{strconv.Itoa(n), ms}] {
					lost++
				}
			}
		}
		if len(w.acked) == 0 {
			t.Errorf("%s: nothing was acknowledged", c.name)
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d acknowledged samples are lost", c.name, lost)
	}
	c.row = strings.Replace(c.row, "LOST", fmt.Sprintf("%4d", lost), 1)
	if c.refusals {
		return // Prometheus has dropped what it was told to
	}
	// What the real Prometheus has scraped up to half a minute ago has arrived, whatever came between.
	own := c.read(t, sender, `up{job="self"}[15m]`)
	if len(own) != 1 || len(own[0].Values) < 5 {
		t.Fatalf("%s: the sender has scraped %v", c.name, own)
	}
	eventually(t, c.name+": what Prometheus has sent is stored", func() error {
		stored := map[int64]bool{}
		for _, s := range c.stores {
			for _, r := range c.read(t, s, fmt.Sprintf(`up{job="self",tenant=%q}[15m]`, c.user.tenant)) {
				for _, p := range r.Values {
					stored[p.ms] = true
				}
			}
		}
		missing := 0
		for _, p := range own[0].Values {
			if !stored[p.ms] {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d samples are missing", missing, len(own[0].Values))
		}
		return nil
	})
}

func (c *faultCase) read(t *testing.T, s *prometheus, query string) []result {
	t.Helper()
	r, err := s.direct().query(query, time.Now().Add(time.Second))
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return r
}

// TestRollingRestart: three gateways behind a TCP balancer are restarted one after the other, under load: no sender is told
// anything but success and "later", and nothing is lost.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	alice, _ := users()
	stores := []*prometheus{startReceiver(t), startReceiver(t)}
	dir := t.TempDir()
	pair, caFile, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "htpasswd"), passwd(t, alice))
	var gateways []*process
	var backends []*faultnet.Backend
	serve := func(i int, b *faultnet.Backend) (*process, error) {
		config := writeFile(t, filepath.Join(dir, fmt.Sprintf("gateway%d.yaml", i)), fmt.Sprintf(`listen: {https_address: %s, admin_address: %s, shutdown_delay: 1s}
tls: {certificates: [{cert_file: %s, key_file: %s}]}
auth: {htpasswd_file: htpasswd}
tenancy: {users: {%s: {tenants: [%s]}}}
upstream: {kind: prometheus, urls: [http://%s, http://%s]}
`, b.Addr, strings.TrimSuffix(strings.TrimPrefix(b.Health, "http://"), "/readyz"), pair.CertFile, pair.KeyFile, alice.name, alice.tenant, stores[0].addr, stores[1].addr))
		p := run(t, "gateway", "serve", "--config", config)
		return p, p.ready(b.Health)
	}
	for i := range 3 {
		b := &faultnet.Backend{}
		gateways = append(gateways, startOn(t, func() (*process, error) {
			b.Addr, b.Health = faultnet.Address(t), "http://"+faultnet.Address(t)+"/readyz"
			return serve(i, b)
		}))
		backends = append(backends, b)
	}
	balancer := faultnet.NewBalancer(t, backends...)
	g := &gateway{url: "https://" + balancer.Addr(), addr: balancer.Addr(), caFile: caFile}
	sender := startSender(t, g, alice, "/api/v1/write", "from: rolling")
	load := startLoad(t, g.client(t, alice), 6, writerPace)
	defer load.end()
	time.Sleep(2 * time.Second)
	began := time.Now()
	for i := range gateways {
		if code := gateways[i].terminate(t); code != 0 {
			t.Errorf("gateway %d ended with code %d", i, code)
		}
		gateways[i] = startOn(t, func() (*process, error) { return serve(i, backends[i]) })
		eventually(t, "the balancer sees it", func() error {
			if n := balancer.Well(); n != 3 {
				return fmt.Errorf("%d are well", n)
			}
			return nil
		})
		time.Sleep(time.Second)
	}
	ended := time.Now()
	time.Sleep(2 * time.Second)
	load.end()
	c := &faultCase{name: "rolling restart of three gateways", stores: stores, user: alice, load: load}
	c.row = load.row(c.name, began, ended)
	c.verify(t, sender)
	t.Log(table([]*faultCase{c}))
	for status, n := range load.statuses() {
		if status != 0 && status/100 != 2 && status != http.StatusServiceUnavailable {
			t.Errorf("%d writes were answered %d", n, status)
		}
	}
}
