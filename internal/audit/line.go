package audit

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// Entry is one line. It never holds a credential. What is empty is left out of the line, but for Status, BytesOut and Took.
type Entry struct {
	Time time.Time // of the request
	// User is verified. Claimed is the name that a denied request came with.
	User, Claimed string
	Client        netip.Addr
	Listener      string
	// Tenants are those that the request was for; "*": all.
	Tenants []string
	// Route is the route's name in metrics and logs, Path its pattern.
	Route, Path string
	// Label is that whose values are read.
	Label string
	// Queries are the expressions or selectors as the client sent them, Confined as the store was sent them.
	Queries, Confined []string
	Status            int
	// Limits are the keys of the limits that the request was over.
	Limits []string
	// Error is what the client was told.
	Error             string
	BytesIn, BytesOut int64
	Took              time.Duration
	// Upstream is the store's member that answered.
	Upstream string
}

// The most bytes of a line's texts as they are written. A text that is longer is cut, elements of a list that have no room are
// left out, and the line says "truncated": true.
const (
	maxQueries = 8 << 10 // of the queries together; of the confined ones alike
	maxTenants = 4 << 10 // together
	maxError   = 2 << 10
	maxName    = 256 // of anything else
)

// maxLine is more than the longest line has.
const maxLine = 28 << 10

// line is a line under way.
type line struct {
	b   []byte
	cut bool
}

// appendLine appends e, and a newline, to b.
func appendLine(b []byte, e *Entry) []byte {
	l := line{b: b}
	l.b = append(l.b, `{"time":"`...)
	l.b = e.Time.UTC().AppendFormat(l.b, "2006-01-02T15:04:05.000Z07:00")
	l.b = append(l.b, '"')
	l.text("user", e.User, maxName)
	l.text("claimed_user", e.Claimed, maxName)
	if e.Client.IsValid() {
		l.key("client")
		l.b = append(e.Client.AppendTo(append(l.b, '"')), '"')
	}
	l.text("listener", e.Listener, maxName)
	l.list("tenants", e.Tenants, maxTenants)
	l.text("route", e.Route, maxName)
	l.text("path", e.Path, maxName)
	l.text("label", e.Label, maxName)
	l.list("queries", e.Queries, maxQueries)
	l.list("confined", e.Confined, maxQueries)
	l.number("status", int64(e.Status))
	l.list("limits", e.Limits, maxError)
	l.text("error", e.Error, maxError)
	if e.BytesIn > 0 {
		l.number("bytes_in", e.BytesIn)
	}
	l.number("bytes_out", e.BytesOut)
	l.key("duration_seconds")
	l.b = strconv.AppendFloat(l.b, e.Took.Seconds(), 'f', 6, 64)
	l.text("upstream", e.Upstream, maxName)
	if l.cut {
		l.b = append(l.b, `,"truncated":true`...)
	}
	return append(l.b, '}', '\n')
}

func (l *line) key(key string) {
	l.b = append(l.b, ',', '"')
	l.b = append(l.b, key...)
	l.b = append(l.b, '"', ':')
}

func (l *line) number(key string, n int64) {
	l.key(key)
	l.b = strconv.AppendInt(l.b, n, 10)
}

// text writes s, at most that many bytes of it, unless it is empty.
func (l *line) text(key, s string, most int) {
	if s != "" {
		l.key(key)
		l.quoted(s, most)
	}
}

// list writes those of ss that fit into most bytes, with their quotes and commas, the last one perhaps cut.
func (l *line) list(key string, ss []string, most int) {
	if len(ss) == 0 {
		return
	}
	l.key(key)
	l.b = append(l.b, '[')
	start := len(l.b)
	for i, s := range ss {
		left := most - (len(l.b) - start) - len(`"",`)
		if left < 0 {
			l.cut = true
			break
		}
		if i > 0 {
			l.b = append(l.b, ',')
		}
		if !l.quoted(s, left) {
			break
		}
	}
	l.b = append(l.b, ']')
}

// quoted writes s as a JSON string of at most that many bytes between its quotes, and reports whether that is all of it.
func (l *line) quoted(s string, most int) (all bool) {
	all = true
	l.b = append(l.b, '"')
	end := len(l.b) + most
	for len(s) > 0 {
		n := plain(s)
		if room := end - len(l.b); n > room {
			for n = max(room, 0); n > 0 && !utf8.RuneStart(s[n]); n-- { // not within a character
			}
			l.b, all = append(l.b, s[:n]...), false
			break
		}
		l.b, s = append(l.b, s[:n]...), s[n:]
		if s == "" {
			break
		}
		before := len(l.b)
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '"' || r == '\\':
			l.b = append(l.b, '\\', byte(r))
		case r == '\n':
			l.b = append(l.b, '\\', 'n')
		case r == '\t':
			l.b = append(l.b, '\\', 't')
		default: // of a byte that is not UTF-8, the character that stands for such
			const hex = "0123456789abcdef"
			l.b = append(l.b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		}
		if s = s[size:]; len(l.b) > end {
			l.b, all = l.b[:before], false
			break
		}
	}
	l.b = append(l.b, '"')
	l.cut = l.cut || !all
	return all
}

// plain is how many bytes s begins with that stand in a JSON string as they are.
func plain(s string) int {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' { // controls, and ends of lines
			return i
		}
		i += size
	}
	return len(s)
}
