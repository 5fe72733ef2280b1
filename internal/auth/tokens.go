package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tokenBytes of random are in a token: nobody guesses one, so that it needs no slow hash.
const tokenBytes = 32

// tokenPrefix makes a token known for what it is where it has leaked.
const tokenPrefix = "m3gw_"

// maxBearer is the longest token that is looked at.
const maxBearer = 256

// Tokens is a parsed tokens file. It is immutable and safe for concurrent use; the zero value has none.
type Tokens struct {
	// byHead finds the entries by the first bytes of their digests. How long that takes tells of digests alone, and nobody can make
	// a token for a digest.
	byHead map[uint64][]token
}

type token struct {
	user   string
	digest [sha256.Size]byte
}

// NewToken makes a random token for user, and the line of the tokens file that stands for it.
func NewToken(user string) (secret, line string, err error) {
	if p := userProblem(user); p != "" {
		return "", "", errors.New(p)
	}
	if strings.Contains(user, ":") || user[0] == '#' {
		return "", "", fmt.Errorf("a tokens file cannot hold the user name %q; choose one without : and without # at the start", user)
	}
	b := make([]byte, tokenBytes)
	rand.Read(b)
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	digest := sha256.Sum256([]byte(secret))
	return secret, user + ":sha256:" + hex.EncodeToString(digest[:]), nil
}

// ParseTokens parses a tokens file: a line is user:sha256:DIGEST, with the SHA-256 of a token in hexadecimal; or is blank, or begins
// with #. A user may have several tokens. name is what messages call the file; no message holds a digest. data is not retained.
func ParseTokens(name string, data []byte) (*Tokens, error) {
	t := &Tokens{byHead: map[uint64][]token{}}
	var errs []error
	seen := map[[sha256.Size]byte]int{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		entry, err := parseToken(line)
		if first, twice := seen[entry.digest]; err == nil && twice {
			err = fmt.Errorf("this token is on line %d already; keep one of the two", first)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s line %d: %w", name, n, err))
			continue
		}
		seen[entry.digest] = n
		head := binary.LittleEndian.Uint64(entry.digest[:])
		t.byHead[head] = append(t.byHead[head], entry)
	}
	if len(errs) == 0 && len(seen) == 0 {
		return nil, fmt.Errorf("%s: no tokens in it; add what this prints last: gateway token alice", name)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

func parseToken(line string) (token, error) {
	user, rest, _ := strings.Cut(line, ":")
	digest, ok := strings.CutPrefix(rest, "sha256:")
	switch p := userProblem(user); {
	case !ok && strings.HasPrefix(line, tokenPrefix):
		return token{}, errors.New("this is a token itself, which is now known to who can read the file; make another: gateway token alice")
	case !ok:
		return token{}, errors.New("a line is user:sha256:DIGEST, as printed by: gateway token alice")
	case p != "":
		return token{}, errors.New(p)
	}
	b, err := hex.DecodeString(digest)
	if err != nil || len(b) != sha256.Size {
		return token{}, fmt.Errorf("the digest is not 64 hexadecimal characters; make a token anew: gateway token %s", shellWord(user))
	}
	return token{user: strings.Clone(user), digest: [sha256.Size]byte(b)}, nil
}

// Names returns the users that have tokens, sorted. The slice is the caller's.
func (t *Tokens) Names() []string {
	users := map[string]bool{}
	for _, entries := range t.byHead {
		for i := range entries {
			users[entries[i].user] = true
		}
	}
	return slices.Sorted(maps.Keys(users))
}

// user is whose token it is; false: nobody's.
func (t *Tokens) user(bearer string) (string, bool) {
	digest := sha256.Sum256([]byte(bearer))
	for _, entry := range t.byHead[binary.LittleEndian.Uint64(digest[:])] {
		if subtle.ConstantTimeCompare(entry.digest[:], digest[:]) == 1 {
			return entry.user, true
		}
	}
	return "", false
}

// IsBearer reports that the values of an Authorization header are one of the scheme Bearer.
func IsBearer(header []string) bool {
	if len(header) != 1 {
		return false
	}
	scheme, _, _ := strings.Cut(header[0], " ")
	return strings.EqualFold(scheme, "Bearer")
}

// BearerCredential returns the token of a Bearer credential (RFC 6750, section 2.1). header holds all values of the request's
// Authorization header. ok is false unless there is exactly one, its scheme is Bearer in any case, and its token has from 1 to 256
// characters of the token's alphabet.
func BearerCredential(header []string) (bearer string, ok bool) {
	if !IsBearer(header) {
		return "", false
	}
	_, bearer, _ = strings.Cut(header[0], " ")
	bearer = strings.TrimLeft(bearer, " ")
	if bearer == "" || len(bearer) > maxBearer {
		return "", false
	}
	for _, c := range []byte(bearer) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("-._~+/=", rune(c)) {
			return "", false
		}
	}
	return bearer, true
}
