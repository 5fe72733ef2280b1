package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxUser is the most bytes of a user's name, as htpasswd has it.
const maxUser = 255

// Users is a parsed htpasswd file. It is immutable and safe for concurrent use.
type Users struct {
	byName map[string]*user
	// decoy stands in for users that are not in the file; its name is empty.
	decoy user
	// decoys have one hash of each kind and cost in the file, that of decoy first. No password matches them.
	decoys []hash
}

type user struct {
	name string
	hash hash
}

// ParseHtpasswd parses an htpasswd file: a line is user:hash, is blank, or begins with #; CRLF ends it as well as LF.
// Hashes are bcrypt ($2a$, $2b$, $2y$), apr1 ($apr1$), {SHA}, and SHA-crypt ($5$, $6$). name is what messages call the
// file. All bad lines are reported, joined; no message holds a hash or a password. data is not retained.
//
// A user who is not in the file costs a hash of the kind and cost most entries have (at a tie, the one that comes first), and
// every denial one of each other kind and cost as well, so that its time tells nothing of a user.
func ParseHtpasswd(name string, data []byte) (*Users, error) {
	u := &Users{byName: make(map[string]*user)}
	var errs []error
	var order []*user
	seen := make(map[string]int) // user to its line
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		entry, err := parseLine(line, n, seen)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s line %d: %w", name, n, err))
			continue
		}
		u.byName[entry.name] = entry
		order = append(order, entry)
	}
	if len(seen) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("%s: no users in it; add one: gateway passwd alice >> %s", name, name)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	u.decoy.hash = mostCommon(order).decoy()
	u.decoys = decoysOf(u.decoy.hash, order)
	return u, nil
}

// NoUsers is as of a file without users: every password is denied, after a hash.
func NoUsers() (*Users, error) {
	stored, err := HashPassword("of nobody", minBcryptCost)
	if err != nil {
		return nil, err
	}
	h, err := parseHash(stored)
	if err != nil {
		return nil, err
	}
	d := h.decoy()
	return &Users{byName: map[string]*user{}, decoy: user{hash: d}, decoys: []hash{d}}, nil
}

// parseLine parses line n. seen holds the users of the lines before, valid hash or not.
func parseLine(line string, n int, seen map[string]int) (*user, error) {
	name, stored, ok := strings.Cut(line, ":")
	if !ok {
		return nil, errors.New("no ':' in it; a line is user:hash, as printed by: gateway passwd alice")
	}
	if problem := userProblem(name); problem != "" {
		return nil, errors.New(problem)
	}
	if first, ok := seen[name]; ok {
		return nil, fmt.Errorf("user %s is on line %d already; keep one of the two", name, first)
	}
	seen[name] = n
	if strings.Contains(stored, ":") {
		return nil, errors.New("more than one ':'; a user name cannot hold ':' (RFC 7617), and no hash does: choose another name, or delete what follows the hash")
	}
	h, err := parseHash(strings.Clone(stored))
	if err != nil {
		return nil, fmt.Errorf("%w: gateway passwd %s", err, shellWord(name))
	}
	return &user{name: strings.Clone(name), hash: h}, nil
}

// userProblem says what is wrong with the name and how to mend it, or is empty. A good name can be sent by a client,
// and reads in a log as what it is.
func userProblem(name string) string {
	switch {
	case name == "":
		return "no user before ':'; a line is user:hash, as printed by: gateway passwd alice"
	case len(name) > maxUser:
		return fmt.Sprintf("the user name has %d bytes, more than %d; choose a shorter one", len(name), maxUser)
	case !utf8.ValidString(name):
		return "the user name is not UTF-8; save the file as UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "the user name holds a control or invisible character (or the file begins with a byte order mark); retype the name"
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return "the user name begins or ends with a space; remove it"
	}
	return ""
}

// shellWord returns s as one word of a POSIX shell, so that a remedy can be pasted.
func shellWord(s string) string {
	plain := !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@+", r)
	})
	if plain && s[0] != '-' {
		return s
	}
	quoted := "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	if s[0] == '-' {
		return "-- " + quoted
	}
	return quoted
}

// mostCommon returns the first hash of the kind and cost that most users have. users is not empty.
func mostCommon(users []*user) *hash {
	counts := make(map[costs]int)
	for _, u := range users {
		counts[u.hash.costs()]++
	}
	best := &users[0].hash
	for _, u := range users {
		if h := &u.hash; counts[h.costs()] > counts[best.costs()] {
			best = h
		}
	}
	return best
}

// decoysOf has one decoy of each kind and cost that users have: first, and others for the rest.
func decoysOf(first hash, users []*user) []hash {
	out := []hash{first}
	seen := map[costs]bool{first.costs(): true}
	for _, u := range users {
		if c := u.hash.costs(); !seen[c] {
			seen[c] = true
			out = append(out, u.hash.decoy())
		}
	}
	return out
}

// Names returns the users' names, sorted. The slice is the caller's.
func (u *Users) Names() []string {
	return slices.Sorted(maps.Keys(u.byName))
}
