package app_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// slowly is a body of which only the beginning comes.
func slowly(t *testing.T, begin []byte) io.ReadCloser {
	r, w := io.Pipe()
	go func() { _, _ = w.Write(begin) }()
	t.Cleanup(func() { w.Close() })
	return r
}

// TestSlowSender: a body that stops coming is answered as something that passes, over each protocol, announced in length or not;
// nothing of it is stored, and nothing stays reserved for it.
func TestSlowSender(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice"}, Upstreams: []string{url}, Listen: "body_grace: 200ms, body_min_rate: 1GiB, plain: {address: \"127.0.0.1:0\"}",
		Extra: "limits: {window: {past: 10m, future: 10m}, inflight_bytes: 200MiB}",
	})
	body := gatewaytest.Encode(t, []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", "up")})
	var only1 http.Protocols
	only1.SetHTTP1(true)
	http1 := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.Client.Transport.(*http.Transport).TLSClientConfig.RootCAs}, Protocols: &only1}
	t.Cleanup(http1.CloseIdleConnections)
	for name, client := range map[string]http.RoundTripper{"HTTP/2.0": g.Client.Transport, "HTTP/1.1": http1} {
		for _, base := range []string{g.URL, g.PlainURL} {
			for _, announced := range []bool{false, true} {
				for path, kind := range map[string]string{"/api/v1/write": "application/x-protobuf", "/api/v1/query": "application/x-www-form-urlencoded"} {
					what := fmt.Sprintf("%s, %s, announced %v, %s", name, base, announced, path)
					req := g.Request("alice", http.MethodPost, path, nil)
					u, err := req.URL.Parse(base + path)
					if err != nil {
						t.Fatal(err)
					}
					req.URL, req.Host = u, u.Host
					req.Body, req.GetBody, req.ContentLength = slowly(t, body[:10]), nil, -1
					if announced {
						req.ContentLength = int64(len(body))
					}
					req.Header.Set("Content-Type", kind)
					resp, err := client.RoundTrip(req)
					if err != nil {
						t.Errorf("%s: cut without an answer: %v", what, err)
						continue
					}
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if want := "HTTP/1.1"; base == g.URL && resp.Proto != name || base != g.URL && resp.Proto != want {
						t.Errorf("%s: over %s", what, resp.Proto)
					}
					if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "the body came too slowly (listen.body_timeout and body_min_rate)") {
						t.Errorf("%s: %d %v %s", what, resp.StatusCode, resp.Header, text)
					}
				}
			}
		}
	}
	gatewaytest.Until(t, "nothing is reserved", func() bool {
		return strings.Contains(g.Admin("GET", "/metrics").Body, fmt.Sprintf("m3gateway_gateway_inflight_bytes_left %v\n", float64(200<<20)))
	})
	if m := g.Admin("GET", "/metrics").Body; !strings.Contains(m, `m3gateway_listen_slow_bodies_total{listener="https"} 8`) || strings.Contains(m, `m3gateway_gateway_samples_total{tenant="alice"} 1`) {
		t.Errorf("the metrics do not show 8 slow bodies and no sample:\n%s", m)
	}
}

// TestClientAddressInLog: behind a trusted proxy the access log names the client, and it is the client's own address elsewhere.
func TestClientAddressInLog(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice"}, Upstreams: []string{url},
		Listen: `http_address: "127.0.0.1:0", plain: {address: "127.0.0.1:0"}, proxy_protocol: {trusted: [127.0.0.0/8]}`,
	})
	transport := g.Client.Transport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	header := "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			_, err = io.WriteString(c, header)
		}
		return c, err
	}
	client := &http.Client{Transport: transport, CheckRedirect: g.Client.CheckRedirect}
	for range 2 {
		resp, err := client.Do(g.Request("alice", http.MethodGet, "/api/v1/labels", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if log := g.Log.String(); strings.Count(log, `"listener":"https","client":"2001:db8::7"`) != 2 {
		t.Errorf("the access log does not name the client:\n%s", log)
	}
	resp, err := client.Get(g.HTTPURL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 308 {
		t.Errorf("the HTTP port: %s", resp.Status)
	}
	// Whoever must say whose the connection is, and does not, is not served; the log tells the operator.
	if _, err := g.Client.Do(g.Request("alice", http.MethodGet, "/api/v1/labels", nil)); err == nil {
		t.Error("a connection of a proxy without a header was served")
	}
	if log := g.Log.String(); !strings.Contains(log, "listen.proxy_protocol.trusted") || !strings.Contains(log, `"proxy":"127.0.0.1"`) {
		t.Errorf("the log does not say what is wrong:\n%s", log)
	}
	// The plain and the admin address have no balancers in front.
	if a := plain(t, g, "GET", "/api/v1/labels", nil, "Authorization", credential(g, "alice")); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if a := g.Admin("GET", "/healthz"); a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if log := g.Log.String(); !strings.Contains(log, `"listener":"plain","client":"127.0.0.1"`) {
		t.Errorf("the access log does not name the client:\n%s", log)
	}
}

// TestStrictTransportSecurity: reads over HTTPS carry it, whatever the answer; writes and answers without TLS do not.
func TestStrictTransportSecurity(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice"}, Upstreams: []string{url}, Listen: `http_address: "127.0.0.1:0", plain: {address: "127.0.0.1:0"}, hsts_max_age: 8760h`,
		Extra: "limits: {window: {past: 10m, future: 10m}}",
	})
	const name, want = "Strict-Transport-Security", "max-age=31536000"
	for _, a := range []gatewaytest.Answer{g.Get("alice", "/api/v1/labels"), g.Get("nobody", "/api/v1/labels"), g.Get("alice", "/"), g.Get("alice", "/api/v1/query?x=y")} {
		if a.Header.Get(name) != want {
			t.Errorf("%+v", a)
		}
	}
	req, err := http.NewRequest("GET", g.HTTPURL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []gatewaytest.Answer{
		g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(time.Now(), 1, "__name__", "up")}),
		plain(t, g, "GET", "/api/v1/labels", nil, "Authorization", credential(g, "alice")), g.Do(req), g.Admin("GET", "/healthz"),
	} {
		if len(a.Header[name]) > 0 || a.Status >= 400 {
			t.Errorf("%+v", a)
		}
	}
	off := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{url}})
	if a := off.Get("alice", "/api/v1/labels"); len(a.Header[name]) > 0 {
		t.Errorf("not asked for: %+v", a)
	}
}

// TestHTTPPort: challenges apart it redirects, and takes no credentials.
func TestHTTPPort(t *testing.T) {
	url, _ := sink(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{url}, Listen: `http_address: "127.0.0.1:0", public_https_port: 443`})
	host := strings.TrimPrefix(g.HTTPURL, "http://")
	ask := func(request string) (int, string, string) {
		t.Helper()
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("Location"), string(text)
	}
	for _, tc := range []struct {
		line, header string
		status       int
		location     string
	}{
		{"GET /api/v1/query?query=up", "", 308, "https://gw.example/api/v1/query?query=up"},
		{"POST /api/v1/write", "Content-Length: 1000000\r\n", 308, "https://gw.example/api/v1/write"}, // the body is not waited for
		{"GET /.well-known/acme-challenge/x", "", 308, "https://gw.example/.well-known/acme-challenge/x"},
		{"GET /metrics", "", 308, "https://gw.example/metrics"},
		{"GET /api/v1/query?query=up", "Authorization: " + credential(g, "alice") + "\r\n", 403, ""},
		{"POST /api/v1/write", "Content-Length: 1000000\r\nAuthorization: " + credential(g, "alice") + "\r\n", 403, ""},
		{"OPTIONS *", "", 400, ""},
	} {
		status, location, text := ask(tc.line + " HTTP/1.1\r\nHost: gw.example\r\n" + tc.header + "\r\n")
		if status != tc.status || location != tc.location || status == 403 && !strings.Contains(text, "change the password, and use https") {
			t.Errorf("%s %s: %d %q %q", tc.line, tc.header, status, location, text)
		}
	}
}
