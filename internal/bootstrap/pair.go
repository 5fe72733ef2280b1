package bootstrap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"m3gateway/internal/m3"
)

// PastLimit is one line of the coordinators' downsample.bufferPastLimits: from that resolution on, up to the next line's, a
// sample may be that late to be aggregated.
type PastLimit struct{ Resolution, BufferPast time.Duration }

// PastLimits is that list, as the coordinators read it: in order.
type PastLimits []PastLimit

// DefaultPastLimits is what a coordinator without downsample.bufferPastLimits does.
func DefaultPastLimits() PastLimits {
	return PastLimits{{0, 15 * time.Second}, {30 * time.Second, 30 * time.Second}, {time.Minute, time.Minute}, {2 * time.Minute, 2 * time.Minute}}
}

// For is the limit for a resolution. The list must not be empty.
func (l PastLimits) For(resolution time.Duration) time.Duration {
	past := l[0].BufferPast
	for _, limit := range l {
		if resolution < limit.Resolution {
			break
		}
		past = limit.BufferPast
	}
	return past
}

// pairError says what is wrong with the pair of a downsampler's limit and the bufferPast of a namespace that it writes to. A
// coordinator holds a window open for limit after its end, then writes one point with the end's timestamp. That point is then
// older than limit, by up to a resolution and by as long as the flush takes; older than bufferPast, the database nodes drop it
// and nobody is told. Measured: 5m under 10m works, 10m under 10m loses every point.
func pairError(id string, resolution, limit, bufferPast time.Duration) error {
	if limit+max(resolution, time.Minute) < bufferPast {
		return nil
	}
	return fmt.Errorf("namespace %s: the coordinators aggregate samples up to %v late (downsample.bufferPastLimits) and write the result after that, "+
		"but the namespace takes nothing older than %v (buffer_past): its points would be lost without an error; "+
		"lower the limit below %v, or create the namespace with a buffer_past over %v; 5m under 10m works",
		id, short(limit), short(bufferPast), short(max(bufferPast-max(resolution, time.Minute), 0)), short(limit+max(resolution, time.Minute)))
}

// CheckPair checks the coordinators' limits against the wanted namespaces. warnings are what works but is seldom meant.
func (c *Config) CheckPair(limits PastLimits) (warnings []string, err error) {
	var errs []error
	for _, n := range c.namespaces() {
		if n.Raw() {
			continue
		}
		limit := limits.For(n.Resolution)
		errs = append(errs, pairError(n.id, n.Resolution, limit, n.BufferPast))
		if limit < 2*time.Minute {
			warnings = append(warnings, fmt.Sprintf("namespace %s: the coordinators refuse to aggregate samples over %v late, though they store them raw; "+
				"set downsample.bufferPastLimits to 5m, which a buffer_past of 10m allows", n.id, short(limit)))
		}
	}
	return warnings, errors.Join(errs...)
}

// checkRegistered checks the limits against the aggregated namespaces that the cluster has and the file does not name.
func (c *Config) checkRegistered(limits PastLimits, have []m3.Namespace) error {
	var errs []error
	wanted := map[string]bool{}
	for _, n := range c.namespaces() {
		wanted[n.id] = true
	}
	for _, n := range have {
		if n.Aggregated && !wanted[n.ID] {
			errs = append(errs, pairError(n.ID, n.Resolution, limits.For(n.Resolution), n.BufferPast))
		}
	}
	return errors.Join(errs...)
}

// short is d without units of 0: 10m for 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if t, ok := strings.CutSuffix(s, "m0s"); ok {
		s = t + "m"
	}
	if t, ok := strings.CutSuffix(s, "h0m"); ok {
		s = t + "h"
	}
	return s
}
