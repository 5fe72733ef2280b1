package certs

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxFileBytes bounds a PEM file: a chain of ten RSA-4096 certificates and a key are under 40 KiB.
const maxFileBytes = 1 << 20

// Set is the certificates of the configured files, and what is asked of clients. It is immutable; the zero Set holds no
// certificate and asks for none.
type Set struct {
	entries []*entry            // in the order of the config
	byName  map[string][]*entry // lower-case DNS name, "*.example.org" included, to its certificates in the order of the config
	clients clientAuth
}

// entry is one certificate with its key.
type entry struct {
	pair  Pair
	cert  tls.Certificate // Leaf is set
	names []string        // lower-case DNS names, then IP addresses
}

// Load reads every pair of cfg.Certificates and the authorities of cfg.ClientAuth, or says which file is wrong and how to mend it.
// An expired certificate loads, so that a reload of something else is not held up by it: see Warnings.
func Load(cfg Config) (*Set, error) {
	s := &Set{byName: make(map[string][]*entry)}
	var errs []error
	for _, pair := range cfg.Certificates {
		e, err := read(pair)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, other := range s.entries {
			if bytes.Equal(other.cert.Leaf.Raw, e.cert.Leaf.Raw) {
				errs = append(errs, fmt.Errorf("%s holds the same certificate as %s; remove one of the pairs", pair.CertFile, other.pair.CertFile))
			}
		}
		s.entries = append(s.entries, e)
		for _, name := range e.cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			s.byName[name] = append(s.byName[name], e)
		}
	}
	var err error
	if s.clients, err = readClientAuth(cfg.ClientAuth); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// read parses one pair of files.
func read(pair Pair) (*entry, error) {
	certPEM, err := readFile(pair.CertFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := readFile(pair.KeyFile)
	if err != nil {
		return nil, err
	}
	if !holds(certPEM, func(kind string) bool { return kind == "CERTIFICATE" }) {
		return nil, fmt.Errorf("%s holds no PEM certificate; it must begin with the server's certificate, its intermediates after it", pair.CertFile)
	}
	if !holds(keyPEM, func(kind string) bool { return strings.HasSuffix(kind, "PRIVATE KEY") }) {
		return nil, fmt.Errorf("%s holds no PEM private key; give the key that %s was issued for", pair.KeyFile, pair.CertFile)
	}
	if holds(keyPEM, func(kind string) bool { return kind == "ENCRYPTED PRIVATE KEY" }) || bytes.Contains(keyPEM, []byte("Proc-Type: 4,ENCRYPTED")) {
		return nil, fmt.Errorf("%s is encrypted; decrypt it with: openssl pkey -in KEY -out NEWKEY", pair.KeyFile)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("pairing %s with %s: %w; the key must be the one of the first certificate in the file, and the server's own certificate must come first", pair.CertFile, pair.KeyFile, err)
	}
	e := &entry{pair: pair, cert: cert}
	for _, name := range cert.Leaf.DNSNames {
		e.names = append(e.names, strings.ToLower(name))
	}
	for _, ip := range cert.Leaf.IPAddresses {
		e.names = append(e.names, ip.String())
	}
	return e, nil
}

// readFile reads a file of at most maxFileBytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w; paths are relative to the config file", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; let the gateway's user read it", err)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w; give a readable PEM file", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is over %d bytes; give a PEM file of one certificate chain or key", path, maxFileBytes)
	}
	return data, nil
}

// holds reports whether data has a PEM block whose type kind accepts.
func holds(data []byte, kind func(string) bool) bool {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return false
		}
		if kind(b.Type) {
			return true
		}
	}
}

// Select returns the certificate for a ClientHello: the first that is valid for its server name (exact, else by a wildcard
// for its first label) and that the client supports; if it supports none of them, the first of them. A client that names no
// server gets the first of all that it supports. nil: no certificate has the name. The caller must not change the result.
func (s *Set) Select(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(hello.ServerName)
	if name == "" {
		return choose(hello, s.entries)
	}
	if c := choose(hello, s.byName[name]); c != nil {
		return c
	}
	_, parent, _ := strings.Cut(name, ".")
	return choose(hello, s.byName["*."+parent])
}

// fallback is what Select would answer if the client had named no server.
func (s *Set) fallback(hello *tls.ClientHelloInfo) *tls.Certificate {
	unnamed := *hello
	unnamed.ServerName = ""
	return s.Select(&unnamed)
}

// choose returns the first of entries that the client supports, else the first, else nil.
func choose(hello *tls.ClientHelloInfo, entries []*entry) *tls.Certificate {
	if len(entries) == 0 {
		return nil
	}
	for _, e := range entries {
		if hello.SupportsCertificate(&e.cert) == nil {
			return &e.cert
		}
	}
	return &entries[0].cert
}

// Describe returns one line for each certificate: its names, issuer and last day.
func (s *Set) Describe() []string {
	lines := make([]string, len(s.entries))
	for i, e := range s.entries {
		lines[i] = fmt.Sprintf("%s: issued by %s, valid until %s (%s)",
			e.label(), e.cert.Leaf.Issuer, e.cert.Leaf.NotAfter.UTC().Format(time.DateOnly), e.pair.CertFile)
	}
	return lines
}

// label is the names of the certificate, or its subject if it has none.
func (e *entry) label() string {
	if len(e.names) == 0 {
		return e.cert.Leaf.Subject.String()
	}
	return strings.Join(e.names, ", ")
}

// Warnings returns one line, remedy included, for each certificate that clients will refuse at now, or soon, or never get.
func (s *Set) Warnings(now time.Time) []string {
	var lines []string
	for _, e := range s.entries {
		leaf := e.cert.Leaf
		switch left := leaf.NotAfter.Sub(now); {
		case left < 0:
			lines = append(lines, fmt.Sprintf("%s expired at %s; renew it", e.pair.CertFile, leaf.NotAfter.UTC().Format(time.RFC3339)))
		case now.Before(leaf.NotBefore):
			lines = append(lines, fmt.Sprintf("%s is not valid before %s; check this machine's clock, or put the earlier certificate back", e.pair.CertFile, leaf.NotBefore.UTC().Format(time.RFC3339)))
		case left < leaf.NotAfter.Sub(leaf.NotBefore)/6:
			lines = append(lines, fmt.Sprintf("%s expires at %s; renew it", e.pair.CertFile, leaf.NotAfter.UTC().Format(time.RFC3339)))
		}
		if len(e.names) == 0 {
			lines = append(lines, fmt.Sprintf("%s names no host (no subjectAltName), so clients refuse it; order it anew with its host names", e.pair.CertFile))
		}
		for _, name := range e.names {
			for _, first := range s.byName[name] {
				if first == e {
					break
				}
				if first.cert.Leaf.PublicKeyAlgorithm == leaf.PublicKeyAlgorithm {
					lines = append(lines, fmt.Sprintf("%s is not used for %s, because %s comes first; remove one of them", e.pair.CertFile, name, first.pair.CertFile))
					break
				}
			}
		}
	}
	return lines
}
