//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package certs

import "os"

// lockFile locks nothing on these systems: a directory is for one gateway at a time.
func lockFile(*os.File) (bool, error) { return true, nil }
