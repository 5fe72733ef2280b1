package measure

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
)

// The client's account and its tenant, and another's.
const (
	User      = "alice"
	OtherUser = "bob"
	Password  = "correct horse battery staple"
	Tenant    = "team-a"
)

// BcryptCost is that of the client's password; crowdCost is that of the many users of a curve, whose first request each is over
// before the clock is read.
const (
	BcryptCost = 10
	crowdCost  = 4
)

// Site is where a gateway listens and what store it has.
type Site struct {
	HTTPS, Plain, Admin, Store string
	Members                    []string // further stores, beside Store
	Upstream                   string   // a further line of the upstream section
	Listen                     string   // further lines of the listen section, each with its end
	PerIP                      int      // max_connections_per_ip; 0: the gateway's default
	Open                       bool     // Plain asks for no password: every request there is User's
	Sections                   string   // further whole sections
	Cost                       int      // bcrypt cost of the passwords; 0: BcryptCost, and crowdCost
	Crowd                      int      // further users, each its own tenant
}

// CrowdName is the nth user of the crowd.
func CrowdName(n int) string { return fmt.Sprintf("user-%05d", n) }

// Configure writes the files of a gateway into dir and returns the path of the configuration.
func (at Site) Configure(dir string, now time.Time) (string, error) {
	pair, _, err := certs.Development(filepath.Join(dir, "tls"), []string{"127.0.0.1"}, now)
	if err != nil {
		return "", err
	}
	users, err := at.passwords()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(users), 0o600); err != nil {
		return "", err
	}
	listen := at.Listen
	if at.PerIP > 0 {
		listen += fmt.Sprintf("  max_connections_per_ip: %d\n", at.PerIP)
	}
	policy := "required"
	if at.Open {
		policy = "none, user: " + User
	}
	urls := []string{"http://" + at.Store}
	for _, m := range at.Members {
		urls = append(urls, "http://"+m)
	}
	file := filepath.Join(dir, "gateway.yaml")
	return file, os.WriteFile(file, fmt.Appendf(nil, `listen:
  https_address: %s
  plain: {address: "%s", auth: %s}
  admin_address: %s
  shutdown_delay: 0s
%stls:
  certificates:
    - cert_file: %s
      key_file: %s
auth:
  htpasswd_file: htpasswd
  cache_size: 20000
tenancy:
  users:
    %s: {tenants: [%s]}
    %s: {tenants: [team-b]}
upstream:
  kind: prometheus
  urls: [%s]
  %s
%s
`, at.HTTPS, at.Plain, policy, at.Admin, listen, pair.CertFile, pair.KeyFile, User, Tenant, OtherUser, strings.Join(urls, ", "), at.Upstream, at.Sections), 0o600)
}

// passwords is the htpasswd file.
func (at Site) passwords() (string, error) {
	var users strings.Builder
	for _, name := range []string{User, OtherUser} {
		hash, err := auth.HashPassword(Password, cmp.Or(at.Cost, BcryptCost))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&users, "%s:%s\n", name, hash)
	}
	if at.Crowd > 0 {
		hash, err := auth.HashPassword(Password, cmp.Or(at.Cost, crowdCost))
		if err != nil {
			return "", err
		}
		for n := range at.Crowd {
			fmt.Fprintf(&users, "%s:%s\n", CrowdName(n), hash)
		}
	}
	return users.String(), nil
}
