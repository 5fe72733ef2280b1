//go:build race

package buf

// mangle overwrites released buffers, so that a use after release shows.
const mangle = true
