package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	developmentCALife   = 10 * 365 * 24 * time.Hour
	developmentLeafLife = 365 * 24 * time.Hour
	developmentRenewal  = 30 * 24 * time.Hour // what must be left of either
)

// Development returns a server certificate for hosts (DNS names and IP addresses) and the file of the authority that signed
// it, for clients to trust. Both are made once, with ECDSA P-256 keys, and kept in dir, which is created with mode 0700:
//
//	ca.pem      key and certificate of the authority, mode 0600; ten years
//	ca.crt      its certificate
//	server.pem  key and certificate of the server, mode 0600; one year
//
// The server's is made anew when under 30 days are left of it, when hosts differ from its names, or when it is damaged. The
// authority is never replaced while it is valid: a damaged one is an error. Each file is replaced by rename, whole or not at
// all, with its key and certificate in one file. One process at a time may use dir.
func Development(dir string, hosts []string, now time.Time) (pair Pair, caFile string, err error) {
	if len(hosts) == 0 {
		return Pair{}, "", errors.New("a development certificate needs at least one host")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Pair{}, "", fmt.Errorf("creating the directory of the development certificate: %w", err)
	}
	ca, err := developmentCA(filepath.Join(dir, "ca.pem"), now)
	if err != nil {
		return Pair{}, "", err
	}
	caFile = filepath.Join(dir, "ca.crt")
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Leaf.Raw})
	if old, err := os.ReadFile(caFile); err != nil || !bytes.Equal(old, caPEM) {
		if err := writeFile(caFile, caPEM, 0o644); err != nil {
			return Pair{}, "", fmt.Errorf("writing the development authority's certificate: %w", err)
		}
	}
	server := filepath.Join(dir, "server.pem")
	pair = Pair{CertFile: server, KeyFile: server}
	if old, err := tls.LoadX509KeyPair(server, server); err == nil && serves(old.Leaf, ca.Leaf, hosts, now) {
		return pair, caFile, nil
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		NotAfter:    now.Add(developmentLeafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if template.NotAfter.After(ca.Leaf.NotAfter) {
		template.NotAfter = ca.Leaf.NotAfter
	}
	if err := issue(server, template, ca, now); err != nil {
		return Pair{}, "", fmt.Errorf("making the development certificate: %w", err)
	}
	return pair, caFile, nil
}

// developmentCA loads the authority in file, or makes it if there is none or it is about to end.
func developmentCA(file string, now time.Time) (*tls.Certificate, error) {
	ca, err := tls.LoadX509KeyPair(file, file)
	switch {
	case err == nil && ca.Leaf.IsCA && ca.Leaf.NotAfter.Sub(now) >= developmentRenewal:
		return &ca, nil
	case err == nil && !ca.Leaf.IsCA:
		return nil, fmt.Errorf("%s is no certificate authority; move it away", file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("loading the development authority from %s: %w; move it away to have a new one made", file, err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "m3gateway development CA"},
		NotAfter:              now.Add(developmentCALife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if err := issue(file, template, nil, now); err != nil {
		return nil, fmt.Errorf("making the development authority: %w", err)
	}
	if ca, err = tls.LoadX509KeyPair(file, file); err != nil {
		return nil, fmt.Errorf("loading the development authority: %w", err)
	}
	return &ca, nil
}

// serves reports whether leaf was signed by ca, is for exactly hosts, and has enough time left at now.
func serves(leaf, ca *x509.Certificate, hosts []string, now time.Time) bool {
	var names, want []string
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	names = append(names, leaf.DNSNames...)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			h = ip.String()
		}
		want = append(want, h)
	}
	slices.Sort(names)
	slices.Sort(want)
	return leaf.CheckSignatureFrom(ca) == nil && slices.EqualFunc(names, want, strings.EqualFold) &&
		now.After(leaf.NotBefore) && leaf.NotAfter.Sub(now) >= developmentRenewal
}

// issue completes template, signs it with ca (nil: itself) and writes its new key and the certificate to file.
func issue(file string, template *x509.Certificate, ca *tls.Certificate, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template.NotBefore = now.Add(-time.Hour) // clients' clocks may be behind
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	return writeFile(file, data, 0o600)
}

// writeFile replaces file by data, whole or not at all: temporary file in the same directory, fsync, rename.
func writeFile(file string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
