package smoke

import (
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"m3gateway/internal/gatewaytest"
)

// door is a gateway in front of an embedded store, with a user of one tenant, a user of two and one who may only read.
func door(t *testing.T) *gatewaytest.Gateway {
	t.Helper()
	return gatewaytest.Start(t, gatewaytest.Setup{
		Users: []string{"alice", "bob", "reader"},
		Tenancy: `  users:
    alice: {tenants: [team-a]}
    bob: {tenants: [team-a, team-b]}
    reader: {tenants: [team-a], rights: [read]}`,
		Auth: "backoff: {user_failures: 0, address_failures: 0}", // each round fails on purpose
	})
}

func options(g *gatewaytest.Gateway, user string) Options {
	transport := g.Client.Transport.(*http.Transport)
	return Options{
		URL: g.URL, User: user, Password: gatewaytest.Password(user), TenantLabel: "tenant", Roots: transport.TLSClientConfig.RootCAs,
		MinValidity: time.Hour, OldAge: 24 * time.Hour, Wait: 10 * time.Second, Now: time.Now,
	}
}

func try(t *testing.T, o Options) map[string]Check {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	out, ok := map[string]Check{}, true
	for _, c := range report.Checks {
		out[c.Name] = c
		ok = ok && c.Status != Failed
		if c.Detail == "" {
			t.Errorf("%s says nothing", c.Name)
		}
	}
	if report.OK != ok || len(out) != len(report.Checks) || report.Run == "" {
		t.Errorf("report: %+v", report)
	}
	return out
}

// statuses are the checks with a status, as one text in their order.
func statuses(checks map[string]Check, s Status) string {
	var out []string
	for _, c := range new(runner).checks() {
		if checks[c.name].Status == s {
			out = append(out, c.name)
		}
	}
	return strings.Join(out, ", ")
}

func TestAllIsWell(t *testing.T) {
	g := door(t)
	for name, change := range map[string]func(*Options){
		"one tenant": func(*Options) {},
		"by name":    func(o *Options) { o.Tenant = "team-a" },
		"selected": func(o *Options) {
			o.User, o.Password, o.Tenant, o.SelectTenant = "bob", gatewaytest.Password("bob"), "team-b", true
		},
		"slash at the end":   func(o *Options) { o.URL += "/" },
		"sample of a minute": func(o *Options) { o.OldAge = 11 * time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(g, "alice")
			change(&o)
			checks := try(t, o)
			if bad, left := statuses(checks, Failed), statuses(checks, Skipped); bad != "" || left != "" {
				t.Errorf("failed: %s; skipped: %s\n%+v", bad, left, checks)
			}
			for check, want := range map[string]string{"certificate": "TLS 1.3, issued by", "wrong password": "401 to a query and to a write", "old sample": "too_old 1 (older than 10m0s"} {
				if !strings.Contains(checks[check].Detail, want) {
					t.Errorf("%s: %q lacks %q", check, checks[check].Detail, want)
				}
			}
		})
	}
}

// TestStore: what has no users, tenants and TLS is tried for the rest.
func TestStore(t *testing.T) {
	o := options(door(t), "")
	// The embedded store has remote write and read where Prometheus has them.
	store, err := url.Parse(gatewaytest.Store(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(store)
			r.Out.URL.Path = strings.NewReplacer("/prom/remote/write", "/write", "/prom/remote/read", "/read").Replace(r.In.URL.Path)
		},
		// A coordinator gzips a remote read's snappy block for whoever takes gzip, and does not say so.
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path != "/api/v1/read" || !strings.Contains(r.Request.Header.Get("Accept-Encoding"), "gzip") {
				return nil
			}
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, err := io.Copy(z, r.Body)
			r.Body, r.ContentLength = io.NopCloser(&b), -1
			r.Header.Del("Content-Length")
			return errors.Join(err, z.Close())
		},
	}
	srv := httptest.NewServer(&proxy)
	defer srv.Close()
	o.URL, o.Plain, o.Tenant = srv.URL, true, "team-a"
	checks := try(t, o)
	if bad, left := statuses(checks, Failed), statuses(checks, Skipped); bad != "" || left != "certificate, no password, wrong password, tenant label" {
		t.Errorf("failed: %s; skipped: %s\n%+v", bad, left, checks)
	}
}

// fault is a door that does one thing wrong.
type fault struct {
	request  func(*http.Request)
	response func(*http.Response) error
}

// edit changes the body of the answers to a path.
func edit(path string, change func(string) string) fault {
	return fault{response: func(r *http.Response) error {
		if r.Request.URL.Path != path {
			return nil
		}
		b, err := io.ReadAll(r.Body)
		text := change(string(b))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Length", fmt.Sprint(len(text)))
		return err
	}}
}

func replace(path, old, now string) fault {
	return edit(path, func(text string) string { return strings.ReplaceAll(text, old, now) })
}

// status changes the status of the answers to a path which have the status from.
func status(path string, from, to int) fault {
	return fault{response: func(r *http.Response) error {
		if r.Request.URL.Path == path && r.StatusCode == from {
			r.StatusCode = to
		}
		return nil
	}}
}

// TestFaults: whatever a door does wrong is found by the check that is for it.
func TestFaults(t *testing.T) {
	g := door(t)
	target, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	const write, read = "/api/v1/prom/remote/write", "/api/v1/prom/remote/read"
	rest := "tenant label, query, query range, series, labels, label values, remote read, old sample, old sample is not kept"
	for name, c := range map[string]struct {
		fault   fault
		failed  string
		skipped string // beside certificate
		detail  string // of the first failed check
	}{
		"every password is right": {fault{request: func(r *http.Request) { r.SetBasicAuth("alice", gatewaytest.Password("alice")) }}, "no password, wrong password", "", "answered 200 instead of 401: whoever reaches the door gets in"},
		"a write is taken and lost": {fault{request: func(r *http.Request) {
			if r.URL.Path == write {
				r.URL.Path = "/api/v1/labels"
				r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
				r.Header.Del("Content-Type")
				r.Header.Del("Content-Encoding")
			}
		}}, "found", rest, "the write was acknowledged, and after 1s it is not to be found: 0 of 3 series are there"},
		"a query hangs": {fault{response: func(r *http.Response) error {
			if r.Request.URL.Path == "/api/v1/query" && r.StatusCode == http.StatusOK {
				<-r.Request.Context().Done()
			}
			return nil
		}}, "found", rest, "deadline exceeded"},
		"a write is refused":     {status(write, 204, 503), "write", "found, " + rest, "a write answered 503"},
		"a write is forbidden":   {status(write, 204, 403), "write", "found, " + rest, "403: the user may not write to this tenant"},
		"another tenant":         {replace("/api/v1/query", `"tenant":"team-a"`, `"tenant":"team-b"`), "tenant label", "", `the series written have tenant ["team-b"] instead of "team-a"`},
		"no tenant":              {replace("/api/v1/query", `"tenant":"team-a"`, `"other":"team-a"`), "", "", ""}, // cut from answers, and found by it
		"a value is another":     {replace("/api/v1/query", `"-0.1"`, `"-0.2"`), "query", "", "map[0:1 1:-0.2 2:1.2345678000001e+07]; map[0:1 1:-0.1 2:1.2345678000001e+07] was written"},
		"a value is no number":   {replace("/api/v1/query", `"-0.1"`, `"x"`), "query", "", "invalid syntax"},
		"a range is empty":       {edit("/api/v1/query_range", func(string) string { return `{"status":"success","data":{"resultType":"matrix","result":[]}}` }), "query range", "", "it has map[]"},
		"an error as a success":  {replace("/api/v1/query_range", `"success"`, `"error"`), "query range", "", `status "error"`},
		"a series of another":    {replace("/api/v1/series", `"run":"`, `"run":"x`), "series", "", "a series that was not asked for"},
		"a series twice":         {replace("/api/v1/series", `"series":"1"`, `"series":"2"`), "series", "", "3 series were written"},
		"a label is missing":     {replace("/api/v1/labels", `"run",`, ``), "labels", "", "label run is not in"},
		"a label value too many": {replace("/api/v1/label/series/values", `"2"`, `"2","3"`), "label values", "", `["0" "1" "2" "3"]`},
		"no JSON":                {edit("/api/v1/label/series/values", func(string) string { return "<html>" }), "label values", "", "invalid character"},
		"remote read fails":      {status(read, 200, 500), "remote read", "", "a remote read answered 500"},
		"remote read is garbage": {edit(read, func(string) string { return "\x05\x10hello" }), "remote read", "", "decoding the answer to a remote read"},
		"remote read is a bomb":  {edit(read, func(string) string { return "\xff\xff\xff\xff\x0f" }), "remote read", "", "no snappy block of a fitting size"},
		"an old sample is taken": {status(write, 400, 200), "old sample", "", "a sample 24h0m0s old was answered 200, as if it were stored"},
		"an old sample fails":    {status(write, 400, 500), "old sample", "", "answered 500 instead of 400"},
		"no reason is given":     {replace(write, "too_old", "bad"), "old sample", "", "does not give the reason"},
		"a redirect":             {status("/api/v1/series", 200, 301), "series", "", "answered 301"},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) {
					r.SetURL(target)
					r.Out.Header.Set("Accept-Encoding", "identity")
					if c.fault.request != nil {
						c.fault.request(r.Out)
					}
				},
				ModifyResponse: c.fault.response, Transport: g.Client.Transport,
			}
			srv := httptest.NewServer(&proxy)
			defer srv.Close()
			o := options(g, "alice")
			o.URL, o.Tenant = srv.URL, "team-a"
			if strings.HasPrefix(c.failed, "found") {
				o.Wait = time.Second // it is waited in vain
			}
			checks := try(t, o)
			skipped := "certificate"
			if c.skipped != "" {
				skipped += ", " + c.skipped
			}
			if got, left := statuses(checks, Failed), statuses(checks, Skipped); got != c.failed || left != skipped {
				t.Errorf("failed: %s; want %s; skipped: %s; want %s\n%+v", got, c.failed, left, skipped, checks)
			}
			first, _, _ := strings.Cut(c.failed, ", ")
			if !strings.Contains(checks[first].Detail, c.detail) {
				t.Errorf("%s: %s\nwant %s", first, checks[first].Detail, c.detail)
			}
		})
	}
}

// TestCertificates: what TLS does wrong stops everything.
func TestCertificates(t *testing.T) {
	g := door(t)
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"it ends too soon":     {func(o *Options) { o.MinValidity = 100 * 365 * 24 * time.Hour }, "more; renew it"},
		"it has ended":         {func(o *Options) { o.Now = func() time.Time { return time.Now().AddDate(200, 0, 0) } }, "more; renew it"},
		"an unknown authority": {func(o *Options) { o.Roots = x509.NewCertPool() }, "certificate signed by unknown authority; is the address right, and the authority of its certificate trusted (--ca-file)?"},
		"another name":         {func(o *Options) { o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1) }, "localhost"},
		"nobody there":         {func(o *Options) { o.URL = "https://127.0.0.1:1" }, "connection refused"},
		"no TLS there":         {func(o *Options) { o.URL = strings.Replace(g.AdminURL, "http://", "https://", 1) }, "server gave HTTP response to HTTPS client"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(g, "alice")
			c.change(&o)
			checks := try(t, o)
			if got := statuses(checks, Failed); got != "certificate" || !strings.Contains(checks["certificate"].Detail, c.want) {
				t.Errorf("failed: %s: %+v", got, checks["certificate"])
			}
			if n := strings.Count(statuses(checks, Skipped), ", ") + 1; n != len(checks)-1 {
				t.Errorf("%d of %d checks were skipped", n, len(checks))
			}
		})
	}
}

func TestWrongUsers(t *testing.T) {
	g := door(t)
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"wrong password": {func(o *Options) { o.Password = "guess" }, "401: the user or the password is wrong"},
		"may only read":  {func(o *Options) { o.User, o.Password = "reader", gatewaytest.Password("reader") }, "403: the user may not write to this tenant"},
		"not selected":   {func(o *Options) { o.User, o.Password = "bob", gatewaytest.Password("bob") }, "X-Tenant"},
		"not their team": {func(o *Options) { o.Tenant, o.SelectTenant = "team-b", true }, "403: "},
	} {
		o := options(g, "alice")
		c.change(&o)
		checks := try(t, o)
		if got := statuses(checks, Failed); got != "write" || !strings.Contains(checks["write"].Detail, c.want) {
			t.Errorf("%s: failed: %s: %+v", name, got, checks["write"])
		}
		for _, check := range checks {
			if strings.Contains(check.Detail, o.Password) {
				t.Errorf("%s: %s shows the password", name, check.Name)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for _, u := range []string{"", "metrics.example.com:8443", "ftp://h", "https://h/api", "https://h?x=1", "https://alice:pw@h", "https://", "http://[::1"} {
		if _, err := Run(t.Context(), Options{URL: u, Now: time.Now}); err == nil || strings.Contains(err.Error(), "pw@") {
			t.Errorf("%q: %v", u, err)
		}
	}
	if _, err := Run(t.Context(), Options{URL: "http://h", Plain: true, User: "alice", Now: time.Now}); err == nil {
		t.Error("a coordinator has users")
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	r := Report{URL: "https://h", Run: "ab", Checks: []Check{{"write", OK, "204", 0.0123}, {"found", Failed, "not there", 1.5}, {"query", Skipped, "found has failed", 0}}}
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := `https://h, run ab

CHECK  RESULT   TIME     FOUND
write  ok       12 ms    204
found  FAILED   1500 ms  not there
query  skipped  -        found has failed

1 of 3 checks failed.
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}
