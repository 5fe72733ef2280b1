package isolation

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"m3gateway/internal/gatewaytest"
)

// recorder is a store of one kind that answers every read with no data and every write with success, and keeps what reached it.
type recorder struct {
	URL  string
	kind string
	mu   sync.Mutex
	seen []seen
}

// seen is a request that reached the store, probes of its health left out.
type seen struct {
	method, path string
	host         string
	form         url.Values // of the URL and of the body
	header       http.Header
	body         []byte // not urlencoded
}

func newRecorder(t testing.TB, kind string) *recorder {
	t.Helper()
	u := &recorder{kind: kind}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gatewaytest.Probed(w, r) {
			return
		}
		s := seen{method: r.Method, path: r.URL.EscapedPath(), host: r.Host, header: r.Header.Clone()}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		query := r.URL.RawQuery
		if r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
			query = strings.Trim(query+"&"+string(body), "&")
		} else {
			s.body = body
		}
		if s.form, err = url.ParseQuery(query); err != nil {
			t.Error(err)
		}
		u.mu.Lock()
		u.seen = append(u.seen, s)
		u.mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "/write"):
			w.WriteHeader(map[string]int{"m3": http.StatusOK, "prometheus": http.StatusNoContent}[kind])
		case strings.HasSuffix(r.URL.Path, "/read"):
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Header().Set("Content-Encoding", "snappy")
			_, _ = w.Write(snappy.Encode(nil, nil))
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
		}
	}))
	t.Cleanup(srv.Close)
	u.URL = srv.URL
	return u
}

func (u *recorder) take() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.seen
	u.seen = nil
	return out
}

// String is what the request asks for: its method and path, and its parameters, or the matchers or series of its message.
func (s *seen) String() string {
	out := s.method + " " + s.path
	for _, name := range sortedKeys(s.form) {
		for _, v := range s.form[name] {
			if at, err := time.Parse(time.RFC3339, v); name == "start" && err == nil && time.Since(at) > 23*time.Hour && time.Since(at) < 25*time.Hour {
				continue // what kind m3 is told when the client says nothing
			}
			out += " " + name + "=" + v
		}
	}
	if len(s.body) == 0 {
		return out
	}
	raw, err := snappy.Decode(nil, s.body)
	if err != nil {
		return out + " not snappy"
	}
	if strings.HasSuffix(s.path, "/write") {
		var req prompb.WriteRequest
		if err := req.Unmarshal(raw); err != nil {
			return out + " " + err.Error()
		}
		for _, ts := range req.Timeseries {
			out += " {"
			for _, l := range ts.Labels {
				out += l.Name + "=" + l.Value + ","
			}
			out += fmt.Sprintf("}x%d", len(ts.Samples))
		}
		return out
	}
	var req prompb.ReadRequest
	if err := req.Unmarshal(raw); err != nil {
		return out + " " + err.Error()
	}
	if again, err := req.Marshal(); err != nil || !bytes.Equal(again, raw) {
		out += " with fields of no use"
	}
	for _, q := range req.Queries {
		out += " {"
		for _, m := range q.Matchers {
			out += m.Name + []string{"=", "!=", "=~", "!~"}[m.Type] + m.Value + ","
		}
		out += "}"
	}
	for _, a := range req.AcceptedResponseTypes {
		out += " " + a.String()
	}
	return out
}

// headerProblem says which header the store should not have seen, or should have, as nothing of a header is the client's.
func (u *recorder) headerProblem(s *seen) string {
	want := map[string]string{"User-Agent": "m3gateway"}
	write, read := strings.HasSuffix(s.path, "/write"), strings.HasSuffix(s.path, "/read")
	if !write {
		want["Accept"] = "*/*"
	}
	if s.method == http.MethodPost {
		want["Content-Type"] = "application/x-www-form-urlencoded"
	}
	switch {
	case write:
		want["Content-Type"], want["Content-Encoding"], want["X-Prometheus-Remote-Write-Version"] = "application/x-protobuf", "snappy", "0.1.0"
	case read:
		want["Content-Type"], want["Content-Encoding"], want["X-Prometheus-Remote-Read-Version"] = "application/x-protobuf", "snappy", "0.1.0"
	}
	if u.kind == "m3" && !write {
		want["M3-Restrict-By-Tags-Json"] = `{"match":[{"name":"tenant","type":"EQUAL","value":"a"}],"strip":[]}`
	}
	for _, name := range sortedKeys(s.header) {
		switch v := s.header[name]; {
		case name == "Content-Length" && len(v) == 1:
		case name == "Accept-Encoding" && slices.Equal(v, []string{"gzip"}) && !write && !read:
		case len(v) != 1 || v[0] != want[name]:
			return fmt.Sprintf("%s: %q", name, v)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		return fmt.Sprintf("missing: %v", want)
	}
	if "http://"+s.host != u.URL {
		return "Host: " + s.host
	}
	return ""
}

// shape is one way to ask, and what comes of it.
type shape struct {
	name string
	// raw are the bytes of an HTTP/1.1 connection. {auth} is the header of the asker's password, and a line ends where the
	// text has a newline; what follows an empty line is sent as it is.
	raw string
	// status is the answer's; 0: the connection is closed without one.
	status int
	// saw is what reaches the store, as seen.String has it, one line each; none: nothing.
	saw []string
	// half ends the sending side of the connection behind raw, while the other is still read.
	half bool
	// m3 replaces status and saw on kind m3.
	m3 *outcome
}

// outcome of a shape.
type outcome struct {
	status int
	saw    []string
}

// head ends the lines of a request's head as HTTP does.
func head(text, auth string) []byte {
	first, body, _ := strings.Cut(text, "\n\n")
	return []byte(strings.ReplaceAll(strings.ReplaceAll(first, "{auth}", auth), "\n", "\r\n") + "\r\n\r\n" + body)
}

// get and post are ordinary requests of the asker, with further header lines.
func get(target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\nHost: gateway\n{auth}\n" + strings.Join(append(lines, ""), "\n") + "\n"
}

func post(target, body string, lines ...string) string {
	return "POST " + target + " HTTP/1.1\nHost: gateway\n{auth}\nContent-Type: application/x-www-form-urlencoded\n" + fmt.Sprintf("Content-Length: %d\n", len(body)) + strings.Join(append(lines, ""), "\n") + "\n" + body
}

// send writes raw to a connection of its own, and ends that direction if half, and returns the status and the body of the first
// answer.
func send(addr string, roots *tls.Config, raw []byte, half bool) (status int, body string, err error) {
	conf := roots.Clone()
	conf.NextProtos = []string{"http/1.1"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", addr, conf)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, "", err
	}
	written := make(chan struct{})
	go func() { // what is oversized is answered before it is all sent
		defer close(written)
		_, _ = c.Write(raw)
		if half {
			_ = c.CloseWrite()
		}
	}()
	method, _, _ := strings.Cut(string(raw[:min(20, len(raw))]), " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0, "", nil // closed without an answer
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = c.Close()
	<-written
	return resp.StatusCode, string(text), err
}

// TestRequestShapes sends what no client library would, over raw connections, and looks at what reaches the store.
func TestRequestShapes(t *testing.T) {
	for _, kind := range []string{"prometheus", "m3"} {
		t.Run(kind, func(t *testing.T) {
			all := shapes()
			names := map[string]bool{}
			for _, s := range all {
				if names[s.name] {
					t.Errorf("two rows are named %q", s.name)
				}
				names[s.name] = true
			}
			for _, p := range newAttack(t, kind).shapes(t, all) {
				t.Error(p)
			}
			t.Logf("kind %s: %d shapes", kind, len(all))
		})
	}
}

// attack is a gateway before a recorder.
type attack struct {
	u    *recorder
	addr string
	tls  *tls.Config
	auth string // the value of the asker's Authorization
}

func newAttack(t *testing.T, kind string) *attack {
	t.Helper()
	u := newRecorder(t, kind)
	g := newGate(t, kind, "", u.URL)
	return &attack{
		u: u, addr: strings.TrimPrefix(g.URL, "https://"), tls: g.Client.Transport.(*http.Transport).TLSClientConfig,
		auth: "Basic " + base64.StdEncoding.EncodeToString([]byte(userOne+":"+gatewaytest.Password(userOne))),
	}
}

// shapes sends all and returns what came otherwise than it should.
func (a *attack) shapes(t *testing.T, all []shape) (problems []string) {
	t.Helper()
	for _, s := range all {
		want := outcome{s.status, s.saw}
		if a.u.kind == "m3" && s.m3 != nil {
			want = *s.m3
		}
		status, body, err := send(a.addr, a.tls, head(s.raw, "Authorization: "+a.auth), s.half)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		problems = append(problems, a.u.check(s.name, want, status, body)...)
	}
	return problems
}

// check compares what came of a shape.
func (u *recorder) check(name string, want outcome, status int, body string) (problems []string) {
	bad := func(format string, args ...any) {
		problems = append(problems, name+": "+fmt.Sprintf(format, args...))
	}
	if status != want.status {
		bad("status %d, want %d: %.300s", status, want.status, body)
	}
	if status >= 400 && strings.HasPrefix(body, "{") && !strings.HasPrefix(body, `{"status":"error","errorType":"`) {
		bad("the error is not in the shape of the Prometheus API: %.300s", body)
	}
	var saw []string
	for _, s := range u.take() {
		line := s.String()
		if u.kind == "m3" { // its routes of remote write and read, as those of Prometheus
			line = strings.Replace(line, "/api/v1/prom/remote/", "/api/v1/", 1)
		}
		saw = append(saw, line)
		if p := u.headerProblem(&s); p != "" {
			bad("the store saw a header it should not: %s", p)
		}
	}
	slices.Sort(saw)
	if !slices.Equal(saw, want.saw) {
		bad("the store saw %.500q, want %q", saw, want.saw)
	}
	return problems
}
