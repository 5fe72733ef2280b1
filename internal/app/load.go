package app

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	Table  *tenant.Table
	Certs  *certs.Set
	// Files are the paths that it was read from; a change of one calls for another Load.
	Files []string
	// digest is of the files' contents.
	digest [sha256.Size]byte
}

// Load reads the configuration at path and the files it names. The error joins every problem found.
func Load(path string) (*Loaded, error) {
	cfg, files, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	l := &Loaded{Path: path, Config: cfg, Files: files, digest: digest(files)}
	var errs []error
	file := cfg.Auth.HtpasswdFile
	if data, err := readFile(file); err != nil {
		errs = append(errs, fmt.Errorf("auth.htpasswd_file cannot be read: %w; create it with: gateway passwd alice >> %s", err, file))
	} else if l.Users, err = auth.ParseHtpasswd(filepath.Base(file), data); err != nil {
		errs = append(errs, err)
	} else if l.Table, err = tenant.NewTable(cfg.Tenancy, l.Users.Names()); err != nil {
		errs = append(errs, err)
	}
	if l.Certs, err = certs.Load(cfg.TLS); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
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
