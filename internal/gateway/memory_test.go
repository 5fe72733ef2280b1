package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/app"
	"m3gateway/internal/gatewaytest"
)

// childConfig is the environment variable that makes this test binary a gateway: the path of its configuration.
const childConfig = "M3GATEWAY_TEST_CHILD_CONFIG"

// TestMain runs the tests or, where a test wants a gateway in a process of its own, that gateway.
func TestMain(m *testing.M) {
	path := os.Getenv(childConfig)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := runChild(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runChild serves until stdin ends. Its first line on stdout is the two addresses.
func runChild(path string) error {
	loaded, err := app.Load(path)
	if err != nil {
		return err
	}
	g, err := app.New(loaded, app.Options{Version: "test", Log: io.Discard})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println(g.HTTPSAddr(), g.AdminAddr())
	return g.Run(ctx)
}

// child is a gateway in a process of its own.
type child struct {
	*gatewaytest.Gateway
	pid int
}

// startChild runs a gateway as s says in a process of its own until the test ends.
func startChild(t *testing.T, s gatewaytest.Setup) *child {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("a process's peak of resident memory is read from /proc, which only Linux has")
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector's own memory is several times the program's")
	}
	g := gatewaytest.Start(t, s) // for its files and its client; it gets no requests
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+g.Dir+"/gateway.yaml")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the gateway's process: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var https, admin string
	if _, err := fmt.Sscan(line, &https, &admin); err != nil {
		t.Fatal(err)
	}
	own := *g
	own.URL, own.AdminURL = "https://"+https, "http://"+admin
	c := &child{&own, cmd.Process.Pid}
	gatewaytest.Until(t, "the gateway is ready", func() bool { return c.Admin("GET", "/readyz").Status == 200 })
	return c
}

// peak is the most memory that has been resident so far, in MB.
func (c *child) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kib * 1024 / 1_000_000
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// wantPeak checks the peak against most MB.
func (c *child) wantPeak(t *testing.T, most int) {
	t.Helper()
	got := c.peak(t)
	t.Logf("peak of resident memory: %d MB", got)
	if got > most {
		t.Errorf("peak of resident memory %d MB, want %d at most", got, most)
	}
}

// left is what remains of the budget of bytes.
func (c *child) left(t *testing.T) int {
	t.Helper()
	return int(metricOf(t, c.Admin("GET", "/metrics").Body, "m3gateway_gateway_inflight_bytes_left"))
}

// hungStore takes the header of a write and nothing more until it is released; then it takes the rest.
type hungStore struct {
	URL     string
	entered atomic.Int64
	bytes   atomic.Int64 // of bodies taken whole
	goOn    context.Context
	release context.CancelFunc
}

func newHungStore(t *testing.T) *hungStore {
	s := new(hungStore)
	s.goOn, s.release = context.WithCancel(context.Background())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"readyReads":[{"id":"default"}],"readyWrites":[{"id":"default"}]}`)
			return
		}
		s.entered.Add(1)
		<-s.goOn.Done()
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		s.bytes.Add(n)
	}))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// crowd is many senders that each have a connection of their own and write one body.
type crowd struct {
	child  *child
	client *http.Client
	// again makes a sender repeat what it was told to keep, as senders do, though sooner.
	again       bool
	acked, told atomic.Int64 // success, and 503 with Retry-After
	waiting     sync.WaitGroup
}

func newCrowd(t *testing.T, c *child, s *hungStore) *crowd {
	tr := c.Client.Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	tr.ForceAttemptHTTP2 = false // no connection is shared
	all := &crowd{child: c, client: &http.Client{Transport: tr}}
	t.Cleanup(func() {
		s.release() // a test that failed leaves nobody waiting
		all.waiting.Wait()
		tr.CloseIdleConnections()
	})
	return all
}

// send starts n senders of body.
func (c *crowd) send(t *testing.T, n int, body []byte) {
	for range n {
		c.waiting.Go(func() {
			for {
				status, err := c.try(body)
				switch {
				case err != nil:
					t.Error(err)
				case status == 204:
					c.acked.Add(1)
				case status != 503:
					t.Errorf("told %d", status)
				default:
					c.told.Add(1)
					if c.again {
						time.Sleep(20 * time.Millisecond)
						continue
					}
				}
				return
			}
		})
	}
}

// try writes body once; the status is 0 if a 503 lacks Retry-After.
func (c *crowd) try(body []byte) (int, error) {
	req, err := http.NewRequest("POST", c.child.URL+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth("alice", gatewaytest.Password("alice"))
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode == 503 && resp.Header.Get("Retry-After") == "" {
		return 0, nil
	}
	return resp.StatusCode, nil
}

const (
	senders      = 200
	decodedBytes = 1_500_000
	mostMB       = 400
)

// commonBatch is a batch of decodedBytes as scraped metrics make it, which a block compresses to a small part.
func commonBatch(t *testing.T) []byte {
	var series []prompb.TimeSeries
	for size, i := 0, 0; size < decodedBytes; i++ {
		ts := up("cluster", "eu-west-1-prod", "container", "server", "endpoint", "http-metrics", "instance", fmt.Sprintf("10.42.%d.%d:8080", i/7%250, i%250),
			"job", "payments/frontend", "le", strconv.Itoa(i%12), "namespace", "payments", "pod", fmt.Sprintf("frontend-7d4b9c6f5-%05x", i*7919%1048576), "route", fmt.Sprintf("/api/v2/orders/%d", i%40))
		ts.Samples[0].Value = float64(i * i)
		size += ts.Size() + 3
		series = append(series, ts)
	}
	return gatewaytest.Encode(t, series)
}

// denseBatch is a batch of decodedBytes that no block makes smaller.
func denseBatch(t *testing.T) []byte {
	random := rand.NewChaCha8([32]byte{})
	var series []prompb.TimeSeries
	for size, i := 0, 0; size < decodedBytes; i++ {
		b := make([]byte, 6000)
		_, _ = random.Read(b)
		ts := up("i", strconv.Itoa(i), "random", base64.StdEncoding.EncodeToString(b))
		size += ts.Size() + 3
		series = append(series, ts)
	}
	return gatewaytest.Encode(t, series)
}

// memorySetup is a gateway that writes each batch once: on a slow machine senders wait for so long that some would be written over a
// second connection as well, and be counted twice as waiting.
func memorySetup(url, limits string) gatewaytest.Setup {
	return gatewaytest.Setup{Users: twoTenantUsers, Tenancy: twoTenants, Kind: "m3", Upstreams: []string{url}, Extra: limits, UpstreamExtra: "  write_timeout: 5m\n  hedge_percent: 0"}
}

// TestMemoryHungStore: with the limits as they are by default, 200 senders whose batches decode to 1.5 MB each all wait for a
// store that hangs, since only the encoded form waits; memory stays bounded, and all are stored once the store goes on.
func TestMemoryHungStore(t *testing.T) {
	store := newHungStore(t)
	g := startChild(t, memorySetup(store.URL, ""))
	body := commonBatch(t)
	if n, err := snappy.DecodedLen(body); err != nil || n < decodedBytes {
		t.Fatal(n, err)
	}
	c := newCrowd(t, g, store)
	c.again = true
	c.send(t, senders, body)
	gatewaytest.Until(t, "all wait for the store", func() bool { return store.entered.Load() == senders })
	t.Logf("a body of %d bytes; %d answers of 503", len(body), c.told.Load())
	g.wantPeak(t, mostMB)
	store.release()
	c.waiting.Wait()
	g.wantPeak(t, mostMB)
	if c.acked.Load() != senders {
		t.Errorf("%d senders told success", c.acked.Load())
	}
	if left := g.left(t); left != 512<<20 {
		t.Errorf("%d bytes of the budget are left", left)
	}
}

// TestMemoryBudget: as many batches of one tenant wait for a store that hangs as the budget holds, but for the eighth that is for
// others; who comes on top is told to come back, before a byte of the body is read.
func TestMemoryBudget(t *testing.T) {
	const budget = 128 << 20
	store := newHungStore(t)
	g := startChild(t, memorySetup(store.URL, "limits: {inflight_bytes: 128MiB, decoded_bytes: 16MiB}"))
	body := denseBatch(t)
	c := newCrowd(t, g, store)
	c.send(t, senders, body)
	settled := func(n int) {
		gatewaytest.Until(t, "each waits for the store or has been told", func() bool { return store.entered.Load()+c.told.Load() == int64(n) })
	}
	settled(senders)
	n := senders
	for told := c.told.Load(); c.told.Load() == told; settled(n) { // until one that comes alone finds no room
		c.send(t, 1, body)
		n++
	}
	waiting, left := store.entered.Load(), g.left(t)
	t.Logf("a body of %d bytes; %d wait, %d told 503, %d bytes left", len(body), waiting, c.told.Load(), left)
	if held := waiting * int64(len(body)); held > budget || held < budget/2 || left < budget/8 || left > budget/8+8<<20 {
		t.Errorf("%d batches wait, %d bytes of the budget are left", waiting, left)
	}
	if status := headerOnly(t, g, 12<<20); status != 503 {
		t.Errorf("a body that there is no room for: %d", status)
	}
	g.wantPeak(t, mostMB)
	store.release()
	c.waiting.Wait()
	if c.acked.Load() != waiting || store.bytes.Load() < waiting*int64(len(body)) {
		t.Errorf("%d of %d told success, %d bytes stored", c.acked.Load(), waiting, store.bytes.Load())
	}
	if left := g.left(t); left != budget {
		t.Errorf("%d bytes of the budget are left", left)
	}
	g.wantPeak(t, mostMB)
}

// TestMemoryDense: 200 batches that no block makes smaller wait within the default budget, each of them in memory once.
func TestMemoryDense(t *testing.T) {
	store := newHungStore(t)
	g := startChild(t, memorySetup(store.URL, ""))
	body := denseBatch(t)
	c := newCrowd(t, g, store)
	c.again = true
	c.send(t, senders, body)
	gatewaytest.Until(t, "all wait for the store", func() bool { return store.entered.Load() == senders })
	g.wantPeak(t, 2*senders*len(body)/1_000_000) // what waits once, and as much for the garbage collector
	store.release()
	c.waiting.Wait()
	if c.acked.Load() != senders {
		t.Errorf("%d senders told success", c.acked.Load())
	}
}

// headerOnly announces a body, sends none of it, and returns the answer's status, 0 if a 503 lacks Retry-After.
func headerOnly(t *testing.T, g *child, length int) int {
	t.Helper()
	cfg := g.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(g.URL, "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	user := base64.StdEncoding.EncodeToString([]byte("alice:" + gatewaytest.Password("alice")))
	if _, err := fmt.Fprintf(conn, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Length: %d\r\n\r\n", user, length); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == 503 && resp.Header.Get("Retry-After") == "" {
		return 0
	}
	return resp.StatusCode
}

// TestMemoryClaims: bodies of a few bytes that claim to decode to 4 GiB, one after another and many at once, cost nothing.
func TestMemoryClaims(t *testing.T) {
	store := newHungStore(t)
	g := startChild(t, memorySetup(store.URL, ""))
	write := func(body []byte) int {
		return g.Do(g.Request("alice", "POST", "/api/v1/write", body)).Status
	}
	write(nil)
	before := g.peak(t)
	for range 100 {
		if status := write([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}); status != 413 {
			t.Fatalf("told %d", status)
		}
		if status := write([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0, 0}); status != 400 {
			t.Fatalf("told %d", status)
		}
	}
	// Within the limit a claim is believed no further than the budget goes, and not one byte longer than it takes to see it broken.
	claim := snappyClaim(64 << 20)
	if status := write(claim); status != 400 {
		t.Errorf("told %d", status)
	}
	t.Logf("peak of resident memory before: %d MB", before)
	g.wantPeak(t, before+16)
	if left := g.left(t); left != 512<<20 {
		t.Errorf("%d bytes of the budget are left", left)
	}
}

// snappyClaim is the header of a block that decodes to n bytes, and nothing that does.
func snappyClaim(n uint64) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n), 0, 0)
}
