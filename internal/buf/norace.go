//go:build !race

package buf

// mangle is off: overwriting costs as much as copying.
const mangle = false
