package auth

import (
	"crypto/md5"
	gohash "hash"
)

// apr1 returns the 22 characters of Apache's MD5 password digest (apr_md5_encode, magic $apr1$).
func apr1(password, salt []byte) string {
	h := md5.New()
	h.Write(password)
	h.Write(salt)
	h.Write(password)
	var sum [md5.Size]byte
	inner := h.Sum(sum[:0])

	h.Reset()
	h.Write(password)
	h.Write([]byte("$apr1$"))
	h.Write(salt)
	h.Write(repeat(inner, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			h.Write([]byte{0})
		} else {
			h.Write(password[:1])
		}
	}
	digest := h.Sum(sum[:0])

	for i := range 1000 {
		stretch(h, i, password, salt, digest)
		digest = h.Sum(sum[:0])
	}
	out := make([]byte, 0, 22)
	for i := range 4 {
		out = encode24(out, digest[i], digest[i+6], digest[i+12], 4)
	}
	out = encode24(out, digest[4], digest[10], digest[5], 4)
	out = encode24(out, 0, 0, digest[11], 2)
	return string(out)
}

// shaCrypt returns the raw digest of SHA-crypt (Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", version 0.6)
// with h as its hash function. The names a, b, p and s are the specification's.
func shaCrypt(h gohash.Hash, password, salt []byte, rounds int) []byte {
	h.Write(password)
	h.Write(salt)
	h.Write(password)
	b := h.Sum(nil)

	h.Reset()
	h.Write(password)
	h.Write(salt)
	h.Write(repeat(b, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			h.Write(b)
		} else {
			h.Write(password)
		}
	}
	a := h.Sum(nil)

	h.Reset()
	for range len(password) {
		h.Write(password)
	}
	p := repeat(h.Sum(nil), len(password))

	h.Reset()
	for range 16 + int(a[0]) {
		h.Write(salt)
	}
	s := repeat(h.Sum(nil), len(salt))

	for i := range rounds {
		stretch(h, i, p, s, a)
		a = h.Sum(a[:0])
	}
	return a
}

// stretch feeds h what round i hashes in apr1 and in SHA-crypt alike; p and s stand for password and salt.
func stretch(h gohash.Hash, i int, p, s, digest []byte) {
	h.Reset()
	first, last := digest, p
	if i&1 == 1 {
		first, last = p, digest
	}
	h.Write(first)
	if i%3 != 0 {
		h.Write(s)
	}
	if i%7 != 0 {
		h.Write(p)
	}
	h.Write(last)
}

// repeat returns n bytes: block over and over, the last one cut off.
func repeat(block []byte, n int) []byte {
	out := make([]byte, 0, n+len(block))
	for len(out) < n {
		out = append(out, block...)
	}
	return out[:n]
}

// encodeSHA256 returns the 43 characters of a $5$ digest, in the byte order of the specification.
func encodeSHA256(d []byte) string {
	out := make([]byte, 0, 44)
	for i := range 10 {
		t := [3]byte{d[i], d[i+10], d[i+20]}
		k := 2 * i % 3
		out = encode24(out, t[k], t[(k+1)%3], t[(k+2)%3], 4)
	}
	return string(encode24(out, 0, d[31], d[30], 3))
}

// encodeSHA512 returns the 86 characters of a $6$ digest, in the byte order of the specification.
func encodeSHA512(d []byte) string {
	out := make([]byte, 0, 88)
	for i := range 21 {
		t := [3]byte{d[i], d[i+21], d[i+42]}
		k := i % 3
		out = encode24(out, t[k], t[(k+1)%3], t[(k+2)%3], 4)
	}
	return string(encode24(out, 0, 0, d[63], 2))
}

// encode24 appends n characters of the 24 bits hi, mid, lo, least significant six first.
func encode24(dst []byte, hi, mid, lo byte, n int) []byte {
	v := uint(hi)<<16 | uint(mid)<<8 | uint(lo)
	for range n {
		dst = append(dst, cryptAlphabet[v&63])
		v >>= 6
	}
	return dst
}
