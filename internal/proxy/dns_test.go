package proxy

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// zone answers look-ups; safe for concurrent use.
type zone struct {
	mu        sync.Mutex
	addresses []netip.Addr
	err       error
}

func (z *zone) set(err error, addresses ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err, z.addresses = err, nil
	for _, a := range addresses {
		z.addresses = append(z.addresses, netip.MustParseAddr(a))
	}
}

func (z *zone) lookup(_ context.Context, name string) (found, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	_, port, _ := splitHostPort(name)
	answer := found{ttl: -1}
	for _, a := range z.addresses {
		answer.hosts = append(answer.hosts, netip.AddrPortFrom(a.Unmap(), port).String())
	}
	if z.err == nil && len(z.addresses) == 0 {
		return found{}, errors.New("the name has no addresses")
	}
	return answer, z.err
}

// dnsPool starts a Pool on name:port whose look-ups z answers.
func dnsPool(t *testing.T, z *zone, port string, change func(*Config)) *Pool {
	t.Helper()
	cfg := Defaults()
	cfg.DNS.Name, cfg.DNS.Interval, cfg.HealthInterval = "store.test:"+port, 5*time.Millisecond, 5*time.Millisecond
	cfg.Handover = 0
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, readyIf200, time.Now, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	p.lookup = z.lookup
	p.Start(t.Context())
	t.Cleanup(p.Close)
	return p
}

// twins are two servers on 127.0.0.1 and 127.0.0.2 with one port.
func twins(t *testing.T, h http.Handler) (port string) {
	t.Helper()
	for range 50 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(first.Addr().String())
		second, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			first.Close()
			continue
		}
		for _, l := range []net.Listener{first, second} {
			s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
			s.Start()
			t.Cleanup(s.Close)
		}
		return port
	}
	t.Fatal("no common port")
	return ""
}

func TestDNSMembersComeAndGo(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	port := twins(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-finish
		}
		_, _ = io.WriteString(w, r.Host)
	}))
	var z zone
	z.set(nil, "127.0.0.1")
	p := dnsPool(t, &z, port, nil)
	if got := memberNames(p); got != "1" || !p.Ready() {
		t.Fatalf("members %s", got)
	}

	slow := make(chan string)
	go func() {
		a, err := p.Do(context.Background(), &Request{Method: "GET", Path: "/slow"})
		if err != nil {
			slow <- err.Error()
			return
		}
		b, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil {
			slow <- err.Error()
		}
		slow <- string(b)
	}()
	<-begun
	z.set(nil, "127.0.0.2", "127.0.0.1", "127.0.0.2", "::ffff:127.0.0.1")
	eventually(t, "a second member", func() bool { return memberNames(p) == "12" })
	z.set(nil, "127.0.0.2")
	eventually(t, "the first gone", func() bool { return memberNames(p) == "2" && p.Ready() })
	for _, err := range []error{errors.New("server misbehaving"), nil} { // a failure, and an answer without addresses
		before := testutil.ToFloat64(p.metrics.dnsErrors)
		z.set(err)
		eventually(t, "failed look-ups", func() bool { return testutil.ToFloat64(p.metrics.dnsErrors) > before+1 })
		if got := memberNames(p); got != "2" {
			t.Errorf("%v: members %q", err, got)
		}
	}
	close(finish)
	if got := <-slow; got != "store.test:"+port {
		t.Errorf("the request on the member that left: %q", got)
	}
	if n := testutil.CollectAndCount(p.metrics.attempts); n != 10 {
		t.Errorf("%d counters, want one member's", n)
	}
	a, err := p.Do(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	if body := read(t, a); body != "store.test:"+port || a.Member != "http://127.0.0.2:"+port {
		t.Errorf("%s from %s", body, a.Member)
	}
}

func TestDNSFailsAtStart(t *testing.T) {
	port := twins(t, http.HandlerFunc(says("good")))
	var z zone
	z.set(errors.New("no such host"))
	p := dnsPool(t, &z, port, nil)
	if _, err := p.Do(t.Context(), get()); kindOf(err) != NoMember || p.Ready() {
		t.Fatal(err)
	}
	z.set(nil, "127.0.0.1")
	eventually(t, "a member", func() bool { return memberNames(p) == "1" && p.Ready() })
}

func TestTLSUpstream(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host)
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	trust := func(c *Config) { c.CAFile = file }
	p := start(t, trust, s.URL)
	a, err := p.Do(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	if read(t, a) != strings.TrimPrefix(s.URL, "https://") {
		t.Error("host")
	}
	if _, err := start(t, nil, s.URL).Do(t.Context(), get()); kindOf(err) != Connect {
		t.Errorf("a certificate of nobody's: %v", err)
	}
	// By DNS the certificate must name the host, whatever the address; httptest's names example.com.
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for host, ok := range map[string]bool{"example.com": true, "other.test": false} {
		var z zone
		z.set(nil, "127.0.0.1")
		p := dnsPool(t, &z, port, func(c *Config) { c.CAFile, c.DNS.Scheme, c.DNS.Name = file, "https", host+":"+port })
		a, err := p.Do(t.Context(), get())
		if (err == nil) != ok || (!ok && kindOf(err) != Connect) {
			t.Errorf("%s: %v", host, err)
		}
		if err == nil && read(t, a) != host+":"+port {
			t.Error("host")
		}
	}
}

func TestMetricsSurviveAReload(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	a, b := server(t, says("a")), server(t, says("b"))
	pool := func(urls ...string) *Pool {
		cfg := Defaults()
		cfg.URLs, cfg.HealthInterval = urls, time.Hour
		p, err := New(cfg, readyIf200, time.Now, slog.New(slog.DiscardHandler), m)
		if err != nil {
			t.Fatal(err)
		}
		p.Start(t.Context())
		return p
	}
	ask := func(p *Pool) {
		t.Helper()
		a, err := p.Do(t.Context(), post("x", "k"))
		if err != nil {
			t.Fatal(err)
		}
		read(t, a)
	}
	old := pool(a.URL, b.URL)
	ask(old)
	ask(old)
	next := pool(b.URL)
	old.Close()
	ask(old) // a request that began before the reload
	ask(next)
	if n := testutil.ToFloat64(m.requests.WithLabelValues("write", "2xx")); n != 4 {
		t.Errorf("%v requests", n)
	}
	if err := testutil.CollectAndCompare(poolCollector{m}, bytes.NewBufferString(`
		# HELP m3gateway_proxy_members Members of the pool, by whether they are fit for reads and writes.
		# TYPE m3gateway_proxy_members gauge
		m3gateway_proxy_members{op="read",state="healthy"} 1
		m3gateway_proxy_members{op="read",state="out"} 0
		m3gateway_proxy_members{op="write",state="healthy"} 1
		m3gateway_proxy_members{op="write",state="out"} 0
	`), "m3gateway_proxy_members"); err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				if l.GetValue() == a.URL {
					t.Errorf("%s still has the member that left", f.GetName())
				}
			}
		}
	}
	next.Close()
}
