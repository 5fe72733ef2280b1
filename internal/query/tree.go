package query

import (
	"strconv"

	"github.com/prometheus/prometheus/promql/parser"
)

// Tree returns the syntax tree of expr, which nothing is added to, as Prometheus' parse_query answers it: what json.Marshal
// takes. An *Error is the client's mistake: expr is held to the same limits as an expression that runs.
func (c *Confiner) Tree(expr string) (any, error) {
	tree, err := c.read(expr)
	if err != nil {
		return nil, err
	}
	return c.branch(tree)
}

// object is a node of the tree.
type object map[string]any

// branch is the tree below e; nil of no expression.
func (c *Confiner) branch(e parser.Expr) (any, error) {
	switch n := e.(type) {
	case nil:
		return nil, nil
	case *parser.AggregateExpr:
		return c.node(object{"type": "aggregation", "op": n.Op.String(), "grouping": list(n.Grouping), "without": n.Without},
			"expr", n.Expr, "param", n.Param)
	case *parser.BinaryExpr:
		return c.node(object{"type": "binaryExpr", "op": n.Op.String(), "matching": matching(n.VectorMatching), "bool": n.ReturnBool},
			"lhs", n.LHS, "rhs", n.RHS)
	case *parser.Call:
		return c.callTree(n)
	case *parser.MatrixSelector:
		vs, ok := n.VectorSelector.(*parser.VectorSelector)
		if !ok {
			return nil, unsupported("a range over something other than a selector")
		}
		if n.RangeExpr != nil {
			return nil, unsupported("a duration expression")
		}
		o, err := selectorTree("matrixSelector", vs)
		if err == nil {
			o["range"], o["rangeExpr"] = n.Range.Milliseconds(), nil
		}
		return o, err
	case *parser.SubqueryExpr:
		if n.RangeExpr != nil || n.StepExpr != nil || n.OriginalOffsetExpr != nil {
			return nil, unsupported("a duration expression")
		}
		return c.node(object{
			"type": "subquery", "range": n.Range.Milliseconds(), "rangeExpr": nil, "offset": n.OriginalOffset.Milliseconds(), "offsetExpr": nil,
			"step": n.Step.Milliseconds(), "stepExpr": nil, "timestamp": n.Timestamp, "startOrEnd": startOrEnd(n.StartOrEnd),
		}, "expr", n.Expr)
	case *parser.NumberLiteral:
		return object{"type": "numberLiteral", "val": strconv.FormatFloat(n.Val, 'f', -1, 64)}, nil
	case *parser.ParenExpr:
		return c.node(object{"type": "parenExpr"}, "expr", n.Expr)
	case *parser.StringLiteral:
		return object{"type": "stringLiteral", "val": n.Val}, nil
	case *parser.UnaryExpr:
		return c.node(object{"type": "unaryExpr", "op": n.Op.String()}, "expr", n.Expr)
	case *parser.VectorSelector:
		return selectorTree("vectorSelector", n)
	}
	return nil, unsupported("this kind of expression")
}

// node adds to o its children: names and expressions in turn.
func (c *Confiner) node(o object, children ...any) (any, error) {
	for i := 0; i < len(children); i += 2 {
		child, _ := children[i+1].(parser.Expr)
		sub, err := c.branch(child)
		if err != nil {
			return nil, err
		}
		o[children[i].(string)] = sub
	}
	return o, nil
}

func (c *Confiner) callTree(n *parser.Call) (any, error) {
	if n.Func == nil {
		return nil, unsupported("this function")
	}
	args := make([]any, len(n.Args))
	for i, a := range n.Args {
		var err error
		if args[i], err = c.branch(a); err != nil {
			return nil, err
		}
	}
	name := n.Func.Name
	if c.dialect == PromQL231 && name == smoothingName3 {
		name = smoothingName231
	}
	return object{
		"type": "call", "args": args,
		"func": object{"name": name, "argTypes": n.Func.ArgTypes, "variadic": n.Func.Variadic, "returnType": n.Func.ReturnType},
	}, nil
}

func selectorTree(kind string, n *parser.VectorSelector) (object, error) {
	if n.OriginalOffsetExpr != nil {
		return nil, unsupported("a duration expression")
	}
	matchers := make([]object, len(n.LabelMatchers))
	for i, m := range n.LabelMatchers {
		matchers[i] = object{"name": m.Name, "value": m.Value, "type": m.Type.String()}
	}
	return object{
		"type": kind, "name": n.Name, "offset": n.OriginalOffset.Milliseconds(), "offsetExpr": nil, "matchers": matchers, "timestamp": n.Timestamp,
		"startOrEnd": startOrEnd(n.StartOrEnd), "anchored": n.Anchored, "smoothed": n.Smoothed,
	}, nil
}

func matching(m *parser.VectorMatching) any {
	if m == nil {
		return nil
	}
	return object{
		"card": m.Card.String(), "labels": list(m.MatchingLabels), "on": m.On, "include": list(m.Include),
		"fillValues": object{"lhs": m.FillValues.LHS, "rhs": m.FillValues.RHS},
	}
}

func startOrEnd(t parser.ItemType) any {
	if t == 0 {
		return nil
	}
	return t.String()
}

// list is l, which JSON does not write as null.
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}
