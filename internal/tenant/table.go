package tenant

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Label is one enforced label.
type Label struct{ Name, Value string }

// Grant is what one user may do.
type Grant struct {
	User string
	// Tenants is sorted, without repeats; empty exactly when All is set.
	Tenants     []string
	All         bool
	Read, Write bool
}

// Table holds the grants of all users. It is immutable.
type Table struct {
	cfg      Config
	grants   []Grant // sorted by user
	warnings []string
}

// NewTable joins the section with the users that the htpasswd file holds. cfg must have passed Check.
// A user without an entry in cfg.Users is its own tenant, with both rights.
func NewTable(cfg Config, users []string) (*Table, error) {
	t := &Table{cfg: cfg}
	var errs []error
	named := map[string]string{} // tenant -> a user that an entry gives it to
	for user, u := range cfg.Users {
		for _, name := range u.Tenants {
			named[name] = user
		}
	}
	for _, user := range slices.Sorted(slices.Values(users)) {
		u, mapped := cfg.Users[user]
		if !mapped {
			if p := nameProblem(user); p != "" {
				errs = append(errs, fmt.Errorf("user %q is its own tenant, but %s; give it tenants under tenancy.users", user, p))
				continue
			}
			if other, ok := named[user]; ok {
				t.warnings = append(t.warnings, fmt.Sprintf("user %q has no entry under tenancy.users, so it reads and writes tenant %q, which user %q also has; give it an entry if that is not meant", user, user, other))
			}
			u = UserConfig{Tenants: []string{user}}
		}
		t.grants = append(t.grants, newGrant(user, u))
	}
	for _, user := range slices.Sorted(maps.Keys(cfg.Users)) {
		if !slices.Contains(users, user) {
			t.warnings = append(t.warnings, fmt.Sprintf("tenancy.users names %q, which the htpasswd file lacks; nobody can use that entry", user))
		}
	}
	return t, errors.Join(errs...)
}

func newGrant(user string, u UserConfig) Grant {
	g := Grant{User: user, All: slices.Contains(u.Tenants, Everyone)}
	if !g.All {
		g.Tenants = slices.Compact(slices.Sorted(slices.Values(u.Tenants)))
	}
	g.Read = len(u.Rights) == 0 || slices.Contains(u.Rights, "read")
	g.Write = !g.All && (len(u.Rights) == 0 || slices.Contains(u.Rights, "write"))
	return g
}

// Grants lists every user's grant, sorted by user. The caller must not change it.
func (t *Table) Grants() []Grant { return t.grants }

// Warnings lists what is allowed but probably not meant, each with its remedy.
func (t *Table) Warnings() []string { return t.warnings }

// LabelName is the tenant label.
func (t *Table) LabelName() string { return t.cfg.Label }

// ClientLabel is the policy for tenant labels that clients send.
func (t *Table) ClientLabel() ClientLabel { return t.cfg.ClientLabel }

// Strip reports whether the tenant label is left out of what g reads.
func (t *Table) Strip(g Grant) bool { return t.cfg.StripTenantLabel && len(g.Tenants) == 1 }

// Enforced lists the labels set on every sample of the tenant, the tenant label included, sorted by name.
func (t *Table) Enforced(tenant string) []Label {
	out := []Label{{t.cfg.Label, tenant}}
	for name, value := range t.cfg.Tenants[tenant].Labels {
		out = append(out, Label{name, value})
	}
	slices.SortFunc(out, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Narrow is the grant for one named tenant of it; false if the grant does not hold that tenant.
func (g Grant) Narrow(tenant string) (Grant, bool) {
	if nameProblem(tenant) != "" || !g.All && !slices.Contains(g.Tenants, tenant) {
		return Grant{}, false
	}
	g.All, g.Tenants = false, []string{tenant}
	return g, true
}
