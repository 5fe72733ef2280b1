package m3gateway_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "m3gateway/"

// mayImport is the table of rooms: what each package may import of this module. A room not named here must be added with its
// sentence in ARCHITECTURE.md first.
var mayImport = map[string][]string{
	"cmd/gateway":     {"internal/app", "internal/auth", "internal/bootstrap", "internal/certs", "internal/config", "internal/m3", "internal/plan", "internal/smoke", "internal/tenant"},
	"cmd/gateway-dev": {"internal/app", "internal/auth", "internal/certs", "internal/devstore", "internal/remotewrite"},
	"internal/app": {"internal/audit", "internal/auth", "internal/buf", "internal/certs", "internal/config", "internal/gateway", "internal/limits",
		"internal/listen", "internal/m3", "internal/proxy", "internal/tenant"},
	"internal/config": {"internal/audit", "internal/auth", "internal/bootstrap", "internal/certs", "internal/limits", "internal/listen", "internal/m3", "internal/proxy", "internal/tenant"},
	"internal/gateway": {"internal/audit", "internal/auth", "internal/tenant", "internal/limits", "internal/remotewrite", "internal/query", "internal/proxy", "internal/m3", "internal/buf",
		"internal/metadata"},
	"internal/audit":       nil,
	"internal/auth":        nil, // a credential knows no tenant
	"internal/tenant":      nil, // a tenant knows no HTTP and no limits
	"internal/limits":      nil,
	"internal/certs":       nil,
	"internal/listen":      nil,
	"internal/m3":          nil,
	"internal/bootstrap":   {"internal/m3"},
	"internal/plan":        nil, // pure arithmetic: whoever knows a cluster hands it in
	"internal/metadata":    nil,
	"internal/smoke":       nil, // it judges the other rooms from outside and shares no code with them
	"internal/buf":         nil,
	"internal/devstore":    nil,
	"internal/query":       {"internal/buf"},
	"internal/remotewrite": {"internal/buf"},
	"internal/proxy":       {"internal/buf"}, // the pool knows nothing of stores: probes are handed in
	"internal/gatewaytest": {"internal/app", "internal/auth", "internal/certs", "internal/devstore"},
	"internal/faultnet":    nil,
	"internal/e2e":         nil,
	"internal/isolation":   nil, // tests only, of what is put together elsewhere
	"bench/measure":        {"internal/auth", "internal/certs"},
	"bench/listen":         {"bench/measure"},
	"bench/fairness":       {"bench/measure"},
	"bench/read":           {"bench/measure", "internal/query"},
	"bench/tls":            {"bench/measure"},
	"bench/write":          {"bench/measure", "internal/app", "internal/auth", "internal/remotewrite"},
}

// addresses are the third parties that live in few places, with the reason.
var addresses = []struct {
	prefix string
	rooms  []string
	why    string
}{
	{"github.com/caddyserver/certmagic", []string{"internal/certs"}, "ACME is one room's business"},
	{"github.com/mholt/acmez", []string{"internal/certs"}, "ACME is one room's business"},
	{"go.uber.org/zap", []string{"internal/certs"}, "everything else logs with slog; certs adapts what certmagic writes"},
	{"github.com/golang/snappy", []string{"internal/remotewrite", "internal/query", "internal/smoke", "internal/gatewaytest", "bench/write", "bench/measure", "bench/fairness"}, "decoded sizes are checked where the codec is"},
	{"github.com/prometheus/prometheus", []string{"internal/query", "internal/smoke", "internal/devstore", "internal/gatewaytest", "cmd/gateway-dev", "bench/write", "bench/measure"},
		"the production binary links the parser and nothing that stores; the write path shares no code with its oracle"},
	{"github.com/klauspost/compress", []string{"internal/gateway"}, "answers are compressed where the client is known"},
	{"go.etcd.io", []string{"internal/certs"}, "replicas share certificates and nothing else"},
	{"google.golang.org/grpc", []string{"internal/certs"}, "only etcd's client speaks gRPC"},
	{"github.com/miekg/dns", []string{"internal/certs"}, "DNS updates prove domains, and nothing else is asked of DNS by hand"},
	{"github.com/libdns/libdns", []string{"internal/certs"}, "ACME is one room's business"},
	{"github.com/go-chi/chi", []string{"internal/gateway"}, "one allow-list of routes"},
	{"github.com/dop251/goja", nil, "only tests run the planner's page; see internal/plan"},
	{"github.com/alecthomas/kong", []string{"cmd/gateway", "cmd/gateway-dev"}, "only commands have flags"},
	{"go.yaml.in/yaml", []string{"internal/config"}, "one strict decoder"},
	{"golang.org/x/net", []string{"internal/proxy", "internal/faultnet"}, "TTLs of name servers' answers are one room's business"},
	{"golang.org/x/crypto", []string{"internal/auth"}, "hashes are one room's business"},
}

type source struct {
	dir, name string
	file      *ast.File
	imports   []string
}

// sources parses every Go file of the module but those of nested modules and testdata.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != "." || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != "." {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s := source{dir: filepath.ToSlash(filepath.Dir(path)), name: d.Name(), file: f}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d files found", len(out))
	}
	return out
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.dir == "." {
			continue
		}
		allowed, known := mayImport[s.dir]
		if !known {
			t.Errorf("%s is no known room; add it to ARCHITECTURE.md and to this table", s.dir)
		}
		for _, p := range s.imports {
			if rest, ok := strings.CutPrefix(p, module); ok && !slices.Contains(allowed, rest) {
				t.Errorf("%s/%s imports %s, which its room may not", s.dir, s.name, rest)
			}
			for _, a := range addresses {
				if strings.HasPrefix(p, a.prefix) && !slices.Contains(a.rooms, s.dir) {
					t.Errorf("%s/%s imports %s: %s", s.dir, s.name, p, a.why)
				}
			}
			client := strings.HasPrefix(p, "github.com/prometheus/client_golang")
			if client && s.name != "metrics.go" && !strings.HasPrefix(s.dir, "cmd/") && s.dir != "internal/devstore" && s.dir != "bench/write" && !(s.dir == "internal/gateway" && s.name == "route.go") {
				t.Errorf("%s/%s imports %s: metrics are a file of each room, metrics.go", s.dir, s.name, p)
			}
		}
	}
}

// TestNoGlobalState: no init functions, and package variables only as tables that nothing writes to.
func TestNoGlobalState(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s/%s has an init function", s.dir, s.name)
			}
		}
	}
}

// TestPackageDocs: each package has a doc of which the first paragraph is one sentence.
func TestPackageDocs(t *testing.T) {
	docs := map[string]string{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		if _, ok := docs[s.dir]; !ok {
			docs[s.dir] = ""
		}
		if s.file.Doc != nil {
			if docs[s.dir] != "" {
				t.Errorf("%s has two package docs", s.dir)
			}
			docs[s.dir] = s.file.Doc.Text()
		}
	}
	for dir, doc := range docs {
		first, _, _ := strings.Cut(doc, "\n\n")
		first = strings.TrimSpace(strings.ReplaceAll(first, "\n", " "))
		if !strings.HasSuffix(first, ".") || strings.Contains(strings.TrimSuffix(first, "."), ". ") || len(first) < 30 {
			t.Errorf("the doc of %s does not begin with one sentence: %q", dir, first)
		}
	}
}

// TestFilesStayReadable: a file over 450 lines or a function over 60 needs a reason here.
func TestFilesStayReadable(t *testing.T) {
	reasons := map[string]string{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.dir, s.name))
		if err != nil {
			t.Fatal(err)
		}
		path := s.dir + "/" + s.name
		if n := strings.Count(string(data), "\n"); n > 450 && reasons[path] == "" {
			t.Errorf("%s has %d lines", path, n)
		}
		line := func(p token.Pos) int { return strings.Count(string(data[:int(p)-int(s.file.FileStart)]), "\n") }
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				if n := line(f.End()) - line(f.Pos()) + 1; n > 60 && reasons[path+" "+f.Name.Name] == "" {
					t.Errorf("%s: %s has %d lines", path, f.Name.Name, n)
				}
			}
		}
	}
}

// TestProductionBinaryIsLean: the gateway never links a TSDB, nor what only tests and gateway-dev need.
func TestProductionBinaryIsLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/gateway").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 200 {
		t.Fatalf("only %d packages listed", len(deps))
	}
	for _, d := range deps {
		for _, banned := range []string{
			"github.com/prometheus/prometheus/tsdb/index", "github.com/prometheus/prometheus/tsdb/wlog", "github.com/prometheus/prometheus/storage/remote", "github.com/prometheus/prometheus/web", "github.com/prometheus/prometheus/scrape",
			"github.com/prometheus/prometheus/discovery", "github.com/prometheus/prometheus/rules", module + "internal/devstore", module + "internal/gatewaytest", module + "internal/faultnet", "testing",
		} {
			if d == banned || strings.HasPrefix(d, banned+"/") {
				t.Errorf("cmd/gateway links %s", d)
			}
		}
		// The parser itself needs the interfaces of storage and the chunk encodings below tsdb, and no more.
		if d == "github.com/prometheus/prometheus/promql" || d == "github.com/prometheus/prometheus/tsdb" {
			t.Errorf("cmd/gateway links %s", d)
		}
	}
}
