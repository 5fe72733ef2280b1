package gateway

import (
	"net/http"
	"testing"
)

// Restricting is restricting, for the tests that see the gateway from outside.
func Restricting(t *testing.T, store http.Handler) http.Handler { return restricting(t, store) }
