package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/faultnet"
	"m3gateway/internal/gatewaytest"
)

// The tests in this file hold the promise that a sender's batch is stored or told: whatever happens to the connection to the
// store, at whatever point, a success means that a store has acknowledged every sample of the batch, trouble of the store is
// never the sender's fault, and an answer comes in bounded time.

// countingStore is a store that remembers every sample that it has acknowledged.
type countingStore struct {
	URL   string
	close atomic.Bool // ends each connection after its answer

	mu     sync.Mutex
	stored map[string]int // by sampleKey: how often it came
}

func newCountingStore(t testing.TB) *countingStore {
	s := &countingStore{stored: map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.close.Load() {
			w.Header().Set("Connection", "close")
		}
		if gatewaytest.Probed(w, r) {
			return
		}
		if r.Method != http.MethodPost { // the probe of another test's gateway, whose store had this address before and is gone
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // half a request: nothing is stored, nothing is said
		}
		raw, err := snappy.Decode(nil, body)
		var batch prompb.WriteRequest
		if err == nil {
			err = batch.Unmarshal(raw)
		}
		if err != nil {
			t.Errorf("a whole request that is no batch, of %d bytes with %v: %v", len(body), r.Header, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range sampleKeys(batch.Timeseries) {
			s.stored[key]++
		}
	}))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// missing are those of keys that are not stored.
func (s *countingStore) missing(keys []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return s.stored[k] > 0 })
}

// sampleKeys names each sample of the series by its label "id", time and value.
func sampleKeys(series []prompb.TimeSeries) []string {
	var keys []string
	for _, ts := range series {
		id := ""
		for _, l := range ts.Labels {
			if l.Name == "id" {
				id = l.Value
			}
		}
		for _, s := range ts.Samples {
			keys = append(keys, fmt.Sprintf("%s %d %v", id, s.Timestamp, s.Value))
		}
	}
	return keys
}

// point is a place in a request or an answer at which a fault strikes.
type point int

const (
	atStart point = iota // before the first byte
	inHead
	afterHead
	inBody
	lastByte // all but one
	atEnd    // all has passed
)

// offset is the place in a message of head+body bytes.
func (p point) offset(head, body int) int {
	return map[point]int{atStart: 0, inHead: head / 2, afterHead: head, inBody: head + body/2, lastByte: head + body - 1, atEnd: head + body}[p]
}

// fault is what happens to an exchange between gateway and store. Health probes pass unharmed, but where nothing can tell
// them from a write.
type fault struct {
	name string
	// refuse closes the listener; slam closes each connection as it comes.
	refuse, slam bool
	// request is how much of the request passes to the store before then happens; atEnd: the whole, and the store answers.
	request point
	// answer replaces the store's answer, if set.
	answer string
	// back is how much of the answer passes before then happens; atEnd: all of it.
	back point
	then end
	// one and two are the answers allowed to the sender where there is one member, and where there is a healthy second.
	one, two []int
}

// end is what a fault does when its place is reached.
type end int

const (
	reset end = iota // RST
	hangup
	hang    // nothing, until the other side gives up
	trickle // a byte every 100 ms from there on
)

var (
	success    = []int{204}
	retry      = []int{503}
	eitherWay  = []int{204, 503}
	refusal400 = []int{400}
)

const (
	okAnswer   = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	longAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n0123456789012345678901234567890123456789"
)

func answerOf(status int, text string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(text), text)
}

func faults() []fault {
	all := []fault{
		{name: "connection refused", refuse: true, one: retry, two: success},
		{name: "accepted and closed", slam: true, one: retry, two: success},
	}
	for name, p := range map[string]point{"no byte": atStart, "half the request's header": inHead, "the request's header": afterHead, "half the request": inBody, "all but one byte of the request": lastByte} {
		all = append(all,
			fault{name: "reset after " + name, request: p, then: reset, one: retry, two: success},
			fault{name: "closed after " + name, request: p, then: hangup, one: retry, two: success},
			fault{name: "hung after " + name, request: p, then: hang, one: retry, two: retry})
	}
	for name, p := range map[string]point{"before the answer": atStart, "after half the answer's header": inHead} {
		all = append(all,
			fault{name: "reset " + name, request: atEnd, back: p, then: reset, one: retry, two: success},
			fault{name: "closed " + name, request: atEnd, back: p, then: hangup, one: retry, two: success},
			fault{name: "hung " + name, request: atEnd, back: p, then: hang, one: retry, two: retry})
	}
	for name, p := range map[string]point{"after the answer's header": afterHead, "after half the answer": inBody, "after the answer": atEnd} {
		// The store has acknowledged; a reset may overtake its words.
		all = append(all,
			fault{name: "reset " + name, request: atEnd, answer: longAnswer, back: p, then: reset, one: eitherWay, two: success},
			fault{name: "closed " + name, request: atEnd, answer: longAnswer, back: p, then: hangup, one: success, two: success},
			fault{name: "hung " + name, request: atEnd, answer: longAnswer, back: p, then: hang, one: success, two: success})
	}
	for _, status := range []int{500, 502, 503, 504} {
		all = append(all,
			fault{name: fmt.Sprint("status ", status), request: atEnd, answer: answerOf(status, `{"status":"error","error":"x"}`), back: atEnd, then: hangup, one: retry, two: success},
			fault{name: fmt.Sprintf("status %d, cut off in its text", status), request: atEnd, answer: answerOf(status, `{"status":"error","error":"x"}`), back: inBody, then: reset, one: retry, two: success})
	}
	for _, status := range []int{301, 401, 403, 404, 405, 408, 429, 501} { // not about the data: the sender keeps it
		all = append(all, fault{name: fmt.Sprint("status ", status), request: atEnd, answer: answerOf(status, ""), back: atEnd, then: hangup, one: retry, two: retry})
	}
	return append(all,
		fault{name: "status 400", request: atEnd, answer: answerOf(400, `{"status":"error","error":"bad_request_errors: count=1, last=tags duplicate"}`), back: atEnd, then: hangup, one: refusal400, two: refusal400},
		fault{name: "status 500, slow text", request: atEnd, answer: answerOf(500, strings.Repeat("x", 200)), back: afterHead, then: trickle, one: retry, two: success},
		fault{name: "slow answer", request: atEnd, answer: okAnswer, back: atStart, then: trickle, one: retry, two: retry},
		fault{name: "slow text of a success", request: atEnd, answer: longAnswer, back: afterHead, then: trickle, one: success, two: success},
		fault{name: "no HTTP", request: atEnd, answer: "SSH-2.0-OpenSSH_9\r\n\r\n", back: atEnd, then: hangup, one: retry, two: success},
		fault{name: "early hints, then closed", request: atEnd, answer: "HTTP/1.1 103 Early Hints\r\n\r\n", back: atEnd, then: hangup, one: retry, two: success},
		fault{name: "continue, then hung", request: atEnd, answer: "HTTP/1.1 100 Continue\r\n\r\n", back: atEnd, then: hang, one: retry, two: retry},
		fault{name: "status line without a number", request: atEnd, answer: "HTTP/1.1 OK\r\n\r\n", back: atEnd, then: hangup, one: retry, two: success},
		fault{name: "header without end", request: atEnd, answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), back: atEnd, then: hang, one: retry, two: success},
	)
}

// faultProxy stands between gateway and store, on an address that it keeps.
type faultProxy struct {
	URL   string
	store string // host:port
	addr  string
	t     testing.TB
	done  chan struct{} // closed at the end of the test: whatever hangs lets go
	wrote atomic.Int64  // writes that came in whole header

	mu       sync.Mutex
	listener net.Listener
	fault    *fault // nil: none
	conns    map[net.Conn]bool
	work     sync.WaitGroup
}

func newFaultProxy(t testing.TB, store string) *faultProxy {
	u, err := url.Parse(store)
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{store: u.Host, addr: faultnet.Address(t), t: t, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.listen()
	p.URL = "http://" + p.addr
	t.Cleanup(func() {
		close(p.done)
		p.mu.Lock()
		if p.listener != nil {
			p.listener.Close()
		}
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.work.Wait()
	})
	return p
}

// listen opens the listener, at its address, and serves it. Where that is not kept for the test, a connection may have taken its
// port while it was closed; the port is awaited.
func (p *faultProxy) listen() {
	l, err := net.Listen("tcp", p.addr)
	for deadline := time.Now().Add(patience); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); l, err = net.Listen("tcp", p.addr) {
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		p.t.Error(err)
		return
	}
	p.listener = l
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !p.keep(c) {
				c.Close()
				continue
			}
			p.work.Go(func() {
				defer p.forget(c)
				_ = c.(*net.TCPConn).SetReadBuffer(32 << 10) // a large request is to fill the way to a store that hangs
				p.serve(c.(*net.TCPConn))
			})
		}
	})
}

// keep notes c, unless it is to be closed at once.
func (p *faultProxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	if p.fault != nil && p.fault.slam {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *faultProxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// set makes f, or nothing if nil, what happens from now on. Connections that a refusing or slamming store would not have are
// cut; others stay, so that an idle one meets the fault too.
func (p *faultProxy) set(f *fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	if f != nil && (f.refuse || f.slam) {
		for c := range p.conns {
			c.Close()
		}
	}
	if f != nil && f.refuse {
		if p.listener != nil {
			p.listener.Close()
		}
		p.listener = nil
	} else if p.listener == nil {
		p.listen()
	}
}

func (p *faultProxy) current() *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// serve passes one exchange after another between the gateway and a connection to the store of its own.
func (p *faultProxy) serve(gateway *net.TCPConn) {
	in := bufio.NewReader(gateway)
	for {
		head, length, err := readHead(in)
		if err != nil {
			return
		}
		f := p.current()
		if !bytes.HasPrefix(head, []byte("POST ")) || f == nil {
			f = &fault{request: atEnd, back: atEnd}
			if bytes.HasPrefix(head, []byte("POST ")) {
				p.wrote.Add(1)
			}
			if !p.exchange(gateway, in, head, length, f, false) {
				return
			}
			continue
		}
		p.wrote.Add(1)
		p.exchange(gateway, in, head, length, f, true)
		return
	}
}

// readHead reads a message's header, with the empty line, and the length of the body that it announces.
func readHead(in *bufio.Reader) (head []byte, length int, err error) {
	for {
		line, err := in.ReadBytes('\n')
		if head = append(head, line...); err != nil {
			return head, 0, err
		}
		text := strings.TrimSpace(string(line))
		if text == "" {
			return head, length, nil
		}
		if name, v, _ := strings.Cut(text, ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
				return head, 0, err
			}
		}
	}
}

// exchange passes one request and its answer as far as f lets it, and reports whether the connection may go on.
func (p *faultProxy) exchange(gateway *net.TCPConn, in *bufio.Reader, head []byte, length int, f *fault, faulty bool) bool {
	store, err := net.Dial("tcp", p.store)
	if err != nil {
		p.t.Error(err)
		return false
	}
	defer store.Close()
	pass := f.request.offset(len(head), length)
	if _, err := store.Write(head[:min(pass, len(head))]); err != nil {
		return false
	}
	if pass > len(head) {
		if _, err := io.CopyN(store, in, int64(pass-len(head))); err != nil {
			return false
		}
	}
	if f.request != atEnd {
		p.finish(gateway, nil, f.then)
		return false
	}
	answer, err := io.ReadAll(&untilAnswered{bufio.NewReader(store), store})
	if err != nil {
		p.t.Errorf("the store's answer: %v", err)
		return false
	}
	if f.answer != "" {
		answer = []byte(f.answer)
	}
	whole := bytes.Index(answer, []byte("\r\n\r\n")) + 4
	if whole < 4 {
		whole = len(answer)
	}
	cut := f.back.offset(whole, len(answer)-whole)
	if _, err := gateway.Write(answer[:cut]); err != nil {
		return false
	}
	if faulty {
		p.finish(gateway, answer[cut:], f.then)
		return false
	}
	return !bytes.Contains(bytes.ToLower(answer), []byte("connection: close"))
}

// untilAnswered reads one whole answer of a store that keeps its connection open.
type untilAnswered struct {
	*bufio.Reader
	conn net.Conn
}

func (r *untilAnswered) Read(b []byte) (int, error) {
	head, length, err := readHead(r.Reader)
	if err != nil {
		return 0, err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r.Reader, body); err != nil {
		return 0, err
	}
	if len(head)+length > len(b) {
		return 0, io.ErrShortBuffer
	}
	return copy(b, append(head, body...)), io.EOF
}

// finish does what the fault ends in; rest is what of the answer was not passed.
func (p *faultProxy) finish(gateway *net.TCPConn, rest []byte, then end) {
	switch then {
	case reset:
		_ = gateway.SetLinger(0)
	case hangup:
		// Closing with bytes unread would be a reset.
		_ = gateway.CloseWrite()
		_ = gateway.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, gateway)
	case hang:
		<-p.done
	case trickle:
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for _, b := range rest {
			select {
			case <-tick.C:
			case <-p.done:
				return
			}
			if _, err := gateway.Write([]byte{b}); err != nil {
				return
			}
		}
	}
}

const onlyAlice = "  users: {alice: {tenants: [team-a]}}\n"

// faultPair is a gateway before one or two faulty members of the same store.
type faultPair struct {
	*gatewaytest.Gateway
	proxies []*faultProxy
	ids     atomic.Int64 // of the last sample
	label   string       // that tells series apart
}

func newFaultPair(t *testing.T, kind, store string, members int, upstream string) *faultPair {
	p := &faultPair{label: "id"}
	var urls []string
	for range members {
		proxy := newFaultProxy(t, store)
		p.proxies, urls = append(p.proxies, proxy), append(urls, proxy.URL)
	}
	p.Gateway = gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: onlyAlice, Kind: kind, Upstreams: urls, UpstreamExtra: upstream})
	return p
}

// batch makes series whose samples were never sent before; the first has further labels.
func (p *faultPair) batch(series int, more ...prompb.Label) []prompb.TimeSeries {
	var out []prompb.TimeSeries
	for range series {
		id := p.ids.Add(1)
		ts := up(p.label, strconv.FormatInt(id, 10))
		ts.Samples[0].Value = float64(id)
		out = append(out, ts)
	}
	out[0].Labels = append(out[0].Labels, more...)
	return out
}

// padding is labels of n bytes in all that no block makes smaller.
func padding(n int) []prompb.Label {
	random := rand.NewChaCha8([32]byte{})
	var out []prompb.Label
	for i := 0; i < n; i += 16 << 10 {
		b := make([]byte, 12<<10)
		_, _ = random.Read(b)
		out = append(out, prompb.Label{Name: fmt.Sprintf("pad%d", i), Value: base64.StdEncoding.EncodeToString(b)})
	}
	return out
}

// patience is far beyond any time-out of the gateways in these tests: an answer that takes longer is none.
const patience = time.Minute

// try writes the batch as alice once. An error breaks the rule that there is always an answer.
func (p *faultPair) try(series []prompb.TimeSeries) (gatewaytest.Answer, error) {
	body, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		return gatewaytest.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", p.URL+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, body)))
	if err != nil {
		return gatewaytest.Answer{}, err
	}
	req.SetBasicAuth("alice", gatewaytest.Password("alice"))
	resp, err := p.Client.Do(req)
	if err != nil {
		return gatewaytest.Answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return gatewaytest.Answer{}, fmt.Errorf("half an answer: %w", err)
	}
	return gatewaytest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, nil
}

// until writes the batch again and again, as a sender does with what it was told to keep, until it is acknowledged.
func (p *faultPair) until(series []prompb.TimeSeries) error {
	deadline := time.Now().Add(patience)
	for {
		a, err := p.try(series)
		switch {
		case err != nil:
			return err
		case a.Status/100 == 2:
			return nil
		case a.Status != 503:
			return fmt.Errorf("told %d %q", a.Status, a.Body)
		case a.Header.Get("Retry-After") == "":
			return errors.New("503 without Retry-After")
		case time.Now().After(deadline):
			return fmt.Errorf("still %d %q", a.Status, a.Body)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestFaults: each fault, with one member and with a second that is well, on a fresh connection and on one that has been
// used; where it strikes in the request, for a batch that fits every buffer on its way and one that fits none.
func TestFaults(t *testing.T) {
	large := padding(2 << 20)
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var cases []*faultCase
			for _, members := range []int{1, 2} {
				for _, fresh := range []bool{true, false} {
					for _, routing := range []string{"series", "tenant"} {
						cases = append(cases, newFaultCase(t, f, members, fresh, routing, nil))
						if f.request != atEnd {
							cases = append(cases, newFaultCase(t, f, members, fresh, routing, large))
						}
					}
				}
			}
			var all sync.WaitGroup
			for _, c := range cases {
				all.Go(func() {
					if err := c.run(); err != nil {
						t.Errorf("%d members, routing %s, fresh connection %v, %d more labels: %v", len(c.proxies), c.routing, c.fresh, len(c.more), err)
					}
				})
			}
			all.Wait()
		})
	}
}

// faultCase is one fault that meets one batch.
type faultCase struct {
	*faultPair
	fault fault
	store *countingStore
	fresh bool
	more  []prompb.Label

	routing string
}

func newFaultCase(t *testing.T, f fault, members int, fresh bool, routing string, more []prompb.Label) *faultCase {
	c := &faultCase{fault: f, store: newCountingStore(t), fresh: fresh, more: more, routing: routing}
	c.store.close.Store(fresh)
	// Where the gateway has to wait for the end of its patience, it has little; else it has more than a slow machine needs: also
	// where it gives up a member that keeps it waiting as soon as there is another.
	limit := 10 * time.Second
	if f.then == hang || f.then == trickle {
		switch taken := slices.Contains(f.one, 204); {
		case taken:
			limit = 3 * time.Second
		case members == 1 || !slices.Contains(f.two, 204):
			limit = time.Second
		}
	}
	// Probes are kept out of the way: the members are well but for what happens to writes.
	c.faultPair = newFaultPair(t, "m3", c.store.URL, members, fmt.Sprintf("  write_timeout: %v\n  health_interval: 10m\n  routing: %s", limit, routing))
	c.label = "le" // on which it does not depend where a series goes
	return c
}

func (c *faultCase) run() error {
	first := c.batch(1, c.more...)
	if err := c.until(first); err != nil {
		return fmt.Errorf("before the fault: %w", err)
	}
	for _, proxy := range c.proxies { // the member that the next batch, or a part of it, goes to is the one that breaks
		if proxy.wrote.Load() > 0 {
			proxy.set(&c.fault)
			break
		}
	}
	series := c.batch(3, c.more...)
	keys := sampleKeys(series)
	a, err := c.try(series)
	if err != nil {
		return err
	}
	want := c.fault.one
	if len(c.proxies) == 2 {
		want = c.fault.two
	}
	lost := c.store.missing(keys)
	switch {
	case !slices.Contains(want, a.Status):
		return fmt.Errorf("told %d %q, want %v", a.Status, a.Body, want)
	case a.Status/100 == 2 && len(lost) > 0:
		return fmt.Errorf("told %d, but %d of %d samples are in no store", a.Status, len(lost), len(keys))
	case (a.Status == 503) != (a.Header.Get("Retry-After") != ""):
		return fmt.Errorf("told %d with Retry-After %q", a.Status, a.Header.Get("Retry-After"))
	case len(a.Body) > 1024 || strings.Contains(a.Body, "127.0.0.1"):
		return fmt.Errorf("told too much: %q", a.Body)
	}
	for _, proxy := range c.proxies {
		proxy.set(nil)
	}
	if a.Status == 503 {
		if err := c.until(series); err != nil {
			return fmt.Errorf("after the fault: %w", err)
		}
		lost = c.store.missing(keys)
	}
	if lost = append(lost, c.store.missing(sampleKeys(first))...); len(lost) > 0 && a.Status != 400 {
		return fmt.Errorf("acknowledged, but not there: %v", lost)
	}
	return nil
}

// storm changes what happens to the proxies' connections again and again until stop is closed, and ends with no fault.
func storm(proxies []*faultProxy, stop <-chan struct{}) {
	all := faults()
	all = slices.DeleteFunc(all, func(f fault) bool { return slices.Contains(f.one, 400) }) // a judgment of the data is no fault
	random := rand.New(rand.NewPCG(1, 2))
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			for _, proxy := range proxies {
				proxy.set(nil)
			}
			return
		case <-tick.C:
			var f *fault
			if random.IntN(3) > 0 {
				f = &all[random.IntN(len(all))]
			}
			proxies[random.IntN(len(proxies))].set(f)
		}
	}
}

// TestFaultStorm: many senders write through members that break in every way, at any moment; each repeats a batch until it
// is acknowledged. In the end every acknowledged sample is read back, from a counting store and, through a gateway, from the
// embedded one.
func TestFaultStorm(t *testing.T) {
	const senders, batches, series = 8, 40, 4
	run := func(t *testing.T, p *faultPair) map[string]bool {
		stop, stormy := make(chan struct{}), make(chan struct{})
		go func() { defer close(stormy); storm(p.proxies, stop) }()
		acked := map[string]bool{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for range senders {
			all.Go(func() {
				for range batches {
					b := p.batch(series)
					if err := p.until(b); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, key := range sampleKeys(b) {
						acked[key] = true
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		close(stop)
		<-stormy
		if len(acked) != senders*batches*series && !t.Failed() {
			t.Errorf("%d samples acknowledged", len(acked))
		}
		return acked
	}
	const upstream = "  write_timeout: 200ms\n  connect_timeout: 200ms\n  health_interval: 100ms\n  health_timeout: 200ms"
	t.Run("counting store", func(t *testing.T) {
		t.Parallel()
		store := newCountingStore(t)
		acked := run(t, newFaultPair(t, "m3", store.URL, 2, upstream))
		if lost := store.missing(slices.Collect(maps.Keys(acked))); len(lost) > 0 {
			t.Errorf("%d acknowledged samples are not there: %v", len(lost), lost)
		}
		store.mu.Lock()
		defer store.mu.Unlock()
		for key := range store.stored {
			if !acked[key] {
				t.Errorf("%q was never sent", key)
			}
		}
	})
	t.Run("embedded store", func(t *testing.T) {
		t.Parallel()
		store := gatewaytest.Store(t)
		acked := run(t, newFaultPair(t, "prometheus", store, 2, upstream))
		reader := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Tenancy: onlyAlice, Upstreams: []string{store}})
		found := sampleKeys(readBack(t, reader))
		for _, key := range found {
			if !acked[key] {
				t.Errorf("%q was never sent", key)
			}
			delete(acked, key)
		}
		if len(acked) > 0 {
			t.Errorf("%d acknowledged samples are not there", len(acked))
		}
	})
}

// readBack reads every sample of alice's.
func readBack(t *testing.T, g *gatewaytest.Gateway) []prompb.TimeSeries {
	t.Helper()
	now := time.Now().UnixMilli()
	ask, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{
		StartTimestampMs: now - patience.Milliseconds()*10, EndTimestampMs: now + 1000,
		Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "up"}},
	}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	req := g.Request("alice", "POST", "/api/v1/read", snappy.Encode(nil, ask))
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	a := g.Do(req)
	raw, err := snappy.Decode(nil, []byte(a.Body))
	if err != nil {
		t.Fatalf("%d %v", a.Status, err)
	}
	var answer prompb.ReadResponse
	if err := answer.Unmarshal(raw); err != nil || len(answer.Results) != 1 {
		t.Fatalf("%d %v", a.Status, err)
	}
	var out []prompb.TimeSeries
	for _, ts := range answer.Results[0].Timeseries {
		out = append(out, *ts)
	}
	return out
}
