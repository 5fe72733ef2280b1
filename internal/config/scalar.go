package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// scalar decodes the text of n into v, after ${NAME} in it is expanded.
func (d *decoder) scalar(n *yaml.Node, path string, f field, v reflect.Value) {
	text, fault := expand(n.Value, d.env)
	if fault != "" {
		d.fail(n, path, ": %s", fault)
		return
	}
	if shape(f.typ) == reflect.String {
		d.text(n, path, text, f, v)
		return
	}
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	mend := setScalar(v, text, f, quoted && text == n.Value)
	if mend == "" {
		return
	}
	shown := show(n.Value)
	if text != n.Value {
		shown, mend = shown+" (expanded)", "write "+wanted(f) // a more exact remedy would repeat the variable's value
	}
	d.fail(n, path, ": bad %s %s; %s", noun(f), shown, mend)
}

func noun(f field) string {
	switch {
	case f.isDuration():
		return "duration"
	case f.bytes:
		return "size"
	case f.typ.Kind() == reflect.Bool, readsItself(f.typ):
		return "value"
	}
	return "number"
}

// setScalar sets a type that reads itself, a duration, a size, a bool or an integer from its text, or returns how to mend the
// text. v must be addressable.
func setScalar(v reflect.Value, text string, f field, quoted bool) (mend string) {
	switch kind := f.typ.Kind(); {
	case readsItself(f.typ):
		err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
		if err == nil {
			return ""
		}
		if mend := durationRemedy(text); f.time && mend != anyDuration {
			return mend
		}
		return err.Error()
	case f.typ == reflect.TypeFor[time.Duration]():
		t, err := time.ParseDuration(text)
		if err != nil {
			return durationRemedy(text)
		}
		v.SetInt(int64(t))
	case f.bytes:
		size, mend := parseBytes(text)
		if mend != "" {
			return mend
		}
		v.SetInt(size)
	case quoted:
		return "write " + wanted(f) + " without quotes"
	case kind == reflect.Bool:
		if text != "true" && text != "false" {
			return "write true or false"
		}
		v.SetBool(text == "true")
	case v.CanInt():
		i, err := strconv.ParseInt(text, 10, f.typ.Bits())
		if errors.Is(err, strconv.ErrRange) {
			return "it is too large; write a smaller one"
		}
		if err != nil {
			return "write a whole number in digits, such as 1000"
		}
		v.SetInt(i)
	default:
		return fmt.Sprintf("a %v cannot be set from a file", f.typ) // unreachable while TestTypes passes
	}
	return ""
}

// text sets the string v to text: a secret's file is read, a path resolved.
func (d *decoder) text(n *yaml.Node, path, text string, f field, v reflect.Value) {
	if f.path {
		if strings.ContainsRune(text, 0) {
			d.fail(n, path, " holds a zero byte; write a path")
			return
		}
		text = d.resolve(text, f)
	}
	if f.file {
		var fault string
		if text, fault = d.secretFile(text); fault != "" {
			d.fail(n, path, " %s: %s", show(n.Value), fault)
			return
		}
	}
	v.SetString(text)
}

// secretFile returns a file's content less one newline at its end, or what is wrong with it.
func (d *decoder) secretFile(file string) (content, fault string) {
	if file == "" {
		return "", "write the path of a file that holds the secret, or remove the key"
	}
	data, err := d.readFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Sprintf("there is no file %s; create it, or mend the path (relative paths start at the config file's directory)", show(file))
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Sprintf("no permission to read %s; let the gateway's user read it", show(file))
	case err != nil:
		return "", fmt.Sprintf("cannot be read: %v; give the path of a readable file", err)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", "the file is empty; write the secret into it"
	}
	if !utf8.Valid(data) {
		return "", "the file's content is not UTF-8 text; write the secret as text"
	}
	return string(data), ""
}

// expand replaces ${NAME} by the variable's value and $$ by $; any other $ stays. It does not expand what it inserted.
// On failure it returns what is wrong and how to mend it.
func expand(text string, env func(string) (string, bool)) (expanded, fault string) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), ""
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "{"):
			name, rest, closed := strings.Cut(after[1:], "}")
			if !closed || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(name) {
				return "", `malformed "${"; write ${NAME}, a name of letters, digits and _ without a default, or $${ for a literal ${`
			}
			value, ok := env(name)
			if !ok {
				return "", fmt.Sprintf("${%s} is not set in the environment; set the variable %s, or write $${ for a literal ${", name, name)
			}
			b.WriteString(value)
			text = rest
		default:
			b.WriteByte('$')
			text = after
		}
	}
}

// anyDuration is the remedy for a text that is like no duration.
const anyDuration = "write a number and a unit, such as 10m, 30s or 1h30m"

// durationRemedy says how to write the duration that text probably means.
func durationRemedy(text string) string {
	m := regexp.MustCompile(`^(\d{1,9}) *([a-z]*)$`).FindStringSubmatch(strings.ToLower(strings.TrimSpace(text)))
	if m == nil {
		return anyDuration
	}
	n, _ := strconv.Atoi(m[1])
	unit := ""
	switch m[2] {
	case "":
		return fmt.Sprintf("a unit is missing: write %ds for seconds or %dm for minutes", n, n)
	case "ms", "msec", "millis", "milliseconds":
		unit = "ms"
	case "s", "sec", "secs", "second", "seconds":
		unit = "s"
	case "m", "min", "mins", "minute", "minutes":
		unit = "m"
	case "h", "hr", "hrs", "hour", "hours":
		unit = "h"
	case "d", "day", "days":
		n, unit = n*24, "h"
	case "w", "week", "weeks":
		n, unit = n*7*24, "h"
	default:
		return anyDuration
	}
	use := fmt.Sprintf("%d%s", n, unit)
	if _, err := time.ParseDuration(use); err != nil {
		return "it is too long"
	}
	return "use " + use
}

// parseBytes reads a size: a whole number of bytes, or one with a unit. On failure it returns how to mend it.
func parseBytes(text string) (size int64, mend string) {
	units := map[string]int64{"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	const general = "write a whole number with one of the units KiB, MiB, GiB, KB, MB, GB, or none for bytes"
	m := regexp.MustCompile(`^(\d+)( *)([A-Za-z]*)$`).FindStringSubmatch(text)
	if m == nil {
		return 0, general
	}
	unit, ok := units[m[3]]
	if !ok || m[2] != "" {
		for _, u := range []string{"KiB", "MiB", "GiB"} {
			if s := strings.ToLower(m[3]); s != "" && strings.HasPrefix(strings.ToLower(u), s) {
				return 0, "use " + m[1] + u
			}
		}
		for _, u := range []string{"KB", "MB", "GB"} {
			if strings.EqualFold(u, m[3]) {
				return 0, "use " + m[1] + u
			}
		}
		return 0, general
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, "it is too large; write a smaller one"
	}
	return n * unit, ""
}
