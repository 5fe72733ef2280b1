package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// ordered is the certificates of the ACME domains that handshakes are answered from. It is immutable: a handshake takes no lock
// and waits for no storage.
type ordered struct {
	certs map[string]*tls.Certificate // by domain; Leaf is set
}

// find returns the certificate for a server's name, by exact name or by a wildcard for its first label, or nil.
func (o *ordered) find(name string) *tls.Certificate {
	if c := o.certs[name]; c != nil {
		return c
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return o.certs["*."+parent]
	}
	return nil
}

// refresh takes over what certmagic has in memory, where that has changed, and copies it to cache_dir.
func (a *authority) refresh() {
	m := a.m
	m.refreshing.Lock()
	defer m.refreshing.Unlock()
	was := m.ordered.Load()
	now := &ordered{certs: maps.Clone(was.certs)}
	var changed []string
	for domain := range m.domains {
		best := now.certs[domain]
		for _, c := range a.cache.AllMatchingCertificates(domain) {
			if c.Leaf == nil || c.Leaf.VerifyHostname(strings.Replace(domain, "*", "x", 1)) != nil {
				continue
			}
			// A renewed certificate may stand beside the old one for a moment, and may end before it.
			if old := best; old == nil || c.Leaf.NotBefore.After(old.Leaf.NotBefore) ||
				c.Leaf.Equal(old.Leaf) && !bytes.Equal(c.OCSPStaple, old.OCSPStaple) {
				best = &c.Certificate
			}
		}
		if old := now.certs[domain]; best != old {
			now.certs[domain] = best
			if old == nil || !best.Leaf.Equal(old.Leaf) {
				changed = append(changed, domain)
			}
		}
	}
	if maps.Equal(now.certs, was.certs) {
		return
	}
	m.ordered.Store(now)
	for _, domain := range changed {
		leaf := now.certs[domain].Leaf
		m.log.Info("certificate in use", "component", "acme", "domain", domain, "serial", hex.EncodeToString(leaf.SerialNumber.Bytes()), "until", leaf.NotAfter.UTC())
		if m.cfg.CacheDir != "" {
			if err := m.writeCached(domain, now.certs[domain]); err != nil {
				m.log.Error("copying a certificate to acme.cache_dir failed; a start without the storage would lack it", "domain", domain, "error", err)
			}
		}
	}
}

// The copies in cache_dir, in a directory of mode 0700 with files of mode 0600:
//
//	CACHE_DIR/DOMAIN.sealed   key and chain in PEM, sealed as a value named cache/DOMAIN (see sealer); * is written as _
//
// A copy is replaced by rename, key and chain as one.

func (m *Manager) cacheFile(domain string) string {
	return filepath.Join(m.cfg.CacheDir, strings.Replace(domain, "*", "_", 1)+".sealed")
}

func (m *Manager) writeCached(domain string, c *tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range c.Certificate {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.MkdirAll(m.cfg.CacheDir, 0o700); err != nil {
		return err
	}
	return writeFile(m.cacheFile(domain), m.etcd.sealer.seal("cache/"+domain, data, m.now()), 0o600)
}

// readCached serves the copies of cache_dir until the storage gives something newer. What cannot be read is left out, and logged.
func (m *Manager) readCached() error {
	if m.cfg.CacheDir == "" {
		return nil
	}
	if err := os.MkdirAll(m.cfg.CacheDir, 0o700); err != nil {
		return fmt.Errorf("creating acme.cache_dir: %w; give a directory that the gateway's user may write", err)
	}
	if info, err := os.Stat(m.cfg.CacheDir); err != nil {
		return fmt.Errorf("opening acme.cache_dir: %w", err)
	} else if p := info.Mode().Perm(); p&0o077 != 0 {
		return fmt.Errorf("acme.cache_dir %s holds private keys and has mode %#o; use chmod 700, or another directory", m.cfg.CacheDir, p)
	}
	found := &ordered{certs: map[string]*tls.Certificate{}}
	for domain := range m.domains {
		c, err := m.readCopy(domain)
		switch {
		case err == nil:
			found.certs[domain] = c
			m.log.Info("certificate in use", "component", "acme", "domain", domain, "from", "acme.cache_dir", "until", c.Leaf.NotAfter.UTC())
		case !errors.Is(err, fs.ErrNotExist):
			m.log.Warn("a copy in acme.cache_dir is not used", "domain", domain, "error", err)
		}
	}
	m.ordered.Store(found)
	return nil
}

func (m *Manager) readCopy(domain string) (*tls.Certificate, error) {
	data, err := os.ReadFile(m.cacheFile(domain))
	if err != nil {
		return nil, err
	}
	value, _, err := m.etcd.sealer.open("cache/"+domain, data)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(value, value)
	if err != nil {
		return nil, err
	}
	if err := c.Leaf.VerifyHostname(strings.Replace(domain, "*", "x", 1)); err != nil {
		return nil, err
	}
	return &c, nil
}
