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
	"sync"
	"sync/atomic"
	"time"
)

// sink is the store: it reads each write's body and answers 204, and GET /last gives the last body back. It prints its
// address and ends with stdin.
func sink(stdin io.Reader, stdout io.Writer) error {
	var last atomic.Pointer[[]byte]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/write", func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, max(r.ContentLength, 0))
		if _, err := io.ReadFull(r.Body, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		last.Store(&body)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, _ *http.Request) {
		if body := last.Load(); body != nil {
			_, _ = w.Write(*body)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() { _ = http.Serve(l, mux) }()
	fmt.Fprintln(stdout, l.Addr())
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// job is the first line that a sender reads: what it sends, and to whom.
type job struct {
	URL    string
	CAFile string
	Raw    []byte // the batch, a WriteRequest
	Made   time.Time
}

// order is each further line: send for this long on as many connections, each with one request at a time.
type order struct {
	Connections int
	Time        time.Duration
}

// done is the answer to an order.
type done struct {
	Requests int
	Problem  string // the first refusal; empty: all were answered 204
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
		d := done{}
		if n, err := s.send(o); err != nil {
			d.Problem = err.Error()
		} else {
			d.Requests = n
		}
		if err := out.Encode(d); err != nil {
			return err
		}
	}
}

// client sends the batch again and again.
type client struct {
	http *http.Client
	url  string
	body atomic.Pointer[[]byte]
}

// newClient keeps its connections, and stamps the batch anew each minute so that it stays in the gateway's window.
func newClient(j *job) (*client, error) {
	pem, err := os.ReadFile(j.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", j.CAFile)
	}
	c := &client{url: j.URL, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 1000, DisableCompression: true,
	}}}
	b := &batch{raw: j.Raw, made: j.Made}
	stamp := func() error {
		body, err := b.restamp(time.Now())
		c.body.Store(&body)
		return err
	}
	if err := stamp(); err != nil {
		return nil, err
	}
	go func() {
		for range time.Tick(time.Minute) {
			_ = stamp() // the same bytes were stamped before
		}
	}()
	return c, nil
}

// send returns the number of requests, all of which were answered 204.
func (c *client) send(o order) (int, error) {
	var (
		until  = time.Now().Add(o.Time)
		total  atomic.Int64
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
	)
	for range o.Connections {
		wg.Go(func() {
			for failed.Load() == nil && time.Now().Before(until) {
				if err := c.one(); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				total.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return int(total.Load()), nil
}

func (c *client) one() error {
	req, err := http.NewRequest(http.MethodPost, c.url, bytes.NewReader(*c.body.Load()))
	if err != nil {
		return err
	}
	req.SetBasicAuth(userName, password)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the gateway answered %s: %s", resp.Status, text)
	}
	return nil
}
