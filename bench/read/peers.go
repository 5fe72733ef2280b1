package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"m3gateway/bench/measure"
)

// sink is the store: it answers every query_range with the same bytes, in gzip where that is asked for, and GET /last gives the
// last query back. It prints its address and ends with stdin.
func sink(stdin io.Reader, stdout io.Writer) error {
	whole, one := answer(lines, points), answer(1, 1)
	wholeZip, oneZip := compressed(whole), compressed(one)
	var last atomic.Pointer[string]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/api/v1/query_range", func(w http.ResponseWriter, r *http.Request) {
		query := r.FormValue("query")
		last.Store(&query)
		plain, zip := whole, wholeZip
		if r.FormValue("step") == "3600" {
			plain, zip = one, oneZip
		}
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Vary", "Accept-Encoding")
			plain = zip
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(plain)))
		_, _ = w.Write(plain)
	})
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, _ *http.Request) {
		if query := last.Load(); query != nil {
			_, _ = io.WriteString(w, *query)
		}
	})
	return serve(stdin, stdout, mux)
}

// bareProxy is the standard library's reverse proxy in front of the sink, with nothing of its own but that it keeps as many
// connections as it is asked over.
func bareProxy(stdin io.Reader, stdout io.Writer, store string) error {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 100
	return serve(stdin, stdout, &httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: store}) }})
}

// serve prints the address of h and serves it until stdin ends.
func serve(stdin io.Reader, stdout io.Writer, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() { _ = http.Serve(l, h) }()
	fmt.Fprintln(stdout, l.Addr())
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// order is a line that the client reads: ask for this long.
type order struct {
	URL         string
	Content     string
	Connections int
	Time        time.Duration
	Rate        float64 // requests a second at even intervals, in place of Connections; 0: as fast as answers come
}

// done is the answer to an order.
type done struct {
	Requests  int
	Seconds   float64
	Latencies []float64 // with a Rate: seconds from when a request was due to the end of its answer
	Problem   string    // the first refusal; empty: all were answered
}

// client asks as it is ordered on stdin until that ends.
func client(stdin io.Reader, stdout io.Writer) error {
	in, out := json.NewDecoder(stdin), json.NewEncoder(stdout)
	pool := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}}
	asked := map[string][]string{}
	for _, c := range contents() {
		for n := range queries() {
			asked[c] = append(asked[c], form(c, n))
		}
	}
	var turn atomic.Int64
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		one := func() error { return ask(pool, &o, asked[o.Content][int(turn.Add(1))%len(queries())]) }
		var d done
		var err error
		if o.Rate > 0 {
			d.Latencies, err = measure.Paced(o.Rate, o.Time, one)
			d.Requests = len(d.Latencies)
		} else {
			d.Requests, d.Seconds, err = measure.Closed(o.Connections, 0, o.Time, one)
		}
		if err != nil {
			d.Problem = err.Error()
		}
		if err := out.Encode(d); err != nil {
			return err
		}
	}
}

// ask sends one request and reads the whole answer, which must be as long as it should.
func ask(pool *http.Client, o *order, params string) error {
	req, err := http.NewRequest(http.MethodGet, o.URL+"?"+params, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(measure.User, measure.Password)
	if o.Content == zipped {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := pool.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || n < 100 || o.Content == panel && n < 50_000 {
		return fmt.Errorf("%s answered %s with %d bytes", o.URL, resp.Status, n)
	}
	return nil
}
