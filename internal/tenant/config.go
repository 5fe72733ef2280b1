package tenant

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Everyone in `tenants:` stands for every tenant.
const Everyone = "*"

const (
	maxNameBytes  = 256  // a tenant's name travels in a header and in every series
	maxValueBytes = 1024 // a static label's value is written into every series
)

// Defaults is the section as if it were empty.
func Defaults() Config {
	return Config{Label: "tenant", ClientLabel: Override}
}

// Check calls bad for every field that cannot work, with the remedy.
func (c *Config) Check(bad func(field, problem string)) {
	if !validLabel(c.Label) {
		bad("label", fmt.Sprintf("%q cannot be the tenant label; use letters, digits and _, not starting with a digit or __", c.Label))
	}
	switch c.ClientLabel {
	case Override, Reject, Allow:
	default:
		bad("client_label", fmt.Sprintf("%q is no policy; use override, reject or allow", c.ClientLabel))
	}
	for user, u := range c.Users {
		u.check("users."+user, bad)
	}
	for name, t := range c.Tenants {
		if p := nameProblem(name); p != "" {
			bad("tenants."+name, p)
		}
		for label, value := range t.Labels {
			field := "tenants." + name + ".labels." + label
			switch {
			case !validLabel(label):
				bad(field, fmt.Sprintf("%q cannot be a static label; use letters, digits and _, not starting with a digit or __", label))
			case label == c.Label:
				bad(field, "the tenant label is set from the tenant's name; remove it here")
			case value == "" || len(value) > maxValueBytes || !utf8.ValidString(value):
				bad(field, fmt.Sprintf("the value must be UTF-8 text of 1 to %d bytes", maxValueBytes))
			}
		}
	}
}

func (u UserConfig) check(field string, bad func(field, problem string)) {
	if len(u.Tenants) == 0 {
		bad(field+".tenants", "name at least one tenant, or remove the user here so that its own name is its tenant")
	}
	for _, name := range u.Tenants {
		if name == Everyone {
			if len(u.Tenants) > 1 {
				bad(field+".tenants", `"*" is every tenant already; remove the others`)
			}
			if slices.Contains(u.Rights, "write") {
				bad(field+".rights", `a user of "*" may only read; use rights: [read], or name the tenants it writes`)
			}
			continue
		}
		if p := nameProblem(name); p != "" {
			bad(field+".tenants", p)
		}
	}
	if u.Rights != nil && len(u.Rights) == 0 {
		bad(field+".rights", "an empty list gives no right; use read and write, or leave the key out for both")
	}
	for _, r := range u.Rights {
		if r != "read" && r != "write" {
			bad(field+".rights", fmt.Sprintf("%q is no right; use read and write", r))
		}
	}
}

// nameProblem says why name cannot be a tenant, or nothing.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "a tenant's name cannot be empty"
	case name == Everyone:
		return `"*" stands for every tenant and cannot be one`
	case len(name) > maxNameBytes:
		return fmt.Sprintf("a tenant's name has at most %d bytes", maxNameBytes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "a tenant's name is UTF-8 text without control characters"
	case strings.TrimSpace(name) != name:
		return "a tenant's name has no space at its ends"
	}
	return ""
}

// validLabel reports whether name may be an enforced label: a classic label name outside the reserved __ space.
func validLabel(name string) bool {
	if name == "" || strings.HasPrefix(name, "__") || len(name) > maxNameBytes {
		return false
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}
