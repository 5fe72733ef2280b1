package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document parses data as exactly one YAML document and returns its root mapping, or nil and a problem.
// needs says what an empty one lacks.
func document(data []byte, needs string) (*yaml.Node, *problem) {
	if p := notUTF8(data); p != nil {
		return nil, p
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && doc.Content[0].ShortTag() == "!!null" {
		return nil, &problem{1, 1, "the file is empty; it needs at least the " + needs}
	}
	if err != nil {
		return nil, syntaxProblem(data, err)
	}
	switch err := dec.Decode(&next); {
	case err == nil:
		return nil, &problem{next.Line, next.Column, `"---" starts a second document; write one document in one file`}
	case !errors.Is(err, io.EOF):
		return nil, syntaxProblem(data, err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.MappingNode {
		return root, nil
	}
	p := &problem{root.Line, root.Column, "the file holds " + kindOf(root) + " instead of sections; write section: at the start of a line and its keys below it, indented"}
	if root.Kind == yaml.ScalarNode {
		p.text += "; each colon needs a space after it"
	}
	return nil, p
}

// notUTF8 returns the place of the first byte that is not UTF-8, or nil.
func notUTF8(data []byte) *problem {
	if utf8.Valid(data) {
		return nil
	}
	line, start := 1, 0
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return &problem{line, utf8.RuneCount(data[start:i]) + 1, fmt.Sprintf("byte 0x%02x is not UTF-8; save the file as UTF-8", data[i])}
		}
		i += n
		if r == '\n' {
			line, start = line+1, i
		}
	}
	return nil
}

// remedy says how to mend what the YAML parser complains about. The parser's messages repeat no text of the file, but for
// the name of an unknown anchor, which may be an unquoted password and is left out.
func remedy(message string) (what, mend string) {
	switch {
	case strings.HasPrefix(message, "unknown anchor"):
		return "a value starts with \"*\", which YAML takes for an alias", "quote the value if the * is meant, else write the value out: aliases are not supported"
	case strings.Contains(message, "cannot start any token"):
		return message, `quote values that start with one of @ % & * ! | > or a back quote`
	case strings.Contains(message, "mapping values are not allowed"):
		return message, `quote a value that holds ": ", put a space after each colon, and check the indentation`
	case strings.Contains(message, "unexpected end of stream"):
		return message, "close the quote or bracket that is opened here"
	case strings.Contains(message, "',' or"):
		return message, `close the bracket; inside [ ] and { } quote values that hold ${NAME} or any of , [ ] { }`
	case strings.Contains(message, "escape character"), strings.Contains(message, "hexdecimal"):
		return message, `write \\ for a backslash, or use single quotes`
	case strings.Contains(message, "control characters"):
		return message, "remove the invisible character"
	default:
		return message, "keys of one section start in the same column, with a space after each colon"
	}
}

// syntaxProblem turns the YAML parser's error into a problem at the line where the mistake begins.
func syntaxProblem(data []byte, err error) *problem {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	if good, ok := goodLines(lines); ok {
		line = good + 1
	}
	line = min(max(line, 1), len(lines))
	text := string(bytes.TrimRight(lines[line-1], "\r\n"))
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	if i := strings.IndexByte(indent, '\t'); i >= 0 {
		return &problem{line, i + 1, `"\t": a tab in the indentation; indent with spaces`}
	}
	what, mend := remedy(message)
	return &problem{line, len(indent) + 1, fmt.Sprintf("YAML syntax%s: %s; %s", shownKey(text), what, mend)}
}

// shownKey returns the key that a line begins with, for a message. The rest of the line may be a secret.
func shownKey(text string) string {
	m := regexp.MustCompile(`^\s*(?:- +)?([a-z][a-z0-9_]{0,40}):`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return " at " + strconv.Quote(m[1]+":")
}

// searchBytes bounds the work of goodLines: how much text it may parse in all.
const searchBytes = 1 << 20

// goodLines returns the number of lines of the longest beginning of the file that is valid YAML: the mistake begins in the
// line after it, wherever the parser gave up. It reports false if the search would take too long.
func goodLines(lines [][]byte) (n int, ok bool) {
	left := searchBytes
	good := func(from, to int) bool {
		for _, line := range lines[from:to] {
			if left -= len(line); left < 0 {
				return false
			}
		}
		return valid(slices.Concat(lines[from:to]...))
	}
	section := 0 // its first line; all before is good
	for i, line := range lines {
		if i > 0 && len(line) > 0 && 'a' <= line[0] && line[0] <= 'z' && good(section, i) {
			section = i
		}
	}
	n = section
	for i := section; i < len(lines)-1 && left >= 0; i++ {
		if good(section, i+1) {
			n = i + 1
		}
	}
	return n, left >= 0
}

func valid(data []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "text"
	}
}
