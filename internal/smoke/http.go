package smoke

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds, in bytes, an answer that is read: what a run wrote is far less.
const maxAnswer = 16 << 20

// request is one request to the door.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	header       map[string]string
	anonymous    bool   // send no credential
	password     string // sent in place of the right one, if it is not empty
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   []byte
	proto  string
	tls    *tls.ConnectionState
}

func (r *runner) do(ctx context.Context, q request) (answer, error) {
	target := r.URL + q.path
	if q.query != nil {
		target += "?" + q.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, target, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	if r.User != "" && !q.anonymous {
		password := r.Password
		if q.password != "" {
			password = q.password
		}
		req.SetBasicAuth(r.User, password)
	}
	if r.SelectTenant && r.Tenant != "" && !r.Plain {
		req.Header.Set("X-Tenant", r.Tenant)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer to %s %s: %w", q.method, q.path, err)
	}
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("%s %s answered more than %d bytes", q.method, q.path, maxAnswer)
	}
	return answer{resp.StatusCode, resp.Header, body, resp.Proto, resp.TLS}, nil
}

// text is a short, single line of an answer for a message.
func (a answer) text() string {
	text := strings.Join(strings.Fields(string(a.body)), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// get asks the API and decodes its data into to.
func (r *runner) get(ctx context.Context, path string, query url.Values, to any) error {
	resp, err := r.do(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return err
	}
	if resp.status != http.StatusOK {
		return fmt.Errorf("GET %s answered %d: %s", path, resp.status, resp.text())
	}
	var envelope struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(resp.body, &envelope); err != nil {
		return fmt.Errorf("GET %s: %w in %s", path, err, resp.text())
	}
	if envelope.Status != "success" {
		return fmt.Errorf("GET %s answered status %q: %s", path, envelope.Status, resp.text())
	}
	return json.Unmarshal(envelope.Data, to)
}
