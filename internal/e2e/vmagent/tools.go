//go:build tools

// Package vmagent pins the real vmagent that the end-to-end suite builds and runs.
package vmagent

import _ "github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent"
