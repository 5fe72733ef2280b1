package config

import (
	"encoding"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// field is one key of a section.
type field struct {
	key    string
	index  []int // in the struct, through inlined ones
	typ    reflect.Type
	path   bool          // a path, relative to the config file
	output bool          // a path that the gateway writes to
	bytes  bool          // a size in bytes, written with or without a unit
	time   bool          // a duration, or a type that reads one among other texts
	secret bool          // its value is never shown
	file   bool          // key is <key>_file of a secret: the value is read from that file
	seed   reflect.Value // what the elements of a table begin as, if it is valid
	like   bool          // a table whose elements begin as what the section itself says under the same keys
}

// fieldsOf lists the keys that a section of struct type t knows, in the order of declaration, inlined structs flattened.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key, option, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if option == "inline" {
			for _, f := range fieldsOf(sf.Type) {
				f.index = append([]int{i}, f.index...)
				fields = append(fields, f)
			}
			continue
		}
		f := field{
			key: key, index: []int{i}, typ: sf.Type,
			path:   sf.Tag.Get("path") != "",
			output: sf.Tag.Get("path") == "output",
			bytes:  sf.Tag.Get("unit") == "bytes",
			time:   sf.Tag.Get("unit") == "duration",
			secret: sf.Tag.Get("secret") == "true",
			like:   sf.Tag.Get("inherit") == "true",
		}
		fields = append(fields, f)
		if f.secret {
			f.key, f.path, f.file = key+"_file", true, true
			fields = append(fields, f)
		}
	}
	return fields
}

// isDuration says that f is written as a duration, if perhaps not only so.
func (f field) isDuration() bool { return f.time || f.typ == reflect.TypeFor[time.Duration]() }

// readsItself says that values of type t are read from a scalar by their own UnmarshalText, whatever t is made of. Its error
// says what to write instead.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// shape is t's kind as far as the decoder must know it: Invalid for a type that reads itself.
func shape(t reflect.Type) reflect.Kind {
	if readsItself(t) {
		return reflect.Invalid
	}
	return t.Kind()
}

// holdsSecret says whether a section of type t has a secret somewhere, so that text in its place may be one.
func holdsSecret(t reflect.Type) bool {
	switch shape(t) {
	case reflect.Map, reflect.Slice:
		return holdsSecret(t.Elem())
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			if f.secret || holdsSecret(f.typ) {
				return true
			}
		}
	}
	return false
}

// place is where a key stands in the file: line and column of its value if that is text, else of the key itself.
type place struct {
	line, col int
	text      string // the value as written; "" for secrets, sections and lists
}

// decoder fills Go values from YAML nodes and gathers every problem on the way.
type decoder struct {
	path     string
	whole    reflect.Type // of the file
	env      func(string) (string, bool)
	readFile func(string) ([]byte, error)

	problems []problem
	files    []string
	places   map[string]place // by dotted path
	broken   map[string]bool  // dotted paths whose value could not be decoded, or was meant by an unknown key
}

func (d *decoder) bad(n *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, problem{n.Line, n.Column, fmt.Sprintf(format, args...)})
}

// fail is bad for the value of path, which cannot be used.
func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.broken[path] = true
	d.bad(n, "%s", path+fmt.Sprintf(format, args...))
}

func dotted(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// inSection names a section for a message.
func inSection(path string) string {
	if path == "" {
		return "at the top level"
	}
	return "in " + path
}

// value decodes n, the value of the given key node, into v. The key of a list's element is the element.
func (d *decoder) value(key, n *yaml.Node, path string, f field, v reflect.Value) {
	d.places[path] = place{line: key.Line, col: key.Column}
	if d.refused(key, n, path, f) {
		return
	}
	switch kind := shape(f.typ); {
	case kind == reflect.Struct:
		d.section(n, path, f, v)
	case kind == reflect.Map:
		d.table(n, path, f, v)
	case kind == reflect.Slice:
		d.list(n, path, f, v)
	case n.Kind != yaml.ScalarNode:
		d.fail(key, path, " is %s; write %s", kindOf(n), wanted(f))
	default:
		at := place{line: n.Line, col: n.Column}
		if !f.secret || f.file {
			at.text = n.Value
		}
		d.places[path] = at
		d.scalar(n, path, f, v)
	}
}

// refused reports what YAML allows and this file does not: references, tags and keys without a value.
func (d *decoder) refused(key, n *yaml.Node, path string, f field) bool {
	shown := func(text string) string {
		if f.secret || holdsSecret(f.typ) {
			return ""
		}
		return " " + show(text)
	}
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, path, " is an alias%s; write the value out: aliases are not supported, and a value that starts with * needs quotes", shown("*"+n.Value))
	case n.Anchor != "":
		d.fail(n, path, " has an anchor%s; remove it: anchors are not supported, and a value that starts with & needs quotes", shown("&"+n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n, path, " has a tag%s; remove it: tags are not supported, and a value that starts with ! needs quotes", shown(n.Tag))
	case n.ShortTag() == "!!null":
		d.fail(key, path, " has no value; write %s, or remove the key", wanted(f))
	default:
		return false
	}
	return true
}

// wanted says what a value of f looks like.
func wanted(f field) string {
	switch {
	case f.isDuration():
		return "a duration such as 10m, 30s or 1h30m"
	case f.bytes:
		return "a size such as 16MiB, 512KiB or a number of bytes"
	}
	switch shape(f.typ) {
	case reflect.Struct, reflect.Map:
		return "its keys below it, indented"
	case reflect.Slice:
		return "a list such as [a, b]"
	case reflect.Bool:
		return "true or false"
	case reflect.String, reflect.Invalid:
		return "text"
	default:
		return "a whole number"
	}
}

// section decodes a mapping with known keys into the struct v.
func (d *decoder) section(n *yaml.Node, path string, f field, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.notA("mapping", n, path, f)
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}        // key to line
	setBy := map[string]yaml.Node{} // index of a Go field to the key that set it
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if !d.goodKey(key, path, seen) {
			continue
		}
		f, ok := find(fields, key.Value)
		if !ok {
			d.unknown(key, path, fields)
			continue
		}
		at := fmt.Sprint(f.index)
		if other, ok := setBy[at]; ok {
			d.bad(key, "both %q and %q (line %d) are set %s; remove one of them", key.Value, other.Value, other.Line, inSection(path))
			d.broken[dotted(path, other.Value)] = true
			continue
		}
		setBy[at] = *key
		sub := dotted(path, key.Value)
		if f.like {
			defer func() { d.inheriting(key, val, sub, f, v) }()
			continue
		}
		d.value(key, val, sub, f, v.FieldByIndex(f.index))
		if f.file { // a Check knows the secret by its own key
			secret := strings.TrimSuffix(sub, "_file")
			d.places[secret] = place{line: key.Line, col: key.Column}
			if d.broken[sub] {
				d.broken[secret] = true
			}
		}
	}
}

// inheriting decodes a table into the field f of the section v, which is decoded but for such tables: what an element does not set is
// as v has it under the same key.
func (d *decoder) inheriting(key, n *yaml.Node, path string, f field, v reflect.Value) {
	seed := reflect.New(f.typ.Elem()).Elem()
	for _, of := range fieldsOf(seed.Type()) {
		if from, ok := find(fieldsOf(v.Type()), of.key); ok && from.typ == of.typ {
			seed.FieldByIndex(of.index).Set(v.FieldByIndex(from.index))
		}
	}
	f.seed = seed
	d.value(key, n, path, f, v.FieldByIndex(f.index))
}

func find(fields []field, key string) (field, bool) {
	for _, f := range fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// goodKey reports whether a mapping's key is plain text that was not there before.
func (d *decoder) goodKey(key *yaml.Node, path string, seen map[string]int) bool {
	line, dup := seen[key.Value]
	switch {
	case key.ShortTag() == "!!merge":
		d.bad(key, `merge key "<<" %s; write the keys out: merge keys are not supported`, inSection(path))
	case key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 || key.ShortTag() == "!!null":
		d.bad(key, "a key %s is not plain text; write name: value, without ?, &, * or !", inSection(path))
	case strings.Contains(key.Value, "${"):
		d.bad(key, "key %s %s; write it out: ${NAME} is expanded in values only", show(key.Value), inSection(path))
	case dup:
		d.bad(key, "duplicate key %s %s; it is on line %d already: keep one of them", show(key.Value), inSection(path), line)
	default:
		seen[key.Value] = key.Line
		return true
	}
	return false
}

// unknown reports a key that its section does not know, and the one that was probably meant.
func (d *decoder) unknown(key *yaml.Node, path string, fields []field) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	name, _, glued := strings.Cut(key.Value, ":")
	shown, hint := show(name), "remove it"
	meant := nearest(name, known)
	if meant != "" {
		d.broken[dotted(path, meant)] = true
		hint = fmt.Sprintf("did you mean %q?", meant)
	}
	switch home := homeOf(d.whole, "", name); {
	case glued:
		shown, hint = show(name+":…"), "a colon needs a space after it" // what follows may be a secret
	case meant == "" && home != "":
		hint = fmt.Sprintf("did you mean %s?", home)
		d.broken[home] = true
	}
	d.bad(key, "unknown key %s %s; %s (known keys: %s)", shown, inSection(path), hint, strings.Join(known, ", "))
}

// homeOf returns the dotted path of the first section key of that name, or "".
func homeOf(t reflect.Type, path, key string) string {
	fields := fieldsOf(t)
	if _, ok := find(fields, key); ok {
		return dotted(path, key)
	}
	for _, f := range fields {
		if shape(f.typ) == reflect.Struct {
			if home := homeOf(f.typ, dotted(path, f.key), key); home != "" {
				return home
			}
		}
	}
	return ""
}

// table decodes a mapping with free keys into the map v.
func (d *decoder) table(n *yaml.Node, path string, f field, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.notA("mapping", n, path, f)
		return
	}
	m := reflect.MakeMapWithSize(f.typ, len(n.Content)/2)
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if !d.goodKey(key, path, seen) {
			continue
		}
		elem := reflect.New(f.typ.Elem()).Elem()
		if f.seed.IsValid() {
			elem.Set(f.seed)
		}
		d.value(key, val, dotted(path, key.Value), field{key: key.Value, typ: elem.Type()}, elem)
		m.SetMapIndex(reflect.ValueOf(key.Value).Convert(f.typ.Key()), elem)
	}
	v.Set(m)
}

// list decodes a sequence into the slice v.
func (d *decoder) list(n *yaml.Node, path string, f field, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.notA("list", n, path, f)
		return
	}
	s := reflect.MakeSlice(f.typ, len(n.Content), len(n.Content))
	for i, val := range n.Content {
		d.value(val, val, fmt.Sprintf("%s.%d", path, i), field{typ: f.typ.Elem(), path: f.path}, s.Index(i))
	}
	v.Set(s)
}

// notA reports a value of the wrong kind where a mapping or a list belongs.
func (d *decoder) notA(kind string, n *yaml.Node, path string, f field) {
	text, mend := kindOf(n), wanted(f)
	if n.Kind == yaml.ScalarNode && !holdsSecret(f.typ) {
		text = show(n.Value)
		if kind == "list" {
			mend = "[" + text + "]"
		}
	}
	d.fail(n, path, " is %s instead of a %s; write %s", text, kind, mend)
}

// resolve makes a path of the file relative to the file's directory and notes it for the reload watcher. Directories and outputs
// are not noted: what the gateway itself writes there must not look like a change of its configuration.
func (d *decoder) resolve(p string, f field) string {
	if p == "" {
		return ""
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(filepath.Dir(d.path), p)
	}
	if !strings.HasSuffix(f.key, "_dir") && !f.output {
		d.files = append(d.files, p)
	}
	return p
}
