package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"m3gateway/internal/smoke"
)

type smokeCmd struct {
	URL          string        `name:"url" required:"" help:"Address of the gateway, such as https://metrics.example.com:8443."`
	User         string        `help:"User who may read and write; none: no credential is sent."`
	PasswordFile string        `name:"password-file" placeholder:"FILE" help:"File whose first line is the password; - is standard input. Without it: the variable M3GATEWAY_PASSWORD, or a question on the terminal."`
	CAFile       string        `name:"ca-file" placeholder:"FILE" help:"Certificates of the authorities to trust in place of the system's."`
	Tenant       string        `help:"The tenant that must come out; with --select it is sent as X-Tenant, as a user of several tenants must."`
	Select       bool          `help:"Send --tenant as X-Tenant."`
	TenantLabel  string        `name:"tenant-label" default:"tenant" help:"The label that the gateway sets (default tenant)."`
	Plain        bool          `help:"The address is a coordinator's: no users, no TLS, no tenant."`
	MinValidity  time.Duration `name:"min-validity" default:"168h" help:"How long the certificate must still be valid (default 168h)."`
	OldAge       time.Duration `name:"old-age" default:"24h" help:"Age of the sample that must be refused (default 24h)."`
	Wait         time.Duration `default:"15s" help:"How long a sample may take from its write to a query (default 15s)."`
	JSON         bool          `name:"json" help:"Print the report as JSON."`
}

// Help is shown by gateway smoke --help.
func (*smokeCmd) Help() string {
	return `Writes three series through the front door, reads them back every way, and checks that an old sample, a wrong password and a missing one are refused. Exit status: 0 all is well, 1 a check failed, 2 a wrong command line.

  gateway smoke --url https://metrics.example.com:8443 --user alice --tenant team-a
  gateway smoke --url http://m3coordinator:7201 --plain`
}

// Run fails if a check does.
func (c *smokeCmd) Run(ctx context.Context, std streams) error {
	if c.Select && c.Tenant == "" {
		return errors.New("--select needs a --tenant to select")
	}
	o := smoke.Options{
		URL: c.URL, User: c.User, Tenant: c.Tenant, SelectTenant: c.Select, TenantLabel: c.TenantLabel, Plain: c.Plain,
		MinValidity: c.MinValidity, OldAge: c.OldAge, Wait: c.Wait, Now: time.Now,
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--ca-file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.User != "" {
		var err error
		if o.Password, err = c.password(ctx, std); err != nil {
			return err
		}
	}
	report, err := smoke.Run(ctx, o)
	if err != nil {
		return err
	}
	if c.JSON {
		err = std.json(report)
	} else {
		err = report.WriteTable(std.out)
	}
	if err == nil && !report.OK {
		err = errors.New("the smoke test failed")
	}
	return err
}

// password is the user's, from a file, the environment or the terminal.
func (c *smokeCmd) password(ctx context.Context, std streams) (string, error) {
	switch {
	case c.PasswordFile == "-":
		return firstLine(std.in)
	case c.PasswordFile != "":
		f, err := os.Open(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("--password-file: %w", err)
		}
		defer f.Close()
		return firstLine(f)
	}
	if p, ok := os.LookupEnv("M3GATEWAY_PASSWORD"); ok {
		return p, nil
	}
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return ask(ctx, f, std.err, "Password for "+c.User+": ")
	}
	return "", errors.New("no password; give --password-file FILE, or - for standard input, or set M3GATEWAY_PASSWORD")
}

// firstLine is the first line of r, at most 4096 bytes, without its end.
func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return "", errors.New("the password is empty")
	}
	return line, nil
}
