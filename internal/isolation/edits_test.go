//go:build e2e || mutants

package isolation

// edit puts mutants into one place of a file: old is there exactly once, and text takes its place. In text, OLD is what was
// there, and mutated("…") is whether the mutant of that name is wanted.
type edit struct{ file, old, text string }

// noSecondLook is the mutant that all mutants need which the second look would refuse.
const noSecondLook = "no second look at what was printed"

// edits break one confinement each. The mutants of print.go, and those whose name says so, print a selector without the
// tenant's matcher: the gateway parses what it has printed once more and refuses, so that they give nothing away until that
// second look is off too.
func edits() []edit {
	const (
		printer = "internal/query/print.go"
		queries = "internal/query/query.go"
		scopes  = "internal/query/scope.go"
		reads   = "internal/query/remoteread.go"
		lanes   = "internal/gateway/lane.go"
		read    = "internal/gateway/read.go"
		local   = "internal/gateway/local.go"
		route   = "internal/gateway/route.go"
		params  = "internal/gateway/params.go"
		meta    = "internal/gateway/meta.go"
		pass    = "internal/gateway/pass.go"
	)
	return []edit{
		{queries, `if err := c.verify(scope, q.Text, p.selectors); err != nil {`, `if err := c.verify(scope, q.Text, p.selectors); err != nil && !mutated("` + noSecondLook + `") {`},
		{queries, `if err := c.verifySelector(scope, confined, len(ms)); err != nil {`, `if err := c.verifySelector(scope, confined, len(ms)); err != nil && !mutated("` + noSecondLook + `") {`},

		{printer, "return p.parens(n.Param, n.Expr)\n\t}\n\treturn p.parens(n.Expr)", `return p.list(func(i int) bool {
			return i == 0 && mutated("the parameter of an aggregation is unconfined") || i == 1 && mutated("what is aggregated is unconfined")
		}, n.Param, n.Expr)
	}
	return p.list(func(int) bool { return mutated("what is aggregated is unconfined") }, n.Expr)`},
		{printer, `if err := p.expr(n.LHS); err != nil {`, `if err := p.either(mutated("the left side of a binary operator is unconfined"), n.LHS); err != nil {`},
		{printer, `return p.expr(n.RHS)`, `return p.either(mutated("the right side of a binary operator is unconfined"), n.RHS)`},
		{printer, `return p.parens(n.Args...)`, `return p.list(func(i int) bool {
		return i == 0 && mutated("the first argument of a function is unconfined") || i > 0 && mutated("further arguments of a function are unconfined")
	}, n.Args...)`},
		{printer, `if err := p.expr(n.Expr); err != nil {`, `if err := p.either(mutated("a subquery is unconfined"), n.Expr); err != nil {`},
		{printer, "p.text(n.Op.String())\n\t\treturn p.expr(n.Expr)", "p.text(n.Op.String())\n\t\treturn p.either(mutated(\"what has a sign is unconfined\"), n.Expr)"},
		{printer, `case *parser.ParenExpr:`, "OLD\n\t\tif mutated(\"what is in parentheses is unconfined\") {\n\t\t\treturn p.list(func(int) bool { return true }, n.Expr)\n\t\t}"},
		{printer, `if err := p.selector(vs); err != nil {`, `if err := p.without(mutated("a range is unconfined"), func() error { return p.selector(vs) }); err != nil {`},
		{printer, `if err := p.selector(n); err != nil {`, `moved := n.OriginalOffset != 0 || n.Timestamp != nil || n.StartOrEnd != 0
		if err := p.without(moved && mutated("a selector with an offset or a time of its own is unconfined"), func() error { return p.selector(n) }); err != nil {`},
		{printer, `return p.braces(ms, n.Name != "")`, `return p.without(n.Name == "" && mutated("a selector without a name before its braces is unconfined"), func() error { return p.braces(ms, n.Name != "") })`},
		{printer, "if p.scope.all {\n\t\tif len(ms) > 0 {", `for _, m := range ms {
		if !p.scope.all && m.Name == p.scope.matcher.Name && (mutated("the client's own matcher on the tenant replaces ours") ||
			m.Type == labels.MatchRegexp && mutated("the client's own pattern for the tenant replaces ours") ||
			m.Type == labels.MatchNotEqual && mutated("the client's own exclusion of a tenant replaces ours")) {
			p.buf[len(p.buf)-1] = '}'
			return nil
		}
	}
	OLD`},

		{queries, `if scope.all && len(ms) == 0 {`, `if (scope.all || mutated("match[]={} is everything")) && len(ms) == 0 {`},
		{queries, "if len(matches) == 0 {\n\t\tmatches = []string{\"{}\"}", `if len(matches) == 0 && mutated("no match[] is everything") {
		return []string{everySeries}, nil
	}
	OLD`},
		{queries, `if err := p.braces(ms, false); err != nil {`, `if err := p.without(len(out) > 0 && mutated("a further match[] is printed unconfined"), func() error { return p.braces(ms, false) }); err != nil {`},
		{queries, `if q, ok := c.memo.find(scope.text, expr); ok {`, `if mutated("a query is remembered without its tenant") {
		if v, ok := remembered.Load(key{c, expr}); ok {
			return v.(Query), nil
		}
		q, err := c.confine(scope, expr)
		if err == nil {
			remembered.Store(key{c, expr}, q)
		}
		return q, err
	}
	if mutations.Load() != nil {
		return c.confine(scope, expr) // what was remembered is of no mutant
	}
	OLD`},

		{reads, `if !scope.all {`, `if !scope.all && !(len(q.Matchers) == 0 && mutated("a remote read without matchers is unconfined")) {`},
		{reads, `confined, err := c.readQuery(scope, q, &regexes)`, `use := scope
		use.all = use.all || len(out.Queries) > 0 && mutated("a further query of a remote read is unconfined")
		confined, err := c.readQuery(use, q, &regexes)`},
		{reads, "for _, m := range q.Matchers {", `OLD
		scope.all = scope.all || m.Name == scope.matcher.Name && mutated("a remote read's own matcher on the tenant replaces ours")`},

		{scopes, `values[i] = regexp.QuoteMeta(v)`, `if OLD; mutated("several tenants are a pattern of unescaped names") {
			values[i] = v
		}`},
		{scopes, `return Matcher{Name: s.Label, Value: s.Tenants[0]}, nil`, `if mutated("one tenant is a prefix") {
			return Matcher{Name: s.Label, Value: regexp.QuoteMeta(s.Tenants[0]) + ".*", Regexp: true}, nil
		}
		OLD`},

		{lanes, `case l.narrow[named[0]] != nil:`, `case len(l.grant.Tenants) > 1 && mutated("X-Tenant does not narrow"):
		return l, nil
	OLD`},
		{lanes, "one := readLane(s, g)\n\t\tone.operator", `if mutated("X-Tenant does not narrow an operator") {
			return l, nil
		}
		OLD`},
		{lanes, `return nil, &refusal{status: 403, kind: "forbidden", text: "X-Tenant names a tenant that this user does not have"}`, `if mutated("X-Tenant is believed") {
		g := l.grant
		g.Tenants = named
		one := readLane(s, g)
		one.counted = l.counted
		return one, nil
	}
	OLD`},
		{meta, `return h.meta(w, r, x, x.state.paths.LabelValues(name), query.Names)`, `if name == x.lane.scope.Label && mutated("the values of the tenant label are unconfined") {
		free := *x.lane
		free.scope.All = true
		x.lane = &free
	}
	OLD`},
		{local, `q, err := x.expression(in)`, `if mutated("exemplars are unconfined") {
		free := *x.lane
		free.scope.All = true
		x.lane = &free
	}
	OLD`},

		{route, `if err != nil && (begun || status == statusClientGone) {`, `if err != nil && (begun || status == statusClientGone && !mutated("shape: a request that breaks off is answered")) {`},
		{params, `if !slices.Contains(known, name) {`, `if !slices.Contains(known, name) && !mutated("shape: an unknown parameter is ignored") {`},
		{params, `if len(values) > 1 && name != "match[]" {`, `if len(values) > 1 && name != "match[]" && !mutated("shape: of two values the first counts") {`},
		{params, `if r.ContentLength != 0 {`, `if r.ContentLength != 0 && !mutated("shape: the body of a GET is ignored") {`},
		{params, `if x.state.Store.Kind == m3.KindPrometheus {`, `if x.state.Store.Kind == m3.KindPrometheus || mutated("shape: M3 gets the limit") {`},
		{params, `out.Set("timeout", m3.TimeoutParam(min(d, x.state.ReadTimeout, x.lane.reads.Timeout)))`, `if OLD; mutated("shape: the timeout travels as it is") {
		out.Set("timeout", v)
	}`},
		{lanes, `case len(named) > 1:`, `case len(named) > 1 && !mutated("shape: of two X-Tenant the first counts"):`},
		{lanes, `if s.Store.Kind == m3.KindM3 && !g.All {`, `if s.Store.Kind == m3.KindM3 && !g.All && !mutated("shape: M3's own lock is left out") {`},
		{pass, `ans, err := h.ask(r.Context(), x, req)`, `if mutated("shape: a header of the client travels") {
		for _, name := range []string{"M3-Engine", "X-Scope-Orgid", "X-Forwarded-For", "Timeout"} {
			if v := r.Header[name]; v != nil {
				req.Header[name] = v
			}
		}
	}
	OLD`},
		{read, `if r.URL.RawQuery != "" {`, `if r.URL.RawQuery != "" && !mutated("shape: the parameters of a remote read are ignored") {`},
	}
}
