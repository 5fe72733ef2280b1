package listen

import (
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Redirect is the handler of the plain-HTTP address. It sends every request to the same host, path and query over HTTPS with a
// 308 (RFC 9110 section 15.4.9), by which a client repeats method and body. With http_credentials refuse, one that carries
// credentials is not led on but refused with a 403, so that the sender's mistake shows at once instead of repeating them in clear
// with every request. Call it after HTTPS, whose port it uses unless the config gives the public one.
func (s *Server) Redirect() http.Handler {
	port := s.cfg.PublicHTTPSPort
	if port == 0 && s.https != nil {
		port = s.https.addr().(*net.TCPAddr).Port
	}
	suffix := ""
	if port != 0 && port != 443 {
		suffix = ":" + strconv.Itoa(port)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if r.ContentLength != 0 {
			h.Set("Connection", "close") // rather than to read a body that nobody wants
		}
		if s.cfg.HTTPCredentials == Refuse && credentials(r) {
			h.Set("Connection", "close")
			http.Error(w, clearText, http.StatusForbidden)
			return
		}
		host, ok := hostOnly(r.Host)
		if !ok {
			http.Error(w, "the Host header is no host name", http.StatusBadRequest)
			return
		}
		path := r.URL.EscapedPath()
		if !strings.HasPrefix(path, "/") { // of CONNECT and OPTIONS *; it would run on from the host name
			http.Error(w, "the request has no path", http.StatusBadRequest)
			return
		}
		target := "https://" + host + suffix + path
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		h.Set("Location", target)
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

// clearText is what a sender of credentials is told.
const clearText = "this request came without TLS and carried a credential, which anyone on its way could read: change the password, and use https"

// credentials reports whether a request carries something that must not travel in clear.
func credentials(r *http.Request) bool {
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
		if len(r.Header[name]) > 0 {
			return true
		}
	}
	return r.URL.User != nil
}

// hostOnly returns the host of a Host header without its port, ready for a URL, and whether it is a DNS name or an address.
func hostOnly(hostport string) (string, bool) {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if ip := net.ParseIP(host); ip != nil {
		if ip.To4() == nil {
			return "[" + ip.String() + "]", true
		}
		return ip.String(), true
	}
	if host == "" || len(host) > 253 {
		return "", false
	}
	for _, c := range []byte(host) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_') {
			return "", false
		}
	}
	return host, true
}
