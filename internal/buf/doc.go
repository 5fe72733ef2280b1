// Package buf lends pooled byte buffers: each has exactly one owner, released twice it panics, under the race detector it is mangled.
package buf
