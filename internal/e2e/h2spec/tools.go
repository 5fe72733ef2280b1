//go:build tools

// Package h2spec pins the HTTP/2 conformance test that the end-to-end suite builds and runs.
package h2spec

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
)
