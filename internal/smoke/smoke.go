package smoke

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Options say which door is tried, and as whom.
type Options struct {
	// URL of the door, without a path: https://metrics.example.com:8443.
	URL string
	// User and Password, for basic auth. Without a user no credential is sent, and nothing is asked about wrong ones.
	User, Password string
	// Tenant is the tenant that must come out. A gateway is also sent it as X-Tenant, if SelectTenant; "": any one tenant is right.
	Tenant       string
	SelectTenant bool
	// TenantLabel is the label that the gateway sets.
	TenantLabel string
	// Plain: the door is a coordinator, which has no users, no TLS of its own and sets no tenant.
	Plain bool
	// Roots are the authorities that are trusted; nil: the system's.
	Roots *x509.CertPool
	// MinValidity is how long a certificate must still be valid.
	MinValidity time.Duration
	// OldAge is the age of the sample that must be refused.
	OldAge time.Duration
	// Wait is how long a written sample may take to be found.
	Wait time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Status is what became of a check.
type Status string

const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Skipped Status = "skipped" // it does not apply here, or what it needs has failed
)

// Check is one thing that was tried.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail says what was found; for a failed check also what to do.
	Detail  string  `json:"detail"`
	Seconds float64 `json:"seconds"`
}

// Report is a whole run.
type Report struct {
	URL    string  `json:"url"`
	Run    string  `json:"run"` // the value of the label run on the series written
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// runner is a run under way.
type runner struct {
	Options
	client *http.Client
	run    string
	start  time.Time // when the run began, and the timestamp of its samples, in whole milliseconds
	tls    *tls.ConnectionState
}

// skip is the error of a check that does not apply.
type skip string

func (s skip) Error() string { return string(s) }

// Run tries the door. The error is about options; what the door does wrong is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return Report{}, errors.New("the address cannot be read; write one such as https://metrics.example.com:8443") // err could show a password
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return Report{}, fmt.Errorf("%q is no address of a gateway; write one such as https://metrics.example.com:8443, without path and credentials", u.Redacted())
	}
	if o.Plain && o.User != "" {
		return Report{}, errors.New("a coordinator has no users; leave the user out, or try a gateway")
	}
	id := make([]byte, 6)
	if _, err := rand.Read(id); err != nil {
		return Report{}, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	o.URL = u.Scheme + "://" + u.Host
	r := &runner{
		Options: o, run: hex.EncodeToString(id), start: o.Now().Truncate(time.Millisecond),
		client: &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	report := Report{URL: o.URL, Run: r.run, OK: true}
	failed := map[string]bool{}
	for _, c := range r.checks() {
		check := Check{Name: c.name, Status: OK}
		began := o.Now()
		var err error
		for _, need := range c.needs {
			if failed[need] {
				err = skip(need + " has failed")
			}
		}
		if err == nil {
			check.Detail, err = c.try(ctx)
		}
		check.Seconds = o.Now().Sub(began).Seconds()
		var s skip
		switch {
		case errors.As(err, &s):
			check.Status, check.Detail = Skipped, string(s)
			failed[c.name] = len(c.needs) > 0 && failed[c.needs[0]]
		case err != nil:
			check.Status, check.Detail = Failed, err.Error()
			failed[c.name], report.OK = true, false
		}
		report.Checks = append(report.Checks, check)
	}
	return report, nil
}

// check is one check before it is tried. One of which a need has failed is skipped.
type check struct {
	name  string
	needs []string
	try   func(context.Context) (detail string, err error)
}

// checks are all of them, in the order in which they are tried.
func (r *runner) checks() []check {
	written := []string{"write", "found"}
	return []check{
		{"certificate", nil, r.certificate},
		{"no password", []string{"certificate"}, func(ctx context.Context) (string, error) { return r.denied(ctx, "") }},
		{"wrong password", []string{"certificate"}, func(ctx context.Context) (string, error) { return r.denied(ctx, "not-"+r.run) }},
		{"write", []string{"certificate"}, r.write},
		{"found", []string{"write"}, r.found},
		{"tenant label", written, r.tenant},
		{"query", written, r.query},
		{"query range", written, r.queryRange},
		{"series", written, r.series},
		{"labels", written, r.labels},
		{"label values", written, r.labelValues},
		{"remote read", written, r.remoteRead},
		{"old sample", written, r.old},
		{"old sample is not kept", written, r.oldGone},
	}
}

// certificate opens a connection and looks at what answers there.
func (r *runner) certificate(ctx context.Context) (string, error) {
	resp, err := r.do(ctx, request{method: http.MethodGet, path: "/api/v1/labels", anonymous: true})
	if err != nil {
		return "", fmt.Errorf("%w; is the address right, and the authority of its certificate trusted (--ca-file)?", err)
	}
	if r.tls = resp.tls; r.tls == nil {
		return "", skip("no TLS at " + r.URL)
	}
	leaf := r.tls.PeerCertificates[0]
	left := leaf.NotAfter.Sub(r.Now())
	detail := fmt.Sprintf("%s, issued by %s, %s, valid until %s", tls.VersionName(r.tls.Version), issuer(leaf), resp.proto, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
	if left < r.MinValidity {
		return "", fmt.Errorf("%s: only %s more; renew it, or see why ACME does not (m3gateway_certs_acme_failures_total)", detail, left.Round(time.Minute))
	}
	return detail, nil
}

func issuer(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return c.Issuer.String()
}

// denied asks and writes with a password that is not the user's.
func (r *runner) denied(ctx context.Context, password string) (string, error) {
	if r.Plain {
		return "", skip("a coordinator has no users")
	}
	if r.User == "" {
		return "", skip("no user was given")
	}
	for _, q := range []request{{method: http.MethodGet, path: "/api/v1/query", query: url.Values{"query": {"vector(1)"}}}, r.writeRequest(r.batch(r.start))} {
		q.anonymous, q.password = password == "", password
		resp, err := r.do(ctx, q)
		if err != nil {
			return "", err
		}
		if password != "" && resp.status == http.StatusTooManyRequests { // not even looked at
			return "429 to a query or a write: there were too many failed attempts before", nil
		}
		if resp.status != http.StatusUnauthorized {
			return "", fmt.Errorf("%s %s answered %d instead of 401: whoever reaches the door gets in", q.method, q.path, resp.status)
		}
	}
	return "401 to a query and to a write", nil
}
