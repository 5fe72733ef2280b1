// Package tenant turns a subject into its tenants, its rights and the labels enforced on its samples, from an immutable table.
package tenant

// ClientLabel says what happens to a tenant label that the client itself sent.
type ClientLabel string

const (
	Override ClientLabel = "override" // it is replaced
	Reject   ClientLabel = "reject"   // the whole request is refused
	Allow    ClientLabel = "allow"    // it is kept if it names one of the user's tenants
)

// Config is the `tenancy:` section.
type Config struct {
	// Label is the name of the enforced tenant label. Default "tenant".
	Label string `yaml:"label"`
	// ClientLabel is the policy for tenant labels sent by clients: override (default), reject or allow.
	ClientLabel ClientLabel `yaml:"client_label"`
	// StripTenantLabel leaves the tenant label out of what users of one tenant read: all that they see carries it. Default false.
	StripTenantLabel bool `yaml:"strip_tenant_label"`
	// Users maps a user to its tenants and rights. A user of the htpasswd file that is not named here is its own tenant.
	Users map[string]UserConfig `yaml:"users"`
	// Tenants holds settings by tenant.
	Tenants map[string]TenantConfig `yaml:"tenants"`
}

// UserConfig is one entry of `tenancy.users`.
type UserConfig struct {
	// Tenants are the tenants of the user; ["*"] means every tenant and may only be read.
	Tenants []string `yaml:"tenants"`
	// Rights are "read" and "write". Default both.
	Rights []string `yaml:"rights"`
}

// TenantConfig is one entry of `tenancy.tenants`.
type TenantConfig struct {
	// Labels are static labels set on every sample of the tenant; a client's own label of that name is replaced.
	Labels map[string]string `yaml:"labels"`
}
