// Package app is the wiring that both binaries share: a configuration in, a running gateway out.
package app
