//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestFederation: a real Prometheus scrapes the gateway's /federate as one user, and holds that user's tenant's series and no
// other's.
func TestFederation(t *testing.T) {
	alice, bob := users()
	receiver := startReceiver(t)
	g := startGateway(t, receiver.addr, alice, bob)
	for _, u := range []user{alice, bob} {
		startSender(t, g, u, "/api/v1/write", fmt.Sprintf("of: %s", u.name))
	}
	federating := startPrometheus(t, func(string) string {
		return fmt.Sprintf(`scrape_configs:
  - job_name: federate
    scrape_interval: 1s
    scrape_timeout: 1s
    honor_labels: true
    scheme: https
    metrics_path: /federate
    params: {'match[]': ['{__name__=~"prometheus_.+"}', 'up{tenant="%s"}']}
    basic_auth: {username: %s, password: %s}
    tls_config: {ca_file: %s}
    static_configs: [{targets: [%q]}]
`, bob.tenant, alice.name, alice.password, g.caFile, g.addr)
	})
	eventually(t, "the federating server has alice's series", func() error {
		found, err := federating.direct().query(`count by (tenant, of) ({__name__=~"prometheus_.+", of!=""})`, time.Now())
		if err != nil {
			return err
		}
		if len(found) != 1 || found[0].Metric["tenant"] != alice.tenant || found[0].Metric["of"] != alice.name {
			return fmt.Errorf("it has %+v", found)
		}
		return nil
	})
	eventually(t, "the store itself has both tenants", func() error {
		both, err := receiver.direct().query(`count by (tenant) (up)`, time.Now())
		if err == nil && len(both) != 2 {
			err = fmt.Errorf("it has %+v", both)
		}
		return err
	})
	if found, err := federating.direct().query(`{tenant=~".+", tenant!="`+alice.tenant+`"}`, time.Now()); err != nil || len(found) > 0 {
		t.Errorf("series of others were federated: %+v, %v", found, err)
	}
	status, text, err := g.client(t, bob).do("GET", "/federate?match[]="+url.QueryEscape(`{tenant=~".*"}`), "", nil)
	if err != nil || status != 200 || strings.Contains(string(text), alice.tenant+`"`) || !strings.Contains(string(text), `tenant="`+bob.tenant+`"`) {
		t.Errorf("bob is told %d, %v, %.300s", status, err, text)
	}
}
