package proxy

import (
	"context"
	"fmt"
	"sync"
)

// Part is what one member gets of a batch.
type Part struct {
	// Number is the part's, as Split.Part says.
	Number int
	// Body is the part's. Send takes over one reference, whatever it returns.
	Body *Payload
	// Samples is how many it carries.
	Samples int
}

// Verdict is what an answer means for the samples of a part. A greater one is worse.
type Verdict uint8

const (
	// Acknowledged: the store holds them.
	Acknowledged Verdict = iota
	// Refused: the store has judged them, and would judge them so again.
	Refused
	// Undecided: nobody has taken or judged them; they may be sent again.
	Undecided
)

// Outcome is what became of a batch.
type Outcome struct {
	// Verdict is the worst of all parts: Acknowledged only if the store holds every sample.
	Verdict Verdict
	// Worst is the index in Parts of the first part with that verdict.
	Worst int
	// Acknowledged is how many samples the store holds.
	Acknowledged int
	// Parts are in the order of what was sent.
	Parts []PartOutcome
}

// PartOutcome is what became of a part.
type PartOutcome struct {
	Verdict  Verdict
	Samples  int
	Member   string // that answered; "" for none
	Attempts int    // how many members were tried
	Err      error  // why there is no answer; an *Error
}

// Send sends the parts of a batch, each to its member by the split that made them, all at once, and joins what comes back. r is
// what they have in common: its Body and Key are not used, and a part may come to another member as in Do, marked with
// r.Elsewhere. judge is called once for each part that is answered, by its index, perhaps at the same time as for others; it
// reads what it needs of the answer's body, which it must not close. A part that failed does not end the others: what they
// bring is stored, and a sender that repeats the batch does no harm.
func (p *Pool) Send(ctx context.Context, r *Request, s *Split, parts []Part, judge func(part int, a *Answer) Verdict) Outcome {
	out := Outcome{Parts: make([]PartOutcome, len(parts))}
	if s.Parts() == 0 {
		for i := range parts {
			parts[i].Body.Drop()
			out.Parts[i] = PartOutcome{Verdict: Undecided, Samples: parts[i].Samples, Err: errNoMember()}
		}
		out.Verdict = Undecided
		return out
	}
	send := func(i int) {
		one := *r
		one.Body, one.part, one.Key = parts[i].Body, s.members[parts[i].Number], ""
		out.Parts[i] = p.sendPart(ctx, &one, parts[i].Samples, func(a *Answer) Verdict { return judge(i, a) })
	}
	if len(parts) == 1 {
		send(0)
	} else {
		var all sync.WaitGroup
		for i := range parts {
			all.Go(func() { send(i) })
		}
		all.Wait()
	}
	for i, o := range out.Parts {
		if o.Verdict > out.Verdict {
			out.Verdict, out.Worst = o.Verdict, i
		}
		if o.Verdict == Acknowledged {
			out.Acknowledged += o.Samples
		}
	}
	return out
}

func (p *Pool) sendPart(ctx context.Context, r *Request, samples int, judge func(*Answer) Verdict) PartOutcome {
	a, err := p.Do(ctx, r)
	if err != nil {
		return PartOutcome{Verdict: Undecided, Samples: samples, Err: err}
	}
	defer a.Body.Close()
	return PartOutcome{Verdict: judge(a), Samples: samples, Member: a.Member, Attempts: a.Attempts}
}

// String names the verdict in logs.
func (v Verdict) String() string {
	switch v {
	case Acknowledged:
		return "acknowledged"
	case Refused:
		return "refused"
	case Undecided:
		return "undecided"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}
