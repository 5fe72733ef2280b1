package audit

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var moment = time.Date(2026, 3, 4, 5, 6, 7, 89_900_000, time.FixedZone("", 3600))

func whole() *Entry {
	return &Entry{
		Time: moment, User: "alice", Claimed: "mallory", Client: netip.MustParseAddr("2001:db8::1"), Listener: "https", Tenants: []string{"team-a", "team-b"},
		Route: "label_values", Path: "/api/v1/label/{name}/values", Label: "job", Queries: []string{`up{a="b"}`, "x\\y\n\t\x00\x7f"}, Confined: []string{`up{a="b",tenant="ä"}`},
		Status: 422, Limits: []string{"limits.reads.points"}, Error: "no \xff\u2028.", BytesIn: 3, BytesOut: 1 << 40, Took: 1234567 * time.Microsecond, Upstream: "http://m3:7201",
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		entry *Entry
		want  string
	}{
		{whole(), `{"time":"2026-03-04T04:06:07.089Z","user":"alice","claimed_user":"mallory","client":"2001:db8::1","listener":"https","tenants":["team-a","team-b"],` +
			`"route":"label_values","path":"/api/v1/label/{name}/values","label":"job","queries":["up{a=\"b\"}","x\\y\n\t\u0000\u007f"],"confined":["up{a=\"b\",tenant=\"ä\"}"],` +
			`"status":422,"limits":["limits.reads.points"],"error":"no \ufffd\u2028.","bytes_in":3,"bytes_out":1099511627776,"duration_seconds":1.234567,"upstream":"http://m3:7201"}`},
		{&Entry{Time: moment, Status: 401}, `{"time":"2026-03-04T04:06:07.089Z","status":401,"bytes_out":0,"duration_seconds":0.000000}`},
	} {
		if got := string(appendLine([]byte("before\n"), c.entry)); got != "before\n"+c.want+"\n" {
			t.Errorf("got\n%swant\n%s", got, c.want)
		}
	}
}

// read is a line as a reader has it.
type read struct {
	User      string   `json:"user"`
	Claimed   string   `json:"claimed_user"`
	Tenants   []string `json:"tenants"`
	Queries   []string `json:"queries"`
	Confined  []string `json:"confined"`
	Error     string   `json:"error"`
	Truncated bool     `json:"truncated"`
}

// readLine fails unless b is one line of JSON within the bound.
func readLine(t *testing.T, b []byte) (r read) {
	t.Helper()
	if len(b) > maxLine || bytes.Count(b, []byte{'\n'}) != 1 || b[len(b)-1] != '\n' || !utf8.Valid(b) {
		t.Fatalf("%d bytes, %d lines: %.200q", len(b), bytes.Count(b, []byte{'\n'}), b)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return r
}

// TestCut: what is too long is cut between characters, and the line says so; what has just room is not.
func TestCut(t *testing.T) {
	long := func(s string) string { return strings.Repeat(s, 64<<10) }
	for name, s := range map[string]string{"ascii": long("x"), "wide": long("€"), "quotes": long(`"`), "control": long("\x01"), "broken": long("\xff"), "mixed": "a" + long("ä\"")} {
		e := &Entry{Time: moment, User: s, Claimed: s, Listener: s, Tenants: []string{s, s}, Route: s, Path: s, Label: s, Queries: []string{s, s}, Confined: []string{"a", s}, Limits: []string{s}, Error: s, Upstream: s}
		r := readLine(t, appendLine(nil, e))
		clean := strings.ToValidUTF8(s, "\ufffd")
		if name == "broken" {
			clean = long("\ufffd")
		}
		if !r.Truncated || len(r.Queries) != 1 || len(r.Confined) != 2 || len(r.Queries[0]) < maxQueries/6-6 ||
			!strings.HasPrefix(clean, r.User) || !strings.HasPrefix(clean, r.Queries[0]) || !strings.HasPrefix(clean, r.Confined[1]) || !strings.HasPrefix(clean, r.Error) {
			t.Errorf("%s: %d queries, %d confined: %+.300v", name, len(r.Queries), len(r.Confined), r)
		}
	}
	many := make([]string, 100_000)
	if r := readLine(t, appendLine(nil, &Entry{Tenants: many, Queries: many, Confined: many})); !r.Truncated || len(r.Queries) > maxQueries/2 {
		t.Errorf("%d empty queries, truncated %v", len(r.Queries), r.Truncated)
	}
	for n, cut := range map[int]bool{maxQueries - 3: false, maxQueries - 2: true} {
		if r := readLine(t, appendLine(nil, &Entry{Queries: []string{strings.Repeat("x", n)}})); r.Truncated != cut {
			t.Errorf("%d bytes: truncated %v", n, r.Truncated)
		}
	}
	for n, cut := range map[int]bool{maxName / 2: false, maxName/2 + 1: true} {
		if r := readLine(t, appendLine(nil, &Entry{User: strings.Repeat(`"`, n)})); r.Truncated != cut || len(r.User) != maxName/2 {
			t.Errorf("%d quotes: truncated %v, %d left", n, r.Truncated, len(r.User))
		}
	}
}

// FuzzLine: whatever the texts, a line is one line of JSON that says them, or that they are cut.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"", "up", `a"\b`, "\x00\x1f\x7f\u0080\u2028\u2029", "\xff\xfe", "ä€😀", strings.Repeat("😀", 5000), strings.Repeat("\n", 3000)} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		r := readLine(t, appendLine(nil, &Entry{User: a, Claimed: b, Queries: []string{a, b}, Confined: []string{b}, Error: b}))
		clean := func(s string) string { return string([]rune(s)) }
		a, b = clean(a), clean(b)
		if want := (read{User: a, Claimed: b, Queries: []string{a, b}, Confined: []string{b}, Error: b}); !r.Truncated && !reflect.DeepEqual(r, want) {
			t.Errorf("got %+v, want %+v", r, want)
		}
		if !strings.HasPrefix(a, r.User) || !strings.HasPrefix(b, r.Claimed) || !strings.HasPrefix(b, r.Error) {
			t.Errorf("%+v is not the beginning of what was given", r)
		}
	})
}
