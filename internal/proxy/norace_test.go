//go:build !race

package proxy

import "time"

// stormLong is how long a simulated brown-out lasts.
const stormLong = 20 * time.Second
