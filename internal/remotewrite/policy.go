package remotewrite

import (
	"fmt"
	"slices"
	"strings"
)

// Reason says why a sample, or the series it belongs to, was not kept.
type Reason uint8

const (
	TooOld            Reason = iota // its timestamp lies before the window
	TooNew                          // its timestamp lies after the window
	InvalidUTF8                     // a label's value is no UTF-8 text
	InvalidLabelName                // a label's name is empty or has a forbidden character
	InvalidMetricName               // __name__ is absent, empty or has a forbidden character
	DuplicateLabel                  // one label name twice in a series
	LabelTooLong                    // a label's name or value is over the limit
	TooManyLabels                   // the series has more labels than the limit
	ReservedLabel                   // a label that the store keeps for itself
	InvalidSymbol                   // a label refers to a symbol that is not there (2.0)
	InvalidHistogram                // a native histogram that is none, or has the label le, and cannot be made classic
	ForeignTenant                   // the client named a tenant that is not the user's
	NoTenant                        // the client named none of the user's several tenants
	ActiveSeries                    // Order.Admit: the tenant has too many series
	NewSeries                       // Order.Admit: too many of them are new
	NativeHistogram                 // the store has no native histograms
	Exemplar                        // the store has no exemplars
	InvalidExemplar                 // an exemplar that is no text or lies outside the window, or whose series lost all its samples
	Metadata                        // metadata that the store has no place for, that is no text, or whose series does not travel (2.0)
	reasons
)

// Reasons is the number of reasons; Reason(0) to Reason(Reasons-1) are all of them.
const Reasons = int(reasons)

var reasonNames = [Reasons]string{
	TooOld: "too_old", TooNew: "too_new", InvalidUTF8: "invalid_utf8", InvalidLabelName: "invalid_label_name",
	InvalidMetricName: "invalid_metric_name", DuplicateLabel: "duplicate_label", LabelTooLong: "label_too_long",
	TooManyLabels: "too_many_labels", ReservedLabel: "reserved_label", ForeignTenant: "foreign_tenant", NoTenant: "no_tenant",
	InvalidSymbol: "invalid_symbol", InvalidHistogram: "invalid_histogram", NativeHistogram: "native_histogram", Exemplar: "exemplar",
	InvalidExemplar: "invalid_exemplar", Metadata: "metadata", ActiveSeries: "active_series", NewSeries: "new_series",
}

// String is the reason as metrics and answers spell it.
func (r Reason) String() string { return reasonNames[r] }

// Refused reports whether the sender must be told: its sample is lost and it is at fault, or can mend it. What the store
// cannot hold at all (native histograms, exemplars, metadata) is counted, not refused: a sender with those switched on
// would else be told so for every batch, for ever, though its samples were stored.
func (r Reason) Refused() bool { return r < NativeHistogram }

// Mode says what happens to a tenant label that the client itself sent.
type Mode uint8

const (
	Override Mode = iota // it is replaced
	Reject               // the whole request is refused with *ForeignLabelError
	Allow                // it chooses among the policy's tenants; another one drops the series
)

// Label is a name and a value.
type Label struct{ Name, Value string }

// TenantLabels are the labels enforced on one tenant's samples, the tenant label among them.
type TenantLabels struct {
	Tenant string
	Labels []Label
}

// Limits bound what one series may carry.
type Limits struct {
	NameBytes  int // longest label name
	ValueBytes int // longest label value
	Labels     int // most labels, the enforced ones not counted
}

// Rules is what the store demands.
type Rules struct {
	Limits Limits
	// UTF8Names admits any UTF-8 text as a label or metric name; else [a-zA-Z_][a-zA-Z0-9_]*, and : in metric names.
	UTF8Names bool
	// Escape brings other names to that form, by Prometheus' U__ scheme, where else their series are dropped.
	Escape bool
	// Reserved are label-name prefixes that the store keeps for itself.
	Reserved []string
	// Histograms and Exemplars keep native histograms and exemplars.
	Histograms, Exemplars bool
	// Metadata keeps metadata. That of 1.0 belongs to a metric's name alone, whoever's series have it.
	Metadata bool
	// Classic makes each native histogram the series of a classic one, where Histograms does not keep it.
	Classic bool
}

// Policy is what one user's batch is confined to. It is immutable and safe for concurrent use.
type Policy struct {
	mode      Mode
	rules     Rules
	label     string
	names     []string // every enforced label name of every tenant, sorted
	nameBytes [][]byte // the same, to be compared with the wire
	tenants   []tenantFields
	byName    map[string]int // tenant -> index in tenants
	symbols   [][]byte       // for 2.0: the enforced names, then their values; the number of a symbol is its index plus 1
	single    bool           // each tenant has one enforced label, the tenant label
	chosen    int            // the tenant of series that name none; -1: such series are refused
}

// tenantFields holds, for each of Policy.names, the label as a field of TimeSeries, or nil where this tenant leaves it alone.
type tenantFields struct {
	fields [][]byte
	values []uint32 // the symbols of the values; of no meaning where the field is nil
	size   int
	hash   uint64 // of the tenant's name
}

// NewPolicy is the policy that sets label to the one tenant of tenants. In mode Allow there may be several: then each series
// must name its own.
func NewPolicy(label string, mode Mode, rules Rules, tenants []TenantLabels) (*Policy, error) {
	p := &Policy{mode: mode, rules: rules, label: label, byName: map[string]int{}}
	if len(tenants) == 0 || len(tenants) > 1 && mode != Allow {
		return nil, fmt.Errorf("a write policy needs one tenant; %d given", len(tenants))
	}
	if len(tenants) > 1 {
		p.chosen = -1
	}
	for _, t := range tenants {
		for _, l := range t.Labels {
			if !slices.Contains(p.names, l.Name) {
				p.names = append(p.names, l.Name)
			}
		}
	}
	slices.Sort(p.names)
	for _, name := range p.names {
		p.nameBytes = append(p.nameBytes, []byte(name))
	}
	if len(p.names) > 200 {
		return nil, fmt.Errorf("at most 200 enforced labels; %d are set", len(p.names))
	}
	p.single = len(p.names) == 1
	p.symbols = slices.Clone(p.nameBytes)
	for i, t := range tenants {
		f := tenantFields{fields: make([][]byte, len(p.names)), values: make([]uint32, len(p.names)), hash: textHash(hashSeed, []byte(t.Tenant))}
		own := false
		for _, l := range t.Labels {
			e := appendLabel(nil, l.Name, l.Value)
			at := slices.Index(p.names, l.Name)
			p.symbols = append(p.symbols, []byte(l.Value))
			f.fields[at], f.values[at] = e, uint32(len(p.symbols))
			f.size += len(e)
			own = own || l.Name == label && l.Value == t.Tenant
		}
		if !own {
			return nil, fmt.Errorf("the labels of tenant %q lack %s=%q", t.Tenant, label, t.Tenant)
		}
		if _, twice := p.byName[t.Tenant]; twice {
			return nil, fmt.Errorf("tenant %q twice in a policy", t.Tenant)
		}
		p.byName[t.Tenant] = i
		p.tenants = append(p.tenants, f)
	}
	return p, nil
}

// appendLabel appends l as a Label field of TimeSeries.
func appendLabel[T string | []byte](dst []byte, name, value T) []byte {
	n := 1 + uvarintLen(len(name)) + len(name) + 1 + uvarintLen(len(value)) + len(value)
	dst = appendTagged(dst, 0x0a, n)
	dst = append(appendTagged(dst, 0x0a, len(name)), name...)
	return append(appendTagged(dst, 0x12, len(value)), value...)
}

// Example is one dropped series or sample of a reason.
type Example struct {
	Series    string // the labels as sent, at most exampleBytes long
	Timestamp int64  // Unix ms; 0 where the whole series was dropped
}

// exampleBytes bounds the text of an example, so that an answer stays one short line.
const exampleBytes = 160

// Result counts what became of one request.
type Result struct {
	Series     int // series kept
	Samples    int // float samples kept
	Histograms int // native histogram samples kept
	Exemplars  int // exemplars kept
	Apart      int // exemplars to be kept of series without a sample, which a request of 2.0 has no place for: see Order.Apart
	Metadata   int // entries of 1.0 metadata kept
	Unknown    int // fields that are not part of the protocol, left out
	Empty      int // series without anything to store, left out
	Dropped    [Reasons]int
	Examples   [Reasons]Example // the first of each reason
	// Tenants counts the samples and histograms kept by index in the policy's tenants.
	Tenants []int
}

// Refused is the number of samples and histograms that the sender must be told of.
func (r *Result) Refused() int {
	n := 0
	for i, c := range r.Dropped {
		if Reason(i).Refused() {
			n += c
		}
	}
	return n
}

// SyntaxError is a body that is no write request.
type SyntaxError struct {
	Offset  int // in the decoded body
	Problem string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("the decoded body is no write request: %s at byte %d", e.Problem, e.Offset)
}

// ForeignLabelError is a batch that mode Reject refuses.
type ForeignLabelError struct{ Label, Series string }

func (e *ForeignLabelError) Error() string {
	return fmt.Sprintf("label %q is set by the gateway and must not be sent; drop it with write_relabel_configs (action: labeldrop); example %s",
		e.Label, strings.ToValidUTF8(e.Series, "\uFFFD"))
}
