package remotewrite

// Protocol is a version of remote write.
type Protocol uint8

const (
	V1 Protocol = iota // prometheus.WriteRequest
	V2                 // io.prometheus.write.v2.Request
)

// Order says how a request is to be confined, and what is to come out.
type Order struct {
	Proto  Protocol // of the request
	Out    Protocol // of what comes out; V2 is not for policies that escape names or make histograms classic
	Policy *Policy
	// MinT and MaxT are the window, both ends included, in Unix milliseconds.
	MinT, MaxT int64
	// Limit is the most bytes of the confined request before it is encoded; one more is ErrTooLong. References of 2.0 to
	// long symbols can make much of little.
	Limit int
	// Plain makes a snappy block of literals: no search for repeats.
	Plain bool
	// Apart leaves out all but the exemplars that Result.Apart counted when the same request came out in 2.0. Out must be V1; of the
	// Result, Series and Exemplars are of use.
	Apart bool
	// Admit, unless it is nil, is asked for each series with something to keep, before that is kept: if not, the series is dropped
	// for the reason. tenant is its index in the policy's, id its identity: a hash over Seed of the labels that the client gave, in
	// any order, but for those that the gateway sets. It may be asked twice for one series.
	Admit func(tenant int, id uint64) (Reason, bool)
	Seed  uint64
}
