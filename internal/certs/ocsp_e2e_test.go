//go:build e2e

package certs

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"m3gateway/internal/faultnet"
)

// TestOCSPStapling: where certificates name an OCSP responder, its answer is stapled into each handshake.
func TestOCSPStapling(t *testing.T) {
	management := faultnet.Address(t)
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := good(r.Body, "https://"+management)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write(answer)
	}))
	t.Cleanup(responder.Close)
	e := newEnvironment(t, "tls-alpn-01", serveDNS(t), map[string]any{
		"ocspResponderURL": responder.URL, "managementListenAddress": management,
	})
	e.start(t.Context())
	e.awaitCertificate()
	issuer, _, err := intermediate("https://" + management)
	must(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c, err := tls.Dial("tcp", e.tls.Addr().String(), &tls.Config{ServerName: e.domain, InsecureSkipVerify: true})
		must(t, err)
		staple, leaf := c.OCSPResponse(), c.ConnectionState().PeerCertificates[0]
		c.Close()
		if len(staple) > 0 {
			r, err := ocsp.ParseResponseForCert(staple, leaf, issuer)
			if err != nil || r.Status != ocsp.Good {
				t.Errorf("the staple says %v, %v", r, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is stapled\n%s", e.log)
		}
	}
}

// good is an answer to the question in body: the certificate is good.
func good(body io.Reader, management string) ([]byte, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	q, err := ocsp.ParseRequest(text)
	if err != nil {
		return nil, err
	}
	issuer, key, err := intermediate(management)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return ocsp.CreateResponse(issuer, issuer, ocsp.Response{
		Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(48 * time.Hour),
	}, key)
}

// intermediate is what Pebble signs with, of which its management interface tells.
func intermediate(management string) (*x509.Certificate, crypto.Signer, error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	var both []byte
	for _, path := range []string{"/intermediates/0", "/intermediate-keys/0"} {
		resp, err := client.Get(management + path)
		if err != nil {
			return nil, nil, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, nil, err
		}
		both = append(both, text...)
	}
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		return nil, nil, err
	}
	return pair.Leaf, pair.PrivateKey.(crypto.Signer), nil
}
