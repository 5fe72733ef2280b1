//go:build tools

// Package pebble pins the ACME test authority that the end-to-end suite builds and runs.
package pebble

import (
	_ "github.com/letsencrypt/pebble/v2/cmd/pebble"
)
