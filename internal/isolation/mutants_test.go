//go:build e2e

package isolation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// helpers are what the mutants of internal/query share.
const helpers = `package query

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/promql/parser"
)

var mutations atomic.Pointer[[]string]

// Mutate makes names the mutants that are wanted.
func Mutate(names ...string) { mutations.Store(&names) }

// Mutated reports whether the mutant of that name is wanted.
func Mutated(name string) bool {
	names := mutations.Load()
	return names != nil && slices.Contains(*names, name)
}

func mutated(name string) bool { return Mutated(name) }

// without prints with f, without confinement if open.
func (p *printer) without(open bool, f func() error) error {
	was := p.scope
	if open {
		p.scope = confinement{all: true}
	}
	err := f()
	p.scope = was
	return err
}

func (p *printer) either(open bool, e parser.Expr) error {
	return p.without(open, func() error { return p.expr(e) })
}

// list prints the arguments, those that open picks without confinement.
func (p *printer) list(open func(i int) bool, args ...parser.Expr) error {
	p.text("(")
	for i, e := range args {
		if i > 0 {
			p.text(", ")
		}
		if err := p.either(open(i), e); err != nil {
			return err
		}
	}
	p.text(")")
	return nil
}

type key struct {
	c    *Confiner
	expr string
}

var remembered sync.Map
`

// gatewayHelpers are those of internal/gateway.
const gatewayHelpers = `package gateway

import "m3gateway/internal/query"

func mutated(name string) bool { return query.Mutated(name) }
`

// overlay applies all edits to copies in dir, and is an error unless each has exactly one place. It returns the file that tells
// the go command of the copies.
func overlay(t *testing.T, root, dir string) string {
	t.Helper()
	sources := map[string]string{"internal/query/mutated.go": helpers, "internal/gateway/mutated.go": gatewayHelpers}
	for _, e := range edits() {
		if sources[e.file] == "" {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			sources[e.file] = string(b)
		}
		if n := strings.Count(sources[e.file], e.old); n != 1 {
			t.Fatalf("%s has %d times what is to be changed:\n%s", e.file, n, e.old)
		}
		sources[e.file] = strings.Replace(sources[e.file], e.old, strings.Replace(e.text, "OLD", e.old, 1), 1)
	}
	replace := map[string]string{}
	for name, text := range sources {
		copied := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, name)] = copied
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestMutants builds the gateway with all mutants in it, each to be asked for, and has TestEachMutant run there.
func TestMutants(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "isolation.test")
	build := exec.Command("go", "test", "-c", "-tags", "mutants", "-o", binary, "-overlay", overlay(t, root, dir), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(binary, "-test.run", "^TestEachMutant$", "-test.v").CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestEachMutant") {
		t.Errorf("a mutant lives: %v", err)
	}
}
