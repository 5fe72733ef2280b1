package main

import (
	"context"
	"fmt"
	"path/filepath"

	"m3gateway/bench/measure"
)

// The names of the rows of the whole gateway without TLS begin with wholeName.
const (
	wholeName = "gateway serve: HTTP/1.1, basic auth"
	tlsName   = "gateway serve: TLS, HTTP/1.1, basic auth"
)

// dividedNames are the rows of gateways with routing: series, by the number of members.
var dividedNames = []struct {
	members int
	name    string
}{
	{1, "the same without TLS, routing: series, 1 member"},
	{2, "the same without TLS, routing: series, 2 members"},
	{mostMembers, "the same without TLS, routing: series, 8 members"},
}

// gateways starts the gateways, each a process of its own, and the sender, and returns the ordinary one and the rows of all.
func (s *stage) gateways(ctx context.Context, b *batch) (*process, []row, error) {
	ordinary, err := s.serve(ctx, filepath.Join(s.Dir, "ordinary"), measure.Site{})
	if err != nil {
		return nil, nil, err
	}
	if err := s.hire(ctx, b, filepath.Join(s.Dir, "ordinary", "tls", "ca.crt")); err != nil {
		return nil, nil, err
	}
	plain, err := s.serve(ctx, filepath.Join(s.Dir, "plain"), measure.Site{Upstream: "compression: none"})
	if err != nil {
		return nil, nil, err
	}
	older, err := s.serve(ctx, filepath.Join(s.Dir, "older"), measure.Site{Upstream: `protocol: "1.0"`})
	if err != nil {
		return nil, nil, err
	}
	processes := []*process{ordinary, plain, older}
	first, second := content{Samples: samples}, content{Samples: samples, Second: true}
	var rows []row
	for _, r := range []struct {
		name string
		p    *process
		o    order
	}{
		{wholeName + ", 2 connections", ordinary, order{URL: ordinary.url, Content: first, Connections: 2}},
		{wholeName + ", 4 connections", ordinary, order{URL: ordinary.url, Content: first, Connections: 4}},
		{tlsName + ", 4 connections", ordinary, order{URL: ordinary.https, Content: first, Connections: 4}},
		{"the same without TLS, upstream.compression: none", plain, order{URL: plain.url, Content: first, Connections: 4}},
		{"the same without TLS, 2.0 in and 1.0 out", older, order{URL: older.url, Content: second, Connections: 4}},
		{"the same without TLS, 2.0 in and 2.0 out", ordinary, order{URL: ordinary.url, Content: second, Connections: 4}},
	} {
		row, err := s.row(r.name, r.p, r.o)
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, row)
	}
	for _, d := range dividedNames {
		p, err := s.serve(ctx, filepath.Join(s.Dir, fmt.Sprintf("divided-%d", d.members)), measure.Site{Members: s.stores[1:d.members], Upstream: "routing: series"})
		if err != nil {
			return nil, nil, err
		}
		row, err := s.row(d.name, p, order{URL: p.url, Content: first, Connections: 4})
		if err != nil {
			return nil, nil, err
		}
		rows, processes = append(rows, row), append(processes, p)
	}
	for _, p := range processes {
		if err := s.verify(p); err != nil {
			return nil, nil, err
		}
	}
	return ordinary, rows, nil
}
