package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

const (
	retryAfter = 5 * time.Second // what a caller is told when a provider cannot be asked
	maxAnswer  = 1 << 20         // bytes of one answer
	maxConns   = 64              // connections to one host; further look-ups wait within their timeout
)

// control is a net.Dialer's ControlContext.
type control func(ctx context.Context, network, address string, c syscall.RawConn) error

// remote is a provider that is asked over HTTP. Nothing that it answers gets
// into an error.
type remote struct {
	name      string // as errors call it
	timeout   time.Duration
	transport *http.Transport
	client    *http.Client
}

func newRemote(name string, timeout time.Duration, check control) *remote {
	r := &remote{name: name, timeout: timeout}
	r.transport = &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{KeepAlive: 30 * time.Second, ControlContext: check}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        maxConns,
		MaxIdleConnsPerHost: maxConns,
		MaxConnsPerHost:     maxConns,
		IdleConnTimeout:     90 * time.Second,

		MaxResponseHeaderBytes: 64 << 10,
	}
	r.client = &http.Client{
		Transport: bounded{r.transport},
		// A redirect would carry the token to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r
}

// do sends req within the timeout. body is the whole answer where the status is
// 200, at most maxAnswer bytes, and nil for any other status. Its errors are
// flavor.CodeUnavailable.
func (r *remote) do(req *http.Request) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), r.timeout)
	defer cancel()
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "flavorsync")
	res, err := r.client.Do(req.WithContext(ctx)) //nolint:gosec // the operator configures who is asked, or trusts the issuer that says so
	if err != nil {
		return 0, nil, r.broken(ctx, req.URL.Host, "cannot be reached", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		// Read, so that the connection can be used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
		return res.StatusCode, nil, nil
	}
	if body, err = io.ReadAll(res.Body); err != nil {
		return 0, nil, r.broken(ctx, req.URL.Host, "broke off its answer", err)
	}
	return res.StatusCode, body, nil
}

// errTooLong is what reading an answer of more than maxAnswer bytes ends with.
var errTooLong = fmt.Errorf("more than %d bytes", maxAnswer)

// bounded makes reading an answer end at maxAnswer bytes, whoever reads it.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		res.Body = &boundedBody{res.Body, maxAnswer}
	}
	return res, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// broken is the error where no whole answer came.
func (r *remote) broken(ctx context.Context, host, what string, err error) error {
	switch {
	case errors.Is(err, errTooLong):
		return r.nonsense(host, "%w", errTooLong)
	case ctx.Err() != nil:
		what = "did not answer within " + r.timeout.String()
	}
	return unavailable("the identity provider %s at %s %s: %w", r.name, host, what, withoutQuotes(err))
}

// nonsense is the error where the answer is none that such a provider gives;
// format and args must not hold a byte of it.
func (r *remote) nonsense(host, format string, args ...any) error {
	return unavailable("the identity provider %s at %s answers nonsense: %w", r.name, host, fmt.Errorf(format, args...))
}

// refused is the error where the provider does not accept the token.
func (r *remote) refused(format string, args ...any) error {
	return flavor.Errorf(flavor.CodeUnauthorized, "the identity provider "+r.name+" "+format, args...)
}

// withoutQuotes is what of err may be logged. The token may be in the URL, which
// url.Error quotes, and an answer that is no HTTP, which other errors of
// net/http quote, may hold it too: so only what comes from below HTTP is told.
func withoutQuotes(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	for _, known := range []error{context.DeadlineExceeded, http.ErrSchemeMismatch, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("not an answer in HTTP")
}

func unavailable(format string, args ...any) *flavor.Error {
	e := flavor.Errorf(flavor.CodeUnavailable, format, args...)
	e.RetryAfter = retryAfter
	return e
}
