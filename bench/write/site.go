package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
)

// The sender's account and its tenant.
const (
	userName = "alice"
	password = "correct horse battery staple"
	tenant   = "team-a"
)

// bcryptCost is that of the sender's password; crowdCost is that of the many users of the curve, whose first request each is
// over before the clock is read.
const (
	bcryptCost = 10
	crowdCost  = 4
)

// site is where a gateway listens and what it writes to.
type site struct {
	https, plain, admin, store string
	upstream                   string // a further line of the upstream section
	crowd                      int    // further users, each its own tenant
}

// crowdName is the nth user of the crowd.
func crowdName(n int) string { return fmt.Sprintf("user-%05d", n) }

// configure writes the files of a gateway into dir and returns the path of the configuration.
func configure(dir string, at site, now time.Time) (string, error) {
	pair, _, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1"}, now)
	if err != nil {
		return "", err
	}
	var users strings.Builder
	for _, name := range []string{userName, "bob"} {
		hash, err := auth.HashPassword(password, bcryptCost)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&users, "%s:%s\n", name, hash)
	}
	if at.crowd > 0 {
		hash, err := auth.HashPassword(password, crowdCost)
		if err != nil {
			return "", err
		}
		for n := range at.crowd {
			fmt.Fprintf(&users, "%s:%s\n", crowdName(n), hash)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(users.String()), 0o600); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "gateway.yaml")
	return file, os.WriteFile(file, fmt.Appendf(nil, `listen:
  https_address: %s
  plain: {address: "%s"}
  admin_address: %s
  shutdown_delay: 0s
tls:
  certificates:
    - cert_file: %s
      key_file: %s
auth:
  htpasswd_file: htpasswd
  cache_size: 20000
tenancy:
  users:
    %s: {tenants: [%s]}
    bob: {tenants: [team-b]}
upstream:
  kind: prometheus
  urls: [http://%s]
  %s
`, at.https, at.plain, at.admin, pair.CertFile, pair.KeyFile, userName, tenant, at.store, at.upstream), 0o600)
}
