package ucloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// class says what is to be done after a failure.
type class int

const (
	again   class = iota // network, 5xx, 429, nonsense: soon, with backoff
	refusal              // 400, 403, 409 of a create: not until what is sent changes
	barred               // our tokens are refused: with the next period
)

// failure is why Core did not do as asked.
type failure struct {
	class   class
	status  int           // of Core's answer; 0 where there is none
	message string        // for managers: holds no secret
	after   time.Duration // how long Core asks us to wait
	gone    bool          // it does not answer at all: the next call will fare no better
	cause   error         // for the log
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.message + ": " + f.cause.Error()
	}
	return f.message
}

func (f *failure) Unwrap() error { return f.cause }

// failureOf parts Core's failures from our own.
func failureOf(err error) (*failure, error) {
	if f, ok := errors.AsType[*failure](err); ok {
		return f, nil
	}
	return nil, err
}

func (r request) nonsense(format string, args ...any) *failure {
	return &failure{message: fmt.Sprintf("UCloud's Core, at %s %s: %s; check ucloud.core_url", r.method, r.path, fmt.Sprintf(format, args...))}
}

// refused is the failure of a call that was answered, with another status than
// a good one.
func (s *session) refused(r request, res *http.Response, body []byte) *failure {
	f := &failure{
		status: res.StatusCode, after: retryAfter(res.Header.Get("Retry-After"), s.now()),
		message: fmt.Sprintf("UCloud's Core answered %d to %s %s", res.StatusCode, r.method, r.path),
	}
	switch {
	case r.create && (f.status == http.StatusBadRequest || f.status == http.StatusForbidden || f.status == http.StatusConflict):
		f.class = refusal
	case f.status == http.StatusUnauthorized, f.status == http.StatusForbidden:
		f.class = barred
	case f.status == http.StatusTooManyRequests:
		f.gone = true
	case f.status >= 300 && f.status < 400:
		f.message += ", which sends us elsewhere, where no token goes: write the address it moved to into ucloud.core_url"
	case f.status == http.StatusNotFound, f.status == http.StatusMethodNotAllowed:
		f.message += ": there is no such API; check ucloud.core_url, and ucloud.push: v2 for UCloud since 2023, v1 before"
	}
	if why := why(body, s.secrets()); why != "" {
		f.message += ": " + why
	}
	return f
}

// refreshFailed is err of the call that asks for a token.
func refreshFailed(err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.status != http.StatusUnauthorized && f.status != http.StatusForbidden {
		return err
	}
	told := *f
	told.message = "UCloud's Core does not accept ucloud.refresh_token: put in the one it shows for this provider (renewing it there replaces ucloud.public_key too). " + f.message
	return &told
}

// retryAfter reads Retry-After, which is seconds or a date; 0 for none.
func retryAfter(header string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

const maxWhy = 200 // characters

// why is Core's own word on an error, quoted, without anything of our secrets;
// "" where it is none of UCloud's: a web page is nobody's word.
func why(body []byte, secrets []flavor.Secret) string {
	var answer struct {
		Why string `json:"why"`
	}
	if json.Unmarshal(body, &answer, jsontext.AllowInvalidUTF8(true)) != nil || answer.Why == "" {
		return ""
	}
	return quoted(redact(answer.Why, secrets))
}

// quoted is a foreign text as a message can hold it.
func quoted(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, text)
	if rs := []rune(text); len(rs) > maxWhy {
		text = string(rs[:maxWhy-1]) + "…"
	}
	return strconv.Quote(text)
}

// aJWT is a token, or what is left of one that was cut.
var aJWT = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*)*`)

// minPiece is how much of a secret is one: Core may cut what it quotes.
const minPiece = 8

// redact is text without secrets, and without longer pieces of them.
func redact(text string, secrets []flavor.Secret) string {
	text = aJWT.ReplaceAllString(text, "***")
	for _, secret := range secrets {
		text = redactOne(text, string(secret))
	}
	return text
}

func redactOne(text, secret string) string {
	piece := min(minPiece, len(secret))
	if piece == 0 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		end := i
		for end+1 <= len(text) && strings.Contains(secret, text[i:end+1]) {
			end++
		}
		if end-i < piece {
			b.WriteByte(text[i])
			i++
			continue
		}
		b.WriteString("***")
		i = end
	}
	return b.String()
}

// unanswered is the failure of a call that got no answer, or not the whole of it.
func (s *session) unanswered(ctx context.Context, r request, err error) *failure {
	return &failure{
		gone: true, cause: outgoing.Cause(err),
		message: fmt.Sprintf("UCloud's Core, at %s %s, %s", r.method, r.path, s.obstacle(ctx, err)),
	}
}

func (s *session) obstacle(ctx context.Context, err error) string {
	if refusal := outgoing.Refusal(err); refusal != "" {
		return refusal
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || outgoing.TimedOut(err) {
		return "did not answer within " + s.timeout.String()
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "has a host without an address in the DNS; check ucloud.core_url"
	}
	if flaw := outgoing.TLSFlaw(err); flaw != "" {
		return flaw
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "had not answered when this service stopped"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "accepts no connection; it may be down"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return "broke its answer off"
	}
	return "cannot be reached; check ucloud.core_url"
}
