package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"m3gateway/bench/measure"
)

func TestAnswerIsWhatItSays(t *testing.T) {
	var v struct {
		Status string
		Data   struct {
			ResultType string
			Result     []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(answer(lines, points), &v); err != nil {
		t.Fatal(err)
	}
	if v.Status != "success" || v.Data.ResultType != "matrix" || len(v.Data.Result) != lines || len(v.Data.Result[lines-1].Values) != points || v.Data.Result[0].Metric["tenant"] != measure.Tenant {
		t.Errorf("%+.300v", v)
	}
	for i, q := range queries() {
		if len(q) < 180 || len(q) > 260 {
			t.Errorf("query %d has %d characters", i, len(q))
		}
	}
	took, err := confinement(context.Background(), 1)
	if err != nil || len(took) != 1 || took[0] <= 0 {
		t.Errorf("%v, %v", took, err)
	}
}

// role runs f, a server of the harness, and returns its address.
func role(t *testing.T, f func(stdin io.Reader, stdout io.Writer) error) string {
	t.Helper()
	in, end := io.Pipe()
	out, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- f(in, w) }()
	t.Cleanup(func() {
		end.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestRoles: the sink answers what is asked for, the bare proxy passes it on, and the client counts no refusal as a request.
func TestRoles(t *testing.T) {
	store := role(t, sink)
	bare := role(t, func(in io.Reader, out io.Writer) error { return bareProxy(in, out, store) })
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		http.Error(w, fmt.Sprint(user, pass), http.StatusTeapot)
	}))
	defer refusing.Close()
	var orders, answers bytes.Buffer
	in := json.NewEncoder(&orders)
	for _, address := range []string{store, bare} {
		for _, c := range contents() {
			if err := in.Encode(order{URL: "http://" + address + path, Content: c, Connections: 2}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, o := range []order{{URL: "http://" + bare + path, Content: panel, Rate: 100, Time: 100 * time.Millisecond}, {URL: refusing.URL + path, Content: panel, Connections: 1}} {
		if err := in.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	if err := client(&orders, &answers); err != nil {
		t.Fatal(err)
	}
	out := json.NewDecoder(&answers)
	for i := range 2*len(contents()) + 2 {
		var d done
		if err := out.Decode(&d); err != nil {
			t.Fatal(err)
		}
		switch {
		case i == 2*len(contents())+1:
			if d.Requests != 0 || !strings.Contains(d.Problem, "418") {
				t.Errorf("a refusal: %+v", d)
			}
		case d.Problem != "" || d.Requests < 2 || i == 2*len(contents()) && len(d.Latencies) != 10:
			t.Errorf("order %d: %+v", i, d)
		}
	}
	body, err := measure.Get(context.Background(), "http://"+store+"/last")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	last, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := url.ParseQuery(form(panel, 0)); err != nil || len(last) != len(v.Get("query")) && len(last) != len(v.Get("query"))+2 {
		t.Errorf("the sink saw %q", last)
	}
}

// TestReport: every row is printed, and what is missed is said to be.
func TestReport(t *testing.T) {
	var rows []row
	for _, c := range contents() {
		for i, name := range []string{bareName, labelName, wholeName} {
			rows = append(rows, row{server: server{name: name}, content: c, cost: []float64{float64(3-i) * 1e-3, float64(3-i) * 1e-3}, speed: []float64{100, 100}})
		}
	}
	l := &latency{direct: [][]float64{{.001}}, servers: []server{{name: bareName}, {name: wholeName}}, through: [][][]float64{{{.002}}, {{.004}}}}
	alone := []float64{50e-6}
	text := table(rows, alone) + l.String() + targets(rows, l, alone)
	for _, want := range []string{bareName, labelName, wholeName, "met     confining one query", "met     CPU of prom-label-proxy over the gateway's: panel  ", "MISSED  p99 latency added at 500 requests/s, in ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestRun(t *testing.T) {
	if err := run(context.Background(), []string{"-rounds", "0"}); err == nil {
		t.Error("no rounds are taken for some")
	}
	if err := run(context.Background(), []string{"x"}); err == nil {
		t.Error("an argument is ignored")
	}
	if err := measure.Fetch(context.Background(), "http://127.0.0.1:1/", os.DevNull); err == nil {
		t.Error("nothing is fetched from nowhere")
	}
}
