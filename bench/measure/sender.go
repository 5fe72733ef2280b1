package measure

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// Store is a handler that takes every write, and answers reads with so many bytes.
func Store(answer int) http.Handler {
	const begin, end = `{"status":"success","data":{"resultType":"vector","result":[]}`, "}"
	text := []byte(begin + strings.Repeat(" ", max(0, answer-len(begin)-len(end))) + end)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		switch r.URL.Path {
		case "/-/ready":
		case "/api/v1/write":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(text)
		}
	})
}

// Batch is the body of a remote write 1.0 request of so many samples at now, one a series, each with ten labels as scraped pods
// have them.
func Batch(samples int, now time.Time) ([]byte, error) {
	var req prompb.WriteRequest
	for i := range samples {
		target := i / 200
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: fmt.Sprintf("http_server_request_duration_seconds_%d", i%200/10)},
				{Name: "cluster", Value: "production-1"},
				{Name: "container", Value: "server"},
				{Name: "handler", Value: fmt.Sprintf("/api/v1/resource/%d", i%10)},
				{Name: "instance", Value: fmt.Sprintf("10.1.%d.%d:9090", target/250, target%250)},
				{Name: "job", Value: "web"},
				{Name: "method", Value: "GET"},
				{Name: "namespace", Value: "shop"},
				{Name: "pod", Value: fmt.Sprintf("web-7c9f8d6b5-%05d", target)},
				{Name: "region", Value: "eu-central-1"},
			},
			Samples: []prompb.Sample{{Value: float64(i*7919%100003) / 7, Timestamp: now.UnixMilli()}},
		})
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	return snappy.Encode(nil, raw), nil
}

// Trusting are the settings of a TLS client that trusts the authority in caFile and no other.
func Trusting(caFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return &tls.Config{RootCAs: roots}, nil
}

// Transport connects from a loopback address, with HTTP/2 or HTTP/1.1 and nothing else.
func Transport(cfg *tls.Config, from string, h2 bool) *http.Transport {
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	dialer := &net.Dialer{Timeout: Patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Transport{TLSClientConfig: cfg.Clone(), Protocols: &p, DialContext: dialer.DialContext, MaxIdleConnsPerHost: 1000, IdleConnTimeout: time.Minute}
}

// WriteRequest is a remote write of body to base, a URL without path.
func WriteRequest(base string, body []byte) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodPost, base+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(User, Password)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	return req, nil
}

// Send is nil if the request was answered with success.
func Send(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status + ": " + string(text))
	}
	return err
}

// Binary is the file that the environment variable names, or that PATH or Debian's place for servers has under name; an empty
// name: only the variable counts. The error says what is missing.
func Binary(variable, name string) (string, error) {
	if file := os.Getenv(variable); file != "" {
		return file, nil
	}
	if name == "" {
		return "", fmt.Errorf("%s is not set", variable)
	}
	file, err := exec.LookPath(name)
	if err != nil {
		if file, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return "", fmt.Errorf("%s is not set and there is no %s on PATH", variable, name)
		}
	}
	return file, nil
}
