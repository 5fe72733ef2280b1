package query

import (
	"regexp/syntax"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/strutil"
)

// bound measures what parsing expr would cost, before it is paid: the parser's type check is quadratic in the nesting,
// and it compiles every regular expression. A text that is no query is left to the parser to report.
func (c *Confiner) bound(expr string) error {
	if c.small(expr) {
		return nil
	}
	return c.measure(expr)
}

// measure is bound, token by token.
func (c *Confiner) measure(expr string) error {
	var (
		lex     = parser.Lex(expr)
		item    parser.Item
		prev    parser.ItemType // of the last item that is no comment
		braces  bool
		depth   int
		nodes   int
		regexes = regexBudget{limits: &c.limits}
	)
	for {
		lex.NextItem(&item)
		switch {
		case item.Typ == parser.EOF, item.Typ == parser.ERROR:
			return nil
		case item.Typ == parser.COMMENT:
			continue
		case item.Typ == parser.LEFT_BRACE:
			braces = true
		case item.Typ == parser.RIGHT_BRACE:
			braces = false
		case braces:
			if item.Typ == parser.STRING && (prev == parser.EQL_REGEX || prev == parser.NEQ_REGEX) {
				if err := regexes.spendQuoted(item.Val); err != nil {
					return err
				}
			}
		case item.Typ == parser.LEFT_PAREN, item.Typ == parser.LEFT_BRACKET:
			nodes++
			depth++
		case item.Typ == parser.RIGHT_PAREN, item.Typ == parser.RIGHT_BRACKET:
			depth--
		case item.Typ.IsOperator():
			nodes++
		}
		if depth > c.limits.MaxDepth {
			return refuse("query is nested deeper than %d brackets", c.limits.MaxDepth)
		}
		if nodes > c.limits.MaxNodes {
			return refuse("query has more than %d operators and brackets", c.limits.MaxNodes)
		}
		prev = item.Typ
	}
}

// small reports that bound can find nothing in expr, without cutting it into tokens: it has no more bytes than it may have
// nodes, no more brackets than may be nested, and regular expressions, if any, that compile to about their length: none with a
// counted repetition or a class by name. What takes a closer look, such as an escape or a comment, is not small.
func (c *Confiner) small(expr string) bool {
	l := &c.limits
	if len(expr) > min(l.MaxNodes, l.MaxRegexBytes, l.MaxRegexSize) {
		return false
	}
	brackets, quote, regexes, inString := 0, byte(0), false, false
	for i := range len(expr) {
		switch b := expr[i]; b {
		case '\\', '#':
			return false
		case '"', '\'', '`':
			switch quote {
			case 0:
				quote = b
			case b:
				quote = 0
			}
		case '(', '[':
			brackets++
		case '~':
			regexes = true
		case '{':
			inString = inString || quote != 0
		}
	}
	return brackets <= l.MaxDepth && !(regexes && inString)
}

// inParserWords returns expr with calls of holt_winters under the name that the parser knows. Strings, comments and
// metrics of that name stay: a name before "(" is a call.
func inParserWords(expr string) string {
	if !strings.Contains(expr, smoothingName231) {
		return expr
	}
	var (
		lex  = parser.Lex(expr)
		item parser.Item
		prev parser.Item // the last item that is no comment
		out  strings.Builder
		from int
	)
	for {
		lex.NextItem(&item)
		switch item.Typ {
		case parser.EOF, parser.ERROR:
			out.WriteString(expr[from:])
			return out.String()
		case parser.COMMENT:
			continue
		case parser.LEFT_PAREN:
			if prev.Typ == parser.IDENTIFIER && prev.Val == smoothingName231 {
				out.WriteString(expr[from:prev.Pos])
				out.WriteString(smoothingName3)
				from = int(prev.Pos) + len(smoothingName231)
			}
		}
		prev = item
	}
}

// regexBudget bounds the regular expressions of one request, each in its text and all in their compiled size.
type regexBudget struct {
	limits *Limits
	spent  int
}

// spendQuoted is spend for a string token of PromQL. What does not unquote is left to the parser.
func (b *regexBudget) spendQuoted(token string) error {
	v, err := strutil.Unquote(token)
	if err != nil {
		return nil
	}
	return b.spend(v)
}

// unicodeClassSize is about the compiled size of the largest class written with two bytes and a name (\pL).
const unicodeClassSize = 150

// spend counts v's compiled size, in instructions, against the budget. What does not parse costs its text only;
// compiling it will report why.
func (b *regexBudget) spend(v string) error {
	if len(v) > b.limits.MaxRegexBytes {
		return refuse("regular expression of %d bytes is longer than the limit of %d", len(v), b.limits.MaxRegexBytes)
	}
	b.spent += len(v) + unicodeClassSize*(strings.Count(v, `\p`)+strings.Count(v, `\P`))
	if b.spent <= b.limits.MaxRegexSize && strings.Contains(v, "{") {
		if re, err := syntax.Parse(v, syntax.Perl|syntax.DotNL); err == nil {
			b.spent += regexSize(re)
		}
	}
	if b.spent > b.limits.MaxRegexSize {
		return refuse("regular expressions are larger than the limit of %d instructions", b.limits.MaxRegexSize)
	}
	return nil
}

// regexSize estimates the instructions that re compiles to, with counted repetition written out.
// Its depth is bounded by syntax.Parse, and so is the product of nested counts (1000).
func regexSize(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)/8
	for _, sub := range re.Sub {
		n += regexSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}
