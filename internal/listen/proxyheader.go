package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, by which a load balancer of the transport layer says whose connection it passes on
// (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt). One header comes before all else:
//
//	version 2   signature 12 | version, command 1 | family, transport 1 | length 2 | addresses | TLVs
//	            addresses of TCP over IPv4: source 4 | destination 4 | source port 2 | destination port 2; IPv6: 16 | 16 | 2 | 2
//	            TLV: type 1 | length 2 | value
//	version 1   PROXY TCP4|TCP6|UNKNOWN source destination source-port destination-port CR LF
//
// Both versions are read, as there are load balancers that speak only one of them. It is read here, and not by a library, because
// it must be read to the byte and no further, before the connection is counted as its client's, and because anything that is not
// exactly as above is an error: whose connection it is decides what it may do.
const (
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	// maxHeader1 is the longest line of version 1, with its end.
	maxHeader1 = 107
	// maxHeader2 bounds what follows the first 16 bytes. Addresses take 36; the rest are TLVs, in which a balancer can hand on a
	// name of TLS and a tenant of its cloud.
	maxHeader2 = 4096
)

// readProxyHeader reads a header from r, to its last byte and not further. It returns the client's address; the zero AddrPort is
// for a connection of the proxy's own, as it makes to see whether the gateway is alive (LOCAL, UNKNOWN).
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var start [len(signature2)]byte // no header of either version is shorter
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading a PROXY protocol header: %w", err)
	}
	switch {
	case string(start[:]) == signature2:
		return readHeader2(r)
	case bytes.HasPrefix(start[:], []byte("PROXY ")):
		return readHeader1(start[:], r)
	}
	return netip.AddrPort{}, errors.New("no PROXY protocol header")
}

// readHeader1 reads the rest of a line of version 1.
func readHeader1(start []byte, r io.Reader) (netip.AddrPort, error) {
	line := append(make([]byte, 0, maxHeader1), start...)
	for line[len(line)-1] != '\n' {
		if len(line) == maxHeader1 {
			return netip.AddrPort{}, errors.New("a PROXY protocol line is too long")
		}
		// Byte by byte: what follows the line is the client's.
		if _, err := io.ReadFull(r, line[len(line):len(line)+1]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("reading a PROXY protocol line: %w", err)
		}
		line = line[:len(line)+1]
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	word := strings.Split(text, " ")
	if ok && word[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil // the rest of such a line is to be ignored
	}
	if !ok || len(word) != 6 || word[1] != "TCP4" && word[1] != "TCP6" {
		return netip.AddrPort{}, errors.New("a PROXY protocol line is not PROXY TCP4|TCP6 and two addresses and ports")
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		a, err := netip.ParseAddr(word[2+i])
		port, err2 := strconv.ParseUint(word[4+i], 10, 16)
		if err != nil || err2 != nil || a.Is4() != (word[1] == "TCP4") || a.Zone() != "" || strconv.FormatUint(port, 10) != word[4+i] {
			return netip.AddrPort{}, errors.New("a PROXY protocol line has no valid addresses and ports")
		}
		ends[i] = netip.AddrPortFrom(a, uint16(port))
	}
	return client(ends[0])
}

// readHeader2 reads what follows the signature of version 2.
func readHeader2(r io.Reader) (netip.AddrPort, error) {
	head := make([]byte, 16, 16+64)
	copy(head, signature2)
	if _, err := io.ReadFull(r, head[12:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading a PROXY protocol header: %w", err)
	}
	n := int(binary.BigEndian.Uint16(head[14:]))
	if n > maxHeader2 {
		return netip.AddrPort{}, fmt.Errorf("a PROXY protocol header is over %d bytes", maxHeader2)
	}
	head = append(head, make([]byte, n)...)
	if _, err := io.ReadFull(r, head[16:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading a PROXY protocol header: %w", err)
	}
	const local, proxy = 0x20, 0x21
	const unspecified, tcp4, tcp6 = 0x00, 0x11, 0x21
	size := 0 // of an address
	switch command, family := head[12], head[13]; {
	case command != local && command != proxy:
		return netip.AddrPort{}, fmt.Errorf("a PROXY protocol header has the unknown version and command %#x", command)
	case command == local, family == unspecified:
		return netip.AddrPort{}, nil // the rest is to be ignored
	case family == tcp4:
		size = 4
	case family == tcp6:
		size = 16
	default:
		return netip.AddrPort{}, fmt.Errorf("a PROXY protocol header is not of TCP over IPv4 or IPv6, but of family %#x", family)
	}
	rest := head[16:]
	if len(rest) < 2*size+4 {
		return netip.AddrPort{}, errors.New("a PROXY protocol header is shorter than its addresses")
	}
	if err := checkTLVs(head, 16+2*size+4); err != nil {
		return netip.AddrPort{}, err
	}
	a, _ := netip.AddrFromSlice(rest[:size])
	return client(netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[2*size:])))
}

// checkTLVs walks what follows the addresses of a header, from at. Of its contents only the checksum is looked at; it is cleared.
func checkTLVs(head []byte, at int) error {
	for at < len(head) {
		if len(head)-at < 3 {
			return errors.New("a PROXY protocol header ends within a TLV")
		}
		kind, n := head[at], int(binary.BigEndian.Uint16(head[at+1:]))
		at += 3
		if n > len(head)-at {
			return errors.New("a TLV of a PROXY protocol header is longer than the header")
		}
		value := head[at : at+n]
		at += n
		if kind != 0x03 { // PP2_TYPE_CRC32C: over the whole header, the checksum itself taken for zero
			continue
		}
		if n != 4 {
			return errors.New("the checksum of a PROXY protocol header has not 4 bytes")
		}
		sum := binary.BigEndian.Uint32(value)
		clear(value)
		if crc32.Checksum(head, crc32.MakeTable(crc32.Castagnoli)) != sum {
			return errors.New("the checksum of a PROXY protocol header is wrong")
		}
		binary.BigEndian.PutUint32(value, sum)
	}
	return nil
}

// client is a as the address of a client, which must be one that a packet can come from.
func client(a netip.AddrPort) (netip.AddrPort, error) {
	ip := a.Addr().Unmap()
	if ip.IsUnspecified() || ip.IsMulticast() {
		return netip.AddrPort{}, errors.New("a PROXY protocol header names a client that cannot be one")
	}
	return netip.AddrPortFrom(ip, a.Port()), nil
}
