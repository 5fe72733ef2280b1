//go:build tools

// Package etcd pins the etcd server that the end-to-end suite builds and runs.
package etcd

import (
	_ "go.etcd.io/etcd/server/v3"
)
