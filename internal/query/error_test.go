package query

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Messages are one line and echo little of a query, whatever it holds.
func TestErrorMessages(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("x", 1000) + "()",
		`"` + strings.Repeat("\u00e9", 500) + `" + "`,
		"up{a=~\"(" + strings.Repeat("\\n\\x00\\u0085", 50) + "\"}",
		`sum by ("` + strings.Repeat("\u0430", 500) + `") (up)`,
		`up{"` + strings.Repeat("a.", 500) + `"="x"}`,
		"\x00", "\xff", "up\nup\r\n" + strings.Repeat("{", 300),
	} {
		_, err := New(PromQL231, DefaultLimits()).PromQL(alice, in)
		if err == nil {
			t.Errorf("%.50q was accepted", in)
		} else if msg := wantClientError(t, err); msg != err.Error() || !utf8.ValidString(msg) || strings.ContainsRune(msg, '\u0085') {
			t.Errorf("%.50q: message %q", in, msg)
		}
	}
	if got := oneLine(strings.Repeat("é", 100) + "x"); got != strings.Repeat("é", 98)+"..." {
		t.Errorf("cut to %q", got)
	}
}
