package devstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

func openStore(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve opens a store in dir and serves it; both end with the test.
func serve(t *testing.T, dir string) (*Store, string) {
	t.Helper()
	s := openStore(t, Config{Dir: dir})
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return s, srv.URL
}

func series(name string, samples ...prompb.Sample) prompb.TimeSeries {
	return prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}, {Name: "tenant", Value: "a"}},
		Samples: samples,
	}
}

func encode(t *testing.T, m interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, b)
}

func post(t *testing.T, target, contentType string, body io.Reader) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if strings.HasPrefix(contentType, "application/x-protobuf") {
		req.Header.Set("Content-Encoding", "snappy")
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}

func write(t *testing.T, base string, ts ...prompb.TimeSeries) {
	t.Helper()
	body := encode(t, &prompb.WriteRequest{Timeseries: ts})
	if status, _, answer := post(t, base+"/api/v1/write", "application/x-protobuf", bytes.NewReader(body)); status != http.StatusNoContent {
		t.Fatalf("write: status %d, %s", status, answer)
	}
}

// data returns the data field of a successful answer of the v1 API, as compact JSON.
func data(t *testing.T, target string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, _, answer := do(t, req)
	var envelope struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || status != http.StatusOK || envelope.Status != "success" {
		t.Fatalf("GET %s: status %d, %s (%v)", target, status, answer, err)
	}
	return string(envelope.Data)
}

func query(t *testing.T, base, promQL string, at time.Time) string {
	t.Helper()
	return data(t, base+"/api/v1/query?"+url.Values{"query": {promQL}, "time": {fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000)}}.Encode())
}

func TestReads(t *testing.T) {
	_, base := serve(t, t.TempDir())
	now := time.Now().Truncate(time.Second)
	ms, sec := now.UnixMilli(), now.Unix()
	write(t, base,
		series("up", prompb.Sample{Value: 1, Timestamp: ms - 60_000}, prompb.Sample{Value: 2, Timestamp: ms}),
		series("down", prompb.Sample{Value: 3, Timestamp: ms}),
	)
	past := fmt.Sprintf("start=%d&end=%d", sec-86_400, sec-43_200)
	recent := fmt.Sprintf("start=%d&end=%d", sec-120, sec+1)
	for _, tc := range []struct{ target, want string }{
		{fmt.Sprintf("query?query=up&time=%d", sec),
			fmt.Sprintf(`{"resultType":"vector","result":[{"metric":{"__name__":"up","tenant":"a"},"value":[%d,"2"]}]}`, sec)},
		{fmt.Sprintf("query_range?query=up&start=%d&end=%d&step=60", sec-60, sec),
			fmt.Sprintf(`{"resultType":"matrix","result":[{"metric":{"__name__":"up","tenant":"a"},"values":[[%d,"1"],[%d,"2"]]}]}`, sec-60, sec)},
		{"series?match[]=up&" + recent, `[{"__name__":"up","tenant":"a"}]`},
		{"series?match[]=none&" + recent, `[]`},
		{"labels?" + recent, `["__name__","tenant"]`},
		{"label/__name__/values?" + recent, `["down","up"]`},
		{"label/__name__/values?match[]=up&" + recent, `["up"]`},
		{"label/none/values?" + past, `[]`},
	} {
		if got := data(t, base+"/api/v1/"+tc.target); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.target, got, tc.want)
		}
	}
	status, _, answer := post(t, base+"/api/v1/query", "application/x-www-form-urlencoded", strings.NewReader("query=1%2B1"))
	if status != http.StatusOK || !strings.Contains(string(answer), `"2"`) {
		t.Errorf("POST query: status %d, %s", status, answer)
	}
}

func TestRemoteRead(t *testing.T) {
	_, base := serve(t, t.TempDir())
	ms := time.Now().UnixMilli()
	samples := []prompb.Sample{{Value: 1, Timestamp: ms - 2000}, {Value: 2, Timestamp: ms - 1000}, {Value: 3, Timestamp: ms}}
	write(t, base, series("up", samples...), series("down", samples[0]))
	want := []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "tenant", Value: "a"}}
	request := func(accepted prompb.ReadRequest_ResponseType) (http.Header, []byte) {
		body := encode(t, &prompb.ReadRequest{
			Queries: []*prompb.Query{{
				StartTimestampMs: ms - 60_000,
				EndTimestampMs:   ms,
				Matchers:         []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "up"}},
			}},
			AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{accepted},
		})
		status, header, answer := post(t, base+"/api/v1/read", "application/x-protobuf", bytes.NewReader(body))
		if status != http.StatusOK {
			t.Fatalf("read: status %d, %s", status, answer)
		}
		return header, answer
	}

	t.Run("samples", func(t *testing.T) {
		_, answer := request(prompb.ReadRequest_SAMPLES)
		decoded, err := snappy.Decode(nil, answer)
		if err != nil {
			t.Fatal(err)
		}
		var resp prompb.ReadResponse
		if err := resp.Unmarshal(decoded); err != nil {
			t.Fatal(err)
		}
		if len(resp.Results) != 1 || len(resp.Results[0].Timeseries) != 1 {
			t.Fatalf("got %v, want one series", resp.Results)
		}
		got := resp.Results[0].Timeseries[0]
		if !reflect.DeepEqual(got.Labels, want) || !reflect.DeepEqual(got.Samples, samples) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("streamed", func(t *testing.T) {
		header, answer := request(prompb.ReadRequest_STREAMED_XOR_CHUNKS)
		if got := header.Get("Content-Type"); got != "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse" {
			t.Fatalf("Content-Type %q", got)
		}
		var got []prompb.Sample
		r := remote.NewChunkedReader(bytes.NewReader(answer), readFrameBytes, nil)
		for {
			var frame prompb.ChunkedReadResponse
			if err := r.NextProto(&frame); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			for _, s := range frame.ChunkedSeries {
				if !reflect.DeepEqual(s.Labels, want) {
					t.Errorf("labels %v", s.Labels)
				}
				for _, c := range s.Chunks {
					chunk, err := chunkenc.FromData(chunkenc.EncXOR, c.Data)
					if err != nil {
						t.Fatal(err)
					}
					for it := chunk.Iterator(nil); it.Next() == chunkenc.ValFloat; {
						ts, v := it.At()
						got = append(got, prompb.Sample{Value: v, Timestamp: ts})
					}
				}
			}
		}
		if !reflect.DeepEqual(got, samples) {
			t.Errorf("got %v, want %v", got, samples)
		}
	})
}

func TestWriteV2(t *testing.T) {
	_, base := serve(t, t.TempDir())
	now := time.Now()
	body := encode(t, &writev2.Request{
		Symbols: []string{"", "__name__", "up"},
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: []uint32{1, 2},
			Samples:    []writev2.Sample{{Value: 5, Timestamp: now.UnixMilli()}},
		}},
	})
	status, header, answer := post(t, base+"/api/v1/write", "application/x-protobuf;proto=io.prometheus.write.v2.Request", bytes.NewReader(body))
	if status != http.StatusNoContent || header.Get("X-Prometheus-Remote-Write-Samples-Written") != "1" {
		t.Fatalf("status %d, header %v, %s", status, header, answer)
	}
	if got := query(t, base, "up", now); !strings.Contains(got, `"5"`) {
		t.Errorf("read back %s", got)
	}
}

func TestWriteHistogramAndExemplar(t *testing.T) {
	s, base := serve(t, t.TempDir())
	now := time.Now()
	h := &histogram.Histogram{
		Schema: 0, Count: 3, Sum: 4, ZeroThreshold: 0.001,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
	}
	native := series("latency")
	native.Histograms = []prompb.Histogram{prompb.FromIntHistogram(now.UnixMilli(), h)}
	traced := series("requests", prompb.Sample{Value: 1, Timestamp: now.UnixMilli()})
	traced.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "t1"}}, Value: 1, Timestamp: now.UnixMilli()}}
	write(t, base, native, traced)

	if got := query(t, base, "histogram_count(latency)", now); !strings.Contains(got, `"3"`) {
		t.Errorf("histogram read back as %s", got)
	}
	q, err := s.db.ExemplarQuerier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := q.Select(0, now.UnixMilli(), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "requests")})
	if err != nil || len(got) != 1 || len(got[0].Exemplars) != 1 {
		t.Errorf("exemplars %v, %v", got, err)
	}
}

// The gateway forwards samples of all tenants from 10m ago to 10m ahead; whatever one of them sent first, the others'
// must be stored.
func TestOutOfOrder(t *testing.T) {
	_, base := serve(t, t.TempDir())
	now := time.Now().Truncate(time.Second)
	at := func(d time.Duration, v float64) prompb.Sample {
		return prompb.Sample{Value: v, Timestamp: now.Add(d).UnixMilli()}
	}
	write(t, base, series("other", at(10*time.Minute-time.Second, 1)))
	write(t, base, series("up", at(0, 1)))
	write(t, base, series("up", at(-9*time.Minute, 2)), series("late", at(-10*time.Minute, 3)))
	write(t, base, series("up", at(-5*time.Minute, 4)))
	if got, want := query(t, base, "up[20m]", now), fmt.Sprintf(`"values":[[%d,"2"],[%d,"4"],[%d,"1"]]`, now.Add(-9*time.Minute).Unix(), now.Add(-5*time.Minute).Unix(), now.Unix()); !strings.Contains(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := query(t, base, "late", now.Add(-10*time.Minute)); !strings.Contains(got, `"3"`) {
		t.Errorf("late sample of a new series: %s", got)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Truncate(time.Second)
	for i := range 3 {
		s, err := Open(Config{Dir: dir}, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(s.Handler())
		write(t, srv.URL,
			series("up", prompb.Sample{Value: float64(i), Timestamp: now.Add(time.Duration(i) * time.Second).UnixMilli()}),
			series("late", prompb.Sample{Value: float64(i), Timestamp: now.Add(-time.Duration(i) * time.Second).UnixMilli()}),
		)
		for _, name := range []string{"up", "late"} {
			if got, want := query(t, srv.URL, "count_over_time("+name+"[1m])", now.Add(10*time.Second)), fmt.Sprintf(`"%d"`, i+1); !strings.Contains(got, want) {
				t.Errorf("run %d: %s has %s samples, want %s", i, name, got, want)
			}
		}
		srv.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRoutes(t *testing.T) {
	_, base := serve(t, t.TempDir())
	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/-/ready", 200},
		{"HEAD", "/-/ready", 200},
		{"GET", "/-/healthy", 200},
		{"GET", "/api/v1/status/buildinfo", 200},
		{"GET", "/api/v1/write", 405},
		{"GET", "/api/v1/read", 405},
		{"POST", "/api/v1/label/x/values", 405},
		{"GET", "/api/v1/query", 400},
		{"GET", "/api/v1/query_exemplars", 400},
		{"GET", "/api/v1/query_exemplars?query=up&start=1&end=2", 200},
		{"GET", "/api/v1/format_query?query=up", 200},
		{"GET", "/api/v1/parse_query?query=up", 200},
		{"GET", "/api/v1/status/tsdb", 404},
		{"GET", "/api/v1/status/config", 404},
		{"GET", "/api/v1/targets", 404},
		{"GET", "/api/v1/metadata", 404},
		{"POST", "/api/v1/otlp/v1/metrics", 404},
		{"POST", "/api/v1/admin/tsdb/delete_series", 404},
		{"GET", "/api/v1/label/x/values/", 404},
		{"GET", "/api/v1", 404},
		{"GET", "/federate", 404},
		{"GET", "/metrics", 404},
		{"GET", "/debug/pprof/", 404},
		{"GET", "/", 404},
	} {
		req, err := http.NewRequest(tc.method, base+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, answer := do(t, req); status != tc.want {
			t.Errorf("%s %s: status %d, want %d: %s", tc.method, tc.path, status, tc.want, answer)
		}
	}
	if got := data(t, base+"/api/v1/status/buildinfo"); !strings.Contains(got, `"version":"`+version+`"`) {
		t.Errorf("buildinfo %s", got)
	}
}

func TestVersionIsTheModules(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var minor, patch int
	if _, err := fmt.Sscanf(version, "3.%d.%d", &minor, &patch); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("github.com/prometheus/prometheus v0.3%02d.%d", minor, patch); !strings.Contains(string(mod), want) {
		t.Errorf("go.mod does not require %s: mend version", want)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	openStore(t, Config{Dir: dir})
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no directory", Config{}, "no directory"},
		{"already open", Config{Dir: dir}, "another process may have it open"},
		{"negative", Config{Dir: t.TempDir(), Retention: -1}, "must not be negative"},
	} {
		s, err := Open(tc.cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

// A request under way when Close begins is finished and its samples are kept; one that comes later is refused.
func TestCloseWaits(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir})
	now := time.Now()
	body := encode(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series("up", prompb.Sample{Value: 7, Timestamp: now.UnixMilli()})}})

	r, w := io.Pipe()
	req := httptest.NewRequest(http.MethodPost, "/api/v1/write", r)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	answer := httptest.NewRecorder()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Handler().ServeHTTP(answer, req)
	}()
	if _, err := w.Write(body[:1]); err != nil { // returns once the handler reads
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for {
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/-/ready", nil))
		if rec.Code == http.StatusServiceUnavailable {
			break
		}
	}
	select {
	case err := <-closed:
		t.Fatalf("closed while a write was under way: %v", err)
	default:
	}
	w.Write(body[1:])
	w.Close()
	<-served
	if answer.Code != http.StatusNoContent {
		t.Fatalf("write under way: status %d, %s", answer.Code, answer.Body)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}

	_, base := serve(t, dir)
	if got := query(t, base, "up", now); !strings.Contains(got, `"7"`) {
		t.Errorf("after the restart: %s", got)
	}
}
