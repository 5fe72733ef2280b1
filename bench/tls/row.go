package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"m3gateway/bench/measure"
)

// senders work at once, each with one request under way.
const senders = 4

// kind is how connections are used.
type kind int

const (
	kept    kind = iota // for all requests
	full                // each for one request, with a handshake of its own
	resumed             // each for one request, with a session of an earlier one
)

// row is one measurement of one server.
type row struct {
	group, name string
	server      server
	kind        kind
	samples     int
	x25519      bool // the key exchange; else Go's default
	client      *http.Client

	body []byte
	made time.Time
	cost []float64 // CPU of the server, ms a request
	rate []float64 // requests a second
}

// row makes one. curves are what the client offers for the key exchange; nil: Go's defaults.
func (b *bench) row(group, name string, sv server, k kind, samples int, h2 bool, curves []tls.CurveID) (*row, error) {
	cfg, err := measure.Trusting(b.caFile)
	if err != nil {
		return nil, err
	}
	cfg.MinVersion, cfg.CurvePreferences = tls.VersionTLS13, curves
	if k == resumed {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	tr := measure.Transport(cfg, "127.0.0.1", h2)
	tr.DisableKeepAlives = k != kept
	return &row{group: group, name: name, server: sv, kind: k, samples: samples, x25519: curves != nil, client: &http.Client{Transport: tr, Timeout: time.Minute}}, nil
}

// rows are those of all servers. Handshakes are not measured of a server that hashes the password at each request: that hides them.
func (b *bench) rows(servers []server) ([]*row, error) {
	var rows []*row
	add := func(group, name string, sv server, k kind, samples int, h2 bool, curves []tls.CurveID) error {
		r, err := b.row(group, name, sv, k, samples, h2, curves)
		rows = append(rows, r)
		return err
	}
	for _, sv := range servers {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			if sv.slow && protocol != "HTTP/1.1" {
				continue
			}
			if err := add("a write of 5000 samples, connections kept", sv.name+", "+protocol, sv, kept, 5000, protocol == "HTTP/2", []tls.CurveID{tls.X25519}); err != nil {
				return nil, err
			}
		}
	}
	for k, group := range []string{
		kept: "a write of one sample, connections kept", full: "a connection for each write of one sample: full handshake",
		resumed: "a connection for each write of one sample: session resumed",
	} {
		for i, sv := range servers {
			if sv.slow {
				continue
			}
			if err := add(group, sv.name, sv, kind(k), 1, false, []tls.CurveID{tls.X25519}); err != nil {
				return nil, err
			}
			if i > 0 || kind(k) == kept {
				continue
			}
			if err := add(group, "the same with X25519MLKEM768, which Go's clients prefer", sv, kind(k), 1, false, nil); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

// connections are what a connection, its handshake and its end take by themselves: round by round, what a write of one sample with a
// connection of its own takes over one whose connection is kept.
func connections(rows []*row) (out []*row) {
	base := map[int]*row{} // by process
	for _, r := range rows {
		switch {
		case r.samples != 1:
		case r.kind == kept:
			base[r.server.pid] = r
		default:
			own := &row{group: "the connection alone: " + map[kind]string{full: "full handshake", resumed: "session resumed"}[r.kind], name: r.name}
			for i, cost := range r.cost {
				own.cost = append(own.cost, cost-base[r.server.pid].cost[i])
			}
			out = append(out, own)
		}
	}
	return out
}

// once measures the row for a time. Of the first time nothing is kept.
func (r *row) once(span time.Duration, first bool) error {
	if time.Since(r.made) > time.Minute { // the gateway has a window
		r.made = time.Now()
		var err error
		if r.body, err = measure.Batch(r.samples, r.made); err != nil {
			return err
		}
	}
	var hands, sessions, others atomic.Int64
	trace := &httptrace.ClientTrace{TLSHandshakeDone: func(s tls.ConnectionState, err error) {
		hands.Add(1)
		if s.DidResume {
			sessions.Add(1)
		}
		if err == nil && (s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || r.x25519 && s.CurveID != tls.X25519) {
			others.Add(1)
		}
	}}
	from, err := measure.CPUWithChildren(r.server.pid)
	if err != nil {
		return err
	}
	n, seconds, err := measure.Closed(senders, 1, span, func() error {
		req, err := measure.WriteRequest(r.server.url, r.body)
		if err != nil {
			return err
		}
		return measure.Send(r.client, req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	})
	if err != nil {
		return err
	}
	to, err := measure.CPUWithChildren(r.server.pid)
	if err == nil && others.Load() > 0 {
		err = errors.New("a handshake came to another cipher or key exchange than the row says")
	}
	if err != nil || first {
		return err
	}
	h, s := hands.Load(), sessions.Load()
	if r.kind == full && (h != int64(n) || s > 0) || r.kind == resumed && (h != int64(n) || s != h) {
		return fmt.Errorf("%d requests, %d handshakes, %d of them with a session: not what the row says", n, h, s)
	}
	r.cost = append(r.cost, float64(to-from)/float64(time.Millisecond)/float64(n))
	r.rate = append(r.rate, float64(n)/seconds)
	return nil
}
