package metadata

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var all = Question{Limit: -1}

func TestTable(t *testing.T) {
	tab := New(2)
	up, down := Entry{"gauge", "Is it up?", ""}, Entry{"counter", "", "seconds"}
	tab.Learn("a", "up", up)
	tab.Learn("a", "up", up)
	tab.Learn("a", "down", down)
	tab.Learn("b", "up", Entry{"gauge", "other words", ""})
	for _, tc := range []struct {
		tenants []string
		all     bool
		q       Question
		want    map[string][]Entry
	}{
		{[]string{"a"}, false, all, map[string][]Entry{"up": {up}, "down": {down}}},
		{[]string{"b"}, false, all, map[string][]Entry{"up": {{"gauge", "other words", ""}}}},
		{[]string{"a", "b"}, false, all, map[string][]Entry{"up": {up, {"gauge", "other words", ""}}, "down": {down}}},
		{nil, true, all, map[string][]Entry{"up": {up, {"gauge", "other words", ""}}, "down": {down}}},
		{[]string{"a", "b"}, false, Question{Limit: -1, PerMetric: 1}, map[string][]Entry{"up": {up}, "down": {down}}},
		{[]string{"a"}, false, Question{Metric: "up", Limit: -1}, map[string][]Entry{"up": {up}}},
		{[]string{"a"}, false, Question{Metric: "sideways", Limit: -1}, map[string][]Entry{}},
		{[]string{"a"}, false, Question{Limit: 1}, map[string][]Entry{"down": {down}}},
		{[]string{"a"}, false, Question{Limit: 0}, map[string][]Entry{}},
		{[]string{"c"}, false, all, map[string][]Entry{}},
		{nil, false, all, map[string][]Entry{}},
	} {
		if got := tab.Of(tc.tenants, tc.all, tc.q); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc, got, tc.want)
		}
	}
	tab.Keep([]string{"b"})
	if got := tab.Of([]string{"a", "b"}, false, all); len(got) != 1 || got["up"][0].Help != "other words" {
		t.Errorf("after a tenant is gone: %v", got)
	}
}

// TestNewestFirst: senders that disagree are all heard, the newest first, up to four.
func TestNewestFirst(t *testing.T) {
	tab := New(1)
	for i := range 6 {
		tab.Learn("a", "up", Entry{Help: fmt.Sprint(i)})
	}
	tab.Learn("a", "up", Entry{Help: "3"})
	got := ""
	for _, e := range tab.Of([]string{"a"}, false, all)["up"] {
		got += e.Help
	}
	if got != "3542" {
		t.Errorf("got %s", got)
	}
}

func TestLeftOut(t *testing.T) {
	tab := New(1)
	for name, e := range map[string]Entry{
		"":                             {},
		"\xff":                         {},
		strings.Repeat("x", maxName+1): {},
		"bad_help":                     {Help: "\xff"},
		"bad_unit":                     {Unit: "\xff"},
		"long_unit":                    {Unit: strings.Repeat("x", maxUnit+1)},
	} {
		tab.Learn("a", name, e)
	}
	tab.Learn("a", "long_help", Entry{Help: strings.Repeat("é", maxHelp)})
	got := tab.Of([]string{"a"}, false, all)
	if len(got) != 1 || got["long_help"][0].Help != strings.Repeat("é", maxHelp/2) {
		t.Errorf("kept %v", got)
	}
}

// TestBounds: a tenant that writes without end keeps its newest metrics within its room, and nobody else's are touched.
func TestBounds(t *testing.T) {
	tab := New(1 << 20) // the least room for each
	tab.Learn("quiet", "up", Entry{Help: "mine"})
	for i := range 10_000 {
		tab.Learn("loud", fmt.Sprintf("metric_%d", i), Entry{Type: "gauge", Help: strings.Repeat("x", i%300)})
	}
	loud := tab.Of([]string{"loud"}, false, all)
	size := 0
	for name, entries := range loud {
		size += entryBytes + len(name)
		for _, e := range entries {
			size += e.size()
		}
	}
	s, _ := tab.shelf("loud", false)
	if size != s.bytes || size > least || size < least/2 || len(s.metrics) != s.order.Len() {
		t.Errorf("%d bytes kept, %d counted, of %d", size, s.bytes, least)
	}
	if loud["metric_9999"] == nil || loud["metric_0"] != nil {
		t.Error("not the newest are kept")
	}
	if got := tab.Of([]string{"quiet"}, false, all); got["up"][0].Help != "mine" {
		t.Errorf("another tenant's: %v", got)
	}
	tab.Resize(1)
	for i := range 10_000 {
		tab.Learn("loud", fmt.Sprintf("metric_%d", i), Entry{Type: "gauge"})
	}
	if got := len(tab.Of([]string{"loud"}, false, all)); got < 8_000 {
		t.Errorf("with more room: %d", got)
	}
	tab.Learn("loud", "huge", Entry{Help: strings.Repeat("x", maxHelp)}) // one alone is always kept
	if got := tab.Of([]string{"loud"}, false, Question{Metric: "huge", Limit: -1}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestDue(t *testing.T) {
	tab := New(1)
	now := time.Unix(1000, 0)
	for _, tc := range []struct {
		tenant string
		after  time.Duration
		want   bool
	}{{"a", 0, true}, {"a", 0, false}, {"b", 0, true}, {"a", 999 * time.Millisecond, false}, {"a", time.Second, true}, {"a", 1500 * time.Millisecond, false}, {"a", -time.Hour, true}} {
		if got := tab.Due(tc.tenant, now.Add(tc.after)); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestTogether(t *testing.T) {
	tab := New(4)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 500 {
				tab.Learn(fmt.Sprint(w%4), fmt.Sprint(i%50), Entry{Help: fmt.Sprint(i)})
				_ = tab.Of(nil, true, all)
				_ = tab.Due("0", time.Unix(int64(i), 0))
				tab.Resize(1 + i%7)
			}
		})
	}
	wg.Wait()
	if got := tab.Of([]string{"0", "1", "2", "3"}, false, all); len(got) != 50 {
		t.Errorf("%d metrics", len(got))
	}
}
