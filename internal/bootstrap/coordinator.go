package bootstrap

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"m3gateway/internal/m3"
)

const (
	// answerTimeout has room for the 10 s after which a coordinator without etcd answers from memory, and for the quorum read of
	// namespace/ready.
	answerTimeout = 30 * time.Second
	// maxAnswer bounds, in bytes, an answer that is read.
	maxAnswer = 16 << 20
)

// refusal is an answer of a coordinator that is not the one hoped for.
type refusal struct {
	status int
	text   string // the coordinator's own words
}

func (r *refusal) Error() string { return fmt.Sprintf("it answered %d: %s", r.status, r.text) }

// coordinator speaks the administrative part of an m3coordinator's API. base has no slash at its end.
type coordinator struct {
	base   string
	client *http.Client
}

// newClient follows no redirect and no proxy of the environment: coordinators are inside the cluster.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       answerTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends content as JSON, or nothing if it is nil, and returns status and body.
func (c coordinator) ask(ctx context.Context, method, path string, content any) (int, []byte, error) {
	var body io.Reader
	if content != nil {
		b, err := json.Marshal(content)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("it answered more than %d bytes; is this an m3coordinator?", maxAnswer)
	}
	return resp.StatusCode, answer, err
}

// refused is the error of an answer other than 200.
func refused(status int, body []byte) error {
	var e struct {
		Error string `json:"error"`
	}
	text := e.Error
	if json.Unmarshal(body, &e) == nil {
		text = e.Error
	}
	if text == "" {
		text = http.StatusText(status)
	}
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	return &refusal{status, text}
}

// change is ask for what must be answered 200.
func (c coordinator) change(ctx context.Context, method, path string, content any) error {
	status, body, err := c.ask(ctx, method, path, content)
	if err == nil && status != http.StatusOK {
		err = refused(status, body)
	}
	return err
}

// placement is the cluster's; false: it has none yet.
func (c coordinator) placement(ctx context.Context) (m3.Placement, bool, error) {
	status, body, err := c.ask(ctx, http.MethodGet, m3.PlacementPath, nil)
	switch {
	case err != nil:
		return m3.Placement{}, false, err
	case status == http.StatusNotFound:
		return m3.Placement{}, false, nil
	case status != http.StatusOK:
		return m3.Placement{}, false, refused(status, body)
	}
	p, err := m3.ParsePlacement(body)
	return p, err == nil, err
}

func (c coordinator) namespaces(ctx context.Context) ([]m3.Namespace, error) {
	status, body, err := c.ask(ctx, http.MethodGet, m3.NamespacesPath, nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, refused(status, body)
	}
	return m3.ParseRegistry(body)
}

type (
	placementRequest struct {
		Shards    int               `json:"num_shards,omitempty"`
		Replicas  int               `json:"replication_factor,omitempty"`
		Instances []instanceRequest `json:"instances"`
	}
	instanceRequest struct {
		ID       string `json:"id"`
		Group    string `json:"isolation_group"`
		Zone     string `json:"zone"`
		Weight   int    `json:"weight"`
		Endpoint string `json:"endpoint"`
		Hostname string `json:"hostname"`
		Port     int    `json:"port"`
	}
	namespaceRequest struct {
		Name    string           `json:"name"`
		Options namespaceOptions `json:"options"`
	}
	namespaceOptions struct {
		Bootstrap   bool                `json:"bootstrapEnabled,omitempty"`
		Flush       bool                `json:"flushEnabled,omitempty"`
		CommitLog   bool                `json:"writesToCommitLog,omitempty"`
		Cleanup     bool                `json:"cleanupEnabled,omitempty"`
		Snapshot    bool                `json:"snapshotEnabled,omitempty"`
		Retention   *retentionOptions   `json:"retentionOptions,omitempty"`
		Index       *indexOptions       `json:"indexOptions,omitempty"`
		Aggregation *aggregationOptions `json:"aggregationOptions,omitempty"`
	}
	retentionOptions struct {
		Period       string `json:"retentionPeriodDuration"`
		BlockSize    string `json:"blockSizeDuration,omitempty"`
		BufferFuture string `json:"bufferFutureDuration,omitempty"`
		BufferPast   string `json:"bufferPastDuration,omitempty"`
	}
	indexOptions struct {
		Enabled   bool   `json:"enabled"`
		BlockSize string `json:"blockSizeDuration"`
	}
	aggregationOptions struct {
		Aggregations []aggregation `json:"aggregations"`
	}
	aggregation struct {
		Aggregated bool                   `json:"aggregated"`
		Attributes *aggregationAttributes `json:"attributes,omitempty"`
	}
	aggregationAttributes struct {
		Resolution string `json:"resolutionDuration"`
		Downsample struct {
			All bool `json:"all"`
		} `json:"downsampleOptions"`
	}
)

// aggregation of a namespace: raw ones say that they hold none, or coordinators pass them over.
func (n named) aggregation() *aggregationOptions {
	if n.Raw() {
		return &aggregationOptions{[]aggregation{{}}}
	}
	a := aggregationAttributes{Resolution: n.Resolution.String()}
	a.Downsample.All = true
	return &aggregationOptions{[]aggregation{{Aggregated: true, Attributes: &a}}}
}

// request is what creates the namespace. The index has the blocks of the data.
func (n named) request() namespaceRequest {
	return namespaceRequest{n.id, namespaceOptions{
		Bootstrap: true, Flush: true, CommitLog: true, Cleanup: true, Snapshot: true,
		Retention: &retentionOptions{n.Retention.String(), n.BlockSize.String(), n.BufferFuture.String(), n.BufferPast.String()},
		Index:     &indexOptions{true, n.BlockSize.String()}, Aggregation: n.aggregation(),
	}}
}
