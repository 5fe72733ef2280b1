package plan

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func rendered(t *testing.T, in Input) string {
	t.Helper()
	var b strings.Builder
	if err := WritePage(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPageIsWhole: one file, without an address of anything else, and with every part in it.
func TestPageIsWhole(t *testing.T) {
	html := rendered(t, Defaults())
	for _, m := range regexp.MustCompile(`(?i)(?:src|href)\s*=|url\(|@import|https?://[^"' ]*`).FindAllString(html, -1) {
		if m != "http://www.w3.org/2000/svg" {
			t.Errorf("the page has %q", m)
		}
	}
	for _, want := range []string{"const plan = (() => {", "--accent:", `"agg_10s_30d"`, "Content-Security-Policy", "bytes_per_point"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, mark := range []string{"{{", "/*p"} {
		if strings.Contains(html, mark) {
			t.Errorf("the page keeps a mark %s", mark)
		}
	}
	if n := len(html); n > 100<<10 {
		t.Errorf("the page has %d bytes", n)
	}
}

// TestPageKeepsNamesApart: a namespace's name, which is the cluster's, is text wherever it stands.
func TestPageKeepsNamesApart(t *testing.T) {
	in := Defaults()
	in.Namespaces[1].Name = `</script><script>alert(1)</script><!--{{data}}/*plan.js*/&"'` + "\u2028"
	html := rendered(t, in)
	if a, b := strings.Count(html, "<script"), strings.Count(html, "</script"); a != 3 || b != 3 || strings.Contains(html, "alert(1)</") {
		t.Errorf("the page has %d and %d script tags", a, b)
	}
	if strings.Count(html, "const plan = (() => {") != 1 {
		t.Error("a mark in a name was filled in")
	}
	if js := string(pageJS); strings.Contains(js, "innerHTML") || strings.Contains(js, "insertAdjacentHTML") || strings.Contains(js, "document.write") {
		t.Error("the page's script makes markup of text")
	}
}

// TestColoursCanBeRead: in both themes text has a contrast of 4.5 with what it stands on, and charts one of 3 (WCAG 2.2, 1.4.3 and
// 1.4.11).
func TestColoursCanBeRead(t *testing.T) {
	blocks := regexp.MustCompile(`(?s):root([^{]*)\{(.*?)\}`).FindAllStringSubmatch(pageCSS, -1)
	themes := map[string]map[string]string{}
	for _, b := range blocks {
		vars := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]+);`).FindAllStringSubmatch(b[2], -1) {
			vars[m[1]] = m[2]
		}
		if len(vars) > 0 {
			themes[strings.TrimSpace(b[1])] = vars
		}
	}
	system, dark := themes[`:not([data-theme="light"])`], themes[`[data-theme="dark"]`]
	if len(themes) != 3 || fmt.Sprint(system) != fmt.Sprint(dark) || len(themes[""]) != len(dark) {
		t.Fatalf("themes: %v", themes)
	}
	for name, vars := range themes {
		check := func(front, back string, least float64) {
			if got := contrast(t, vars[front], vars[back]); got < least {
				t.Errorf("theme %q: %s on %s has a contrast of %.2f; it needs %v", name, front, back, got, least)
			}
		}
		for _, text := range []string{"ink", "soft", "accent", "limit"} {
			check(text, "card", 4.5)
		}
		check("ink", "bg", 4.5)
		check("soft", "bg", 4.5)
		check("card", "accent", 4.5) // the pressed button
		for _, badge := range []string{"bad", "mid", "note"} {
			check(badge, badge+"-bg", 4.5)
		}
		for _, c := range []string{"c0", "c1", "c2", "c3", "c4", "c5", "base", "m1", "m2", "m4"} {
			least := 3.0
			if c == "c2" || c == "base" {
				least = 2.5 // never alone: a legend with its value stands below each chart
			}
			check(c, "card", least)
		}
	}
}

// contrast is the ratio of WCAG of two colours as #rgb or #rrggbb.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(c string) float64 {
		c = strings.TrimPrefix(c, "#")
		if len(c) == 3 {
			c = string([]byte{c[0], c[0], c[1], c[1], c[2], c[2]})
		}
		v, err := strconv.ParseUint(c, 16, 32)
		if err != nil || len(c) != 6 {
			t.Fatalf("%q is no colour", c)
		}
		channel := func(shift int) float64 {
			x := float64(v>>shift&0xff) / 255
			if x <= 0.04045 {
				return x / 12.92
			}
			return math.Pow((x+0.055)/1.055, 2.4)
		}
		return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
