// Package config reads one YAML file strictly into the rooms' own Config types, or says which line is wrong and how to mend it.
package config

import (
	"m3gateway/internal/audit"
	"m3gateway/internal/auth"
	"m3gateway/internal/certs"
	"m3gateway/internal/limits"
	"m3gateway/internal/listen"
	"m3gateway/internal/m3"
	"m3gateway/internal/proxy"
	"m3gateway/internal/tenant"
)

// Config is a whole gateway.yaml.
type Config struct {
	Listen   listen.Config `yaml:"listen"`
	TLS      certs.Config  `yaml:"tls"`
	Auth     auth.Config   `yaml:"auth"`
	Tenancy  tenant.Config `yaml:"tenancy"`
	Limits   limits.Config `yaml:"limits"`
	Upstream Upstream      `yaml:"upstream"`
	Log      Log           `yaml:"log"`
	Audit    audit.Config  `yaml:"audit"`
}

// Upstream is the `upstream:` section: what the store is and where its members are.
type Upstream struct {
	Store m3.Config    `yaml:",inline"`
	Pool  proxy.Config `yaml:",inline"`
}

// Log is the `log:` section.
type Log struct {
	// Format is json (default) or text.
	Format string `yaml:"format"`
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level"`
	// Access writes one line for each request. Default true.
	Access bool `yaml:"access"`
}
