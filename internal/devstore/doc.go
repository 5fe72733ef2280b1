// Package devstore is the embedded store behind gateway-dev: Prometheus' own TSDB, PromQL engine, remote-write and remote-read handlers in one process.
package devstore
