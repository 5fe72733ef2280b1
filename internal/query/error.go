package query

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxErrorBytes bounds an Error's message, and so how much of a query is echoed.
const maxErrorBytes = 200

// Error is the client's mistake: HTTP 400, errorType bad_data. Msg is one line of at most 200 bytes.
// Every other error of this package is internal.
type Error struct{ Msg string }

func (e *Error) Error() string { return e.Msg }

// refuse makes an *Error.
func refuse(format string, args ...any) error {
	return &Error{Msg: oneLine(fmt.Sprintf(format, args...))}
}

// unsupported refuses a construct that the store's PromQL lacks.
func unsupported(construct string) error {
	return refuse("%s is not supported by this store", construct)
}

// oneLine turns control characters into spaces and cuts s to maxErrorBytes at a character's end.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxErrorBytes {
		return s
	}
	cut := maxErrorBytes - len("...")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
