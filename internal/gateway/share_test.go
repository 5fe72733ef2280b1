package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"m3gateway/internal/gatewaytest"
)

// reading makes a read of user and sends what came of it; nothing if its client goes away with ctx.
func reading(ctx context.Context, g *gatewaytest.Gateway, user string, answers chan<- gatewaytest.Answer) {
	resp, err := g.Client.Do(g.Request(user, "GET", "/api/v1/labels", nil).WithContext(ctx))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	answers <- gatewaytest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(b)}
}

// usedOf is how much of a limit the user's only tenant uses, as /api/v1/limits says.
func usedOf(t *testing.T, g *gatewaytest.Gateway, user, limit string) float64 {
	t.Helper()
	var a struct {
		Data struct {
			Tenants []struct {
				Usage []struct {
					Limit string
					Used  float64
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(g.Get(user, "/api/v1/limits").Body), &a); err != nil || len(a.Data.Tenants) != 1 {
		t.Fatalf("%+v: %v", a, err)
	}
	for _, u := range a.Data.Tenants[0].Usage {
		if u.Limit == limit {
			return u.Used
		}
	}
	t.Fatalf("no usage of %s in %+v", limit, a)
	return 0
}

// TestQueuedReads: a read over limits.reads.concurrent waits for its turn; one more than the queue has places for, or that has waited
// for too long, is 429; a client that goes away leaves its place; and the store hears of none before its turn.
func TestQueuedReads(t *testing.T) {
	h := newHeld(t, false)
	g := startReads(t, "prometheus", h.upstream, "concurrent: 1, queue: 1, queue_wait: 1m")
	answers := make(chan gatewaytest.Answer, 10)
	go reading(t.Context(), g, "alice", answers)
	<-h.entered
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go reading(ctx, g, "alice", answers)
	waits := func(n float64) func() bool {
		return func() bool { return usedOf(t, g, "alice", "reads.queue") == n }
	}
	gatewaytest.Until(t, "the second waits", waits(1))
	if a := g.Get("reader", "/api/v1/labels"); !isExcess(a, 429, "1 reads of this tenant are under way, and 1 wait; limits.reads.concurrent allows 1") {
		t.Errorf("%+v", a)
	}
	metrics := g.Admin("GET", "/metrics").Body
	for _, want := range []string{
		`m3gateway_gateway_tenant_usage{limit="reads.concurrent",tenant="team-a"} 1`, `m3gateway_gateway_tenant_usage{limit="reads.queue",tenant="team-a"} 1`,
		`m3gateway_gateway_tenant_limit{limit="reads.queue",tenant="team-a"} 1`, `m3gateway_gateway_tenant_usage{limit="reads.concurrent",tenant="team-b"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	leave()
	gatewaytest.Until(t, "its place is free", waits(0))
	go reading(t.Context(), g, "reader", answers)
	gatewaytest.Until(t, "another waits", waits(1))
	select {
	case path := <-h.entered:
		t.Errorf("the store was asked %s", path)
	default:
	}
	h.goOn <- struct{}{}
	if a := <-answers; a.Status != 200 {
		t.Errorf("%+v", a)
	}
	<-h.entered // its turn
	h.goOn <- struct{}{}
	if a := <-answers; a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if n := usedOf(t, g, "alice", "reads.concurrent"); n != 0 {
		t.Errorf("%v under way", n)
	}
}

// TestQueueWait: who has waited for as long as it may is told what for.
func TestQueueWait(t *testing.T) {
	h := newHeld(t, false)
	g := startReads(t, "prometheus", h.upstream, "concurrent: 1, queue_wait: 100ms")
	go reading(t.Context(), g, "alice", make(chan gatewaytest.Answer, 1))
	<-h.entered
	a := g.Get("alice", "/api/v1/labels")
	if !isExcess(a, 429, "1 reads of this tenant are under way, and none has ended within 100ms that would make room; limits.reads.concurrent allows 1") || a.Header.Get("Retry-After") != "1" {
		t.Errorf("%+v", a)
	}
}

// TestInflightRequests: of limits.inflight_requests a tenant gets seven eighths, and what is over them is 503; another's requests, and
// those that ask for no tenant, pass, and all is free again in the end.
func TestInflightRequests(t *testing.T) {
	h := newHeld(t, false)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: twoTenantUsers, Tenancy: twoTenants, Kind: "prometheus", Upstreams: []string{h.URL},
		Extra: "limits: {inflight_requests: 100, reads: {concurrent: 0}}",
	})
	answers := make(chan gatewaytest.Answer, 100)
	for range 84 { // 7 * (100 / 8)
		go reading(t.Context(), g, "alice", answers)
		<-h.entered
	}
	for _, req := range []*http.Request{g.Request("alice", "GET", "/api/v1/labels", nil), g.Request("alice", "POST", "/api/v1/write", gatewaytest.Encode(t, numbered(0, 1)))} {
		if a := g.Do(req); a.Status != 503 || a.Header.Get("Retry-After") != "5" || !strings.Contains(a.Body, "limits.inflight_requests") {
			t.Errorf("%s: %+v", req.URL.Path, a)
		}
	}
	go reading(t.Context(), g, "bob", answers)
	<-h.entered
	if a := g.Get("", "/api/v1/labels"); a.Status != 401 {
		t.Errorf("%+v", a)
	}
	if body := g.Admin("GET", "/metrics").Body; !strings.Contains(body, "m3gateway_gateway_inflight_requests_left 15\n") {
		t.Error("15 are not left")
	}
	close(h.goOn)
	for range 85 {
		if a := <-answers; a.Status != 200 {
			t.Errorf("%+v", a)
		}
	}
	gatewaytest.Until(t, "all are free", func() bool {
		return strings.Contains(g.Admin("GET", "/metrics").Body, "m3gateway_gateway_inflight_requests_left 100\n")
	})
	if a := g.Get("alice", "/api/v1/labels"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
}

// TestBrokenBatchesTakeNoTurn: batches that cannot be decoded leave their place to others.
func TestBrokenBatchesTakeNoTurn(t *testing.T) {
	u := newUpstream(t, ok)
	g := startWrites(t, u, "weight: 1")
	broken := append(gatewaytest.Encode(t, numbered(0, 1)), 0xff)
	for range 300 {
		if a := g.Do(g.Request("alice", "POST", "/api/v1/write", broken)); a.Status != 400 {
			t.Fatalf("%+v", a)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if a := g.Do(g.Request("alice", "POST", "/api/v1/write", gatewaytest.Encode(t, numbered(0, 1))).WithContext(ctx)); a.Status != 204 {
		t.Errorf("%+v", a)
	}
}
