package query

import (
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// Dialect is the PromQL that the store parses.
type Dialect int

const (
	// PromQL231 is the language of Prometheus 2.31, without the features that release keeps behind flags: kind m3.
	PromQL231 Dialect = iota
	// PromQL3 is the language of Prometheus 3 with its default flags: kind prometheus.
	PromQL3
)

// Aggregators are an allow-list for both dialects: limitk and limit_ratio are experimental in Prometheus 3.
var aggregators = map[parser.ItemType]bool{
	parser.AVG: true, parser.BOTTOMK: true, parser.COUNT: true, parser.COUNT_VALUES: true, parser.GROUP: true,
	parser.MAX: true, parser.MIN: true, parser.QUANTILE: true, parser.STDDEV: true, parser.STDVAR: true,
	parser.SUM: true, parser.TOPK: true,
}

// binaryOps is the allow-list of binary operators: true if Prometheus 2.31 has it.
var binaryOps = map[parser.ItemType]bool{
	parser.ADD: true, parser.ATAN2: true, parser.DIV: true, parser.EQLC: true, parser.GTE: true, parser.GTR: true,
	parser.LAND: true, parser.LOR: true, parser.LSS: true, parser.LTE: true, parser.LUNLESS: true, parser.MOD: true,
	parser.MUL: true, parser.NEQ: true, parser.POW: true, parser.SUB: true,
	parser.TRIM_LOWER: false, parser.TRIM_UPPER: false,
}

// Prometheus 3 renamed one function of 2.31. A PromQL231 query is parsed under the new name and sent under the old.
const (
	smoothingName231 = "holt_winters"
	smoothingName3   = "double_exponential_smoothing"
)

// functions is the allow-list of functions: true if Prometheus 2.31 has it, by this name. Functions that are
// experimental in Prometheus 3 are missing, and so is every function that reads series it was not given (info).
var functions = map[string]bool{
	"abs": true, "absent": true, "absent_over_time": true, "acos": true, "acosh": true, "asin": true, "asinh": true,
	"atan": true, "atanh": true, "avg_over_time": true, "ceil": true, "changes": true, "clamp": true,
	"clamp_max": true, "clamp_min": true, "cos": true, "cosh": true, "count_over_time": true, "day_of_month": true,
	"day_of_week": true, "days_in_month": true, "deg": true, "delta": true, "deriv": true, "exp": true, "floor": true,
	"histogram_quantile": true, "hour": true, "idelta": true, "increase": true, "irate": true, "label_join": true,
	"label_replace": true, "last_over_time": true, "ln": true, "log10": true, "log2": true, "max_over_time": true,
	"min_over_time": true, "minute": true, "month": true, "pi": true, "predict_linear": true,
	"present_over_time": true, "quantile_over_time": true, "rad": true, "rate": true, "resets": true, "round": true,
	"scalar": true, "sgn": true, "sin": true, "sinh": true, "sort": true, "sort_desc": true, "sqrt": true,
	"stddev_over_time": true, "stdvar_over_time": true, "sum_over_time": true, "tan": true, "tanh": true,
	"time": true, "timestamp": true, "vector": true, "year": true,

	"day_of_year": false, "first_over_time": false, "histogram_avg": false, "histogram_count": false,
	"histogram_fraction": false, "histogram_stddev": false, "histogram_stdvar": false, "histogram_sum": false,
}

// functionName returns the name under which the store knows a function of the parser.
func (d Dialect) functionName(name string) (string, error) {
	if d == PromQL231 && name == smoothingName3 {
		return smoothingName231, nil
	}
	in231, known := functions[name]
	if !known || d == PromQL231 && !in231 {
		return "", unsupported("function " + name + "()")
	}
	return name, nil
}

// newParser returns the parser for d. For PromQL231 it understands more than the store does, so that the refusal can
// name the construct; the printer is what refuses.
func (d Dialect) newParser() parser.Parser {
	more := d == PromQL231
	return parser.NewParser(parser.Options{
		EnableExperimentalFunctions:  more,
		ExperimentalDurationExpr:     more,
		EnableExtendedRangeSelectors: more,
		EnableBinopFillModifiers:     more,
	})
}

// ValidLabelName reports whether name may stand in the path /label/{name}/values: [a-zA-Z_][a-zA-Z0-9_]* in both
// dialects, because Prometheus 3 takes its other names there in the U__ escaping, which is of that form.
func ValidLabelName(_ Dialect, name string) bool { return classicName(name) }

// classicName reports whether s is [a-zA-Z_][a-zA-Z0-9_]*.
func classicName(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b == '_', 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z':
		case '0' <= b && b <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// bareGroupingName reports whether the classic name s may stand unquoted in by, without, on, ignoring and group_*.
// Both grammars read three words otherwise there, in any case.
func bareGroupingName(s string) bool {
	return !strings.EqualFold(s, "without") && !strings.EqualFold(s, "inf") && !strings.EqualFold(s, "nan")
}
