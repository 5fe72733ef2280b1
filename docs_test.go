package m3gateway_test

import (
	"fmt"
	"go/ast"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v3"

	"m3gateway/internal/app"
	"m3gateway/internal/bootstrap"
	"m3gateway/internal/certs"
	"m3gateway/internal/config"
)

// documents are what a reader is told; every check of words below runs over them.
var documents = []string{"README.md", "ARCHITECTURE.md", "docs/runbook.md", "docs/deploy.md", "docs/clients.md", "docs/mimir.md", "docs/tenancy.md",
	"docs/retention.md", "docs/tuning.md", "docs/operations.md", "docs/security.md"}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fenced lists the code blocks of a document in lang; spans lists what stands in `code` outside of blocks.
func fenced(t *testing.T, doc, lang string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+lang+"\n(.*?)^```$").FindAllStringSubmatch(read(t, doc), -1) {
		out = append(out, m[1])
	}
	return out
}

func spans(t *testing.T, doc string) []string {
	t.Helper()
	text := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(read(t, doc), "")
	var out []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	least := 20
	if strings.HasPrefix(doc, "docs/") && doc != "docs/runbook.md" {
		least = 5 // these are short
	}
	if len(out) < least {
		t.Fatalf("%s has %d code spans; is it still read rightly?", doc, len(out))
	}
	return out
}

// examples are README's YAML blocks by their first line, which says where they belong.
func examples(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, b := range fenced(t, "README.md", "yaml") {
		title, _, _ := strings.Cut(b, "\n")
		out[title] = append(out[title], b)
	}
	return out
}

const (
	wholeTitle      = "# gateway.yaml"
	partTitle       = "# gateway.yaml, in place of these sections"
	prometheusTitle = "# prometheus.yml"
	clusterTitle    = "# cluster.yaml"
	grafanaTitle    = "# provisioning/datasources/m3gateway.yaml"
)

func TestReadmeExamplesAreKnown(t *testing.T) {
	counts := map[string]int{}
	for title, blocks := range examples(t) {
		counts[title] = len(blocks)
	}
	want := map[string]int{wholeTitle: 1, partTitle: 4, prometheusTitle: 1, grafanaTitle: 1, clusterTitle: 1}
	if !maps.Equal(counts, want) {
		t.Errorf("README has the examples %v; want %v", counts, want)
	}
}

// load takes text for gateway.yaml and reads it as the gateway does, with the files that the examples name beside it.
func load(t *testing.T, text string) *app.Loaded {
	t.Helper()
	dir := t.TempDir()
	pair, _, err := certs.Development(filepath.Join(dir, "made"), []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pem := read(t, pair.CertFile)
	for name, content := range map[string]string{
		"gateway.yaml": text, "tls.crt": pem, "tls.key": pem, "clients-ca.crt": pem, "acme.keys": strings.Repeat("A", 43) + "=\n",
		"users.htpasswd": "alice:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=\nbob:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=\noperator:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := app.Load(filepath.Join(dir, "gateway.yaml"))
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	if w := loaded.Table.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	return loaded
}

// TestReadmeConfiguration: the example loads, and its values are the defaults where README says so.
func TestReadmeConfiguration(t *testing.T) {
	whole := examples(t)[wholeTitle][0]
	got := *load(t, whole).Config
	want := config.Defaults()
	want.TLS.Certificates, want.Auth.HtpasswdFile, want.Upstream.Pool.URLs = got.TLS.Certificates, got.Auth.HtpasswdFile, got.Upstream.Pool.URLs
	want.Tenancy = got.Tenancy
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example has\n%+v\nthe defaults are\n%+v", got, want)
	}
	for _, part := range examples(t)[partTitle] {
		load(t, merged(t, whole, part))
	}
}

// TestDocuments: each document is known here, and its YAML is read by what it is for.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, doc := range files {
		if !slices.Contains(documents, doc) || !strings.Contains(read(t, "README.md"), "]("+doc+")") {
			t.Errorf("%s is not checked, or README does not name it", doc)
		}
		for _, block := range fenced(t, doc, "yaml") {
			blocks++
			switch title, _, _ := strings.Cut(block, "\n"); title {
			case partTitle:
				load(t, merged(t, examples(t)[wholeTitle][0], block))
			case clusterTitle:
				cluster(t, block)
			case prometheusTitle:
				if _, err := promconfig.Load(block, slog.New(slog.DiscardHandler)); err != nil {
					t.Errorf("%s: %v\nin\n%s", doc, err, block)
				}
			case grafanaTitle:
				keyPaths(t, block)
			default:
				t.Errorf("%s has YAML that does not say what it is: %q", doc, title)
			}
		}
	}
	if blocks < 7 {
		t.Errorf("only %d blocks of YAML found", blocks)
	}
}

// merged is a whole configuration with the sections of part in place of its own.
func merged(t *testing.T, whole, part string) string {
	t.Helper()
	sections := map[string]any{}
	for _, text := range []string{whole, part} {
		if err := yaml.Unmarshal([]byte(text), &sections); err != nil {
			t.Fatal(err)
		}
	}
	out, err := yaml.Marshal(sections)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestClusterExample: README's cluster loads, and is the default one.
func TestClusterExample(t *testing.T) {
	got, limits := cluster(t, examples(t)[clusterTitle][0])
	if limits == nil {
		t.Error("the coordinators' file was not read")
	}
	want := bootstrap.Defaults()
	want.Coordinators, want.Placement.StatefulSet = got.Coordinators, bootstrap.StatefulSet{Name: "m3dbnode", Replicas: 3}
	want.Namespaces = bootstrap.DefaultNamespaces()
	for id, n := range got.Namespaces {
		n.BufferPast, n.BufferFuture = 10*time.Minute, 10*time.Minute
		got.Namespaces[id] = n
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("the example has\n%+v\nthe defaults are\n%+v", *got, want)
	}
}

// cluster reads text as a cluster.yaml beside the m3coordinator.yml of deploy.
func cluster(t *testing.T, text string) (*bootstrap.Config, bootstrap.PastLimits) {
	t.Helper()
	c, limits, err := config.ParseCluster("cluster.yaml", []byte(text), func(string) (string, bool) { return "", false },
		func(string) ([]byte, error) {
			return []byte("downsample: {bufferPastLimits: [{resolution: 0s, bufferPast: 5m}]}"), nil
		})
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return c, limits
}

// announced are the YAML snippets that gateway-dev prints, taken from its source and filled with stand-ins.
func announced(t *testing.T) (prometheus, grafana string) {
	t.Helper()
	var text string
	for _, s := range sources(t) {
		if s.dir != "cmd/gateway-dev" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && strings.Contains(l.Value, "is ready: {{") {
				text, _ = strconv.Unquote(l.Value)
			}
			return true
		})
	}
	user := map[string]string{"Name": "alice", "Password": "x", "Tenant": "team-a"}
	var b strings.Builder
	err := template.Must(template.New("").Parse(text)).Execute(&b, map[string]any{
		"URL": "https://h", "Admin": "http://h", "CA": "/ca", "U": user, "V": user, "Dir": "/d", "Htpasswd": "/h", "Self": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	after := func(heading string) string {
		_, rest, ok := strings.Cut(b.String(), heading)
		if !ok {
			t.Fatalf("gateway-dev prints no %q", heading)
		}
		block, _, _ := strings.Cut(rest[strings.Index(rest, "\n")+1:], "\n\n")
		return block
	}
	return after("prometheus.yml"), after("provisioning/")
}

// keyPaths lists the keys of a YAML document, as a.b.c.
func keyPaths(t *testing.T, text string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, sub := range v {
				out[prefix+k] = true
				walk(prefix+k+".", sub)
			}
		case []any:
			for _, sub := range v {
				walk(prefix, sub)
			}
		}
	}
	var v map[string]any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil || len(v) == 0 {
		t.Fatalf("no YAML (%v):\n%s", err, text)
	}
	walk("", v)
	return out
}

// TestSenderSnippets: Prometheus itself reads the snippet of README and the one that gateway-dev prints.
func TestSenderSnippets(t *testing.T) {
	printed, _ := announced(t)
	for _, text := range []string{examples(t)[prometheusTitle][0], printed} {
		cfg, err := promconfig.Load(text, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
		}
		if len(cfg.RemoteWriteConfigs) != 1 || cfg.RemoteWriteConfigs[0].HTTPClientConfig.BasicAuth == nil ||
			cfg.RemoteWriteConfigs[0].ProtobufMessage != "prometheus.WriteRequest" {
			t.Errorf("not one remote write 1.0 with basic auth:\n%s", text)
		}
		if u := cfg.RemoteWriteConfigs[0].URL.Path; !strings.Contains(read(t, "internal/gateway/route.go"), `write("`+u+`")`) {
			t.Errorf("the gateway has no write route %s", u)
		}
	}
}

func TestGrafanaSnippet(t *testing.T) {
	_, printed := announced(t)
	got, want := keyPaths(t, examples(t)[grafanaTitle][0]), keyPaths(t, printed)
	if !maps.Equal(got, want) {
		t.Errorf("README has the keys %v, gateway-dev prints %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if !want["datasources.secureJsonData.tlsCACert"] {
		t.Error("the snippet trusts no authority")
	}
}

// commands are the programs of cmd with their flags: "gateway serve" to its flags, read from the struct tags.
func commands(t *testing.T) map[string][]string {
	t.Helper()
	structs := map[string]map[string]*ast.StructType{}
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.dir, "cmd/") || s.isTest() {
			continue
		}
		program := strings.TrimPrefix(s.dir, "cmd/")
		if structs[program] == nil {
			structs[program] = map[string]*ast.StructType{}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if ts, ok := n.(*ast.TypeSpec); ok {
				if st, ok := ts.Type.(*ast.StructType); ok {
					structs[program][ts.Name.Name] = st
				}
			}
			return true
		})
	}
	out := map[string][]string{}
	var add func(program, command string, st *ast.StructType)
	add = func(program, command string, st *ast.StructType) {
		out[command] = []string{"--help", "-h"}
		for _, f := range st.Fields.List {
			if f.Tag == nil {
				continue
			}
			raw, _ := strconv.Unquote(f.Tag.Value)
			tag, name := reflect.StructTag(raw), f.Names[0].Name
			if _, ok := tag.Lookup("cmd"); ok {
				add(program, command+" "+strings.ToLower(name), structs[program][f.Type.(*ast.Ident).Name])
				continue
			}
			if _, ok := tag.Lookup("arg"); ok {
				continue
			}
			if tag.Get("name") != "" {
				name = tag.Get("name")
			}
			out[command] = append(out[command], "--"+strings.ToLower(name))
			if _, ok := tag.Lookup("negatable"); ok {
				out[command] = append(out[command], "--no-"+strings.ToLower(name))
			}
		}
	}
	for program, types := range structs {
		add(program, program, types["cli"])
	}
	if len(out["gateway serve"]) < 3 || len(out["gateway-dev"]) < 6 {
		t.Fatalf("commands read: %v", out)
	}
	return out
}

// checkCommand reports what is wrong with a line of shell: each program, subcommand, flag and path in it must exist.
func checkCommand(known map[string][]string, line string) error {
	words := strings.Fields(line)
	for len(words) > 0 && regexp.MustCompile(`^[A-Z0-9_]+=`).MatchString(words[0]) {
		words = words[1:]
	}
	if len(words) > 2 && words[0] == "go" && words[1] == "run" {
		words = append([]string{filepath.Base(words[2])}, words[3:]...)
	}
	command := words[0]
	if i := slices.Index(words, "--"); command == "kubectl" && i > 0 { // what is run in a pod
		if err := checkCommand(known, strings.TrimPrefix(strings.Join(words[i+1:], " "), "/")); err != nil {
			return err
		}
	}
	switch command {
	case "go", "docker", "kubectl", "kind", "curl", "openssl", "systemctl", ".ci/run":
	case "gateway", "gateway-dev":
		rest := words[1:]
		for len(rest) > 0 && known[command+" "+rest[0]] != nil {
			command, rest = command+" "+rest[0], rest[1:]
		}
		if (command == "gateway" || command == "gateway m3") && len(rest) > 0 && rest[0] != "--help" {
			return fmt.Errorf("%s has no command %q", command, rest[0])
		}
		for _, w := range rest {
			if flag, _, _ := strings.Cut(w, "="); strings.HasPrefix(w, "-") && !slices.Contains(known[command], flag) {
				return fmt.Errorf("%s has no flag %s", command, flag)
			}
		}
	default:
		return fmt.Errorf("%q is no command that this test knows", command)
	}
	for _, w := range words {
		if w = strings.TrimSuffix(w, "/..."); strings.HasPrefix(w, "./") || repositoryPath.MatchString(w) {
			if _, err := os.Stat(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// repositoryPath is a word that can only be a path of the repository.
var repositoryPath = regexp.MustCompile(`^(\.ci|bench|cmd|deploy|docs|internal)/`)

func TestCommandsExist(t *testing.T) {
	known := commands(t)
	lines := 0
	check := func(doc, line string) {
		lines++
		if err := checkCommand(known, line); err != nil {
			t.Errorf("%s: %s: %v", doc, line, err)
		}
	}
	for _, doc := range documents {
		for _, block := range fenced(t, doc, "sh") {
			for line := range strings.Lines(block) {
				check(doc, strings.TrimSpace(line))
			}
		}
		for _, s := range spans(t, doc) {
			if strings.HasPrefix(s, "gateway ") || strings.HasPrefix(s, "go run ") {
				check(doc, s)
			}
		}
	}
	for _, file := range []string{"base/gateway", "base/bootstrap", "overlays/vultr", "overlays/kind-dev"} {
		before := lines
		for line := range strings.Lines(read(t, "deploy/k8s/"+file+"/kustomization.yaml")) {
			if rest, ok := strings.CutPrefix(line, "#   "); ok {
				check(file, strings.TrimSpace(rest))
			}
		}
		if lines == before {
			t.Errorf("%s says no commands", file)
		}
	}
	if lines < 20 {
		t.Errorf("only %d command lines found", lines)
	}
	for _, bad := range []string{"gateway serv", "gateway serve --port 1", "gateway m3 start", "gateway m3 init --url http://h --delete", "go run ./cmd/gatewaydev", "gateway-dev --dir x", "make", "kubectl apply -k deploy/k8s/nowhere",
		"kubectl exec deployment/m3gateway -- /gateway m3 state"} {
		if checkCommand(known, bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// TestNamesExist: every path, configuration key, metric and route that the documents name is there.
func TestNamesExist(t *testing.T) {
	var metrics strings.Builder
	files, err := filepath.Glob("internal/*/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		metrics.WriteString(read(t, f))
	}
	paths := map[string]bool{} // what stands in quotes there, less a method in front
	for _, f := range []string{"internal/gateway/route.go", "internal/gateway/local.go", "internal/app/admin.go", "Dockerfile"} {
		for _, m := range regexp.MustCompile(`"(?:[A-Z]+ )?(/[^" ]*)"`).FindAllStringSubmatch(read(t, f), -1) {
			paths[m[1]] = true
		}
	}
	section := regexp.MustCompile(`^(listen|tls|auth|tenancy|limits|upstream|log|audit)(\.[a-z_]+)+$`)
	for _, doc := range documents {
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(read(t, doc), -1) {
			if target, _, _ := strings.Cut(m[1], "#"); !strings.Contains(target, "://") {
				if _, err := os.Stat(filepath.Join(filepath.Dir(doc), target)); err != nil {
					t.Errorf("%s links to %v", doc, err)
				}
			}
		}
		for _, s := range spans(t, doc) {
			switch {
			case repositoryPath.MatchString(s):
				if _, err := os.Stat(s); err != nil {
					t.Errorf("%s names %v", doc, err)
				}
			case section.MatchString(s):
				if !hasKey(reflect.TypeFor[config.Config](), strings.Split(s, ".")) {
					t.Errorf("%s names the key %s, which no configuration has", doc, s)
				}
			case strings.HasPrefix(s, "m3gateway_"):
				if !strings.Contains(metrics.String(), `"`+s+`"`) {
					t.Errorf("%s names the metric %s, which no room has", doc, s)
				}
			case strings.HasPrefix(s, "/"):
				if !paths[s] {
					t.Errorf("%s names the path %s, which nothing answers", doc, s)
				}
			}
		}
	}
}

// hasKey reports whether a configuration of type typ has the key of that path.
func hasKey(typ reflect.Type, path []string) bool {
	if len(path) == 0 {
		return true
	}
	if typ.Kind() != reflect.Struct {
		return false
	}
	for f := range typ.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == path[0] && hasKey(f.Type, path[1:]) || opts == "inline" && hasKey(f.Type, path) {
			return true
		}
	}
	return false
}

// TestRoomsTable: ARCHITECTURE.md has a row for each package, with the sentence of its doc and the imports it may have.
func TestRoomsTable(t *testing.T) {
	type row struct{ sentence, imports string }
	rows := map[string]row{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:cmd|internal|bench)/[a-z0-9/-]+)` \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(read(t, "ARCHITECTURE.md"), -1) {
		if _, third := rows[m[1]]; !third {
			rows[m[1]] = row{m[2], m[3]}
		}
	}
	for _, s := range sources(t) {
		if s.file.Doc == nil || s.isTest() {
			continue
		}
		doc, _, _ := strings.Cut(s.file.Doc.Text(), "\n\n")
		_, sentence, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(doc, "\n", " ")), " ") // "Package" or "Command"
		_, sentence, _ = strings.Cut(sentence, " ")
		var imports []string
		for _, i := range mayImport[s.dir] {
			imports = append(imports, strings.TrimPrefix(i, "internal/"))
		}
		slices.Sort(imports)
		want := row{strings.TrimSuffix(sentence, "."), strings.Join(imports, ", ")}
		if want.imports == "" {
			want.imports = "–"
		}
		if rows[s.dir] != want {
			t.Errorf("ARCHITECTURE.md has for %s\n%q; the package has\n%q", s.dir, rows[s.dir], want)
		}
		delete(rows, s.dir)
	}
	for dir := range rows {
		t.Errorf("ARCHITECTURE.md has a room %s, which is no package", dir)
	}
}

// TestThirdPartiesTable: each module that the code imports has its reason in ARCHITECTURE.md.
func TestThirdPartiesTable(t *testing.T) {
	named := spans(t, "ARCHITECTURE.md")
	for _, s := range sources(t) {
		for _, i := range s.imports {
			host, _, _ := strings.Cut(i, "/")
			if s.isTest() || !strings.Contains(host, ".") {
				continue
			}
			if !slices.ContainsFunc(named, func(m string) bool { return i == m || strings.HasPrefix(i, m+"/") }) {
				t.Errorf("ARCHITECTURE.md has no reason for %s, which %s imports", i, s.dir)
			}
		}
	}
}
