package auth

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of one hash computation. A costlier entry would let anybody who knows the user's name occupy a CPU for
// seconds, so it is refused at load.
const (
	minBcryptCost = 4
	maxBcryptCost = 16
	minSHARounds  = 1000 // SHA-crypt specification
	maxSHARounds  = 1_000_000
	shaRounds     = 5000 // SHA-crypt specification: rounds without a rounds= field
)

// DefaultCost is the bcrypt cost `gateway passwd` uses unless told otherwise: some 80 ms of one CPU.
const DefaultCost = 10

// maxBcryptPassword is the length in bytes at which bcrypt, and so htpasswd, cuts a password off.
const maxBcryptPassword = 72

// Alphabets of the hash formats; the position of a character is its value.
const (
	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	cryptAlphabet  = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// strictBase64 refuses padding bits that are not zero; callers refuse CR and LF, which it skips.
var strictBase64 = base64.StdEncoding.Strict()

type hashKind uint8

const (
	kindBcrypt hashKind = iota // $2a$ $2b$ $2y$
	kindAPR1                   // $apr1$
	kindSHA1                   // {SHA}
	kindSHA256                 // $5$
	kindSHA512                 // $6$
)

// hash is one parsed htpasswd hash. digest is the last len(digest) bytes of stored, and salt stands before it.
type hash struct {
	kind   hashKind
	cost   int    // bcrypt: log2 of the rounds; SHA-crypt: rounds; otherwise 0
	stored string // as in the file
	salt   string
	digest string // encoded as in stored, in canonical form, so that equal digests are equal strings
}

// costs are what the time of one computation depends on, but for the password.
type costs struct {
	kind hashKind
	cost int
	salt int // its length
}

func (h *hash) costs() costs { return costs{h.kind, h.cost, len(h.salt)} }

// hashError says why an htpasswd entry is refused. It never holds a part of the hash: remedy names the user.
type hashError struct{ problem, remedy string }

func (e *hashError) Error() string { return e.problem + "; " + e.remedy }

// parseHash checks every byte of s, so that an accepted hash can be verified and can match some password.
func parseHash(s string) (hash, error) {
	switch {
	case s == "":
		return hash{}, &hashError{"no hash", "make one"}
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		return parseBcrypt(s)
	case strings.HasPrefix(s, "$apr1$"):
		return parseAPR1(s)
	case strings.HasPrefix(s, "{SHA}"):
		return parseSHA1(s)
	case strings.HasPrefix(s, "$5$"):
		return parseSHACrypt(s, kindSHA256, 43, 1<<4) // 32 bytes: the last character holds 4 bits
	case strings.HasPrefix(s, "$6$"):
		return parseSHACrypt(s, kindSHA512, 86, 1<<2) // 64 bytes: the last character holds 2 bits
	case s[0] == '$', s[0] == '{':
		return hash{}, &hashError{"unsupported hash", "use bcrypt"}
	}
	return hash{}, &hashError{"plain text or unsupported hash", "use bcrypt"}
}

func malformed(format string) error {
	return &hashError{"malformed " + format + " hash", "make it anew"}
}

// parseBcrypt reads $2y$CC$ + 22 characters of salt + 31 of digest.
func parseBcrypt(s string) (hash, error) {
	if len(s) != 60 || s[6] != '$' || !inAlphabet(s[4:6], "0123456789") {
		return hash{}, malformed("bcrypt")
	}
	h := hash{kind: kindBcrypt, cost: int(s[4]-'0')*10 + int(s[5]-'0'), stored: s, salt: s[7:29], digest: s[29:]}
	// The digest has 23 bytes, most significant bits first: the last 2 bits of its last character are zero.
	if h.cost < minBcryptCost || !inAlphabet(h.salt+h.digest, bcryptAlphabet) || strings.IndexByte(bcryptAlphabet, s[59])%4 != 0 {
		return hash{}, malformed("bcrypt")
	}
	if h.cost > maxBcryptCost {
		return hash{}, &hashError{fmt.Sprintf("bcrypt cost %d is over %d, which would hold up everybody's first request", h.cost, maxBcryptCost), "make it anew with a lower cost"}
	}
	return h, nil
}

// parseAPR1 reads $apr1$ + 1 to 8 characters of salt + $ + 22 of digest.
func parseAPR1(s string) (hash, error) {
	salt, digest, _ := strings.Cut(s[len("$apr1$"):], "$")
	// The digest has 16 bytes: its last character holds 2 bits.
	if len(salt) < 1 || len(salt) > 8 || !inAlphabet(salt, cryptAlphabet) || !isCryptDigest(digest, 22, 1<<2) {
		return hash{}, malformed("apr1")
	}
	return hash{kind: kindAPR1, stored: s, salt: salt, digest: digest}, nil
}

// parseSHA1 reads {SHA} + the base64 of 20 bytes.
func parseSHA1(s string) (hash, error) {
	digest := s[len("{SHA}"):]
	b, err := strictBase64.DecodeString(digest)
	if err != nil || len(b) != sha1.Size || len(digest) != 28 {
		return hash{}, malformed("{SHA}")
	}
	return hash{kind: kindSHA1, stored: s, digest: digest}, nil
}

// parseSHACrypt reads $5$ or $6$ + optionally rounds=N$ + 1 to 16 characters of salt + $ + digestLen of digest.
func parseSHACrypt(s string, kind hashKind, digestLen, lastBelow int) (hash, error) {
	h := hash{kind: kind, cost: shaRounds, stored: s}
	rest := s[len("$5$"):]
	if after, ok := strings.CutPrefix(rest, "rounds="); ok {
		digits, tail, _ := strings.Cut(after, "$")
		if digits == "" || len(digits) > 9 || digits[0] == '0' || !inAlphabet(digits, "0123456789") {
			return hash{}, malformed("SHA-crypt")
		}
		h.cost, _ = strconv.Atoi(digits) // 1 to 9 digits
		rest = tail
	}
	h.salt, h.digest, _ = strings.Cut(rest, "$")
	if h.cost < minSHARounds || len(h.salt) < 1 || len(h.salt) > 16 || !inAlphabet(h.salt, cryptAlphabet) || !isCryptDigest(h.digest, digestLen, lastBelow) {
		return hash{}, malformed("SHA-crypt")
	}
	if h.cost > maxSHARounds {
		return hash{}, &hashError{fmt.Sprintf("SHA-crypt rounds %d are over %d, which would hold up everybody's first request", h.cost, maxSHARounds), "make it anew with fewer rounds, or use bcrypt"}
	}
	return h, nil
}

func inAlphabet(s, alphabet string) bool {
	for i := range len(s) {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return false
		}
	}
	return true
}

// isCryptDigest reports whether s is a digest of n characters whose unused bits, in the last one, are zero.
func isCryptDigest(s string, n, lastBelow int) bool {
	return len(s) == n && inAlphabet(s, cryptAlphabet) && strings.IndexByte(cryptAlphabet, s[n-1]) < lastBelow
}

// significant returns the part of password the hash looks at: bcrypt cuts it off at 72 bytes, as htpasswd does.
func (h *hash) significant(password string) string {
	if h.kind == kindBcrypt && len(password) > maxBcryptPassword {
		return password[:maxBcryptPassword]
	}
	return password
}

// matches computes one hash; the comparison takes constant time.
func (h *hash) matches(password string) bool {
	pw := []byte(h.significant(password))
	var digest string
	switch h.kind {
	case kindBcrypt:
		return bcrypt.CompareHashAndPassword([]byte(h.stored), pw) == nil
	case kindAPR1:
		digest = apr1(pw, []byte(h.salt))
	case kindSHA1:
		sum := sha1.Sum(pw)
		digest = base64.StdEncoding.EncodeToString(sum[:])
	case kindSHA256:
		digest = encodeSHA256(shaCrypt(sha256.New(), pw, []byte(h.salt), h.cost))
	case kindSHA512:
		digest = encodeSHA512(shaCrypt(sha512.New(), pw, []byte(h.salt), h.cost))
	default:
		return false
	}
	return subtle.ConstantTimeCompare([]byte(digest), []byte(h.digest)) == 1
}

// decoy returns a hash of the same kind, cost and salt length whose salt and digest are random: it takes as long to
// compute, and nobody knows a password for it.
func (h *hash) decoy() hash {
	d := *h
	if h.kind == kindSHA1 {
		var sum [sha1.Size]byte
		rand.Read(sum[:])
		d.digest = base64.StdEncoding.EncodeToString(sum[:])
		d.stored = "{SHA}" + d.digest
		return d
	}
	b := []byte(h.stored)
	digestAt := len(b) - len(h.digest)
	saltAt := digestAt - len(h.salt)
	if h.kind != kindBcrypt {
		saltAt-- // the $ between salt and digest
	}
	randomChars(b[saltAt : saltAt+len(h.salt)])
	randomChars(b[digestAt:])
	b[len(b)-1] = '.' // value 0 in both alphabets, so canonical
	d.stored = string(b)
	d.salt, d.digest = d.stored[saltAt:saltAt+len(h.salt)], d.stored[digestAt:]
	return d
}

// randomChars fills b with characters of bcrypt's alphabet, which are crypt's in another order.
func randomChars(b []byte) {
	rand.Read(b)
	for i := range b {
		b[i] = bcryptAlphabet[b[i]&63]
	}
}

// HashPassword returns the bcrypt hash of password as an htpasswd file holds it, with prefix $2y$. cost is log2 of the
// rounds, 4 to 16. Refused are passwords that could not be verified in full or could never be sent: empty, over 72
// bytes, not UTF-8, or with control characters (RFC 7617, section 2).
func HashPassword(password string, cost int) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty; choose one of 12 characters or more")
	case len(password) > maxBcryptPassword:
		return "", fmt.Errorf("the password has %d bytes and bcrypt would ignore all after %d; choose a shorter one", len(password), maxBcryptPassword)
	case !utf8.ValidString(password):
		return "", errors.New("the password is not UTF-8; type it in a UTF-8 terminal or choose ASCII characters")
	case strings.ContainsFunc(password, unicode.IsControl):
		return "", errors.New("the password holds a control character, which Basic authentication cannot carry; choose another")
	case cost < minBcryptCost || cost > maxBcryptCost:
		return "", fmt.Errorf("bcrypt cost %d is outside %d to %d; %d is a good one", cost, minBcryptCost, maxBcryptCost, DefaultCost)
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	// The computation is that of $2a$; $2y$ is what htpasswd prints.
	return "$2y$" + strings.TrimPrefix(string(h), "$2a$"), nil
}
