package app

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
	"m3gateway/internal/config"
	"m3gateway/internal/tenant"
)

// Loaded is a configuration with everything it names, read and checked. It is immutable.
type Loaded struct {
	Path   string // of the configuration
	Config *config.Config
	Users  *auth.Users
	// Tokens are nil without a tokens file.
	Tokens *auth.Tokens
	// Certificates map client certificates to users.
	Certificates *auth.Certificates
	Table        *tenant.Table
	Certs        *certs.Set
	// Files are the paths that it was read from; a change of one calls for another Load.
	Files []string
	// digest is of the files' contents.
	digest [sha256.Size]byte
	// credentials is that of the htpasswd and tokens files alone.
	credentials [sha256.Size]byte
}

// Load reads the configuration at path and the files it names. The error joins every problem found.
func Load(path string) (*Loaded, error) { return load(path, "") }

// load is Load for a process whose plain listener serves the user running, if that is not empty.
func load(path, running string) (*Loaded, error) {
	cfg, files, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	l := &Loaded{Path: path, Config: cfg, Files: files, digest: digest(files), Certificates: auth.NewCertificates(cfg.Auth.Certificates),
		credentials: digest([]string{cfg.Auth.HtpasswdFile, cfg.Auth.TokensFile})}
	var errs []error
	var tokenErr error
	if l.Users, err = readUsers(cfg.Auth.HtpasswdFile); err != nil {
		errs = append(errs, err)
	}
	if l.Tokens, tokenErr = readTokens(cfg.Auth.TokensFile); tokenErr != nil {
		errs = append(errs, tokenErr)
	}
	if len(errs) == 0 {
		if l.Table, err = newTable(cfg, l.named(), running); err != nil {
			errs = append(errs, err)
		}
	}
	if l.Certs, err = certs.Load(cfg.TLS); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

// readUsers reads the htpasswd file, if there is one.
func readUsers(file string) (*auth.Users, error) {
	if file == "" {
		return auth.NoUsers()
	}
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("auth.htpasswd_file cannot be read: %w; create it with: gateway passwd alice >> %s", err, file)
	}
	return auth.ParseHtpasswd(filepath.Base(file), data)
}

// readTokens reads the tokens file, if there is one.
func readTokens(file string) (*auth.Tokens, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("auth.tokens_file cannot be read: %w; make it of the lines that this prints last: gateway token alice", err)
	}
	return auth.ParseTokens(filepath.Base(file), data)
}

// named are the users of the htpasswd file and of the tokens file.
func (l *Loaded) named() []string {
	users := l.Users.Names()
	if l.Tokens != nil {
		users = append(users, l.Tokens.Names()...)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// newTable is the table of the htpasswd and tokens files' users, and of those that need no password: the one of the plain listener, and those
// that client certificates name. They need no entry in those files, but must be known, as a name that is spelt wrong would
// become a tenant of its own.
func newTable(cfg *config.Config, users []string, running string) (*tenant.Table, error) {
	type known struct{ key, user, remedy string }
	without := []known{
		{"listen.plain.user", cfg.Listen.Plain.Fixed(), "name a user that is, or give it tenants there"},
		{"listen.plain.user", running, "the listener serves it until the next start; keep it until then, or restart now"},
	}
	for _, user := range auth.NewCertificates(cfg.Auth.Certificates).Users() {
		without = append(without, known{"auth.certificates: the user", user, "name a user that is, or give it tenants there"})
	}
	for _, f := range without {
		if f.user == "" || slices.Contains(users, f.user) {
			continue
		}
		if _, ok := cfg.Tenancy.Users[f.user]; !ok {
			return nil, fmt.Errorf("%s %q is neither under tenancy.users nor in the htpasswd or tokens file; %s", f.key, f.user, f.remedy)
		}
		users = append(users, f.user)
	}
	return tenant.NewTable(cfg.Tenancy, users)
}

// maxFileBytes has room for 100,000 users.
const maxFileBytes = 16 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = errors.New("it has over 16MiB")
	}
	return data, err
}
