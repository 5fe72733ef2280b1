package tenant

import (
	"reflect"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	cfg := Defaults()
	cfg.Users = map[string]UserConfig{
		"alice": {Tenants: []string{"team-b", "team-a", "team-a"}},
		"wonly": {Tenants: []string{"team-a"}, Rights: []string{"write"}},
		"ops":   {Tenants: []string{"*"}},
		"ghost": {Tenants: []string{"x"}},
	}
	cfg.Tenants = map[string]TenantConfig{"team-a": {Labels: map[string]string{"env": "prod", "zone": "z1"}}}
	cfg.Check(func(f, p string) { t.Errorf("%s: %s", f, p) })
	tab, err := NewTable(cfg, []string{"wonly", "alice", "ops", "own", "x"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Grant{
		{User: "alice", Tenants: []string{"team-a", "team-b"}, Read: true, Write: true},
		{User: "ops", All: true, Read: true},
		{User: "own", Tenants: []string{"own"}, Read: true, Write: true},
		{User: "wonly", Tenants: []string{"team-a"}, Write: true},
		{User: "x", Tenants: []string{"x"}, Read: true, Write: true},
	}
	if got := tab.Grants(); !reflect.DeepEqual(got, want) {
		t.Fatalf("grants\n%+v\nwant\n%+v", got, want)
	}
	if w := strings.Join(tab.Warnings(), "\n"); !strings.Contains(w, `"ghost"`) || !strings.Contains(w, `tenant "x"`) || len(tab.Warnings()) != 2 {
		t.Fatalf("warnings %q", w)
	}
	if got, want := tab.Enforced("team-a"), []Label{{"env", "prod"}, {"tenant", "team-a"}, {"zone", "z1"}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("enforced %v", got)
	}
	if got, want := tab.Enforced("other"), []Label{{"tenant", "other"}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("enforced %v", got)
	}
}

func TestNarrow(t *testing.T) {
	g := Grant{User: "u", Tenants: []string{"a", "b"}, Read: true}
	for name, ok := range map[string]bool{"a": true, "b": true, "c": false, "": false, "a|b": false, "*": false} {
		n, got := g.Narrow(name)
		if got != ok || ok && (len(n.Tenants) != 1 || n.Tenants[0] != name || !n.Read) {
			t.Errorf("Narrow(%q) = %+v, %v", name, n, got)
		}
	}
	all := Grant{All: true, Read: true}
	for name, ok := range map[string]bool{"a": true, "": false, "*": false, "a\n": false} {
		if n, got := all.Narrow(name); got != ok || n.All {
			t.Errorf("all.Narrow(%q) = %+v, %v", name, n, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		edit  func(*Config)
		field string
	}{
		"label reserved":  {func(c *Config) { c.Label = "__name__" }, "label"},
		"label empty":     {func(c *Config) { c.Label = "" }, "label"},
		"label charset":   {func(c *Config) { c.Label = "te-nant" }, "label"},
		"policy":          {func(c *Config) { c.ClientLabel = "keep" }, "client_label"},
		"no tenants":      {func(c *Config) { c.Users = map[string]UserConfig{"a": {}} }, "users.a.tenants"},
		"star and others": {func(c *Config) { c.Users = map[string]UserConfig{"a": {Tenants: []string{"*", "b"}}} }, "users.a.tenants"},
		"star writes": {func(c *Config) {
			c.Users = map[string]UserConfig{"a": {Tenants: []string{"*"}, Rights: []string{"write"}}}
		}, "users.a.rights"},
		"unknown right": {func(c *Config) {
			c.Users = map[string]UserConfig{"a": {Tenants: []string{"b"}, Rights: []string{"admin"}}}
		}, "users.a.rights"},
		"no right at all":     {func(c *Config) { c.Users = map[string]UserConfig{"a": {Tenants: []string{"b"}, Rights: []string{}}} }, "users.a.rights"},
		"control in tenant":   {func(c *Config) { c.Users = map[string]UserConfig{"a": {Tenants: []string{"b\n"}}} }, "users.a.tenants"},
		"static is tenant":    {func(c *Config) { c.Tenants = map[string]TenantConfig{"a": {map[string]string{"tenant": "b"}}} }, "tenants.a.labels.tenant"},
		"static reserved":     {func(c *Config) { c.Tenants = map[string]TenantConfig{"a": {map[string]string{"__name__": "b"}}} }, "tenants.a.labels.__name__"},
		"static empty value":  {func(c *Config) { c.Tenants = map[string]TenantConfig{"a": {map[string]string{"b": ""}}} }, "tenants.a.labels.b"},
		"star as tenant name": {func(c *Config) { c.Tenants = map[string]TenantConfig{"*": {}} }, "tenants.*"},
	} {
		cfg := Defaults()
		tc.edit(&cfg)
		var got []string
		cfg.Check(func(f, p string) {
			got = append(got, f)
			if p == "" {
				t.Errorf("%s: no remedy", name)
			}
		})
		if len(got) != 1 || got[0] != tc.field {
			t.Errorf("%s: %v, want %s", name, got, tc.field)
		}
	}
}

func TestUnmappedUserMustBeATenantName(t *testing.T) {
	if _, err := NewTable(Defaults(), []string{"*"}); err == nil {
		t.Fatal(`user "*" became a tenant`)
	}
}
