package listen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// recorded are headers as a load balancer sent them, HAProxy 2.6.12, with the first bytes of its client after some.
var recorded = []struct {
	name, header, from string
	rest               string
}{
	{"v2 LOCAL, a health check", "0d0a0d0a000d0a515549540a20000000", "", ""},
	{"v2 TCP4", "0d0a0d0a000d0a515549540a2111000c7f0000017f00000189085dc1", "127.0.0.1:35080", ""},
	{"v2 TCP6", "0d0a0d0a000d0a515549540a21210024000000000000000000000000000000010000000000000000000000000000000195805dc268656c6c6f", "[::1]:38272", "hello"},
	{"v2 TCP4 with checksum and a unique id", "0d0a0d0a000d0a515549540a211100167f0000017f000001cf6e5dc303000434076db305000068656c6c6f", "127.0.0.1:53102", "hello"},
	{"v1 TCP4", "50524f58592054435034203132372e302e302e31203132372e302e302e312035363531382032343030340d0a68656c6c6f", "127.0.0.1:56518", "hello"},
	{"v1 TCP6", "50524f58592054435036203a3a31203a3a312034303632322032343030350d0a68656c6c6f", "[::1]:40622", "hello"},
}

func TestRecordedHeaders(t *testing.T) {
	for _, tc := range recorded {
		b, err := hex.DecodeString(tc.header)
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(b)
		got, err := readProxyHeader(r)
		rest, _ := io.ReadAll(r)
		if err != nil || got.IsValid() != (tc.from != "") || got.IsValid() && got.String() != tc.from || string(rest) != tc.rest {
			t.Errorf("%s: %v, %v, %q left; want %s, %q", tc.name, got, err, rest, tc.from, tc.rest)
		}
		for n := range len(b) - len(tc.rest) {
			if _, err := readProxyHeader(bytes.NewReader(b[:n])); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Errorf("%s, cut after %d bytes: %v", tc.name, n, err)
			}
		}
	}
}

// header2 is a header of version 2.
func header2(command, family byte, rest ...[]byte) string {
	body := bytes.Join(rest, nil)
	b := append([]byte(signature2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

func tlv(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// checked is a header with a checksum, off by some bits.
func checked(off uint32) string {
	b := []byte(header2(0x21, 0x11, addresses4, tlv(3, "\x00\x00\x00\x00"), tlv(4, "padding")))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[16+12+3:], sum^off)
	return string(b)
}

var addresses4 = []byte{192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x01, 0xbb}

func addresses6(source string) []byte {
	a := netip.MustParseAddr(source).As16()
	return append(append(a[:], make([]byte, 16)...), 0x12, 0x34, 0x01, 0xbb)
}

func TestProxyHeader(t *testing.T) {
	for name, tc := range map[string]struct{ header, want string }{ // want: an address, "" for the proxy's own, or part of an error after "!"
		"v2":                             {header2(0x21, 0x11, addresses4), "192.0.2.1:4660"},
		"v2 IPv6":                        {header2(0x21, 0x21, addresses6("2001:db8::1")), "[2001:db8::1]:4660"},
		"v2 IPv6, mapped":                {header2(0x21, 0x21, addresses6("::ffff:192.0.2.1")), "192.0.2.1:4660"},
		"v2 with TLVs":                   {header2(0x21, 0x11, addresses4, tlv(0xea, "\x01vpce-1"), tlv(4, ""), tlv(1, "h2")), "192.0.2.1:4660"},
		"v2 with checksum":               {checked(0), "192.0.2.1:4660"},
		"v2 local with addresses":        {header2(0x20, 0x11, addresses4), ""},
		"v2 local with noise":            {header2(0x20, 0xff, []byte("noise")), ""},
		"v2 unspecified":                 {header2(0x21, 0x00, []byte("noise")), ""},
		"v2 as long as it may be":        {header2(0x21, 0x11, addresses4, tlv(4, strings.Repeat("x", maxHeader2-12-3))), "192.0.2.1:4660"},
		"v2 wrong checksum":              {checked(1), "!checksum of a PROXY protocol header is wrong"},
		"v2 short checksum":              {header2(0x21, 0x11, addresses4, tlv(3, "abc")), "!has not 4 bytes"},
		"v2 too long":                    {header2(0x21, 0x11, addresses4, tlv(4, strings.Repeat("x", maxHeader2))), "!over 4096 bytes"},
		"v2 version 1":                   {header2(0x11, 0x11, addresses4), "!unknown version and command 0x11"},
		"v2 version 3":                   {header2(0x31, 0x11, addresses4), "!unknown version"},
		"v2 command 2":                   {header2(0x22, 0x11, addresses4), "!unknown version"},
		"v2 UDP":                         {header2(0x21, 0x12, addresses4), "!family 0x12"},
		"v2 UNIX":                        {header2(0x21, 0x31, make([]byte, 216)), "!family 0x31"},
		"v2 unknown transport":           {header2(0x21, 0x10, addresses4), "!family 0x10"},
		"v2 no addresses":                {header2(0x21, 0x11), "!shorter than its addresses"},
		"v2 IPv4 addresses in IPv6":      {header2(0x21, 0x21, addresses4), "!shorter than its addresses"},
		"v2 TLV without length":          {header2(0x21, 0x11, addresses4, []byte{4, 0}), "!ends within a TLV"},
		"v2 TLV too long":                {header2(0x21, 0x11, addresses4, []byte{4, 0, 2, 'x'}), "!longer than the header"},
		"v2 from nowhere":                {header2(0x21, 0x11, make([]byte, 12)), "!cannot be one"},
		"v2 from a group":                {header2(0x21, 0x21, addresses6("ff02::1")), "!cannot be one"},
		"v1":                             {"PROXY TCP4 192.0.2.1 192.0.2.2 4660 443\r\n", "192.0.2.1:4660"},
		"v1 IPv6":                        {"PROXY TCP6 2001:db8::1 ::1 4660 443\r\n", "[2001:db8::1]:4660"},
		"v1 IPv6, mapped":                {"PROXY TCP6 ::ffff:192.0.2.1 ::1 4660 443\r\n", "192.0.2.1:4660"},
		"v1 longest":                     {"PROXY TCP6 ffff:f::ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "!no valid addresses"},
		"v1 unknown":                     {"PROXY UNKNOWN\r\n", ""},
		"v1 unknown with more":           {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", ""},
		"v1 too long":                    {"PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "!too long"},
		"v1 without CR":                  {"PROXY TCP4 192.0.2.1 192.0.2.2 4660 443\n", "!is not PROXY"},
		"v1 UDP":                         {"PROXY UDP4 192.0.2.1 192.0.2.2 4660 443\r\n", "!is not PROXY"},
		"v1 lower case":                  {"proxy TCP4 192.0.2.1 192.0.2.2 4660 443\r\n", "!no PROXY protocol header"},
		"v1 two spaces":                  {"PROXY TCP4  192.0.2.1 192.0.2.2 4660 443\r\n", "!is not PROXY"},
		"v1 a word more":                 {"PROXY TCP4 192.0.2.1 192.0.2.2 4660 443 x\r\n", "!is not PROXY"},
		"v1 a word less":                 {"PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n", "!is not PROXY"},
		"v1 IPv6 as IPv4":                {"PROXY TCP4 2001:db8::1 192.0.2.2 4660 443\r\n", "!no valid addresses"},
		"v1 IPv4 as IPv6":                {"PROXY TCP6 192.0.2.1 ::1 4660 443\r\n", "!no valid addresses"},
		"v1 zone":                        {"PROXY TCP6 fe80::1%eth0 ::1 4660 443\r\n", "!no valid addresses"},
		"v1 leading zero in the address": {"PROXY TCP4 192.0.2.01 192.0.2.2 4660 443\r\n", "!no valid addresses"},
		"v1 leading zero in the port":    {"PROXY TCP4 192.0.2.1 192.0.2.2 04660 443\r\n", "!no valid addresses"},
		"v1 port with sign":              {"PROXY TCP4 192.0.2.1 192.0.2.2 +4660 443\r\n", "!no valid addresses"},
		"v1 large port":                  {"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n", "!no valid addresses"},
		"v1 bad destination":             {"PROXY TCP4 192.0.2.1 x 4660 443\r\n", "!no valid addresses"},
		"v1 tab":                         {"PROXY TCP4 192.0.2.1\t192.0.2.2 4660 443\r\n", "!is not PROXY"},
		"v1 from nowhere":                {"PROXY TCP4 0.0.0.0 192.0.2.2 4660 443\r\n", "!cannot be one"},
		"TLS":                            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x01\x02", "!no PROXY protocol header"},
		"HTTP":                           {"GET / HTTP/1.1\r\nHost: gw\r\n\r\n", "!no PROXY protocol header"},
		"almost the signature":           {"\r\n\r\n\x00\r\nQUIT\r" + "\x21\x11", "!no PROXY protocol header"},
		"nothing":                        {"", "!EOF"},
	} {
		r := strings.NewReader(tc.header + "rest")
		if tc.header == "" {
			r = strings.NewReader("")
		}
		got, err := readProxyHeader(r)
		if part, bad := strings.CutPrefix(tc.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) || got.IsValid() {
				t.Errorf("%s: %v, %v; want %q", name, got, err, part)
			}
			continue
		}
		rest, _ := io.ReadAll(r)
		if err != nil || got.IsValid() != (tc.want != "") || got.IsValid() && got.String() != tc.want || string(rest) != "rest" {
			t.Errorf("%s: %v, %v, %q left; want %q", name, got, err, rest, tc.want)
		}
	}
}

// FuzzProxyHeader: what is taken for a header, another reader takes for the same one, to the same byte.
func FuzzProxyHeader(f *testing.F) {
	for _, tc := range recorded {
		b, err := hex.DecodeString(tc.header)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		header2(0x21, 0x11, addresses4, tlv(4, "x")), header2(0x21, 0x21, addresses6("::ffff:192.0.2.1")), header2(0x20, 0xff, []byte("noise")), checked(0),
		"PROXY UNKNOWN\r\n", "PROXY TCP6 2001:db8::1 ::1 4660 443\r\nrest",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		got, err := readProxyHeader(r)
		if err != nil {
			if got.IsValid() {
				t.Errorf("%v with %v", got, err)
			}
			return
		}
		used := len(data) - r.Len()
		other := bufio.NewReader(bytes.NewReader(data[:used]))
		want, err := proxyproto.Read(other)
		if !got.IsValid() {
			// Of a connection that is the proxy's own, only where the header ends is of interest, and the other reader looks
			// at more than it must.
			if err == nil && want.Command.IsProxy() && want.TransportProtocol != proxyproto.UNSPEC {
				t.Errorf("taken for the proxy's own: %+v", want)
			}
			return
		}
		if err != nil || other.Buffered() != 0 {
			t.Fatalf("%v is no header to the other: %v, %d bytes left", got, err, other.Buffered())
		}
		if a, ok := want.SourceAddr.(*net.TCPAddr); !ok || netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port)) != got {
			t.Errorf("%v, to the other %v", got, want.SourceAddr)
		}
	})
}
