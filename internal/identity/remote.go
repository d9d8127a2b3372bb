package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

const (
	retryAfter = 5 * time.Second // what a caller is told when a provider cannot be asked
	maxAnswer  = 1 << 20         // bytes of one answer
	maxConns   = 64              // connections to one host; further look-ups wait within their timeout
)

// remote is a provider that is asked over HTTP. Nothing that it answers gets
// into an error.
type remote struct {
	name      string // as errors call it
	timeout   time.Duration
	transport *outgoing.Transport
	client    *http.Client
	settings  settings
}

// newRemote makes a provider that is asked within the timeout, and as s says.
func newRemote(name string, timeout time.Duration, s settings) *remote {
	calls := s.calls
	calls.Timeout, calls.MaxAnswer, calls.Conns, calls.Idle = timeout, maxAnswer, maxConns, maxConns
	t := outgoing.New(calls)
	return &remote{name: name, timeout: timeout, transport: t, client: t.Client(), settings: s}
}

// do sends req within the timeout. body is the whole answer where the status is
// 200, at most maxAnswer bytes, and nil for any other status. Its errors are
// flavor.CodeUnavailable.
func (r *remote) do(req *http.Request) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), r.timeout)
	defer cancel()
	started := time.Now()
	defer func() { r.settings.asked(ctx, r.name, outcomeOf(status, err), started) }()
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "flavorsync")
	res, err := r.client.Do(req.WithContext(ctx)) //nolint:gosec // the operator configures who is asked, or trusts the issuer that says so
	if err != nil {
		return 0, nil, r.broken(ctx, req.URL.Host, "cannot be reached", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, nil, nil
	}
	if body, err = io.ReadAll(res.Body); err != nil {
		return 0, nil, r.broken(ctx, req.URL.Host, "broke off its answer", err)
	}
	return res.StatusCode, body, nil
}

// outcomeOf is how a question went that do answers so.
func outcomeOf(status int, err error) string {
	switch {
	case err == nil && status == http.StatusOK:
		return outcomeOK
	case err == nil && status >= 400 && status < 500:
		return outcomeRefused
	}
	return outcomeUnavailable
}

// broken is the error where no whole answer came.
func (r *remote) broken(ctx context.Context, host, what string, err error) error {
	switch {
	case errors.Is(err, outgoing.ErrTooLarge):
		return r.nonsense(host, "more than %d bytes", maxAnswer)
	case ctx.Err() != nil, outgoing.TimedOut(err):
		what = "did not answer within " + r.timeout.String()
	case outgoing.Refusal(err) != "":
		what = outgoing.Refusal(err)
	}
	return unavailable("the identity provider %s at %s %s: %w", r.name, host, what, outgoing.Cause(err))
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

func unavailable(format string, args ...any) *flavor.Error {
	e := flavor.Errorf(flavor.CodeUnavailable, format, args...)
	e.RetryAfter = retryAfter
	return e
}
