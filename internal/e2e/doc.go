// Package e2e runs the built binaries between real Prometheus servers, under the build tag e2e.
package e2e
