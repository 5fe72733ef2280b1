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
	eventually(t, "the store has series of both", func() error {
		found, err := receiver.direct().query(`count by (tenant) (up)`, time.Now())
		if err == nil && len(found) != 2 {
			err = fmt.Errorf("it has %+v", found)
		}
		return err
	})
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
	if found, err := federating.direct().query(`{tenant=~".+", tenant!="`+alice.tenant+`"}`, time.Now()); err != nil || len(found) > 0 {
		t.Errorf("series of others were federated: %+v, %v", found, err)
	}
	status, text, err := g.client(t, bob).do("GET", "/federate?match[]="+url.QueryEscape(`{tenant=~".*"}`), "", nil)
	if err != nil || status != 200 || strings.Contains(string(text), alice.tenant+`"`) || !strings.Contains(string(text), `tenant="`+bob.tenant+`"`) {
		t.Errorf("bob is told %d, %v, %.300s", status, err, text)
	}
}

// TestExternalLabels: a store that calls itself by a tenant's label, and holds series of nobody, answers that tenant's remote
// read from the tenant's series and no others.
func TestExternalLabels(t *testing.T) {
	alice, bob := users()
	receiver := startPrometheus(t, func(addr string) string {
		return fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {tenant: %s}}
scrape_configs: [{job_name: nobody, static_configs: [{targets: [%q]}]}]
storage: {tsdb: {out_of_order_time_window: 15m}}
`, alice.tenant, addr)
	}, "--web.enable-remote-write-receiver")
	g := startGateway(t, receiver.addr, alice, bob)
	for _, u := range []user{alice, bob} {
		count(t, g.client(t, u), "values_of_"+u.name).moreAcknowledged(t, 20)
	}
	eventually(t, "the store has series of nobody", func() error {
		found, err := receiver.direct().query(`up{job="nobody",tenant=""}`, time.Now())
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("none")
		}
		return err
	})
	for _, u := range []user{alice, bob} {
		read, err := g.client(t, u).remoteRead("/api/v1/read", time.Now())
		if err != nil || len(read) != 1 {
			t.Errorf("%s: %v, %d series", u.name, err, len(read))
		}
		for labels := range read {
			if !strings.Contains(labels, "values_of_"+u.name) || !strings.Contains(labels, u.tenant) {
				t.Errorf("%s reads %s", u.name, labels)
			}
		}
	}
}
