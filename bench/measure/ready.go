package measure

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Ready is nil once a server that was started can be measured.
type Ready func(context.Context) error

// Listening is ready when address takes connections.
func Listening(address string) Ready {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			err = c.Close()
		}
		return err
	}
}

// Answering is ready when url answers 200.
func Answering(url string) Ready {
	return func(ctx context.Context) error {
		body, err := Get(ctx, url)
		if err == nil {
			err = body.Close()
		}
		return err
	}
}

// Proxying is ready when a request with the client's password reaches the store through base, a URL without path. A proxy can
// listen before it knows its routes, and answers 404 or 502 until then. Whose certificate it shows is not looked at here.
func Proxying(base string) Ready {
	return func(ctx context.Context) error {
		client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/-/ready", nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth(User, Password)
		return Send(&client, req)
	}
}

// Get is the body of an answer of status 200. The caller closes it.
func Get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return resp.Body, nil
}
