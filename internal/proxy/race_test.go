//go:build race

package proxy

import "time"

// stormLong is how long a simulated brown-out lasts: shorter here, where everything is ten times slower.
const stormLong = 10 * time.Second
