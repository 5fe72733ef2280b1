package plan

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/dop251/goja"
)

// page is page/plan.js, running: the arithmetic of the HTML page without the page.
type page struct {
	vm      *goja.Runtime
	compute goja.Callable
}

func newPage(t testing.TB) *page {
	t.Helper()
	source, err := os.ReadFile("page/plan.js")
	if err != nil {
		t.Fatal(err)
	}
	texts, err := json.Marshal(Texts())
	if err != nil {
		t.Fatal(err)
	}
	vm := goja.New()
	if _, err := vm.RunScript("page/plan.js", string(source)); err != nil {
		t.Fatal(err)
	}
	run, err := vm.RunString(`(input) => { const p = plan.compute(JSON.parse(input), texts); p.texts = p.findings.map((f) => plan.text(f, texts)); return JSON.stringify(p); }`)
	if err == nil {
		_, err = vm.RunString("const texts = " + string(texts))
	}
	if err != nil {
		t.Fatal(err)
	}
	compute, ok := goja.AssertFunction(run)
	if !ok {
		t.Fatal("no function")
	}
	return &page{vm, compute}
}

// plan is what the page makes of in, as decoded JSON.
func (p *page) plan(t testing.TB, in Input) any {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.compute(goja.Undefined(), p.vm.ToValue(string(b)))
	if err != nil {
		t.Fatalf("%v\nfor %s", err, b)
	}
	return decoded(t, []byte(out.String()))
}

func decoded(t testing.TB, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// ours is what Compute makes of in, with the findings' texts, as decoded JSON.
func ours(t testing.TB, in Input) any {
	t.Helper()
	p := Compute(in)
	texts := []string{}
	for _, f := range p.Findings {
		texts = append(texts, f.Text())
	}
	b, err := json.Marshal(struct {
		Plan
		Texts []string `json:"texts"`
	}{p, texts})
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, b)
}

// differ lists where two decoded JSON values are not the same: texts and whole numbers must be equal, other numbers to 1 in 10^12.
func differ(path string, a, b any) []string {
	switch a := a.(type) {
	case map[string]any:
		bm, ok := b.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %v and %v", path, a, b)}
		}
		var out []string
		for k, v := range a {
			w, has := bm[k]
			if !has {
				out = append(out, path+"."+k+" is missing in the second")
				continue
			}
			out = append(out, differ(path+"."+k, v, w)...)
		}
		for k := range bm {
			if _, has := a[k]; !has {
				out = append(out, path+"."+k+" is missing in the first")
			}
		}
		return out
	case []any:
		bl, ok := b.([]any)
		if !ok || len(a) != len(bl) {
			return []string{fmt.Sprintf("%s: %v and %v", path, a, b)}
		}
		var out []string
		for i := range a {
			out = append(out, differ(fmt.Sprintf("%s[%d]", path, i), a[i], bl[i])...)
		}
		return out
	case float64:
		bf, ok := b.(float64)
		if ok && (a == bf || math.Abs(a-bf) <= 1e-12*math.Abs(a) && (a != math.Trunc(a) || math.Abs(a) > 1<<53)) {
			return nil
		}
		return []string{fmt.Sprintf("%s: %v and %v", path, a, b)}
	default:
		if a != b {
			return []string{fmt.Sprintf("%s: %v and %v", path, a, b)}
		}
		return nil
	}
}

// random is an input without faults. Sizes and times are picked over all magnitudes, often from the usual ones.
func random(r *rand.Rand) Input {
	pick := func(usual ...float64) float64 { return usual[r.IntN(len(usual))] }
	log := func(low, high float64) float64 {
		return math.Exp(math.Log(low) + r.Float64()*(math.Log(high)-math.Log(low)))
	}
	in := Input{
		Series: math.Floor(log(1, 1e9)), ScrapeSeconds: pick(1, 5, 10, 15, 30, 60, 300, log(0.1, 3600)), ChurnPerDay: pick(0, 0.1, 1, log(0.001, 10)),
		Coordinators: 1 + r.IntN(6), Shards: 1 + r.IntN(5000), Replicas: 1 + r.IntN(5), DownsamplePastSeconds: pick(0, 0, 15, 300, 540, 600, log(1, 7200)),
		NodeDiskBytes: pick(0, 100*gib, log(1e6, 1e14)), NodeMemoryBytes: pick(0, 4*gib, log(1e6, 1e13)), CoordinatorMemoryBytes: pick(0, gib, log(1e6, 1e13)),
		Assume: DefaultAssumptions(),
	}
	in.Nodes = in.Replicas + r.IntN(60)
	if r.IntN(3) == 0 {
		in.ShardsPerNode = 1 + r.IntN(in.Shards)
	}
	for i := range 1 + r.IntN(5) {
		n := Namespace{Name: fmt.Sprintf("n%d{points}", i), BlockSeconds: math.Floor(pick(1800, 3600, 7200, 43200, 86400, 7*day, log(60, 30*day))), Share: pick(1, 1, r.Float64()+1e-9)}
		if n.Share > 1 {
			n.Share = 1
		}
		n.RetentionSeconds = math.Floor(n.BlockSeconds * log(1, 1000))
		n.BufferPastSeconds = math.Floor(min(pick(600, 60, n.BlockSeconds-1), n.BlockSeconds-1))
		if i > 0 {
			n.ResolutionSeconds = math.Floor(min(pick(1, 10, 30, 60, 90, 300, 3600), n.BlockSeconds))
		}
		in.Namespaces = append(in.Namespaces, n)
	}
	r.Shuffle(len(in.Namespaces), func(i, j int) { in.Namespaces[i], in.Namespaces[j] = in.Namespaces[j], in.Namespaces[i] })
	for _, a := range in.Assume.Table() {
		if r.IntN(4) > 0 {
			continue
		}
		switch {
		case a.Unit == "share":
			a.Set(max(r.Float64(), 0.01))
		default:
			a.Set(max(1e-3, a.Value()*log(0.1, 10)))
		}
	}
	return in
}

// TestPageAgrees: the page's arithmetic, its texts included, is that of Compute, on the defaults, on the worked examples and on
// many other inputs; and between them these inputs lead to every finding that there is.
func TestPageAgrees(t *testing.T) {
	js := newPage(t)
	r := rand.New(rand.NewPCG(8, 26))
	inputs := []Input{Defaults(), guide(), production()}
	for range 700 {
		inputs = append(inputs, random(r))
	}
	seen := map[string]int{}
	for i, in := range inputs {
		if err := in.Validate(); err != nil {
			t.Fatalf("input %d: %v", i, err)
		}
		if d := differ("plan", ours(t, in), js.plan(t, in)); len(d) > 0 {
			b, _ := json.Marshal(in)
			t.Fatalf("input %d:\n%s\n%q", i, b, d)
		}
		for _, f := range Compute(in).Findings {
			seen[f.Code]++
		}
	}
	for code := range Texts() {
		if seen[code] == 0 {
			t.Errorf("no input leads to the finding %s", code)
		}
	}
}

// TestDiffer: the comparison of TestPageAgrees sees what it must see.
func TestDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		same bool
	}{
		"equal":             {`{"a":[1,"x",1.5]}`, `{"a":[1,"x",1.5]}`, true},
		"last digit":        {`1.0000000000000002`, `1.0000000000000004`, true},
		"a part in 10^11":   {`1.5`, `1.50000000001`, false},
		"whole numbers":     {`1000000`, `1000001`, false},
		"key added":         {`{"a":1}`, `{"a":1,"b":2}`, false},
		"key gone":          {`{"a":1,"b":2}`, `{"a":1}`, false},
		"other text":        {`["x"]`, `["y"]`, false},
		"shorter":           {`[1]`, `[]`, false},
		"number for a text": {`"1"`, `1`, false},
		"null":              {`1`, `null`, false},
	} {
		if got := len(differ("", decoded(t, []byte(c.a)), decoded(t, []byte(c.b)))) == 0; got != c.same {
			t.Errorf("%s: same is %v", name, got)
		}
	}
}

// TestFormatsAgree: both sides write a number the same way, at every edge of rounding.
func TestFormatsAgree(t *testing.T) {
	js := newPage(t)
	values := []float64{0, 0.5, 1, 1.5, 2.5, 9.994, 9.995, 9.996, 99.94, 99.95, 99.96, 999.4, 999.5, 1000, 1023, 1024, 999.5 * kib, 999.4 * kib, gib, 1.005, 2.675, 35280, 5040, 1e9, 1e15, 1e18, 1e21}
	r := rand.New(rand.NewPCG(1, 2))
	for range 700 {
		values = append(values, math.Exp(r.Float64()*45-5))
	}
	for name, f := range map[string]func(float64) string{
		"bytes": Bytes, "count": Count, "short": Short, "duration": Duration, "percent": Percent, "significant": significant,
	} {
		g, ok := goja.AssertFunction(js.vm.Get("plan").ToObject(js.vm).Get(name))
		if !ok {
			t.Fatalf("plan.%s is no function", name)
		}
		for _, v := range values {
			if name == "duration" && v > 1e12 {
				continue
			}
			got, err := g(goja.Undefined(), js.vm.ToValue(v))
			if err != nil || got.String() != f(v) {
				t.Errorf("plan.%s(%v) is %q (%v), Go has %q", name, v, got, err, f(v))
			}
		}
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0): "0 B", Bytes(999): "999 B", Bytes(1000): "0.98 KiB", Bytes(1.1 * gib): "1.10 GiB", Bytes(1023.6 * gib): "1.00 TiB",
		Count(12): "12", Count(1234): "1,234", Count(35280): "35,280", Count(1234567.5): "1,234,568",
		Short(0): "0", Short(12): "12", Short(1.5): "1.5", Short(2.25): "2.25", Short(66666.7): "66.7k", Short(1.2e6): "1.20M", Short(999.7): "1.00k",
		Duration(0): "0s", Duration(15): "15s", Duration(90): "1m30s", Duration(2 * day): "2d", Duration(365 * day): "1y", Duration(0.25): "250ms",
		Percent(0.7): "70 %", Percent(0.345): "35 %", significant(1.449): "1.45", significant(12.34): "12.3", significant(123.4): "123",
	} {
		if got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}

// TestEveryFindingHasItsArgs: no text keeps a place for a value that was not given, whatever the names are.
func TestEveryFindingHasItsArgs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		in := random(r)
		for i := range in.Namespaces {
			in.Namespaces[i].Name = fmt.Sprintf("n%d", i)
		}
		levels := []Level{}
		for _, f := range Compute(in).Findings {
			if slices.Contains([]byte(f.Text()), '{') {
				t.Fatalf("%s: %s", f.Code, f.Text())
			}
			levels = append(levels, f.Level)
		}
		rank := func(l Level) int { return slices.Index([]Level{Problem, Advice, Note}, l) }
		if !slices.IsSortedFunc(levels, func(a, b Level) int { return rank(a) - rank(b) }) {
			t.Fatalf("levels are out of order: %v", levels)
		}
	}
}
