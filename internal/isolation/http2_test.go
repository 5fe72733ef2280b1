package isolation

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is a request of HTTP/2 that no client library would send, and what comes of it.
type stream struct {
	name string
	// fields are sent in this order; {auth} is the value of the asker's password.
	fields [][2]string
	body   string // empty: the fields end the stream
	// trailer is sent behind the body.
	trailer [][2]string
	// status is the answer's; 0: the stream or the connection is broken off instead.
	status int
	saw    []string
}

// fields are those of an ordinary request, with more in place of those of the same name, at the end otherwise; one without a
// value is left out.
func fields(target string, more ...[2]string) [][2]string {
	out := [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "gateway"}, {":path", target}, {"authorization", "{auth}"}}
next:
	for _, m := range more {
		for i := range out {
			if out[i][0] == m[0] {
				if out[i][1] = m[1]; m[1] == "" {
					out = append(out[:i:i], out[i+1:]...)
				}
				continue next
			}
		}
		out = append(out, m)
	}
	return out
}

func streams() []stream {
	const q = "/api/v1/query?query=up"
	ok := func(name string, f [][2]string) stream { return stream{name: name, fields: f, status: 200, saw: sawUp} }
	no := func(name string, status int, f [][2]string) stream {
		return stream{name: name, fields: f, status: status}
	}
	first := func(f [2]string) [][2]string { return append([][2]string{f}, fields(q)...) }
	formType := [2]string{"content-type", "application/x-www-form-urlencoded"}
	postForm := func(more ...[2]string) [][2]string {
		return fields("/api/v1/query", append([][2]string{{":method", "POST"}, formType}, more...)...)
	}
	out := []stream{
		ok("as it should be", fields(q)),
		ok("the scheme http", fields(q, [2]string{":scheme", "http"})),
		ok("another authority", fields(q, [2]string{":authority", "evil.example"})),
		ok("Host in place of the authority", fields(q, [2]string{":authority", ""}, [2]string{"host", "evil"})),
		ok("Host beside the authority", fields(q, [2]string{"host", "evil"})),
		ok("te: trailers", fields(q, [2]string{"te", "trailers"})),
		ok("a cookie in pieces", append(fields(q), [2]string{"cookie", "tenant=b"}, [2]string{"cookie", "x=y"})),
		ok("an absolute path", fields("https://evil.example"+q)),
		ok("an authority with a path", fields(q, [2]string{":authority", "gateway/api/v1/search"})),
		ok("a length without a body", fields(q, [2]string{"content-length", "8"})),
		no("X-Tenant twice", 400, append(fields(q), [2]string{"x-tenant", "a"}, [2]string{"x-tenant", "b"})),
		no("another's tenant", 403, append(fields(q), [2]string{"x-tenant", "b"})),
		no("no password", 401, fields(q, [2]string{"authorization", ""})),
		no("two passwords", 401, append(fields(q), [2]string{"authorization", "{auth}"})),

		no("an absolute path at the store", 404, fields("http://127.0.0.1:7201/api/v1/search?query=.*")),
		no("a path of a host", 0, fields("gateway"+q)),
		no("an empty path", 0, append(fields(q, [2]string{":path", ""}), [2]string{":path", ""})),
		no("no path", 0, fields(q, [2]string{":path", ""})),
		no("no method", 0, fields(q, [2]string{":method", ""})),
		no("no scheme", 0, fields(q, [2]string{":scheme", ""})),
		no("another scheme", 0, fields(q, [2]string{":scheme", "gopher"})),
		no("a path without a slash", 0, fields("api/v1/query?query=up")),
		no("an asterisk", 404, fields("*")),
		no("OPTIONS of everything", 404, fields("*", [2]string{":method", "OPTIONS"})),
		no("a doubled slash", 404, fields("/"+q)),
		no("dots", 404, fields("/api/v1/x/../query?query=up")),
		no("an encoded letter", 404, fields("/api/v1/%71uery?query=up")),
		no("a path with a space", 404, fields("/api/v1/query ?query=up")),
		no("a path with a line break", 0, fields("/api/v1/query?query=up HTTP/1.1\r\nX-Tenant: b")),
		no("a path with a NUL", 0, fields("/api/v1/query\x00?query=up")),
		no("a method with more in it", 0, fields(q, [2]string{":method", "GET /api/v1/search HTTP/1.1\r\nx: y"})),
		no("a method with a space", 405, fields(q, [2]string{":method", "GET x"})),
		no("CONNECT", 0, fields(q, [2]string{":method", "CONNECT"})),
		no("CONNECT to an authority", 404, [][2]string{{":method", "CONNECT"}, {":authority", "m3coordinator:7201"}, {"authorization", "{auth}"}}),
		no("extended CONNECT", 0, fields(q, [2]string{":method", "CONNECT"}, [2]string{":protocol", "websocket"})),
		no("HEAD", 405, fields(q, [2]string{":method", "HEAD"})),
		no("an authority with a line break", 0, fields(q, [2]string{":authority", "gateway\r\nx: y"})),

		no("a pseudo-header twice", 0, first([2]string{":path", "/api/v1/search"})),
		no("the method twice", 0, first([2]string{":method", "POST"})),
		no("the authority twice", 0, first([2]string{":authority", "evil"})),
		no("an invented pseudo-header", 0, first([2]string{":tenant", "b"})),
		no("a pseudo-header of an answer", 0, first([2]string{":status", "200"})),
		no("a pseudo-header behind a header", 0, append([][2]string{{"accept", "x"}}, fields(q)...)),
		no("a pseudo-header at the end", 0, append(fields(q), [2]string{":path", "/api/v1/search"})),
		no("a name in capitals", 0, append(fields(q), [2]string{"X-Tenant", "a"})),
		no("a name with a colon", 0, append(fields(q), [2]string{"x-tenant:", "a"})),
		no("a name with a space", 0, append(fields(q), [2]string{"x-tenant ", "a"})),
		no("a name with a line break", 0, append(fields(q), [2]string{"x\r\nx-tenant", "a"})),
		no("an empty name", 0, append(fields(q), [2]string{"", "a"})),
		no("a value with a line break", 0, append(fields(q), [2]string{"x-scope-orgid", "a\r\nx-tenant: b"})),
		no("a value with a NUL", 0, append(fields(q), [2]string{"x-scope-orgid", "a\x00"})),
		no("te: gzip", 400, append(fields(q), [2]string{"te", "gzip"})),

		{name: "a form", fields: postForm(), body: "query=up", status: 200, saw: sawUp},
		{name: "a form with its length", fields: postForm([2]string{"content-length", "8"}), body: "query=up", status: 200, saw: sawUp},
		{name: "a form longer than said", fields: postForm([2]string{"content-length", "3"}), body: "query=up"},
		{name: "a form shorter than said", fields: postForm([2]string{"content-length", "80"}), body: "query=up"},
		{name: "two lengths, of which the frames decide", fields: append(postForm([2]string{"content-length", "8"}), [2]string{"content-length", "3"}), body: "query=up", status: 200, saw: sawUp},
		{name: "a length of words", fields: postForm([2]string{"content-length", "x"}), body: "query=up"},
		{name: "a GET with a body", fields: fields(q), body: "query=up", status: 400},
		{name: "a form with a trailer", fields: postForm([2]string{"trailer", "x-tenant"}), body: "query=up", trailer: [][2]string{{"x-tenant", "b"}, {"m3-engine", "m3query"}}, status: 200, saw: sawUp},
		{name: "a pseudo-header in a trailer", fields: postForm(), body: "query=up", trailer: [][2]string{{":path", "/api/v1/search"}}},
		{name: "many fields", fields: append(fields(q), repeated([2]string{"x-a", "b"}, 5000)...), status: 431},
		{name: "a long field", fields: append(fields(q), [2]string{"x-a", strings.Repeat("a", 100_000)})},
	}
	for _, name := range []string{"connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"} {
		out = append(out, no("the connection header "+name, 400, append(fields(q), [2]string{name, "x-tenant"})))
	}
	for i, line := range forbidden() {
		name, value, _ := strings.Cut(strings.ToLower(line), ": ")
		if name == "upgrade" || name == "keep-alive" || name == "proxy-connection" || name == "te" || name == "user-agent" {
			continue
		}
		out = append(out, ok(fmt.Sprintf("header %d %s", i, line), append(fields(q), [2]string{name, value})))
	}
	return out
}

func repeated(f [2]string, n int) [][2]string {
	out := make([][2]string, n)
	for i := range out {
		out[i] = f
	}
	return out
}

// exchange2 sends a stream on a connection of its own and returns the status of its answer, 0 if it was broken off.
func exchange2(addr string, roots *tls.Config, s *stream, auth string) (int, error) {
	conf := roots.Clone()
	conf.NextProtos = []string{"h2"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", addr, conf)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		return 0, err
	}
	fr := http2.NewFramer(c, c)
	fr.AllowIllegalWrites = true
	fr.ReadMetaHeaders = hpack.NewDecoder(1<<16, nil)
	if err := fr.WriteSettings(); err != nil {
		return 0, err
	}
	if err := s.write(fr, auth); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		return 0, err
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return 0, nil // the connection is closed
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == 1 {
				return strconv.Atoi(f.PseudoValue("status"))
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == 1 {
				return 0, nil
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return 0, nil
			}
		}
	}
}

// write sends the frames of the stream, its fields in pieces that fit a frame.
func (s *stream) write(fr *http2.Framer, auth string) error {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	pack := func(list [][2]string) ([]byte, error) {
		block.Reset()
		for _, f := range list {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: strings.ReplaceAll(f[1], "{auth}", auth)}); err != nil {
				return nil, err
			}
		}
		return bytes.Clone(block.Bytes()), nil
	}
	send := func(b []byte, end bool) error {
		const most = 16_000
		piece := b[:min(len(b), most)]
		if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: piece, EndStream: end, EndHeaders: len(b) <= most}); err != nil {
			return err
		}
		for b = b[len(piece):]; len(b) > 0; b = b[len(piece):] {
			piece = b[:min(len(b), most)]
			if err := fr.WriteContinuation(1, len(b) <= most, piece); err != nil {
				return err
			}
		}
		return nil
	}
	b, err := pack(s.fields)
	if err != nil {
		return err
	}
	if err := send(b, s.body == "" && s.trailer == nil); err != nil {
		return err
	}
	if s.body != "" {
		if err := fr.WriteData(1, s.trailer == nil, []byte(s.body)); err != nil {
			return err
		}
	}
	if s.trailer == nil {
		return nil
	}
	if b, err = pack(s.trailer); err != nil {
		return err
	}
	return send(b, true)
}

// TestStreamShapes sends what no client library would over HTTP/2, frame by frame.
func TestStreamShapes(t *testing.T) {
	for _, kind := range []string{"prometheus", "m3"} {
		t.Run(kind, func(t *testing.T) {
			a, all := newAttack(t, kind), streams()
			for _, s := range all {
				status, err := exchange2(a.addr, a.tls, &s, a.auth)
				if err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
				for _, p := range a.u.check(s.name, outcome{s.status, s.saw}, status, "") {
					t.Error(p)
				}
			}
			t.Logf("kind %s: %d streams", kind, len(all))
		})
	}
}
