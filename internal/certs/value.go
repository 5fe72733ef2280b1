package certs

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// sealer writes and reads the values that leave this process: those in etcd, and the copies in cache_dir.
//
//	 0    3 4       5      6        8                 16
//	┌──────┬───────┬──────┬────────┬──────────────────┬──────────────
//	│ m3gw │ 0x01  │ 0x00 │ 0x0000 │ modified         │ the value
//	└──────┴───────┴──────┴────────┴──────────────────┴──────────────
//	 magic  version cipher zero     Unix nanoseconds,
//	                                int64 big endian
//
// With a key every value is encrypted, not only private keys, so that none can be replaced unseen either:
//
//	 0               16       24           36
//	┌───────────────┬────────┬────────────┬───────────────────┬────────┐
//	│ header,       │ key id │ nonce      │ the value         │ tag    │
//	│ cipher = 0x01 │ 8 B    │ 12 B       │ under AES-256-GCM │ 16 B   │
//	└───────────────┴────────┴────────────┴───────────────────┴────────┘
//
// The nonce is random. The additional data is header ‖ key id ‖ name, name being what the value is stored under, so that no
// value passes for another. The key id is the first 8 bytes of SHA-256("m3gateway key id" ‖ key).
// A sealer with a key refuses values in clear, one without refuses encrypted ones. The zero sealer has no key.
type sealer struct {
	keys []sealKey // the first one seals, each opens
}

type sealKey struct {
	id   keyID
	aead cipher.AEAD
}

// keyID tells a key from others without giving it away.
type keyID [8]byte

const (
	valueMagic    = "m3gw"
	valueVersion  = 1
	cipherNone    = 0
	cipherAESGCM  = 1
	valueHeader   = 16
	sealKeyBytes  = 32
	sealNonce     = 12
	keyHowTo      = "each line is 32 random bytes in base64, as printed by: openssl rand -base64 32"
	keyIDLabel    = "m3gateway key id"
	maxSealedKeys = 8
)

// newSealer reads the keys in text, one a line, or none from an empty text.
func newSealer(text string) (*sealer, error) {
	s := new(sealer)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(key) != sealKeyBytes {
			return nil, errors.New("is no list of keys; " + keyHowTo)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte(keyIDLabel), key...))
		k := sealKey{id: keyID(sum[:8]), aead: aead}
		for _, other := range s.keys {
			if other.id == k.id {
				return nil, errors.New("holds a key twice; remove one of the lines")
			}
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) > maxSealedKeys {
		return nil, fmt.Errorf("holds %d keys; keep those that values still need, at most %d", len(s.keys), maxSealedKeys)
	}
	if text != "" && len(s.keys) == 0 {
		return nil, errors.New("holds no key; " + keyHowTo)
	}
	return s, nil
}

// seal returns what is to be stored under name.
func (s *sealer) seal(name string, value []byte, modified time.Time) []byte {
	out := make([]byte, 0, valueHeader+len(keyID{})+sealNonce+len(value)+16)
	out = append(out, valueMagic...)
	out = append(out, valueVersion, cipherNone, 0, 0)
	out = binary.BigEndian.AppendUint64(out, uint64(modified.UnixNano()))
	if len(s.keys) == 0 {
		return append(out, value...)
	}
	k := s.keys[0]
	out[5] = cipherAESGCM
	out = append(out, k.id[:]...)
	aad := append(bytes.Clone(out), name...)
	nonce := make([]byte, sealNonce)
	rand.Read(nonce)
	out = append(out, nonce...)
	return k.aead.Seal(out, nonce, value, aad)
}

// open returns the value in data, which was stored under name, and when it was stored.
func (s *sealer) open(name string, data []byte) (value []byte, modified time.Time, err error) {
	if len(data) < valueHeader || string(data[:4]) != valueMagic || data[6] != 0 || data[7] != 0 {
		return nil, time.Time{}, fmt.Errorf("%s was not written by m3gateway; another program uses the same place: give tls.acme a place of its own", name)
	}
	if data[4] != valueVersion {
		return nil, time.Time{}, fmt.Errorf("%s has format %d, and this version reads only %d; run the newer version on every replica", name, data[4], valueVersion)
	}
	modified = time.Unix(0, int64(binary.BigEndian.Uint64(data[8:])))
	head, rest := data[:valueHeader], data[valueHeader:]
	switch {
	case data[5] == cipherNone && len(s.keys) == 0:
		return rest, modified, nil
	case data[5] == cipherNone:
		return nil, modified, fmt.Errorf("%s is not encrypted, and with an encryption_key such values are not trusted; remove what is stored once, so that certificates are ordered anew, or remove the key", name)
	case data[5] != cipherAESGCM:
		return nil, modified, fmt.Errorf("%s is encrypted by cipher %d, which this version does not know; run the newer version on every replica", name, data[5])
	case len(s.keys) == 0:
		return nil, modified, fmt.Errorf("%s is encrypted; give its key as encryption_key", name)
	}
	if len(rest) < len(keyID{})+sealNonce {
		return nil, modified, fmt.Errorf("%s is cut short", name)
	}
	id, nonce, sealed := keyID(rest[:8]), rest[8:8+sealNonce], rest[8+sealNonce:]
	for _, k := range s.keys {
		if k.id != id {
			continue
		}
		aad := append(append(bytes.Clone(head), id[:]...), name...)
		value, err := k.aead.Open(nil, nonce, sealed, aad)
		if err != nil {
			return nil, modified, fmt.Errorf("%s was changed or moved since it was encrypted; remove it, so that it is made anew", name)
		}
		return value, modified, nil
	}
	return nil, modified, fmt.Errorf("%s is encrypted with another key (id %x); add that key as a further line of encryption_key", name, id)
}
