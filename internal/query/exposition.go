package query

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds a line of an exposition: a series with all its labels.
const maxLine = 4 << 20

// StripExposition copies metrics in the text format, as /federate answers, without strip in their label sets. Failures of dst
// and src are returned as they are.
func StripExposition(dst io.Writer, src io.Reader, strip Label) error {
	in := bufio.NewReaderSize(src, jsonBuffer)
	pair := []byte(strip.Name + `="` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strip.Value) + `"`)
	var line, out []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return fmt.Errorf("a line of the store's exposition is longer than %d bytes", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && err != io.EOF {
			return err
		}
		out = stripLine(out, line, pair)
		line = line[:0]
		if len(out) > 0 && (err == io.EOF || len(out) >= jsonBuffer) {
			if _, err := dst.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		if err == io.EOF {
			return nil
		}
	}
}

// stripLine appends a line to dst without the label written as pair.
func stripLine(dst, line, pair []byte) []byte {
	open := bytes.IndexByte(line, '{')
	if open < 0 || line[0] == '#' {
		return append(dst, line...)
	}
	start := open + 1 // of the label in hand, after the comma or brace before it
	inString, escaped := false, false
	for i := start; i < len(line); i++ {
		switch b := line[i]; {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
		case inString:
		case b == ',' || b == '}':
			if bytes.Equal(bytes.TrimSpace(line[start:i]), pair) {
				switch {
				case b == ',': // and what follows takes its place
					dst = append(dst, line[:start]...)
					return append(dst, line[i+1:]...)
				case start > open+1: // the comma before it goes, too
					start--
				}
				dst = append(dst, line[:start]...)
				return append(dst, line[i:]...)
			}
			if b == '}' {
				return append(dst, line...)
			}
			start = i + 1
		}
	}
	return append(dst, line...)
}
