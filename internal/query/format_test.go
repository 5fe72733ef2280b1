package query

import (
	"errors"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		dialect  Dialect
		in, want string // want begins with "!" where it is a part of an error
	}{
		{PromQL3, `sum( rate(x{a="b"}[5m]) )by(c)`, `sum by (c) (rate(x{a="b"}[5m]))`},
		{PromQL231, `sum( rate(x{a="b"}[5m]) )by(c)`, `sum by (c) (rate(x{a="b"}[5m]))`},
		{PromQL231, `holt_winters(x[5m],0.5,0.5)`, `holt_winters(x[5m], 0.5, 0.5)`},
		{PromQL231, `label_replace(x, "a", "double_exponential_smoothing", "", "")`, `label_replace(x, "a", "double_exponential_smoothing", "", "")`},
		{PromQL3, `sum(`, "!parse error"},
		{PromQL3, strings.Repeat("(", 200) + "x" + strings.Repeat(")", 200), "!"},
		{PromQL3, strings.Repeat("x", 70_000), "!longer than the limit"},
	} {
		got, err := New(c.dialect, DefaultLimits()).Format(c.in)
		part, refused := strings.CutPrefix(c.want, "!")
		var mistake *Error
		if refused && (!errors.As(err, &mistake) || !strings.Contains(mistake.Msg, part)) || !refused && (err != nil || got != c.want) {
			t.Errorf("%.60s: %q %v", c.in, got, err)
		}
	}
}
