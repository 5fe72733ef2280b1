package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"m3gateway/bench/measure"
	"m3gateway/internal/query"
)

// What is asked for: a panel of some lines over an hour, the same compressed, as browsers ask, and a single number.
const (
	panel  = "panel"
	zipped = "panel, gzip"
	stat   = "stat"
)

func contents() []string { return []string{panel, zipped, stat} }

// The size of a panel.
const (
	lines  = 12
	points = 241
)

// from is the first time of a panel; the sink answers with it whatever is asked.
const from = 1_700_000_000

// answer is a query_range answer of that many lines and points, as Prometheus writes it.
func answer(lines, points int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"status":"success","data":{"resultType":"matrix","result":[`)
	for l := range lines {
		if l > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"metric":{"instance":"node-%d.example.com:9100","job":"api","tenant":"%s"},"values":[`, l, measure.Tenant)
		for p := range points {
			if p > 0 {
				b.WriteByte(',')
			}
			v := 100 + 50*math.Sin(float64(p)/20+float64(l)) + float64(p*l%7)/3
			fmt.Fprintf(&b, `[%d,"%s"]`, from+15*p, strconv.FormatFloat(v, 'f', -1, 64))
		}
		b.WriteString("]}")
	}
	b.WriteString("]}}")
	return b.Bytes()
}

// compressed is b in gzip.
func compressed(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b) // into memory
	_ = z.Close()
	return out.Bytes()
}

// queries are those of a dashboard, about 200 characters each.
func queries() []string {
	var out []string
	for i := range 16 {
		out = append(out, fmt.Sprintf(`sum by (cluster, service) (rate(http_requests_total{job="api", cluster=~"eu-%d|us-%d", code!~"5.."}[5m])) / on (cluster, service) group_left () sum by (cluster, service) (rate(http_requests_total{job="api"}[5m]))`, i, i))
	}
	return out
}

// form are the parameters of the nth request for c.
func form(c string, n int) string {
	q := queries()
	v := url.Values{"query": {q[n%len(q)]}, "start": {strconv.Itoa(from)}, "end": {strconv.Itoa(from + 15*(points-1))}, "step": {"15"}}
	if c == stat {
		v.Set("step", "3600") // by which the sink knows it
		v.Set("start", v.Get("end"))
	}
	return v.Encode()
}

func describe() string {
	whole := answer(lines, points)
	total := 0
	for _, q := range queries() {
		total += len(q)
	}
	return fmt.Sprintf("asked:   GET query_range, %d queries of %d characters in turn; panel: %d lines of %d points, %d bytes, %d in gzip; stat: one point, %d bytes\n"+
		"rows:    CPU of one process a request, user and system; 4 connections, no TLS\n",
		len(queries()), total/len(queries()), lines, points, len(whole), len(compressed(whole)), len(answer(1, 1)))
}

// confinement is the CPU seconds of internal/query alone for one query, of each round.
func confinement(ctx context.Context, rounds int) ([]float64, error) {
	c := query.New(query.PromQL3, query.DefaultLimits())
	scope := query.Scope{Label: "tenant", Tenants: []string{measure.Tenant}}
	all := queries()
	var out []float64
	for range rounds {
		begun, err := measure.CPU(0)
		if err != nil {
			return nil, err
		}
		n := 0
		for start := time.Now(); time.Since(start) < 100*time.Millisecond; n++ {
			text, err := c.PromQL(scope, all[n%len(all)])
			if err != nil {
				return nil, err
			}
			if strings.Count(text, `tenant="`+measure.Tenant+`"`) != 2 {
				return nil, fmt.Errorf("not confined: %s", text)
			}
		}
		ended, err := measure.CPU(0)
		if err != nil {
			return nil, err
		}
		out = append(out, (ended-begun).Seconds()/float64(n))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
