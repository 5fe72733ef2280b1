package isolation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Prometheus does not always repeat itself. It takes the series that a function makes, the groups of count_values, the
// buckets of histogram_quantile and the matches of a binary expression in any order, which decides between equals in topk,
// rounds a sum in one way or another, and shows in the order of an instant vector. This file tells such a difference from one
// that others make: the store that has nobody else shows it too.

// timings are how long the store took, in the answer to stats=all.
var timings = regexp.MustCompile(`"timings":\{[^}]*\},?`)

// canonical is what an answer says, without what the store says in another way each time: timings, the order of the series of
// an instant vector, and of more than ten remarks the ten that it shows.
func (a *answer) canonical() string {
	b := timings.ReplaceAll(a.plain(), nil)
	var v map[string]any
	if json.Unmarshal(b, &v) != nil {
		return string(b)
	}
	sorted := func(list any) {
		all, ok := list.([]any)
		if !ok {
			return
		}
		slices.SortFunc(all, func(x, y any) int {
			p, _ := json.Marshal(x)
			q, _ := json.Marshal(y)
			return bytes.Compare(p, q)
		})
	}
	for _, remarks := range []string{"infos", "warnings"} {
		if list, ok := v[remarks].([]any); ok && len(list) > 10 {
			v[remarks] = nil
		}
		sorted(v[remarks])
	}
	if data, ok := v["data"].(map[string]any); ok && data["resultType"] == "vector" {
		sorted(data["result"])
	}
	b, _ = json.Marshal(v)
	return fmt.Sprint(a.status, string(b))
}

// measured is what is left of an answer when it does not matter which of equals were picked and how a sum was rounded: the
// values at each time. series are those that it names.
func (a *answer) measured() (values string, series []string) {
	var v struct {
		Data struct {
			Result []struct {
				Metric     json.RawMessage
				Value      [2]any
				Values     [][2]any
				Histogram  json.RawMessage
				Histograms json.RawMessage
			}
		}
	}
	if json.Unmarshal(a.plain(), &v) != nil {
		return a.canonical(), nil
	}
	var all []string
	for _, r := range v.Data.Result {
		series = append(series, string(r.Metric))
		if r.Values == nil {
			r.Values = [][2]any{r.Value}
		}
		for _, point := range r.Values {
			text := fmt.Sprint(point[1])
			if f, err := strconv.ParseFloat(text, 64); err == nil {
				text = strconv.FormatFloat(f, 'g', 9, 64)
			}
			all = append(all, fmt.Sprint(point[0], text))
		}
		all = append(all, string(r.Histogram), string(r.Histograms))
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), series
}

// unstable reports that the difference between x and y is the store's own: alone it does not repeat what it says to r, and
// what it says with the crowd it also says alone, by the word, or by its values and of series that it names alone too. One
// that repeats itself many times does so always.
func (w *twins) unstable(r *request, x, y answer) bool {
	lone, loneValues, loneSeries, crowded := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	alone := func(a *answer) {
		lone[a.canonical()] = true
		values, series := a.measured()
		loneValues[values] = true
		for _, s := range series {
			loneSeries[s] = true
		}
	}
	alone(&x)
	crowded[y.canonical()] = true
	values, series := y.measured()
	repeats := true
	for n := range 400 {
		met := loneValues[values] && !slices.ContainsFunc(series, func(s string) bool { return !loneSeries[s] })
		for text := range crowded {
			met = met || lone[text]
		}
		if met && !repeats {
			return true
		}
		if !met && repeats && n > 120 {
			return false
		}
		again, err := w.lone.ask(r)
		if err != nil {
			return false
		}
		repeats = repeats && equal(x, again)
		alone(&again)
		if !met {
			if again, err = w.crowded.ask(r); err != nil {
				return false
			}
			crowded[again.canonical()] = true
		}
	}
	return false
}
