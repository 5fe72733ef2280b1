package gateway

import (
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"m3gateway/internal/m3"
)

// maxForm is the most bytes of a read's parameters, in the body and in the URL each.
const maxForm = 1 << 20

// params reads a read request's parameters from the URL and, for POST, from a urlencoded body. Only the known names may
// appear, and each at most once, but for match[].
func (h *Handler) params(r *http.Request, x *exchange, known ...string) (url.Values, error) {
	if len(r.URL.RawQuery) > maxForm {
		return nil, badRequest("the URL's parameters are over the limit of %d bytes", maxForm)
	}
	all, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the URL's parameters are not urlencoded")
	}
	form, err := h.form(r, x)
	if err != nil {
		return nil, err
	}
	for name, values := range form {
		all[name] = append(all[name], values...)
	}
	for name, values := range all {
		if !slices.Contains(known, name) {
			return nil, badRequest("unknown parameter %q; this route takes %s", oneLine(name, 60), strings.Join(known, ", "))
		}
		if len(values) > 1 && name != "match[]" {
			return nil, badRequest("parameter %q must be given once", name)
		}
	}
	return all, nil
}

// form reads the body of a POST; other methods must not have one.
func (h *Handler) form(r *http.Request, x *exchange) (url.Values, error) {
	if r.Method != http.MethodPost {
		if r.ContentLength != 0 {
			return nil, badRequest("%s takes no body; use POST", r.Method)
		}
		return nil, nil
	}
	types := r.Header["Content-Type"]
	if len(types) == 0 && r.ContentLength == 0 {
		return nil, nil
	}
	if len(types) != 1 {
		return nil, unsupportedMedia("Content-Type must be application/x-www-form-urlencoded")
	}
	media, _, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/x-www-form-urlencoded" || len(r.Header["Content-Encoding"]) > 0 {
		return nil, unsupportedMedia("Content-Type must be application/x-www-form-urlencoded, without Content-Encoding")
	}
	b, err := h.readBody(r, maxForm, "the body's fixed limit", &x.loan)
	if err != nil {
		return nil, err
	}
	defer b.Release()
	form, err := url.ParseQuery(string(b.B))
	if err != nil {
		return nil, badRequest("the body is not urlencoded")
	}
	return form, nil
}

// take moves the named parameters of in that are set to out, after check.
func take(in, out url.Values, check func(string) bool, names ...string) error {
	for _, name := range names {
		v := in.Get(name)
		if v == "" {
			continue
		}
		if len(v) > 64 || !check(v) {
			return badRequest("invalid parameter %q: cannot parse %q", name, oneLine(v, 64))
		}
		out.Set(name, v)
	}
	return nil
}

// The times that clients of the Prometheus API send for "from the beginning" and "without end".
const (
	minTime = "-292273086-05-16T16:47:06Z"
	maxTime = "292277025-08-18T07:12:54.999999999Z"
)

// farthest is, in seconds, as far from 1970 as a time may lie: a count of nanoseconds reaches no farther.
const farthest = 9_200_000_000

// moment takes the parameter name, a Unix time in seconds or RFC 3339, as the Prometheus API takes them, to the millisecond.
// Without it, or with one of the extremes that mean none, it is otherwise, and not named.
func moment(in, out url.Values, name string, otherwise int64) (ms int64, named bool, err error) {
	v := in.Get(name)
	if v == "" || v == minTime || v == maxTime {
		return otherwise, false, nil
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		if f != f || f < -farthest || f > farthest {
			return 0, false, badRequest("invalid parameter %q: %q is out of bounds", name, oneLine(v, 64))
		}
		ms = int64(math.Round(f * 1000))
	} else {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil || len(v) > 64 {
			return 0, false, badRequest("invalid parameter %q: cannot parse %q", name, oneLine(v, 64))
		}
		if s := t.Unix(); s < -farthest || s > farthest {
			return 0, false, badRequest("invalid parameter %q: %q is out of bounds", name, oneLine(v, 64))
		}
		ms = t.UnixMilli()
	}
	out.Set(name, strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64))
	return ms, true, nil
}

// isDuration reports a number of seconds above 0, or a duration as 1h30m.
func isDuration(s string) bool {
	_, ok := duration(s)
	return ok
}

// isStep is isDuration of a millisecond or more: stores count in these.
func isStep(s string) bool {
	d, ok := duration(s)
	return ok && d >= time.Millisecond
}

// duration reads a Prometheus duration: seconds as a number, or units from large to small, as 1d12h or 500ms.
func duration(s string) (time.Duration, bool) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(f * float64(time.Second)), f > 0 && f < 1e9
	}
	units := []struct {
		name string
		d    time.Duration
	}{{"y", 365 * 24 * time.Hour}, {"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
	total, from := time.Duration(0), 0
	for s != "" {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		j := i
		for j < len(s) && (s[j] < '0' || s[j] > '9') {
			j++
		}
		n, err := strconv.Atoi(s[:i])
		for from < len(units) && units[from].name != s[i:j] {
			from++
		}
		if err != nil || from == len(units) || n > int((1<<62)/units[from].d) {
			return 0, false
		}
		total += time.Duration(n) * units[from].d
		from++
		s = s[j:]
	}
	return total, total > 0
}

// timeout puts the time that the client asks for into out, clamped to what the gateway itself waits.
func (x *exchange) timeout(in, out url.Values) error {
	v := in.Get("timeout")
	if v == "" {
		if x.lane.reads.Timeout < x.state.ReadTimeout { // else the store's own default is left alone
			out.Set("timeout", m3.TimeoutParam(x.lane.reads.Timeout))
		}
		return nil
	}
	d, ok := duration(v)
	if !ok {
		return badRequest("invalid parameter \"timeout\": cannot parse %q", oneLine(v, 64))
	}
	out.Set("timeout", m3.TimeoutParam(min(d, x.state.ReadTimeout, x.lane.reads.Timeout)))
	return nil
}

// limit takes the client's limit: for a store that honours it as Prometheus does it goes into out; elsewhere the gateway cuts
// the answer itself, since M3 reads limit as a bound on what a query may touch and lifts its own for it.
func (x *exchange) limit(in, out url.Values) (int, error) {
	v := in.Get("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return 0, badRequest("invalid parameter \"limit\": %q is no number", oneLine(v, 64))
	}
	if x.state.Store.Kind == m3.KindPrometheus {
		out.Set("limit", v)
	}
	return int(n), nil
}

// encode writes parameters in one order, so that equal requests are equal bytes.
func encode(v url.Values) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(v)) {
		for _, value := range v[name] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(value))
		}
	}
	return b.String()
}

// discard reads what is left of a body, within reason, so that its connection can be used again.
func discard(r io.Reader) { _, _ = io.CopyN(io.Discard, r, 64<<10) }
