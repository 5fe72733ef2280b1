//go:build mutants

package isolation

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"m3gateway/internal/query"
)

// TestEachMutant breaks one confinement at a time and demands that the property test's comparison sees it. Without a mutant it
// sees nothing. A mutant that the second look refuses shows nothing as long as there is one. It runs in the build that
// TestMutants makes.
func TestEachMutant(t *testing.T) {
	plainParser()
	seed := number(t, "M3GATEWAY_ISOLATION_SEED", 1)
	const control, locked = 1500, 150
	pairs := map[string]*twins{}
	kinds := []string{"prometheus", "m3"}
	for _, kind := range kinds {
		pairs[kind] = newTwins(t, kind, seed)
		for _, d := range pairs[kind].reads(t, 0, control, enough) {
			pairs[kind].report(t, d)
		}
	}
	if t.Failed() {
		t.Fatal("without a mutant")
	}
	all := mutants()
	for _, m := range all {
		if m.shape {
			t.Run(m.name, func(t *testing.T) { eachShape(t, kinds, m) })
			continue
		}
		names := []string{m.name}
		if m.locked {
			query.Mutate(names...)
			w := pairs[kinds[0]]
			before := w.tally.refused()
			for _, d := range w.reads(t, 0, locked, 1) {
				t.Errorf("given away in spite of the second look: %s", m.name)
				w.report(t, d)
			}
			if w.tally.refused() == before {
				t.Errorf("the second look has refused nothing: %s", m.name)
			}
			names = append(names, noSecondLook)
		}
		query.Mutate(names...)
		began, seen := time.Now(), ""
	search:
		for from := uint64(0); from < requests; from += requests / 5 { // in turns, as some need a kind
			for _, kind := range kinds {
				if found := pairs[kind].reads(t, from, from+requests/5, 1); len(found) > 0 {
					seen = kind + ": " + found[0].r.method + " " + found[0].r.what
					break search
				}
			}
		}
		query.Mutate()
		if seen == "" {
			t.Errorf("lives: %s", m.name)
			continue
		}
		t.Logf("%-75s seen in %.2fs by %s", m.name, time.Since(began).Seconds(), seen)
	}
	if len(all) < 39 {
		t.Errorf("only %d mutants", len(all))
	}
}

// eachShape demands that a mutant is seen by TestRequestShapes. It starts gateways, as some of what a mutant changes is made
// with them.
func eachShape(t *testing.T, kinds []string, m mutant) {
	t.Helper()
	query.Mutate(m.name)
	defer query.Mutate()
	began, seen := time.Now(), ""
	for _, kind := range kinds {
		if p := newAttack(t, kind).shapes(t, shapes()); len(p) > 0 {
			seen += fmt.Sprintf(" %s: %d rows, as %.60q", kind, len(p), p[0])
		}
	}
	if seen == "" {
		t.Errorf("lives: %s", m.name)
		return
	}
	t.Logf("seen in %.2fs by%s", time.Since(began).Seconds(), seen)
}

// refused are the answers that say that the gateway has failed.
func (c *tally) refused() int {
	n := 0
	for _, m := range c.status {
		n += m[503]
	}
	return n
}

// wanted are the mutants of an edit, in order.
var wanted = regexp.MustCompile(`mutated\("([^"]+)"\)`)

// mutant is one confinement broken.
type mutant struct {
	name   string
	locked bool // what it prints is refused unless there is no second look
	shape  bool // it is for TestRequestShapes to see: what it lets through shows no tenant more
}

// mutants are those of the edits, in order.
func mutants() []mutant {
	var out []mutant
	seen := map[string]bool{noSecondLook: true}
	for _, e := range edits() {
		for _, m := range wanted.FindAllStringSubmatch(e.text, -1) {
			if !seen[m[1]] {
				seen[m[1]] = true
				out = append(out, mutant{m[1], e.file == "internal/query/print.go" || strings.Contains(m[1], "printed"), strings.HasPrefix(m[1], "shape: ")})
			}
		}
	}
	return out
}
