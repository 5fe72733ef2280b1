package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"m3gateway/internal/faultnet"
)

func TestLookUp(t *testing.T) {
	ns := faultnet.NewNameServer(t)
	ns.Set("store.test", faultnet.Record{Addresses: []string{"127.0.0.1", "127.0.0.2", "::1"}, TTL: 7})
	ns.Set("nothing.test", faultnet.Record{TTL: 7})
	ns.Set("_http._tcp.store.test", faultnet.Record{TTL: 9, Services: []faultnet.Service{
		{Target: "m3-0.store.test.", Port: 7201, Priority: 1}, {Target: "M3-1.store.test.", Port: 7202, Priority: 1}, {Target: "spare.test.", Port: 7201, Priority: 2},
	}})
	for _, c := range []struct {
		name string
		mood faultnet.Mood
		want string
	}{
		{"store.test:7201", faultnet.Helpful, "[127.0.0.1:7201 127.0.0.2:7201 [::1]:7201] 7s"},
		{"store.test:7201", faultnet.Terse, "[127.0.0.1:7201 127.0.0.2:7201 [::1]:7201] 7s"},
		{"store.test:7201", faultnet.Failing, "error"},
		{"other.test:7201", faultnet.Helpful, "error"},
		{"nothing.test:7201", faultnet.Helpful, "error"},
		{"127.0.0.9:7201", faultnet.Failing, "[127.0.0.9:7201] -1ns"}, // no name server is asked
		{"_http._tcp.store.test", faultnet.Helpful, "[m3-0.store.test:7201 m3-1.store.test:7202] 9s"},
		{"_http._tcp.store.test", faultnet.Terse, "[m3-0.store.test:7201 m3-1.store.test:7202] 9s"},
		{"_http._tcp.other.test", faultnet.Helpful, "error"},
		{"_http._tcp.store.test", faultnet.Failing, "error"},
	} {
		ns.Feel(c.mood)
		got := "error"
		if answer, err := (names{ns.Addr()}).look(t.Context(), c.name); err == nil {
			slices.Sort(answer.hosts)
			got = fmt.Sprint(answer.hosts, " ", answer.ttl)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// served is a Pool whose members ns names.
func served(t *testing.T, ns *faultnet.NameServer, change func(*Config)) *Pool {
	t.Helper()
	cfg := Defaults()
	cfg.DNS.Server, cfg.Handover, cfg.HealthInterval = ns.Addr(), 0, 10*time.Millisecond
	change(&cfg)
	p, err := New(cfg, readyIf200, time.Now, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t.Context())
	t.Cleanup(p.Close)
	return p
}

// An answer is asked for again when its time is over, however long Config.DNS.Interval is.
func TestTTLIsKept(t *testing.T) {
	port := twins(t, http.HandlerFunc(says("good")))
	ns := faultnet.NewNameServer(t)
	ns.Set("store.test", faultnet.Record{Addresses: []string{"127.0.0.1"}, TTL: 1})
	p := served(t, ns, func(c *Config) { c.DNS.Name, c.DNS.Interval = "store.test:"+port, time.Hour })
	ns.Set("store.test", faultnet.Record{Addresses: []string{"127.0.0.2"}, TTL: 3600})
	eventually(t, "the new member", func() bool { return memberNames(p) == "2" })
	asked := ns.Asked()
	time.Sleep(1500 * time.Millisecond) // more than a least pause
	if n := ns.Asked() - asked; n > 2 { // A and AAAA of the look-up that is just ending
		t.Errorf("asked %d times though the answer may be kept for an hour", n)
	}
}

// A member that cannot be connected to may have moved: its name is looked up at once.
func TestRefusedLooksAgain(t *testing.T) {
	port := twins(t, http.HandlerFunc(says("good")))
	ns := faultnet.NewNameServer(t)
	ns.Set("store.test", faultnet.Record{Addresses: []string{"127.0.0.3"}, TTL: 3600}) // where nobody listens
	p := served(t, ns, func(c *Config) { c.DNS.Name, c.DNS.Interval = "store.test:"+port, time.Hour })
	if got := memberNames(p); got != "3" {
		t.Fatal(got)
	}
	ns.Set("store.test", faultnet.Record{Addresses: []string{"127.0.0.2"}, TTL: 3600})
	if _, err := p.Do(t.Context(), get()); kindOf(err) != Connect {
		t.Fatal(err)
	}
	eventually(t, "the new member", func() bool { return memberNames(p) == "2" && p.Ready() })
}

// The targets of SRV records are members by their names, so that one which moves stays the same; they are resolved by the same
// name server.
func TestServiceRecords(t *testing.T) {
	port := twins(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, r.Host+" at "+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	}))
	number, err := parsePort(port)
	if err != nil {
		t.Fatal(err)
	}
	ns := faultnet.NewNameServer(t)
	ns.Set("_http._tcp.store.test", faultnet.Record{TTL: 3600, Services: []faultnet.Service{{Target: "m3-0.test.", Port: number}}})
	ns.Set("m3-0.test", faultnet.Record{Addresses: []string{"127.0.0.1"}, TTL: 1})
	p := served(t, ns, func(c *Config) { c.DNS.Name = "_http._tcp.store.test" })
	before := p.Split().members[0]
	for _, addr := range []string{"127.0.0.1", "127.0.0.2"} {
		ns.Set("m3-0.test", faultnet.Record{Addresses: []string{addr}, TTL: 1})
		a, err := p.Do(t.Context(), get())
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, a); body != "m3-0.test:"+port+" at "+addr+":"+port || a.Member != "http://m3-0.test:"+port {
			t.Errorf("%s from %s", body, a.Member)
		}
	}
	if p.Split().members[0] != before {
		t.Error("another member")
	}
}
