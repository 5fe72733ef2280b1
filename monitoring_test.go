package m3gateway_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"m3gateway/internal/gatewaytest"
)

// exposed are the metrics of a gateway at work, with their labels and the values that each label has had: two stores, of which
// one fails, a tenant, writes and reads, good and refused.
func exposed(t *testing.T) map[string]map[string][]string {
	t.Helper()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/-/") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(bad.Close)
	g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Upstreams: []string{bad.URL, gatewaytest.Store(t)}, Extra: "limits: {reads: {range: 1h}}"})
	now := time.Now()
	text := ""
	for try := range 200 { // until a request has met the store that fails
		g.Write("alice", []prompb.TimeSeries{gatewaytest.Series(now, float64(try), "__name__", "up")})
		g.Get("alice", "/api/v1/query?query=up")
		g.Get("", "/api/v1/query?query=up")
		g.Get("alice", "/api/v1/query?query=rate(up[2h])")
		if text = g.Admin(http.MethodGet, "/metrics").Body; strings.Contains(text, "m3gateway_proxy_failovers_total{") {
			break
		}
	}
	out := map[string]map[string][]string{"up": {}}
	line := regexp.MustCompile(`(?m)^(m3gateway_\w+)(?:\{(.*)\})? \S+$`)
	pair := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		if out[m[1]] == nil {
			out[m[1]] = map[string][]string{"instance": nil, "job": nil}
		}
		for _, p := range pair.FindAllStringSubmatch(m[2], -1) {
			out[m[1]][p[1]] = append(out[m[1]][p[1]], p[2])
		}
	}
	// These two appear with the first order at an ACME authority, by their domain; see internal/certs.
	for _, name := range []string{"m3gateway_certs_acme_failures_total", "m3gateway_certs_acme_obtained_total"} {
		if !strings.Contains(read(t, "internal/certs/metrics.go"), `"`+name+`"`) {
			t.Errorf("there is no metric %s", name)
		}
		out[name] = map[string][]string{"instance": nil, "job": nil, "domain": nil}
	}
	if len(out) < 30 {
		t.Fatalf("only %d metrics in\n%s", len(out), text)
	}
	return out
}

// checkExpr reports what is wrong with a query: it must parse, and name only metrics, labels and values that a gateway has.
func checkExpr(have map[string]map[string][]string, text string) error {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return err
	}
	var faults []string
	used := 0
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		used++
		known, ok := have[s.Name]
		if !ok {
			faults = append(faults, "there is no metric "+s.Name)
			return nil
		}
		for _, m := range s.LabelMatchers {
			values, ok := known[m.Name]
			switch {
			case m.Name == "__name__":
			case !ok:
				faults = append(faults, fmt.Sprintf("%s has no label %s", s.Name, m.Name))
			case m.Name == "reason" || m.Name == "state" || m.Name == "listener": // closed sets: each value that is named must be one
				for word := range strings.SplitSeq(m.Value, "|") {
					if !slices.Contains(values, word) {
						faults = append(faults, fmt.Sprintf("%s has no %s=%q, but %q", s.Name, m.Name, word, values))
					}
				}
			}
		}
		for _, p := range path {
			a, ok := p.(*parser.AggregateExpr)
			if !ok {
				continue
			}
			for _, l := range a.Grouping {
				if _, ok := known[l]; !ok {
					faults = append(faults, fmt.Sprintf("%s has no label %s to group by", s.Name, l))
				}
			}
		}
		return nil
	})
	if used == 0 {
		faults = append(faults, "it asks for no metric")
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s: %s", text, strings.Join(faults, "; "))
	}
	return nil
}

// TestCheckExpr: the check of the two tests below sees what it must see.
func TestCheckExpr(t *testing.T) {
	have := map[string]map[string][]string{"m": {"a": {"x"}, "reason": {"r", "s"}}}
	for expr, ok := range map[string]bool{
		`rate(m{a="1"}[5m])`: true, `sum by (a) (rate(m[5m])) / 2`: true, `m{reason!~"r|s"}`: true,
		`n`: false, `m + n`: false, `m{b="1"}`: false, `sum by (b) (m)`: false, `m{reason="t"}`: false, `m{reason=~"r|t"}`: false, `rate(m)`: false, `1`: false, `m[`: false,
	} {
		if err := checkExpr(have, expr); (err == nil) != ok {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// TestAlerts: each alert asks for what a running gateway has, has a severity, an entry in the runbook, and a case in which it fires
// and one in which it is quiet. That the cases hold is promtool's to say, in the end-to-end suite.
func TestAlerts(t *testing.T) {
	const dir = "deploy/prometheus/"
	have := exposed(t)
	var rules struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	var tests struct {
		RuleFiles []string `yaml:"rule_files"`
		Tests     []struct {
			Name           string
			AlertRuleTests []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	for file, to := range map[string]any{"m3gateway.rules.yaml": &rules, "m3gateway.rules.test.yaml": &tests} {
		if err := yaml.Unmarshal([]byte(read(t, dir+file)), to); err != nil {
			t.Fatal(err)
		}
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range tests.Tests {
		for _, r := range c.AlertRuleTests {
			if len(r.ExpAlerts) > 0 {
				fires[r.Alertname] = true
			} else {
				quiet[r.Alertname] = true
			}
		}
	}
	runbook := read(t, "docs/runbook.md")
	names := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			names[r.Alert] = true
			if err := checkExpr(have, r.Expr); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s has the severity %q", r.Alert, s)
			}
			if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want || !strings.Contains(runbook, "\n## "+r.Alert+"\n") {
				t.Errorf("%s: runbook %q; want %s, and an entry there", r.Alert, r.Annotations["runbook"], want)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s says nothing: %v", r.Alert, r.Annotations)
			}
		}
	}
	if !maps.Equal(fires, names) || !maps.Equal(quiet, names) || len(names) < 15 {
		t.Errorf("the alerts are %v;\ncases in which they fire are for %v,\ncases in which they are quiet for %v", names, fires, quiet)
	}
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(runbook, -1) {
		if !names[m[1]] {
			t.Errorf("the runbook has an entry %s, which is no alert", m[1])
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               struct{ Type, UID string }
	FieldConfig              struct {
		Defaults struct{ Unit string }
	}
	Targets []struct {
		RefID, Expr string
		Datasource  struct{ Type, UID string }
	}
}

// TestDashboards: each dashboard is one that Grafana takes, its panels lie beside one another, and it asks for what a gateway has.
func TestDashboards(t *testing.T) {
	have := exposed(t)
	files, err := filepath.Glob("deploy/grafana/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	for _, file := range files {
		var d struct {
			UID, Title, Description string
			SchemaVersion           int
			Templating              struct {
				List []struct {
					Name, Type string
					Query      string
				}
			}
			Panels []panel
		}
		if err := json.Unmarshal([]byte(read(t, file)), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID != strings.TrimSuffix(filepath.Base(file), ".json") || d.Title == "" || d.Description == "" || d.SchemaVersion < 39 || len(d.Panels) < 5 {
			t.Errorf("%s: uid %q, title %q, schema %d, %d panels", file, d.UID, d.Title, d.SchemaVersion, len(d.Panels))
		}
		variables := map[string]bool{"__rate_interval": true}
		for _, v := range d.Templating.List {
			variables[v.Name] = true
			if v.Type != "query" {
				continue
			}
			m := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Query)
			if m == nil {
				t.Errorf("%s: variable %s asks %q", file, v.Name, v.Query)
			} else if _, ok := have[m[1]][m[2]]; !ok {
				t.Errorf("%s: variable %s: %s has no label %s", file, v.Name, m[1], m[2])
			}
		}
		if !variables["datasource"] || !variables["instance"] {
			t.Errorf("%s has the variables %v", file, variables)
		}
		for i, p := range d.Panels {
			where := file + ": " + p.Title
			if p.ID != i+1 || p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" ||
				!slices.Contains([]string{"timeseries", "stat", "bargauge"}, p.Type) {
				t.Errorf("%s: %+v", where, p)
			}
			if g := p.GridPos; g.W < 4 || g.H < 4 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s lies at %+v", where, g)
			}
			for _, q := range d.Panels[:i] {
				a, b := p.GridPos, q.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s lies over %s", where, q.Title)
				}
			}
			for _, target := range p.Targets {
				for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
					if !variables[m[1]] {
						t.Errorf("%s uses $%s, which is no variable", where, m[1])
					}
				}
				expr := regexp.MustCompile(`\$\w+`).ReplaceAllString(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), ".*")
				if err := checkExpr(have, expr); err != nil {
					t.Errorf("%s: %v", where, err)
				}
			}
		}
	}
	var provisioning struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct{ Type string }
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/grafana/provisioning.yaml")), &provisioning); err != nil || provisioning.APIVersion != 1 || len(provisioning.Providers) != 1 || provisioning.Providers[0].Type != "file" {
		t.Errorf("provisioning: %+v, %v", provisioning, err)
	}
}
