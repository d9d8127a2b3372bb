package outgoing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
)

// TimedOut says whether err, of a call, is that no answer came in time.
func TimedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// TLSFlaw is what err, of a call, says of the TLS of who was called, with what to
// do, as the end of a sentence about them; "" where it says nothing of that.
func TLSFlaw(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "has a TLS certificate for another host name; its operator should get one for this name"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return "has a TLS certificate that is expired or not valid yet; its operator should renew it"
		}
		return "has a TLS certificate that is not valid; its operator should replace it"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "has a TLS certificate of an authority unknown here (self-signed?); its operator should get one of a known authority"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "has a TLS certificate that cannot be verified; its operator should replace it"
	}
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	if notTLS || alert || errors.Is(err, http.ErrSchemeMismatch) {
		return "does not speak TLS 1.2 or later there; check that its URL should begin with https"
	}
	return ""
}
