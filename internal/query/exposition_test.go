package query

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func TestStripExposition(t *testing.T) {
	for in, want := range map[string]string{
		``:                                    ``,
		"up 1\n":                              "up 1\n",
		`up{tenant="a"} 1`:                    `up{} 1`,
		`up{tenant="a",x="y"} 1 5` + "\n":     `up{x="y"} 1 5` + "\n",
		`up{x="y",tenant="a"} 1`:              `up{x="y"} 1`,
		`up{x="y",tenant="a",z=""} 1`:         `up{x="y",z=""} 1`,
		`up{x="y", tenant="a" ,z=""} 1`:       `up{x="y",z=""} 1`,
		`up{tenant="b"} 1`:                    `up{tenant="b"} 1`,
		`up{x=",tenant=\"a\",",tenant="a"} 1`: `up{x=",tenant=\"a\","} 1`,
		`up{x="}",tenant="a"} 1`:              `up{x="}"} 1`,
		`up{x="\\",tenant="a"} 1`:             `up{x="\\"} 1`,
		`{"a.b",tenant="a"} 1`:                `{"a.b"} 1`,
		`# TYPE up{tenant="a"} gauge`:         `# TYPE up{tenant="a"} gauge`,
		"up{tenant=\"a\"} 1\nup{tenant=\"a\",i=\"\"} 2\n": "up{} 1\nup{i=\"\"} 2\n",
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			var out bytes.Buffer
			if err := StripExposition(&out, r, own); err != nil || out.String() != want {
				t.Errorf("%s became %s, %v, want %s", in, &out, err, want)
			}
		}
	}
	var out bytes.Buffer
	if err := StripExposition(&out, strings.NewReader(`up{tenant="a\"\\\n|",x="y"} 1`), Label{"tenant", "a\"\\\n|"}); err != nil || out.String() != `up{x="y"} 1` {
		t.Errorf("an escaped value: %s, %v", &out, err)
	}
	if err := StripExposition(io.Discard, strings.NewReader(strings.Repeat("x", maxLine+jsonBuffer)), own); err == nil {
		t.Error("a line without end passes")
	}
	broken := errors.New("broken")
	if err := StripExposition(io.Discard, iotest.ErrReader(broken), own); err != broken {
		t.Errorf("src failed: %v", err)
	}
	if err := StripExposition(failing{broken}, strings.NewReader("up 1\n"), own); err != broken {
		t.Errorf("dst failed: %v", err)
	}
}

// TestStripExpositionAgainstParser: what Prometheus reads of random expositions afterwards is what it read before, without the
// label.
func TestStripExpositionAgainstParser(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	read := func(text string) []string {
		var out []string
		p := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
		for {
			e, err := p.Next()
			if err == io.EOF {
				return out
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if e == textparse.EntrySeries {
				var l labels.Labels
				p.Labels(&l)
				b := labels.NewBuilder(l) // leaves empty labels out
				if l.Get("tenant") == own.Value {
					b.Del("tenant")
				}
				out = append(out, b.Labels().String())
			}
		}
	}
	values := []string{"a", "b", `"`, `\`, "\n", ",", "}", "{", `tenant="a"`, "é", "#", ""}
	for range 500 {
		var text strings.Builder
		for range 1 + r.IntN(5) {
			m := model.Metric{"__name__": model.LabelValue([]string{"up", "a:b"}[r.IntN(2)])}
			for _, name := range []model.LabelName{"a", "tenan", "tenant", "z"} {
				if r.IntN(2) == 0 {
					m[name] = model.LabelValue(values[r.IntN(len(values))])
				}
			}
			fam := metricFamily(m)
			if _, err := expfmt.MetricFamilyToText(&text, fam); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := StripExposition(&out, strings.NewReader(text.String()), own); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), `,tenant="a"`) && !strings.Contains(out.String(), `\"`) {
			t.Errorf("the label is left:\n%s", &out)
		}
		if got, want := strings.Join(read(out.String()), "\n"), strings.Join(read(text.String()), "\n"); got != want {
			t.Errorf("%s\nbecame\n%s", &text, &out)
		}
	}
}

// metricFamily is one untyped metric.
func metricFamily(m model.Metric) *dto.MetricFamily {
	name := string(m["__name__"])
	metric := &dto.Metric{Untyped: &dto.Untyped{Value: new(float64)}}
	for n, v := range m {
		if n != "__name__" {
			n, v := string(n), string(v)
			metric.Label = append(metric.Label, &dto.LabelPair{Name: &n, Value: &v})
		}
	}
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_UNTYPED.Enum(), Metric: []*dto.Metric{metric}}
}
