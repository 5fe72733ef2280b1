package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// clientAuth is what a Set asks of clients. The zero value asks for nothing.
type clientAuth struct {
	kind tls.ClientAuthType
	pool *x509.CertPool
}

// readClientAuth reads the bundle that cfg names.
func readClientAuth(cfg ClientAuth) (clientAuth, error) {
	kinds := map[string]tls.ClientAuthType{ClientOptional: tls.VerifyClientCertIfGiven, ClientRequired: tls.RequireAndVerifyClientCert}
	kind, ok := kinds[cfg.Mode]
	if !ok {
		return clientAuth{}, nil
	}
	pool, err := readPool(cfg.CAFile)
	if err != nil {
		return clientAuth{}, fmt.Errorf("tls.client_auth.ca_file: %w; give the PEM bundle of the authorities that sign the clients' certificates", err)
	}
	return clientAuth{kind, pool}, nil
}

// clientConfig is base with what the Set asks of clients.
func (s *Set) clientConfig(base *tls.Config) *tls.Config {
	if s.clients.kind == tls.NoClientCert {
		return base
	}
	c := base.Clone()
	c.GetConfigForClient = nil
	c.ClientAuth, c.ClientCAs = s.clients.kind, s.clients.pool
	return c
}
