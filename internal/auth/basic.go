package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxPassword is the most bytes of a password; a longer one is denied without being hashed.
const MaxPassword = 4096

// maxToken is the most characters of a Basic token that can hold a user and a password within their bounds.
const maxToken = (maxUser + len(":") + MaxPassword + 2) / 3 * 4

// BasicCredential returns the user and password of a Basic credential (RFC 7617). header holds all values of the
// request's Authorization header. ok is false unless there is exactly one, its scheme is Basic in any case, its token
// is canonical base64, and what it decodes to is UTF-8 without control characters, has a ':' (the first one splits),
// and is within the bounds of a user's name and a password. The password may be empty; Verify denies it.
func BasicCredential(header []string) (user, password string, ok bool) {
	if len(header) != 1 {
		return "", "", false
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	token = strings.TrimLeft(token, " ")
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return "", "", false
	}
	raw, err := strictBase64.DecodeString(token)
	if err != nil || !utf8.Valid(raw) {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(raw), ":")
	if !ok || user == "" || len(user) > maxUser || len(password) > MaxPassword ||
		strings.ContainsFunc(user, unicode.IsControl) || strings.ContainsFunc(password, unicode.IsControl) {
		return "", "", false
	}
	return user, password, true
}
