package plan

import (
	"math"
	"strconv"
	"strings"
)

// The formats of this file round half up, so that JavaScript, which has no other way, writes the same text.

// fixed writes v with the given number of decimals, rounded half up.
func fixed(v float64, decimals int) string {
	scaled := math.Floor(v*math.Pow10(decimals) + 0.5)
	digits := strconv.FormatFloat(scaled, 'f', 0, 64)
	if decimals == 0 {
		return digits
	}
	for len(digits) <= decimals {
		digits = "0" + digits
	}
	return digits[:len(digits)-decimals] + "." + digits[len(digits)-decimals:]
}

// significant writes v, which is 0 or more, with three significant digits, below 1000.
func significant(v float64) string {
	switch {
	case v < 9.995:
		return fixed(v, 2)
	case v < 99.95:
		return fixed(v, 1)
	default:
		return fixed(v, 0)
	}
}

// trimmed drops zeros at the end of decimals.
func trimmed(digits string) string {
	if strings.Contains(digits, ".") {
		digits = strings.TrimSuffix(strings.TrimRight(digits, "0"), ".")
	}
	return digits
}

// Bytes writes a size in binary units: 1.06 GiB.
func Bytes(v float64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if v < 999.5 {
		return fixed(v, 0) + " B"
	}
	v /= kib
	i := 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= kib
	}
	return significant(v) + " " + units[i]
}

// Count writes a whole number with commas: 35,280.
func Count(v float64) string {
	digits := fixed(v, 0)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Short writes a number in as few characters as three digits need: 66.7k, 1.20M.
func Short(v float64) string {
	if v < 999.5 {
		return trimmed(significant(v))
	}
	units := []string{"k", "M", "G", "T", "P", "E"}
	v /= 1000
	i := 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1000
	}
	return significant(v) + units[i]
}

// Duration writes whole seconds as M3 and Prometheus read them, in at most three units: 30d, 1h30m. What is below a second is in ms.
func Duration(seconds float64) string {
	ms := math.Floor(seconds*1000 + 0.5)
	if ms == 0 {
		return "0s"
	}
	units := []struct {
		name string
		ms   float64
	}{{"y", 365 * day * 1000}, {"d", day * 1000}, {"h", hour * 1000}, {"m", minute * 1000}, {"s", 1000}, {"ms", 1}}
	var b strings.Builder
	for _, u := range units {
		if n := math.Floor(ms / u.ms); n > 0 {
			b.WriteString(fixed(n, 0) + u.name)
			ms -= n * u.ms
		}
	}
	return b.String()
}

// Percent writes a share with a sign for changes: +34 %, or without.
func Percent(share float64) string { return fixed(share*100, 0) + " %" }
