package app_test

import (
	"strings"
	"testing"

	"m3gateway/internal/gatewaytest"
)

// TestReplicasByDNS: the number of addresses divides the limits, and a name that has none leaves them as they are.
func TestReplicasByDNS(t *testing.T) {
	for dns, says := range map[string]string{"localhost": "m3gateway_gateway_limit_replicas 1\n", "no.such.name.invalid": "limits.replicas.dns cannot be looked up"} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Users: []string{"alice"}, Extra: "limits: {replicas: {dns: " + dns + "}}"})
		gatewaytest.Until(t, says, func() bool {
			return strings.Contains(g.Admin("GET", "/metrics").Body+g.Log.String(), says)
		})
	}
}
