package gateway

import (
	"errors"
	"net/http"

	"m3gateway/internal/auth"
)

// identify is the user of the request's credential, a password, a token or a client certificate, or the one that the request's listener
// gives it.
func (h *Handler) identify(r *http.Request, x *exchange) (string, error) {
	header := r.Header["Authorization"]
	if user, _ := r.Context().Value(fixedUser{}).(string); user != "" {
		if len(header) > 0 {
			return "", badRequest("this address takes no credentials and has one fixed user; send none, or use the HTTPS address")
		}
		return user, nil
	}
	owner, err := h.certified(r, x)
	if err != nil || len(header) == 0 && owner != "" {
		return owner, err
	}
	user, err := h.verified(r, x)
	if err != nil {
		return "", err
	}
	if owner != "" && owner != user {
		x.claimed = user
		return "", badRequest("the client certificate is user %q's and the password or token user %q's; send one of them", owner, user)
	}
	return user, nil
}

// verified is the user of the Authorization header: of a bearer token, or of a password.
func (h *Handler) verified(r *http.Request, x *exchange) (string, error) {
	header := r.Header["Authorization"]
	if x.state.Tokens != nil && auth.IsBearer(header) {
		bearer, ok := auth.BearerCredential(header)
		if !ok {
			return "", auth.ErrDenied
		}
		user, err := h.Verifier.VerifyToken(x.state.Tokens, bearer, x.client, x.now)
		if errors.Is(err, auth.ErrDenied) {
			h.failed(x, "token")
		}
		return user, err
	}
	user, password, ok := auth.BasicCredential(header)
	if !ok {
		return "", auth.ErrDenied
	}
	err := h.Verifier.Verify(r.Context(), x.state.Users, user, password, x.client, x.now)
	if err == nil {
		return user, nil
	}
	x.claimed = user
	if errors.Is(err, auth.ErrDenied) && password != "" {
		h.failed(x, "password")
	}
	return "", err
}

// failed logs an attempt that was looked at and was wrong. How many there are is bounded by what makes them wait.
func (h *Handler) failed(x *exchange, credential string) {
	f := h.Verifier.Failures(x.claimed, x.client, x.now)
	h.Log.Warn("authentication failed", "credential", credential, "claimed_user", oneLine(x.claimed, 100), "client", x.client.String(),
		"failures_of_user", f.User, "failures_of_address", f.Address)
}

// certified is the user that the connection's client certificate names; none, if there is no certificate, or if it names nobody
// and a password may say who asks. TLS has verified the certificate.
func (h *Handler) certified(r *http.Request, x *exchange) (string, error) {
	if r.TLS == nil { // the plain listener
		return "", nil
	}
	if len(r.TLS.VerifiedChains) == 0 {
		if x.state.RequireCertificate { // of a connection from before a reload, or one for an ACME challenge
			return "", &refusal{status: http.StatusUnauthorized, kind: "unauthorized", text: "a client certificate is required; connect again with one"}
		}
		return "", nil
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if x.now.After(leaf.NotAfter) {
		return "", &refusal{status: http.StatusUnauthorized, kind: "unauthorized", text: "the client certificate of this connection has expired; connect again with a new one"}
	}
	user, err := x.state.Certificates.User(leaf)
	if err != nil && len(r.Header["Authorization"]) > 0 {
		return "", nil
	}
	return user, err
}
