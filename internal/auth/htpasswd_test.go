package auth

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

type vector struct{ source, password, stored string }

// vectors reads testdata/vectors.tsv.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	data, err := os.ReadFile("testdata/vectors.tsv")
	if err != nil {
		tb.Fatal(err)
	}
	var vs []vector
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			tb.Fatalf("bad vector %q", line)
		}
		vs = append(vs, vector{f[0], f[1], f[2]})
	}
	if len(vs) < 100 {
		tb.Fatalf("only %d vectors", len(vs))
	}
	return vs
}

// wrong returns passwords that differ from p where an implementation could fail to look.
func wrong(p string, kind hashKind) []string {
	w := []string{"", p[1:], "y" + p[1:], p[:len(p)-1] + "\x01"}
	if kind != kindBcrypt || len(p) < maxBcryptPassword {
		w = append(w, p+"x", p+p)
	} else {
		w = append(w, p[:71]+"\x01"+p[72:])
	}
	if kind == kindBcrypt && len(p) > maxBcryptPassword {
		w = slices.Delete(w, 3, 4) // differs after byte 72 only
	}
	return w
}

func TestVectors(t *testing.T) {
	kinds := make(map[hashKind]int)
	for _, v := range vectors(t) {
		t.Run(v.source, func(t *testing.T) {
			users, err := ParseHtpasswd("htpasswd", []byte("u:"+v.stored+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			h := users.byName["u"].hash
			kinds[h.kind]++
			if !h.matches(v.password) {
				t.Errorf("%s does not match its password %q", v.stored, v.password)
			}
			if h.kind == kindBcrypt && h.cost > 8 || h.cost > 10_000 {
				return // right is enough at this price
			}
			for _, w := range wrong(v.password, h.kind) {
				if h.matches(w) {
					t.Errorf("%s matches %q, its password is %q", v.stored, w, v.password)
				}
			}
			d := users.decoy.hash
			if d.matches(v.password) || d.kind != h.kind || d.cost != h.cost || len(d.stored) != len(h.stored) || d.stored == h.stored || len(d.salt) != len(h.salt) {
				t.Errorf("decoy %+v of %+v", d, h)
			}
			if reparsed, err := parseHash(d.stored); err != nil || reparsed != d {
				t.Errorf("decoy %+v parses to %+v, %v", d, reparsed, err)
			}
		})
	}
	for k := kindBcrypt; k <= kindSHA512; k++ {
		if kinds[k] < 7 {
			t.Errorf("only %d vectors of kind %d", kinds[k], k)
		}
	}
}

// TestFreshHtpasswd checks entries the installed htpasswd makes now, with random salts and passwords.
func TestFreshHtpasswd(t *testing.T) {
	tool, err := exec.LookPath("htpasswd")
	if err != nil {
		t.Skip("no htpasswd (apache2-utils) installed; testdata/vectors.tsv covers its formats")
	}
	usage, _ := exec.Command(tool).CombinedOutput() // exits 2
	formats := [][]string{{"-m"}, {"-s"}, {"-B"}, {"-B", "-C", "6"}}
	if bytes.Contains(usage, []byte(" -5 ")) { // since 2.4.58
		formats = append(formats, []string{"-2"}, []string{"-5"}, []string{"-2", "-r", "2500"}, []string{"-5", "-r", "2500"})
	}
	for _, flags := range formats {
		for range 5 {
			password := rand.Text() + " :é" + rand.Text()
			cmd := exec.Command(tool, slices.Concat([]string{"-n", "-i"}, flags, []string{"alice"})...)
			cmd.Stdin = strings.NewReader(password)
			line, err := cmd.Output()
			if err != nil {
				t.Fatalf("htpasswd %q: %v", flags, err)
			}
			users, err := ParseHtpasswd("htpasswd", line)
			if err != nil {
				t.Fatalf("htpasswd %q: %v", flags, err)
			}
			h := users.byName["alice"].hash
			if !h.matches(password) || h.matches(password[1:]) || h.matches(password+"x") {
				t.Errorf("htpasswd %q: %s and %q", flags, line, password)
			}
		}
	}
}

// TestHtpasswdVerifiesOurs has the installed htpasswd verify what HashPassword makes.
func TestHtpasswdVerifiesOurs(t *testing.T) {
	tool, err := exec.LookPath("htpasswd")
	if err != nil {
		t.Skip("no htpasswd (apache2-utils) installed; TestHashPassword checks the same hashes against our own verifier")
	}
	password := rand.Text()
	h, err := HashPassword(password, 5)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/htpasswd"
	if err := os.WriteFile(file, []byte("alice:"+h+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-vb", file, "alice", password).CombinedOutput(); err != nil {
		t.Errorf("htpasswd -v: %v: %s", err, out)
	}
	if exec.Command(tool, "-vb", file, "alice", password+"x").Run() == nil {
		t.Error("htpasswd -v accepts a wrong password")
	}
}

// Entries for the tests below, all well-formed; the secrets are searched for in messages.
const (
	goodBcrypt = "$2y$04$3JwFEukU5Fj9rTzNg8hiD.E/wla6YqUmHAQ5rDFzIYzW8DHv8J5o."
	goodAPR1   = "$apr1$EEHhjhvC$InpdXBWmXY9kOmN4Ts5HD0"
	goodSHA    = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="
	goodSHA256 = "$5$IMSC1h.sDjm..4IO$RHCJqE4uM3paXCruJ9bw.7lQcU8itAmcGd/OxiFFGW0"
	goodSHA512 = "$6$5rvxs0zTfqpG3dT7$nVzL5VR1dUmr69Cxi.1u2ach7PVF.38pQFsRbufAn393rV3btYgnEFfY0aDETzfJ0sy3sqHYiHR/heM13dwJX."
)

func TestParseHtpasswd(t *testing.T) {
	file := "# made by hand\r\n\r\nbob:" + goodAPR1 + "\r\n  \t\n  alice:" + goodBcrypt + " \n#x:y\nZoë K.:" + goodSHA + "\ncarl:" + goodSHA256 + "\ndora:" + goodSHA512
	users, err := ParseHtpasswd("htpasswd", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := users.Names(), []string{"Zoë K.", "alice", "bob", "carl", "dora"}; !slices.Equal(got, want) {
		t.Errorf("Names() = %q, want %q", got, want)
	}
	users.Names()[0] = "mallory"
	if users.Names()[0] == "mallory" {
		t.Error("Names hands out what it keeps")
	}
}

func TestDecoyIsMostCommon(t *testing.T) {
	file := "a:" + goodAPR1 + "\nb:" + goodBcrypt + "\nc:" + goodSHA512 + "\nd:" + goodBcrypt + "\n"
	users, err := ParseHtpasswd("htpasswd", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if d := users.decoy.hash; d.kind != kindBcrypt || d.cost != 4 {
		t.Errorf("decoy is %+v", d)
	}
}

func TestParseHtpasswdRefuses(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"alice:secret", "plain text or unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:" + strings.Repeat("s", 60), "plain text or unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:rqXexS6ZhobKA", "plain text or unsupported hash; use bcrypt: gateway passwd alice"}, // DES crypt
		{"alice:{PLAIN}secret", "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:{sha}L55TUjtiq8FBorTWAZ0jy6g129A=", "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:$1$abcdefgh$G9bLCnSgQhnGWmAIsjj.N/", "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:$y$j9T$abc$def", "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:$2x$" + goodBcrypt[4:], "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:$2$" + goodBcrypt[4:], "unsupported hash; use bcrypt: gateway passwd alice"},
		{"alice:", "no hash; make one: gateway passwd alice"},
		{"O'Hara x:secret", `plain text or unsupported hash; use bcrypt: gateway passwd 'O'\''Hara x'`},
		{"-n:secret", `plain text or unsupported hash; use bcrypt: gateway passwd -- '-n'`},

		{"alice:" + goodBcrypt[:59], "malformed bcrypt hash; make it anew: gateway passwd alice"},
		{"alice:" + goodBcrypt + "x", "malformed bcrypt hash"},
		{"alice:$2y$", "malformed bcrypt hash"},
		{"alice:$2y$4x$" + goodBcrypt[7:], "malformed bcrypt hash"},
		{"alice:$2y$03$" + goodBcrypt[7:], "malformed bcrypt hash"},
		{"alice:$2y$-4$" + goodBcrypt[7:], "malformed bcrypt hash"},
		{"alice:" + goodBcrypt[:6] + "." + goodBcrypt[7:], "malformed bcrypt hash"},
		{"alice:" + goodBcrypt[:20] + "!" + goodBcrypt[21:], "malformed bcrypt hash"},
		{"alice:" + goodBcrypt[:59] + "/", "malformed bcrypt hash"}, // unused bits
		{"alice:$2y$17$" + goodBcrypt[7:], "bcrypt cost 17 is over 16, which would hold up everybody's first request; make it anew with a lower cost: gateway passwd alice"},

		{"alice:" + goodAPR1[:len(goodAPR1)-1], "malformed apr1 hash; make it anew: gateway passwd alice"},
		{"alice:" + goodAPR1 + ".", "malformed apr1 hash"},
		{"alice:" + goodAPR1[:len(goodAPR1)-1] + "z", "malformed apr1 hash"},
		{"alice:$apr1$" + "123456789" + goodAPR1[14:], "malformed apr1 hash"},
		{"alice:$apr1$" + goodAPR1[14:], "malformed apr1 hash"},
		{"alice:$apr1$a-b" + goodAPR1[14:], "malformed apr1 hash"},
		{"alice:$apr1$", "malformed apr1 hash"},

		{"alice:" + goodSHA[:len(goodSHA)-1], "malformed {SHA} hash; make it anew: gateway passwd alice"},
		{"alice:" + goodSHA[:len(goodSHA)-2] + "B=", "malformed {SHA} hash"}, // unused bits
		{"alice:" + goodSHA + "AAAA", "malformed {SHA} hash"},
		{"alice:{SHA}" + strings.Repeat("A", 28), "malformed {SHA} hash"}, // 21 bytes
		{"alice:{SHA}L55TUjtiq8FBorT\rWAZ0jy6g129A=", "malformed {SHA} hash"},

		{"alice:" + goodSHA256[:len(goodSHA256)-1], "malformed SHA-crypt hash; make it anew: gateway passwd alice"},
		{"alice:" + goodSHA256[:len(goodSHA256)-1] + "z", "malformed SHA-crypt hash"},
		{"alice:$6$" + goodSHA256[3:], "malformed SHA-crypt hash"},
		{"alice:$5$" + goodSHA512[3:], "malformed SHA-crypt hash"},
		{"alice:" + goodSHA512[:len(goodSHA512)-1] + "z", "malformed SHA-crypt hash"},
		{"alice:" + goodSHA512[:30] + "$" + goodSHA512[31:], "malformed SHA-crypt hash"},
		{"alice:$5$$" + goodSHA256[20:], "malformed SHA-crypt hash"},
		{"alice:$5$12345678901234567$" + goodSHA256[20:], "malformed SHA-crypt hash"},
		{"alice:$5$rounds=$" + goodSHA256[3:], "malformed SHA-crypt hash"},
		{"alice:$5$rounds=05000$" + goodSHA256[3:], "malformed SHA-crypt hash"},
		{"alice:$5$rounds=+5000$" + goodSHA256[3:], "malformed SHA-crypt hash"},
		{"alice:$5$rounds=999$" + goodSHA256[3:], "malformed SHA-crypt hash"},
		{"alice:$5$rounds=99999999999999999999$" + goodSHA256[3:], "malformed SHA-crypt hash"},
		{"alice:$6$rounds=1000001$" + goodSHA512[3:], "SHA-crypt rounds 1000001 are over 1000000, which would hold up everybody's first request; make it anew with fewer rounds, or use bcrypt: gateway passwd alice"},

		{"just a line", "no ':' in it; a line is user:hash, as printed by: gateway passwd alice"},
		{":" + goodBcrypt, "no user before ':'"},
		{"al:ice:" + goodBcrypt, "more than one ':'; a user name cannot hold ':'"},
		{"alice:" + goodBcrypt + ":Alice A.", "more than one ':'"},
		{"al\x00ice:" + goodBcrypt, "the user name holds a control or invisible character"},
		{"al\tice:" + goodBcrypt, "the user name holds a control or invisible character"},
		{"al\u200bice:" + goodBcrypt, "the user name holds a control or invisible character"},
		{"\ufeffalice:" + goodBcrypt, "the user name holds a control or invisible character (or the file begins with a byte order mark)"},
		{"al\xe9ice:" + goodBcrypt, "the user name is not UTF-8; save the file as UTF-8"},
		{"alice :" + goodBcrypt, "the user name begins or ends with a space; remove it"},
		{strings.Repeat("a", 256) + ":" + goodBcrypt, "the user name has 256 bytes, more than 255; choose a shorter one"},
		{"bob:" + goodAPR1, "user bob is on line 2 already; keep one of the two"},
	} {
		file := "# first\nbob:" + goodBcrypt + "\n" + tc.line + "\n"
		users, err := ParseHtpasswd("htpasswd", []byte(file))
		if err == nil {
			t.Errorf("%q: parsed, users %q", tc.line, users.Names())
			continue
		}
		if want := "htpasswd line 3: " + tc.want; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\n got %s\nwant %s", tc.line, err, want)
		}
		if _, stored, ok := strings.Cut(tc.line, ":"); ok && len(stored) > 4 && strings.Contains(err.Error(), stored) {
			t.Errorf("%q: the message holds the hash: %s", tc.line, err)
		}
		for _, part := range []string{"secret", goodBcrypt[10:50], goodSHA[8:20], goodAPR1[16:30], goodSHA256[25:50], goodSHA512[35:70]} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the message holds %q: %s", tc.line, part, err)
			}
		}
	}
}

func TestParseHtpasswdReportsAll(t *testing.T) {
	_, err := ParseHtpasswd("users.htpasswd", []byte("a:x\nb:"+goodSHA+"\nc\na:"+goodSHA+"\n:"+goodSHA))
	want := `users.htpasswd line 1: plain text or unsupported hash; use bcrypt: gateway passwd a
users.htpasswd line 3: no ':' in it; a line is user:hash, as printed by: gateway passwd alice
users.htpasswd line 4: user a is on line 1 already; keep one of the two
users.htpasswd line 5: no user before ':'; a line is user:hash, as printed by: gateway passwd alice`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestParseHtpasswdEmpty(t *testing.T) {
	for _, data := range []string{"", "\n", "# nobody\r\n \n"} {
		_, err := ParseHtpasswd("htpasswd", []byte(data))
		if want := "htpasswd: no users in it; add one: gateway passwd alice >> htpasswd"; err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", data, err, want)
		}
	}
}

func TestHashPassword(t *testing.T) {
	for _, p := range []string{"x", "correct horse", "päss:wörd", strings.Repeat("a", 72)} {
		stored, err := HashPassword(p, minBcryptCost)
		if err != nil {
			t.Fatalf("%q: %v", p, err)
		}
		if !strings.HasPrefix(stored, "$2y$04$") {
			t.Errorf("%q: %s", p, stored)
		}
		h, err := parseHash(stored)
		if err != nil {
			t.Fatalf("%q: %v", p, err)
		}
		if !h.matches(p) || h.matches(p[1:]) {
			t.Errorf("%q: %s", p, stored)
		}
	}
	for _, tc := range []struct {
		password string
		cost     int
		want     string
	}{
		{"", 4, "the password is empty; choose"},
		{strings.Repeat("s", 73), 4, "the password has 73 bytes and bcrypt would ignore all after 72; choose a shorter one"},
		{"\xe9t\xe9", 4, "the password is not UTF-8"},
		{"tab\there", 4, "the password holds a control character"},
		{"x", 3, "bcrypt cost 3 is outside 4 to 16; 10 is a good one"},
		{"x", 17, "bcrypt cost 17 is outside 4 to 16"},
	} {
		_, err := HashPassword(tc.password, tc.cost)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("HashPassword(%q, %d) = %v, want %s", tc.password, tc.cost, err, tc.want)
		}
	}
}

func FuzzParseHtpasswd(f *testing.F) {
	seeds := []string{"", "#\n\n", "a:b", "a:" + goodBcrypt + "\r\nb:" + goodAPR1, "a:" + goodSHA + "\na:" + goodSHA, "\ufeffa:\x00"}
	for _, v := range vectors(f) {
		seeds = append(seeds, fmt.Sprintf("user:%s\n", v.stored))
	}
	if len(seeds) < 100 {
		f.Fatalf("seed corpus has %d entries", len(seeds))
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		users, err := ParseHtpasswd("htpasswd", data)
		if err != nil {
			if users != nil {
				t.Fatal("users beside an error")
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "htpasswd line ") && !strings.HasPrefix(line, "htpasswd: no users") || !strings.Contains(line, "; ") {
					t.Fatalf("message without line or remedy: %q", line)
				}
			}
			return
		}
		names := users.Names()
		if len(names) == 0 || len(names) > bytes.Count(data, []byte("\n"))+1 {
			t.Fatalf("%d users", len(names))
		}
		var again strings.Builder
		for _, n := range names {
			if userProblem(n) != "" {
				t.Fatalf("user %q", n)
			}
			h := users.byName[n].hash
			if h.kind == kindBcrypt && h.cost > 6 || h.cost > 5000 {
				continue
			}
			h.matches("password") // does not panic
			fmt.Fprintf(&again, "%s:%s\n", n, h.stored)
		}
		if again.Len() > 0 {
			if _, err := ParseHtpasswd("again", []byte(again.String())); err != nil {
				t.Fatal(err)
			}
		}
	})
}
