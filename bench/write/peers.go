package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"m3gateway/bench/measure"
)

// mostMembers is how many stores the sink is.
const mostMembers = 8

// sink is the stores, on addresses of their own: each reads each write's body and answers 204, as a store of 2.0 does, and GET
// /last gives the last body that came to this address back. It prints its addresses on one line and ends with stdin.
func sink(stdin io.Reader, stdout io.Writer) error {
	var addresses []string
	for range mostMembers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
		go func() { _ = http.Serve(l, member()) }()
	}
	fmt.Fprintln(stdout, strings.Join(addresses, " "))
	_, err := io.Copy(io.Discard, stdin)
	return err
}

// member is one of the sink's stores.
func member() http.Handler {
	var last atomic.Pointer[[]byte]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/write", func(w http.ResponseWriter, r *http.Request) {
		body, err := received(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		last.Store(&body)
		if r.Header.Get("Content-Type") == secondType {
			for _, what := range []string{"Samples", "Histograms", "Exemplars"} {
				w.Header().Set("X-Prometheus-Remote-Write-"+what+"-Written", strconv.Itoa(samples))
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, _ *http.Request) {
		if body := last.Load(); body != nil {
			_, _ = w.Write(*body)
		}
	})
	return mux
}

func received(r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 {
		return io.ReadAll(r.Body)
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// secondType is the Content-Type of remote write 2.0.
const secondType = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

// job is the first line that a sender reads: what it sends.
type job struct {
	CAFile   string
	Large    []byte // a WriteRequest of mostSamples
	Made     time.Time
	Contents []content
}

// order is each further line: send for this long, and at least one request on each connection.
type order struct {
	URL         string
	Content     content
	Connections int // each with one request at a time
	// Users to take turns in the crowd; 0: the one sender.
	Users int
	Time  time.Duration
	// Least is how many requests are sent at least, whatever the time.
	Least int
	// Rate is requests a second, sent at even intervals however long the answers take, in place of Connections; 0: as fast
	// as answers come.
	Rate float64
}

// done is the answer to an order.
type done struct {
	Requests  int
	Seconds   float64
	Latencies []float64 // with a Rate: seconds from when a request was due to its answer
	Problem   string    // the first refusal; empty: all were taken
}

// sender sends as it is ordered on stdin until that ends.
func sender(stdin io.Reader, stdout io.Writer) error {
	in, out := json.NewDecoder(stdin), json.NewEncoder(stdout)
	var j job
	if err := in.Decode(&j); err != nil {
		return err
	}
	s, err := newClient(&j)
	if err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		d, err := s.send(o)
		if err != nil {
			d.Problem = err.Error()
		}
		if err := out.Encode(d); err != nil {
			return err
		}
	}
}

// client sends the contents again and again.
type client struct {
	job    *job
	made   time.Time // bodies
	tls    *tls.Config
	pools  map[string]*http.Client // by URL and number of connections: those of other orders stay open, and idle
	bodies map[content][]byte
	turn   atomic.Int64 // of the crowd
}

func newClient(j *job) (*client, error) {
	pem, err := os.ReadFile(j.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", j.CAFile)
	}
	return &client{job: j, tls: &tls.Config{RootCAs: roots}, pools: map[string]*http.Client{}}, nil
}

// stamp makes the contents anew where they are over a minute old, so that they stay in the gateway's window.
func (c *client) stamp() (err error) {
	if now := time.Now(); now.Sub(c.made) > time.Minute {
		c.made = now
		c.bodies, err = stamped(c.job.Large, now.Sub(c.job.Made), c.job.Contents)
	}
	return err
}

// pool is the client for the connections of o.
func (c *client) pool(o order) *http.Client {
	name := fmt.Sprint(o.Connections, o.URL)
	if c.pools[name] == nil {
		c.pools[name] = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			TLSClientConfig: c.tls, MaxIdleConnsPerHost: max(o.Connections, 100), DisableCompression: true,
		}}
	}
	return c.pools[name]
}

// send does as ordered. It is an error if a request is not answered 204, or 200 as some proxies do.
func (c *client) send(o order) (done, error) {
	if err := c.stamp(); err != nil {
		return done{}, err
	}
	pool := c.pool(o)
	one := func() error { return c.one(pool, o) }
	if o.Rate > 0 {
		took, err := measure.Paced(o.Rate, o.Time, one)
		return done{Requests: len(took), Seconds: o.Time.Seconds(), Latencies: took}, err
	}
	n, seconds, err := measure.Closed(o.Connections, o.Least, o.Time, one)
	return done{Requests: n, Seconds: seconds}, err
}

func (c *client) one(pool *http.Client, o order) error {
	req, err := http.NewRequest(http.MethodPost, o.URL, bytes.NewReader(c.bodies[o.Content]))
	if err != nil {
		return err
	}
	user := measure.User
	if o.Users > 0 {
		user = measure.CrowdName(int(c.turn.Add(1)) % o.Users)
	}
	req.SetBasicAuth(user, measure.Password)
	req.Header.Set("Content-Encoding", "snappy")
	if o.Content.Second {
		req.Header.Set("Content-Type", secondType)
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	} else {
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	resp, err := pool.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", o.URL, resp.Status, text)
	}
	return nil
}
