package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// problem is one thing wrong with the file, with its place. Line and column are 1-based; the column counts characters.
type problem struct {
	line, col int
	text      string
}

// join returns every problem, ordered by place, as one error that unwraps to a []error; nil if there is none.
func join(path string, problems []problem) error {
	slices.SortFunc(problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.col, b.col), cmp.Compare(a.text, b.text))
	})
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = fmt.Errorf("%s:%d:%d: %s", path, p.line, p.col, oneLine(p.text))
	}
	return errors.Join(errs...)
}

// oneLine escapes what a terminal would not show as itself: a problem has one line, whatever the file's keys hold.
func oneLine(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}

// maxShown is the most characters of the file that a message repeats.
const maxShown = 60

// show quotes text of the file for a message: one line, bounded, without the user part of a URL, which may be a password.
func show(text string) string {
	text = regexp.MustCompile(`//[^/\s]*@`).ReplaceAllString(text, "//…@")
	if r := []rune(text); len(r) > maxShown {
		text = string(r[:maxShown]) + "…"
	}
	return strconv.Quote(text)
}

// nearest returns the candidate that text is most likely a misspelling of, or "".
func nearest(text string, candidates []string) string {
	best, bestDist := "", max(2, len(text)/3)+1
	for _, c := range candidates {
		if d := distance(fold(text), fold(c)); d < bestDist && d < len(c) {
			best, bestDist = c, d
		}
	}
	return best
}

// fold removes what differs between spellings of one key: case, "_" and "-".
func fold(key string) string {
	b := make([]byte, 0, len(key))
	for _, c := range []byte(key) {
		switch {
		case 'A' <= c && c <= 'Z':
			b = append(b, c+'a'-'A')
		case c != '_' && c != '-':
			b = append(b, c)
		}
	}
	return string(b)
}

// distance is the Levenshtein distance in bytes. Texts of over 64 bytes, which no key is, are infinitely far.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 1 << 30
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			subst := diag
			if a[i] != b[j] {
				subst++
			}
			diag = row[j+1]
			row[j+1] = min(subst, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
