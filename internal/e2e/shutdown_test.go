//go:build e2e

package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// SIGTERM while requests are under way: they are finished, what was acknowledged is stored, and the gateway exits with 0.
func TestShutdown(t *testing.T) {
	alice, bob := users()
	receiver := startReceiver(t)
	g := startGateway(t, receiver.addr, alice, bob)
	direct := receiver.direct()
	var counters []*counter
	for i := range 4 {
		counters = append(counters, count(t, g.client(t, alice), fmt.Sprintf("known_values_%d", i)))
	}
	for _, c := range counters {
		c.moreAcknowledged(t, 20)
	}

	now := time.Now()
	body, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "under_way"}},
		Samples: []prompb.Sample{{Timestamp: now.UnixMilli(), Value: 42}},
	}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body = snappy.Encode(nil, body)
	conn, err := tls.Dial("tcp", g.addr, tlsConfig(t, g.caFile))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(now.Add(patience))
	req, err := http.NewRequest(http.MethodPost, g.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(bob.name, bob.password)
	fmt.Fprintf(conn, "POST /api/v1/write HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		g.addr, req.Header.Get("Authorization"), len(body))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("no 100 Continue, so the gateway does not read the body: %q, %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}

	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "waiting for readiness to go off", func() error {
		resp, err := http.Get(g.admin + "/readyz")
		if err != nil {
			return nil // the listener is closed
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	eventually(t, "waiting for the listener to close", func() error {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			return nil
		}
		c.Close()
		return errors.New("connected")
	})
	if g.ended() {
		t.Fatalf("the gateway ended while a request was under way")
	}
	if _, err := conn.Write(body[len(body)/2:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatalf("the request under way got no answer: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Errorf("the request under way was answered %s", resp.Status)
	}
	if code := g.wait(t); code != 0 {
		t.Errorf("the gateway ended with code %d", code)
	}

	got, err := direct.query(fmt.Sprintf("under_way{tenant=%q}", bob.tenant), now.Add(time.Second))
	if err != nil || len(got) != 1 || got[0].Value.value != "42" {
		t.Errorf("the request under way stored %v, %v", got, err)
	}
	for _, c := range counters {
		c.end()
		for status := range c.statuses {
			if status != 0 && status/100 != 2 { // 0: the connection was refused or closed while idle
				t.Errorf("a write was answered %d; until its listener closes the gateway takes requests", status)
			}
		}
		c.verify(t, direct, fmt.Sprintf("%s{tenant=%q}", c.metric, alice.tenant))
	}
}
