package limits

import (
	"math"
	"strings"
	"testing"
	"time"
)

// Each limit under, at and over it, with the number and the limit in the text.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	ms := now.UnixMilli()
	const hour = int64(time.Hour / time.Millisecond)
	ago := func(hours int64) Read { return Read{Start: ms - hours*hour, End: ms, Oldest: ms - hours*hour} }
	with := func(r Read, edit func(*Read)) Read { edit(&r); return r }
	for name, tc := range map[string]struct {
		limits ReadConfig
		read   Read
		says   string // empty: allowed
	}{
		"range, under":      {ReadConfig{Range: 2 * time.Hour}, ago(1), ""},
		"range, at":         {ReadConfig{Range: 2 * time.Hour}, ago(2), ""},
		"range, over":       {ReadConfig{Range: 2 * time.Hour}, ago(3), "the query spans 3h0m0s; limits.reads.range allows 2h0m0s; "},
		"range, one ms":     {ReadConfig{Range: 2 * time.Hour}, with(ago(2), func(r *Read) { r.Start-- }), "spans 2h0m0.001s"},
		"[range], at":       {ReadConfig{Range: 2 * time.Hour}, with(ago(0), func(r *Read) { r.Longest = 2 * hour }), ""},
		"[range], over":     {ReadConfig{Range: 2 * time.Hour}, with(ago(0), func(r *Read) { r.Longest = 5 * hour }), "spans 5h0m0s"},
		"range, none":       {ReadConfig{}, ago(1 << 40), ""},
		"range, immense":    {ReadConfig{Range: time.Hour}, Read{Start: math.MinInt64 / 4, End: math.MaxInt64 / 4}, "spans more than 292 years"},
		"lookback, at":      {ReadConfig{Lookback: 2 * time.Hour}, ago(2), ""},
		"lookback, over":    {ReadConfig{Lookback: 2 * time.Hour}, ago(3), "looks back 3h0m0s; limits.reads.lookback allows 2h0m0s; "},
		"lookback, oldest":  {ReadConfig{Lookback: 2 * time.Hour}, with(ago(1), func(r *Read) { r.Oldest = ms - 4*hour }), "looks back 4h0m0s"},
		"lookback, ahead":   {ReadConfig{Lookback: 2 * time.Hour}, ago(-5), ""},
		"points, at":        {ReadConfig{Points: 60}, with(ago(1), func(r *Read) { r.Step = 60_000 }), ""},
		"points, over":      {ReadConfig{Points: 60}, with(ago(1), func(r *Read) { r.Step = 59_000 }), "asks for 61 points per series; limits.reads.points allows 60; "},
		"points, none":      {ReadConfig{}, with(ago(1), func(r *Read) { r.Step = 1 }), ""},
		"points, no step":   {ReadConfig{Points: 1}, ago(1), ""},
		"subquery, at":      {ReadConfig{SubqueryPoints: 60}, with(ago(1), func(r *Read) { r.Subquery = 60 }), ""},
		"subquery, over":    {ReadConfig{SubqueryPoints: 60}, with(ago(1), func(r *Read) { r.Subquery = 61 }), "computes 61 points per series; limits.reads.subquery_points allows 60; "},
		"defaults, at":      {readDefaults(), Read{Start: ms - 11_000_000, End: ms, Step: 1000}, ""},
		"defaults, over":    {readDefaults(), Read{Start: ms - 11_001_000, End: ms, Step: 1000}, "allows 11000"},
		"defaults, forever": {readDefaults(), Read{Start: 0, End: ms, Step: ms}, ""},
	} {
		e := tc.limits.Judge(tc.read, now)
		if (e == nil) != (tc.says == "") || e != nil && (!strings.Contains(e.Error(), tc.says) || e.Busy) {
			t.Errorf("%s: %v, want %q", name, e, tc.says)
		}
	}
}

func TestEarliest(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	for name, tc := range map[string]struct {
		limits ReadConfig
		end    int64
		want   int64 // 0: none
	}{
		"none":                 {ReadConfig{}, 900_000_000, 0},
		"range":                {ReadConfig{Range: time.Second}, 900_000_000, 899_999_000},
		"lookback":             {ReadConfig{Lookback: time.Second}, 900_000_000, 999_999_000},
		"range is nearer":      {ReadConfig{Range: time.Second, Lookback: time.Minute}, 1_000_000_000, 999_999_000},
		"lookback is nearer":   {ReadConfig{Range: time.Hour, Lookback: time.Minute}, 1_000_000_000, 999_940_000},
		"range before 1970":    {ReadConfig{Range: time.Hour}, -1000, -3_601_000},
		"lookback before 1970": {ReadConfig{Range: time.Hour, Lookback: 2_000_000 * time.Second}, -999_000_000, -1_000_000_000},
	} {
		got, ok := tc.limits.Earliest(now, tc.end)
		if ok != (tc.want != 0) || ok && got != tc.want {
			t.Errorf("%s: %d, %v, want %d", name, got, ok, tc.want)
		}
	}
}

func TestOtherExcesses(t *testing.T) {
	c := readDefaults()
	for _, tc := range []struct{ got, want string }{
		{c.TooSlow(time.Second).Error(), "the query took more than 1s; limits.reads.timeout allows 2m0s; "},
		{c.TooLong(300 << 20).Error(), "the answer has 314572800 bytes or more; limits.reads.answer_bytes allows 268435456; "},
	} {
		if !strings.HasPrefix(tc.got, tc.want) {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
}
