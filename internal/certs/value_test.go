package certs

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func sealerOf(t *testing.T, keys ...byte) *sealer {
	t.Helper()
	var lines []string
	for _, k := range keys {
		lines = append(lines, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{k}, 32)))
	}
	s, err := newSealer(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSealedFormat holds the documented bytes: values that are stored must stay readable.
func TestSealedFormat(t *testing.T) {
	at := time.Unix(0, 0x0102030405060708)
	if got := hex.EncodeToString(sealerOf(t).seal("a", []byte("value"), at)); got != "6d336777"+"01"+"00"+"0000"+"0102030405060708"+"76616c7565" {
		t.Errorf("in clear: %s", got)
	}
	sealed := sealerOf(t, 1).seal("a", []byte("value"), at)
	if got := hex.EncodeToString(sealed); !strings.HasPrefix(got, "6d336777"+"01"+"01"+"0000"+"0102030405060708"+"5bd293ab13ab47a2") || len(sealed) != 16+8+12+5+16 {
		t.Errorf("encrypted: %s", got)
	}
	old, err := hex.DecodeString("6d336777010100000102030405060708" + "5bd293ab13ab47a2" + fixedSealed)
	if err != nil {
		t.Fatal(err)
	}
	value, modified, err := sealerOf(t, 1).open("a", old)
	if err != nil || string(value) != "value" || !modified.Equal(at) {
		t.Errorf("a value of before: %q, %v, %v", value, modified, err)
	}
}

func TestSealer(t *testing.T) {
	now := time.Now()
	clear, one, two, both := sealerOf(t), sealerOf(t, 1), sealerOf(t, 2), sealerOf(t, 2, 1)
	secret := bytes.Repeat([]byte("secret "), 1000)
	for _, s := range []*sealer{clear, one, both} {
		for _, value := range [][]byte{nil, {}, secret} {
			data := s.seal("a/b", value, now)
			got, modified, err := s.open("a/b", data)
			if err != nil || !bytes.Equal(got, value) || !modified.Equal(now) {
				t.Errorf("%d bytes: got %d, %v, %v", len(value), len(got), modified, err)
			}
			if bytes.Contains(data, secret) && s != clear {
				t.Error("readable")
			}
		}
	}
	sealed := one.seal("a/b", secret, now)
	if bytes.Equal(sealed, one.seal("a/b", secret, now)) {
		t.Error("twice the same nonce")
	}
	if got, _, err := both.open("a/b", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with an older key: %v", err)
	}
	if got, _, err := two.open("a/b", both.seal("a/b", secret, now)); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the first key seals: %v", err)
	}

	change := func(at int, to byte) []byte { d := bytes.Clone(sealed); d[at] = to; return d }
	plain := clear.seal("a/b", secret, now)
	for name, tc := range map[string]struct {
		s    *sealer
		name string
		data []byte
		want string
	}{
		"another name":      {one, "a/c", sealed, "changed or moved"},
		"another time":      {one, "a/b", change(15, sealed[15]+1), "changed or moved"},
		"another value":     {one, "a/b", change(60, sealed[60]+1), "changed or moved"},
		"cut":               {one, "a/b", sealed[:len(sealed)-1], "changed or moved"},
		"cut in the nonce":  {one, "a/b", sealed[:30], "cut short"},
		"cut in the header": {one, "a/b", sealed[:10], "not written by m3gateway"},
		"empty":             {clear, "a/b", nil, "not written by m3gateway"},
		"foreign":           {clear, "a/b", []byte("-----BEGIN PRIVATE KEY-----"), "not written by m3gateway"},
		"reserved bytes":    {one, "a/b", change(7, 1), "not written by m3gateway"},
		"a later format":    {one, "a/b", change(4, 2), "format 2"},
		"a later cipher":    {one, "a/b", change(5, 9), "cipher 9"},
		"another key":       {two, "a/b", sealed, "another key (id "},
		"no key":            {clear, "a/b", sealed, "give its key"},
		"in clear":          {one, "a/b", plain, "not encrypted"},
		"said to be clear":  {clear, "a/b", change(5, 0), ""}, // then it is just bytes, and a sealer with a key refuses it
	} {
		got, _, err := tc.s.open(tc.name, tc.data)
		if tc.want == "" {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), tc.name) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := one.open("a/b", change(5, 0)); err == nil {
		t.Error("the cipher was stripped")
	}
}

func TestSealerKeys(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	for text, want := range map[string]string{
		"": "", good: "", "\n" + good + "\r\n\n": "", "\n \n": "holds no key", "x": "is no list of keys", good[:40]: "is no list of keys",
		good + good: "is no list of keys", good + "\n" + good: "twice", strings.Repeat("\n", 3): "holds no key",
	} {
		_, err := newSealer(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	var many []byte
	for i := range maxSealedKeys + 1 {
		many = append(many, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 32))+"\n"...)
	}
	if _, err := newSealer(string(many)); err == nil || !strings.Contains(err.Error(), "9 keys") {
		t.Errorf("%v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s, err := newSealer(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	sealed := s.seal("a", []byte("value"), time.Unix(1, 0))
	f.Add(sealed)
	f.Add(new(sealer).seal("a", []byte("value"), time.Unix(1, 0)))
	f.Add([]byte("m3gw"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Each process of a fuzzing run seals with a nonce of its own: what opens is a seal of the one value, here or there.
		if value, at, err := s.open("a", data); err == nil && (len(data) != len(sealed) || string(value) != "value" || !at.Equal(time.Unix(1, 0))) {
			t.Errorf("%q opened to %q", data, value)
		}
		if value, at, err := new(sealer).open("a", data); err == nil && !bytes.Equal(new(sealer).seal("a", value, at), data) {
			t.Errorf("%q is not what %q is sealed to", data, value)
		}
	})
}

// fixedSealed is the nonce "twelve bytes", and "value" under AES-256-GCM with it, made without this package.
const fixedSealed = "7477656c7665206279746573" + "d9e189ac28498e13483ec4c50b6d3caf1f749e5564"
