package isolation

import (
	"fmt"
	mathrand "math/rand"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/cortexproject/promqlsmith"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// writer writes queries for stores of one kind, some as dashboards have them and some as an attacker would try them.
type writer struct {
	*rand.Rand
	kind   string
	base   time.Time
	prefix string // of every tenant's name
	timed  bool   // the store's clock does not stand still, so every query says its time
	smith  *promqlsmith.PromQLSmith
	parser parser.Parser
}

// newWriter has its own sequence for each seed.
func newWriter(kind, prefix string, base time.Time, seed, n uint64) *writer {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, n)), kind: kind, base: base, prefix: prefix, parser: parser.NewParser(parser.Options{})}
	var known []labels.Labels
	for _, s := range own(false) {
		if !strings.ContainsFunc(strings.Join(s.labels, ""), func(c rune) bool { return c > 'z' || strings.ContainsRune(`*+?()[]{}|\`, c) }) { // it makes patterns of any part of a value
			known = append(known, labels.FromStrings(s.labels...))
		}
	}
	known = append(known, labels.FromStrings("__name__", "only_theirs", "job", "theirs"), labels.FromStrings("__name__", "up", "tenant", prefix+"aa"))
	options := []promqlsmith.Option{
		promqlsmith.WithEnableVectorMatching(true), promqlsmith.WithMaxDepth(2 + w.IntN(3)), promqlsmith.WithEnabledFunctions(smithFunctions(kind)),
	}
	if kind == "prometheus" {
		options = append(options, promqlsmith.WithEnableOffset(w.IntN(3) == 0), promqlsmith.WithEnableAtModifier(w.IntN(3) == 0),
			promqlsmith.WithAtModifierMaxTimestamp(base.UnixMilli()))
	}
	w.smith = promqlsmith.New(mathrand.New(mathrand.NewSource(int64(w.Uint64()>>1))), known, options...)
	return w
}

// smithFunctions are those that a store of that kind has and the gateway lets pass; others are only refused.
func smithFunctions(kind string) []*parser.Function {
	later := []string{"histogram_", "first_over_time", "ts_of_", "mad_over_time", "sort_by_label", "info", "double_exponential_smoothing", "holt_winters", "day_of_year"}
	var out []*parser.Function
	for _, name := range sortedKeys(parser.Functions) {
		f := parser.Functions[name]
		new := false
		for _, prefix := range later {
			new = new || strings.HasPrefix(name, prefix) && name != "histogram_quantile"
		}
		if !f.Experimental && (kind == "prometheus" || !new) {
			out = append(out, f)
		}
	}
	return out
}

func (w *writer) pick(from ...string) string { return from[w.IntN(len(from))] }

// chance is true in n of 100.
func (w *writer) chance(n int) bool { return w.IntN(100) < n }

// gap is what may stand between two tokens.
func (w *writer) gap() string {
	if w.chance(90) {
		return w.pick("", "", " ")
	}
	return w.pick("\t\n", " # {tenant=\"b\"} or up \n ", "#\"\n", "\r\n")
}

// quoted is s as a string of PromQL, in any spelling.
func (w *writer) quoted(s string) string {
	switch {
	case w.chance(10) && !strings.Contains(s, "`"):
		return "`" + s + "`"
	case w.chance(15):
		return "'" + strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`), "\n", `\n`) + "'"
	case w.chance(10):
		var b strings.Builder
		b.WriteByte('"')
		for _, c := range s {
			if c < 0x80 {
				fmt.Fprintf(&b, w.pick(`\x%02x`, `\u%04x`, `\%03o`), c)
			} else {
				fmt.Fprintf(&b, `\U%08x`, c)
			}
		}
		return b.String() + `"`
	}
	return strconv.Quote(s)
}

// tenantName is one that the client may know or guess.
func (w *writer) tenantName() string {
	if w.chance(30) {
		return w.prefix + asker
	}
	all := append(crowd(), second)
	return w.prefix + all[w.IntN(len(all))]
}

// tenantMatcher is the client's own on the label that keeps tenants apart.
func (w *writer) tenantMatcher() string {
	name := "tenant"
	if w.kind == "prometheus" && w.chance(15) {
		name = w.quoted(name)
	}
	switch w.IntN(5) {
	case 0:
		return name + w.gap() + "=" + w.gap() + w.quoted(w.tenantName())
	case 1:
		return name + "!=" + w.quoted(w.tenantName())
	case 2:
		return name + "=~" + w.gap() + w.quoted(w.pick(".*", ".+", w.prefix+"a.*", ".*a.*", w.prefix+"a|"+w.prefix+"aa", "(?i)"+w.prefix+"a", "^"+w.prefix+"a$", w.prefix+"a.b", ""))
	case 3:
		return name + "!~" + w.quoted(w.pick(w.prefix+"a", w.prefix+"zed|b", "", w.prefix+"a.+"))
	}
	return name + w.pick("=", "!=") + w.quoted("")
}

// matcher is one that some series of the asker or of the crowd have.
func (w *writer) matcher() string {
	switch w.IntN(11) {
	case 0, 1, 2:
		return "job" + w.pick("=", "=", "!=", "=~") + w.quoted(w.pick("api", "db", "api", "theirs"))
	case 3:
		return "code" + w.pick("=~", "!~") + w.quoted(w.pick("2..", "5..", "[0-9]+", "200|999"))
	case 4:
		return "instance" + w.pick("=~", "!~") + w.quoted(w.pick("api.+", ".*", ".*tenant.*", `[^{]+`))
	case 5:
		return "value" + w.pick("=", "!=") + w.quoted(w.pick(`x",tenant="aa`, `a|b`, `.*`, `"} or {tenant="b"}`, `\`, "new\nline", "\U0001f600", "# {"))
	case 6:
		return w.pick("secret", "theirs") + w.pick("=", "!=", "=~", "!~") + w.quoted(w.pick("", ".*", ".+"))
	case 7:
		return w.pick("le", "version", "nothing") + w.pick("!=", "=~") + w.quoted(w.pick("", ".*", "0.7"))
	default:
		return w.tenantMatcher()
	}
}

func (w *writer) matchers(least int) string {
	var all []string
	for len(all) < least || w.chance(35) {
		all = append(all, w.gap()+w.matcher()+w.gap())
	}
	if len(all) > 0 && w.chance(10) {
		all = append(all, w.gap())
	}
	return strings.Join(all, ",")
}

func (w *writer) metric() string {
	if w.chance(80) {
		return w.pick("up", "memory_bytes", "http_requests_total", "latency_seconds_bucket", "odd", "build_info", "job:http_requests:rate5m", "Tenants", "rpc_seconds")
	}
	return w.pick("sum", "by", "offset", "bool", "on", "only_theirs", "aaa", "zzz", "nothing")
}

// selector selects some, all or none of the asker's series, and would select more.
func (w *writer) selector() string {
	switch n := w.IntN(20); {
	case n == 0:
		return "{" + w.gap() + `__name__=~` + w.quoted(w.pick(".+", "u.*", "only.*|up", ".*_total", "aaa|zzz|odd")) + w.gap() + "}"
	case n == 1:
		return "{" + `__name__` + w.pick(`!=""`, `=~".+"`) + "," + w.matchers(1) + "}"
	case n == 2 && w.kind == "prometheus":
		return "{" + w.gap() + w.quoted(w.pick("up", "http.requests", "größe", "tenant", "only_theirs")) + w.pick("", ","+w.matchers(1)) + "}"
	case n == 3:
		return "{" + w.matchers(1) + `,__name__=` + w.quoted(w.metric()) + "}"
	case n < 10:
		return w.metric() + w.gap() + "{" + w.matchers(1) + "}"
	}
	return w.metric()
}

// after is what may follow a selector or a subquery.
func (w *writer) after() string {
	if w.chance(70) {
		return ""
	}
	s := ""
	if w.kind == "prometheus" && w.chance(50) {
		s = w.pick(" @ start()", " @ end()", fmt.Sprintf(" @ %d", w.base.Unix()-int64(w.IntN(400))), fmt.Sprintf("@%d.5", w.base.Unix()))
	}
	if w.chance(60) {
		s += " offset " + w.pick("15s", "1m", "90s", "3m")
	} else if w.kind == "prometheus" && w.chance(50) {
		s += " offset -" + w.pick("15s", "1m")
	}
	return s
}

func (w *writer) scalar(depth int) string {
	if depth <= 0 || w.chance(40) {
		return w.pick("1", "2", "-1", "0.5", "1e3", "0x1F", "time()", "pi()", "3", "+Inf")
	}
	switch w.IntN(4) {
	case 0:
		return "scalar(" + w.pick("count", "sum", "max") + "(" + w.vector(depth-1) + "))"
	case 1:
		return "(" + w.gap() + w.scalar(depth-1) + ")"
	case 2:
		return w.scalar(depth-1) + w.pick(" + ", " - ", "*", " % ") + w.scalar(depth-1)
	}
	return "scalar(" + w.vector(depth-1) + ")"
}

func (w *writer) matrix(depth int) string {
	if depth <= 0 || w.chance(70) {
		return w.selector() + w.gap() + "[" + w.pick("1m", "2m", "5m", "90s") + "]" + w.after()
	}
	return "(" + w.vector(depth-1) + ")[" + w.pick("1m", "3m", "4m") + ":" + w.pick("15s", "30s", "1m", "") + "]" + w.after()
}

func (w *writer) labelList() string {
	var names []string
	for range 1 + w.IntN(3) {
		names = append(names, w.gap()+w.pick("job", "job", "instance", "code", "tenant", "secret", "__name__", "le", "value"))
	}
	return w.gap() + "(" + strings.Join(names, ",") + ")"
}

// joined is a binary expression whose sides mostly fit together.
func (w *writer) joined(depth int) string {
	left, right := w.vector(depth-1), w.vector(depth-1)
	switch w.IntN(6) {
	case 0:
		return left + w.pick(" and ", " or ", " UNLESS ", " or ") + right
	case 1:
		return "sum by (job) (" + left + ")" + w.pick(" / ", " + ", " > bool ", " - ") + w.pick("", "on (job) ", "ignoring (tenant) ") + "count by (job) (" + right + ")"
	case 2:
		return "up * on" + w.pick("(job)", "(job,tenant)") + " group_left" + w.pick("", "(tenant)", "(secret, version)", "(version)") + " max by (job, tenant, secret, version) (build_info" + w.pick("", "{"+w.matchers(1)+"}") + ")"
	case 3:
		return left + w.pick(" > ", " + ", " * ", " == bool ", "^") + w.scalar(depth-1)
	case 4:
		return w.scalar(depth-1) + w.pick(" - ", " <= bool ", " * ") + left
	}
	return left + w.pick(" and", " unless", " or") + w.pick(" on", " ignoring") + w.labelList() + " " + right
}

// vector is an instant vector.
func (w *writer) vector(depth int) string {
	if depth <= 0 || w.chance(20) {
		return w.selector() + w.after()
	}
	v := func() string { return w.gap() + w.vector(depth-1) + w.gap() }
	switch w.IntN(17) {
	case 0, 1:
		return w.pick("rate", "increase", "max_over_time", "absent_over_time", "deriv", "count_over_time", "last_over_time", "changes") + w.gap() + "(" + w.matrix(depth-1) + ")"
	case 2:
		return w.pick("abs", "absent", "timestamp", "sort_desc", "sgn", "ceil", "sort") + "(" + v() + ")"
	case 3:
		return w.pick("sum", "MAX", "count", "group", "stddev", "min") + w.pick(" by", " without", " BY") + w.labelList() + "(" + v() + ")"
	case 4:
		return w.pick("sum", "avg", "min", "count") + "(" + v() + ")" + w.pick("", " by"+w.labelList(), " without"+w.labelList())
	case 5, 6:
		return w.pick("topk", "bottomk", "quantile") + w.pick("", " by (job) ", " without (instance) ") + "(" + w.scalar(depth-1) + "," + v() + ")"
	case 7:
		return `count_values` + w.pick("", " by (job) ", " without (tenant) ") + `(` + w.quoted(w.pick("tenant", "v", "secret")) + `, ` + v() + ")"
	case 8, 9, 10:
		return w.joined(depth)
	case 11:
		return "label_replace(" + v() + `, ` + w.quoted(w.pick("tenant", "x")) + `, "` + w.pick("$1", "aa", "") + `", ` + w.quoted(w.pick("job", "tenant", "secret")) + `, "` + w.pick("(.*)", "a(.*)") + `")`
	case 12:
		return "label_join(" + v() + `, "` + w.pick("tenant", "x") + `", ",", "tenant", "job", "secret")`
	case 13:
		return w.pick("-", "+", "--") + v()
	case 14:
		return "(" + v() + ")"
	case 15:
		return w.pick("clamp(", "clamp(") + v() + "," + w.scalar(depth-1) + "," + w.scalar(depth-1) + ")"
	}
	return "histogram_quantile(" + w.pick("0.9", w.scalar(depth-1)) + ", " + w.pick("latency_seconds_bucket", "rate(latency_seconds_bucket{"+w.matchers(1)+"}[2m])", v()) + ")"
}

// broken is what the parser or the gateway refuses, with the crowd's names in it.
func (w *writer) broken() string {
	return w.pick("up{", "sum(up", "nofunc(up)", `up{tenant="aa}`, ")", "", "{}", `{tenant=~".*"}`, `{job=~""}`, "up[5m", "up[5m:]:", `label_replace(up)`, "info(up)", `info(up, {secret=~".+"})`,
		`up{tenant="aa" or tenant="a"}`, "limitk(1, up)", `sort_by_label(up, "secret")`, "up and on() vector(1) or on(", `up{secret=~"("}`, "\x00up", "up\xff", `{"up"`, "up offset 1", "up @ 0x", "1 + up{}[5m]",
		`"`+w.tenantName()+`"`, strings.Repeat("(", 120)+"up"+strings.Repeat(")", 120), "topk(up, up)", "up * on(job) up", "http_requests_total / on(job) http_requests_total", "1 / 0", "vector(time())")
}

// settled makes expressions with f until one is worth comparing: where something is made of the few that topk picks of equals
// at each step, no answer comes twice, from any store.
func (w *writer) settled(steps bool, f func() string) string {
	for {
		expr := f()
		tree, err := w.parser.ParseExpr(expr)
		if err != nil {
			return expr
		}
		picks, many := false, steps
		parser.Inspect(tree, func(n parser.Node, path []parser.Node) error {
			switch n := n.(type) {
			case *parser.SubqueryExpr:
				many = true
			case *parser.AggregateExpr:
				picks = picks || len(path) > 0 && (n.Op == parser.TOPK || n.Op == parser.BOTTOMK) && unordered(n.Expr)
			}
			return nil
		})
		if !picks || !many {
			return expr
		}
	}
}

// unordered reports that Prometheus goes through e in another order each time.
func unordered(e parser.Expr) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.AggregateExpr:
			found = found || n.Op == parser.COUNT_VALUES
		case *parser.Call, *parser.BinaryExpr, *parser.UnaryExpr:
			found = true
		}
		return nil
	})
	return found
}

// query is any expression, text of a matrix or string type among them.
func (w *writer) query() string { return w.settled(false, w.anyQuery) }

// rangeQuery is mostly one that can be evaluated over a range.
func (w *writer) rangeQuery() string { return w.settled(true, w.anyRangeQuery) }

func (w *writer) anyQuery() string {
	switch n := w.IntN(100); {
	case n < 35:
		return w.smith.WalkInstantQuery().Pretty(0)
	case n < 40:
		return w.scalar(2)
	case n < 46:
		return w.matrix(1 + w.IntN(2))
	case n < 50:
		return w.broken()
	}
	return w.gap() + w.vector(1+w.IntN(3)) + w.gap()
}

func (w *writer) anyRangeQuery() string {
	switch n := w.IntN(100); {
	case n < 35:
		return w.smith.WalkRangeQuery().Pretty(0)
	case n < 40:
		return w.scalar(2)
	case n < 43:
		return w.broken()
	}
	return w.vector(1 + w.IntN(3))
}

// match is a value of match[].
func (w *writer) match() string {
	switch n := w.IntN(20); {
	case n < 3:
		return w.gap() + "{" + w.gap() + "}"
	case n < 5:
		return "{" + w.tenantMatcher() + "}"
	case n == 5:
		return w.pick("", "up[5m]", "sum(up)", "up{", `{tenant=~"("}`, "up or up", "1", `{__name__="up"} # {}`)
	case n == 6:
		return "{" + w.matcher() + "}"
	}
	return w.selector()
}
