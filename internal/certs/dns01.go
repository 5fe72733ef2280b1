package certs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// newDNS01 returns the solver that cfg asks for.
func newDNS01(cfg DNS01, log *zap.Logger) *certmagic.DNS01Solver {
	return &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
		DNSProvider:        &rfc2136{cfg.RFC2136},
		TTL:                time.Minute,
		PropagationTimeout: cfg.Propagation,
		Resolvers:          cfg.Resolvers,
		OverrideDomain:     strings.TrimSuffix(cfg.Name, "."),
		Logger:             log,
	}}
}

// tsigAlgorithms are the known names to those of RFC 8945 section 6. What it no longer recommends is left out.
func tsigAlgorithms() map[string]string {
	return map[string]string{"hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512}
}

// rfc2136 adds and removes single TXT records by DNS updates, signed with TSIG, over TCP. Other records are not touched.
type rfc2136 struct {
	cfg RFC2136
}

// dnsTimeout bounds one update.
const dnsTimeout = 15 * time.Second

// AppendRecords implements libdns.RecordAppender.
func (r *rfc2136) AppendRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	return recs, r.update(ctx, zone, recs, (*dns.Msg).Insert)
}

// DeleteRecords implements libdns.RecordDeleter. It removes what has the same name, type and data, and nothing else.
func (r *rfc2136) DeleteRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	return recs, r.update(ctx, zone, recs, (*dns.Msg).Remove)
}

// update sends one message (RFC 2136 section 2) of what add makes of the records.
func (r *rfc2136) update(ctx context.Context, zone string, recs []libdns.Record, add func(*dns.Msg, []dns.RR)) error {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	msg := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	for _, rec := range recs {
		rr := rec.RR()
		if rr.Type != "TXT" {
			return fmt.Errorf("a DNS update of a %s record was asked for", rr.Type)
		}
		head := dns.RR_Header{Name: libdns.AbsoluteName(rr.Name, dns.Fqdn(zone)), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rr.TTL.Seconds())}
		add(msg, []dns.RR{&dns.TXT{Hdr: head, Txt: []string{rr.Data}}})
	}
	key := dns.Fqdn(strings.ToLower(r.cfg.KeyName))
	algorithm := tsigAlgorithms()[r.cfg.KeyAlgorithm]
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.cfg.Server)
	if err != nil {
		return fmt.Errorf("sending a DNS update: %w", err)
	}
	defer conn.Close()
	client := &dns.Client{Net: "tcp", TsigSecret: map[string]string{key: r.cfg.KeySecret}, Timeout: dnsTimeout}
	answer, _, err := client.ExchangeWithConnContext(ctx, msg.SetTsig(key, algorithm, 300, 0), &dns.Conn{Conn: conn})
	switch {
	case err != nil:
		return fmt.Errorf("sending a DNS update to %s: %w", r.cfg.Server, err)
	case answer.Rcode == dns.RcodeNotAuth || answer.Rcode == dns.RcodeRefused:
		return fmt.Errorf("%s refused a DNS update of %s (%s); let key_name update it, and check key_secret and both clocks", r.cfg.Server, zone, dns.RcodeToString[answer.Rcode])
	case answer.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("%s answered %s to a DNS update of %s", r.cfg.Server, dns.RcodeToString[answer.Rcode], zone)
	case answer.IsTsig() == nil:
		return errors.New("the answer to a DNS update is not signed, so it says nothing")
	}
	return nil
}
