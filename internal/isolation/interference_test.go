package isolation

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"

	"m3gateway/internal/gatewaytest"
)

// number reads a whole number from the environment.
func number(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		t.Fatalf("%s=%q is no number", name, v)
	}
	return n
}

// gate is a gateway with clients of both protocols.
type gate struct {
	*gatewaytest.Gateway
	older *http.Client // HTTP/1.1
}

func newGate(t testing.TB, kind, prefix string, upstreams ...string) *gate {
	t.Helper()
	users := []string{userOne, userTwo, userMore, userAll}
	tenancy := fmt.Sprintf("  users:\n    %s: {tenants: [%q]}\n    %s: {tenants: [%q, %q]}\n    %s: {tenants: [%q, %q, %q]}\n    %s: {tenants: [\"*\"], rights: [read]}\n",
		userOne, prefix+asker, userTwo, prefix+asker, prefix+second, userMore, prefix+asker, prefix+"zed", prefix+"a|b", userAll)
	for i, name := range append(crowd(), second) {
		users = append(users, crowdUser(i))
		tenancy += fmt.Sprintf("    %s: {tenants: [%q]}\n", crowdUser(i), prefix+name)
	}
	g := &gate{Gateway: gatewaytest.Start(t, gatewaytest.Setup{Users: users, Tenancy: tenancy, Kind: kind, Upstreams: upstreams, Extra: "log: {access: false}"})}
	tr := g.Client.Transport.(*http.Transport)
	tr.DisableCompression, tr.MaxIdleConnsPerHost = true, 16
	one := tr.Clone()
	one.ForceAttemptHTTP2, one.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	one.TLSClientConfig.NextProtos = []string{"http/1.1"}
	g.older = &http.Client{Timeout: time.Minute, Transport: one, CheckRedirect: g.Client.CheckRedirect}
	t.Cleanup(g.older.CloseIdleConnections)
	return g
}

// crowdUser is the user of the nth tenant of the crowd; the one after the last is the user that writes the second tenant.
func crowdUser(n int) string { return fmt.Sprintf("crowd%d", n) }

// answer is all of an answer but its date.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends r as it is.
func (g *gate) ask(r *request) (answer, error) {
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
		if r.chunked {
			body = struct{ io.Reader }{body}
		}
	}
	req, err := http.NewRequest(r.method, g.URL+r.target, body)
	if err != nil {
		return answer{}, err
	}
	maps.Copy(req.Header, r.header)
	req.SetBasicAuth(r.user, gatewaytest.Password(r.user))
	if r.tenant != nil {
		req.Header["X-Tenant"] = r.tenant
	}
	client := g.Client
	if r.older {
		client = g.older
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.header.Del("Date")
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

// plain is the body without its encoding.
func (a *answer) plain() []byte {
	switch a.header.Get("Content-Encoding") {
	case "gzip":
		if z, err := gzip.NewReader(bytes.NewReader(a.body)); err == nil {
			if b, err := io.ReadAll(z); err == nil {
				return b
			}
		}
	case "zstd":
		if z, err := zstd.NewReader(nil); err == nil {
			defer z.Close()
			if b, err := z.DecodeAll(a.body, nil); err == nil {
				return b
			}
		}
	case "snappy":
		if b, err := snappy.Decode(nil, a.body); err == nil {
			return b
		}
	}
	return a.body
}

// full reports a success that shows some data.
func (a *answer) full() bool {
	if a.status != http.StatusOK {
		return false
	}
	b := a.plain()
	if a.header.Get("Content-Encoding") == "snappy" {
		var resp prompb.ReadResponse
		return resp.Unmarshal(b) == nil && slices.ContainsFunc(resp.Results, func(r *prompb.QueryResult) bool { return len(r.Timeseries) > 0 })
	}
	return len(b) > 0 && !bytes.Contains(b, []byte(`"data":[]`)) && !bytes.Contains(b, []byte(`"result":[]`)) && !bytes.Contains(b, []byte(`"groups":[]`)) && !bytes.Contains(b, []byte(`"alerts":[]`))
}

func equal(x, y answer) bool {
	return x.status == y.status && bytes.Equal(x.body, y.body) && maps.EqualFunc(x.header, y.header, slices.Equal)
}

// tally counts answers for the table.
type tally struct {
	mu     sync.Mutex
	status map[string]map[int]int
	full   map[string]int
	loose  int // compared by what they say, as the store alone does not repeat their bytes
}

func newTally() *tally { return &tally{status: map[string]map[int]int{}, full: map[string]int{}} }

func (c *tally) count(what string, a *answer, loose bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status[what] == nil {
		c.status[what] = map[int]int{}
	}
	c.status[what][a.status]++
	if a.full() {
		c.full[what]++
	}
	if loose {
		c.loose++
	}
}

// table prints routes by status.
func (c *tally) table() string {
	statuses := map[int]bool{}
	for _, m := range c.status {
		for s := range m {
			statuses[s] = true
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%-18s", "")
	for _, s := range sortedKeys(statuses) {
		fmt.Fprintf(&out, "%7d", s)
	}
	fmt.Fprintf(&out, "%15s\n", "200 with data")
	for _, what := range sortedKeys(c.status) {
		fmt.Fprintf(&out, "%-18s", what)
		for _, s := range sortedKeys(statuses) {
			fmt.Fprintf(&out, "%7d", c.status[what][s])
		}
		fmt.Fprintf(&out, "%15d\n", c.full[what])
	}
	return out.String()
}

// all are the answers counted.
func (c *tally) all() int {
	n := 0
	for what := range c.status {
		n += c.of(what)
	}
	return n
}

// of are those of one route.
func (c *tally) of(what string) int {
	n := 0
	for _, k := range c.status[what] {
		n += k
	}
	return n
}

// healthy is an error if a route answered that the store is at fault, or if too few of its answers have data to prove anything.
func (c *tally) healthy(t *testing.T, least map[string]int) {
	t.Helper()
	full := 0
	for _, what := range sortedKeys(c.status) {
		for status, n := range c.status[what] {
			if status >= http.StatusInternalServerError {
				t.Errorf("%s: %d answers of status %d", what, n, status)
			}
		}
		full += c.full[what]
		if n := c.of(what); c.full[what]*100 < n*least[what] {
			t.Errorf("%s: only %d of %d answers have data, at least %d%% should", what, c.full[what], n, least[what])
		}
	}
	all := c.all()
	if full*100 < all*45 {
		t.Errorf("only %d of %d answers have data", full, all)
	}
	if c.loose*100 > all*5 {
		t.Errorf("the store alone does not repeat %d of %d answers", c.loose, all)
	}
}

// twins are two gateways before two stores which hold the same for the asker; only one holds anything else.
type twins struct {
	kind          string
	base          time.Time
	seed          uint64
	lone, crowded *gate
	tally         *tally
}

// difference is what must not be: two answers to one request.
type difference struct {
	n    uint64
	r    request
	x, y answer // alone, and with the crowd
}

// enough differences are worth a report; no more are looked for.
const enough = 5

// newTwins fills the stores: a part of the crowd before the asker, a part after it, and what belongs to no tenant.
func newTwins(t *testing.T, kind string, seed uint64) *twins {
	t.Helper()
	w := &twins{kind: kind, base: time.Now().Truncate(time.Second), seed: seed, tally: newTally()}
	empty, full := newStore(t, kind, w.base), newStore(t, kind, w.base)
	w.lone, w.crowded = newGate(t, kind, "", empty.URL), newGate(t, kind, "", full.URL)
	utf8Names := kind == "prometheus"
	for _, body := range batches(foreign("", utf8Names), w.base, 99) {
		full.put(t, body)
	}
	fill := func(n int) {
		for _, body := range batches(foreign(crowd()[n], utf8Names), w.base, n+1) {
			w.crowded.put(t, crowdUser(n), body)
		}
	}
	for n := range len(crowd()) / 2 {
		fill(n)
	}
	for _, g := range []*gate{w.lone, w.crowded} {
		g.fill(t, kind, w.base)
	}
	for n := len(crowd()) / 2; n < len(crowd()); n++ {
		fill(n)
	}
	return w
}

// fill writes the asker's two tenants.
func (g *gate) fill(t *testing.T, kind string, base time.Time) {
	t.Helper()
	for _, body := range batches(own(kind == "prometheus"), base, 0) {
		g.put(t, userOne, body)
	}
	for _, body := range batches(own(kind == "prometheus")[:20], base, 50) {
		g.put(t, crowdUser(len(crowd())), body)
	}
}

// put writes a body as user; all of it must be taken.
func (g *gate) put(t *testing.T, user string, body []byte) {
	t.Helper()
	r := request{user: user, method: http.MethodPost, target: "/api/v1/write", body: body, header: http.Header{"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"snappy"}}}
	a, err := g.ask(&r)
	if err != nil || a.status != http.StatusNoContent {
		t.Fatalf("writing as %s: %d %s %v", user, a.status, a.body, err)
	}
}

// report shows a difference, with what is needed to see it again.
func (w *twins) report(t *testing.T, d *difference) {
	t.Helper()
	from := 0
	for p, q := d.x.plain(), d.y.plain(); from < min(len(p), len(q)) && p[from] == q[from]; from++ {
	}
	part := func(a *answer) []byte {
		b := a.plain()
		return b[min(max(0, from-100), len(b)):min(len(b), from+400)]
	}
	t.Errorf("the answer depends on other tenants (kind %s, seed %d, request %d):\n%s\nalone:   %d %v …%s\ncrowded: %d %v …%s",
		w.kind, w.seed, d.n, &d.r, d.x.status, d.x.header, part(&d.x), d.y.status, d.y.header, part(&d.y))
}

// compare asks both gateways the nth request of the sequence.
func (w *twins) compare(n uint64) (*difference, error) {
	r := newWriter(w.kind, "", w.base, w.seed, n).request()
	x, err := w.lone.ask(&r)
	if err != nil {
		return nil, fmt.Errorf("request %d: %s: %w", n, &r, err)
	}
	y, err := w.crowded.ask(&r)
	if err != nil {
		return nil, fmt.Errorf("request %d: %s: %w", n, &r, err)
	}
	same, loose := equal(x, y), false
	leak := bytes.Contains(y.plain(), []byte(secret))
	if !same && !leak {
		loose = w.unstable(&r, x, y)
	}
	w.tally.count(r.what, &y, loose)
	if leak || !same && !loose {
		return &difference{n, r, x, y}, nil
	}
	return nil, nil
}

// reads compares the requests from up to, to not included, several at a time, while the crowd reads and writes. It returns the
// differences, of which it looks for no more than most.
func (w *twins) reads(t *testing.T, from, to uint64, most int) []*difference {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var (
		noise, asking sync.WaitGroup
		next          atomic.Uint64
		mu            sync.Mutex
		found         []*difference
		failed        error
	)
	noise.Go(func() { w.noise(ctx, from, to) })
	next.Store(from)
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				if n >= to {
					return
				}
				d, err := w.compare(n)
				mu.Lock()
				if d != nil {
					found = append(found, d)
				}
				if failed = cmp.Or(failed, err); failed != nil || len(found) >= most {
					stop()
				}
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	stop()
	noise.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	return found
}

// noise is the crowd on the crowded gateway: it asks what the asker asks, the last first, and writes, until ctx ends.
func (w *twins) noise(ctx context.Context, from, to uint64) {
	for n := uint64(0); ctx.Err() == nil; n++ {
		r := newWriter(w.kind, "", w.base, w.seed, to-1-n%(to-from)).request()
		r.user, r.tenant = crowdUser(int(n)%len(crowd())), nil
		if n%8 == 0 {
			s := series{gauge, []string{"__name__", "up", "job", "api", "secret", secret, "n", strconv.FormatUint(n%500, 10)}}
			r = writeRequest(r.user, encode([]prompb.TimeSeries{part(s, int(n), int(n)%steps, int(n)%steps+1, w.base, 9)}))
		}
		_, _ = w.crowded.ask(&r)
	}
}

func writeRequest(user string, body []byte) request {
	return request{what: "write", user: user, method: http.MethodPost, target: "/api/v1/write", body: body,
		header: http.Header{"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"snappy"}}}
}

// TestAnswersDoNotDependOnOtherTenants is the promise: whatever the asker sends, the store that is full of others answers
// with the same status, the same headers and the same bytes as the store that has nobody else.
//
// M3GATEWAY_ISOLATION_SEED gives another sequence of requests, M3GATEWAY_ISOLATION_REQUESTS another length.
func TestAnswersDoNotDependOnOtherTenants(t *testing.T) {
	plainParser()
	seed := number(t, "M3GATEWAY_ISOLATION_SEED", 1)
	total := number(t, "M3GATEWAY_ISOLATION_REQUESTS", requests)
	for kind, share := range map[string]uint64{"prometheus": 60, "m3": 40} {
		t.Run(kind, func(t *testing.T) {
			w := newTwins(t, kind, seed)
			const rounds = 4
			each := max(total*share/100/rounds, 1)
			for round := range uint64(rounds) {
				found := append(w.writes(t, round), w.reads(t, round*each, (round+1)*each, enough)...)
				for _, d := range found {
					w.report(t, d)
				}
				if len(found) > 0 {
					break
				}
			}
			all := w.tally.all()
			t.Logf("kind %s, seed %d (M3GATEWAY_ISOLATION_SEED): %d requests, each to both; %d answers that the store alone does not repeat\n%s", kind, seed, all, w.tally.loose, w.tally.table())
			if !t.Failed() && total >= 10_000 { // of fewer, the share is chance
				w.tally.healthy(t, leastFull(kind))
			}
		})
	}
}

// plainParser takes back what the generator's package adds to the parser's functions, as the gateway under test is to be the one
// that is shipped. Nothing else may run yet.
func plainParser() { delete(parser.Functions, "holt_winters") }

// leastFull is how many of 100 answers must have data, by route.
func leastFull(kind string) map[string]int {
	least := map[string]int{"query": 40, "query_range": 40, "series": 40, "labels": 40, "label_values": 40, "remote_read": 30, "format_query": 50, "status/buildinfo": 80, "query_exemplars": 30}
	if kind == "m3" {
		delete(least, "query_exemplars") // always empty there
	}
	return least
}
