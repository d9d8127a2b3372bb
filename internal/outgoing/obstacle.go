package outgoing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
)

// Cause is what of err, of a call through Client, may be logged: not its URL, in
// which a token or a piece of an answer may be.
func Cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

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
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "does not speak TLS there; check that its URL should begin with https"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "remote error" || e.Op == "local error") { // as crypto/tls tells of alerts
		return "does not speak TLS as it is spoken here: 1.2 or later, and without a certificate of ours"
	}
	return ""
}

// Unsent says whether err, of a call, came before anything of the call was sent.
func Unsent(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op != "dial" {
		return false
	}
	return Refusal(err) != "" || TLSFlaw(err) != ""
}

// quietError is an error of net/http that does not show what it quotes.
type quietError struct {
	cause error
	text  string
}

func (e *quietError) Error() string { return e.text }

// Timeout is for url.Error, which asks nobody deeper.
func (e *quietError) Timeout() bool { return TimedOut(e.cause) }

// Unwrap lets the cause be recognised. It is not to be told.
func (e *quietError) Unwrap() error { return e.cause }

// withoutQuotes is err with a text that may be logged. An answer that is no HTTP,
// a certificate, a reason to go away: net/http quotes what was sent, and that may
// hold a token of ours, or anything. So only what comes from below HTTP is told.
func withoutQuotes(err error) error {
	switch e, ok := errors.AsType[*net.OpError](err); {
	case err == nil, err == io.EOF: //nolint:errorlint // readers compare
		return err
	case ok:
		return &quietError{err, e.Error()}
	}
	for _, known := range []error{context.DeadlineExceeded, context.Canceled, http.ErrSchemeMismatch, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return &quietError{err, known.Error()}
		}
	}
	text := "no answer in HTTP"
	if TLSFlaw(err) != "" {
		text = "no TLS that can be trusted"
	} else if TimedOut(err) {
		text = "no answer in time"
	}
	return &quietError{err, text}
}
