package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/flavorsync/flavorsync/internal/events"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// message is what one call brings. Every attempt brings the same, under the same id.
type message struct {
	id   string
	body []byte
}

func eventID(id int64) string { return "event-" + strconv.FormatInt(id, 10) }

func lostID(until int64) string { return "lost-" + strconv.FormatInt(until, 10) }

// body is the payload that the specification recommends.
func body(kind string, at time.Time, data []byte) []byte {
	return fmt.Appendf(nil, `{"type":%q,"timestamp":%q,"data":%s}`, kind, events.Time(at), data)
}

// sign is webhook-signature: of the id, the time in seconds since 1970 and the body.
func sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// failure is why a message was not taken, and for how long the receiver wants to be
// left alone; 0 where it does not say.
type failure struct {
	reason string
	wish   time.Duration
	cause  error
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.reason + ": " + f.cause.Error()
	}
	return f.reason
}

func (f *failure) Unwrap() error { return f.cause }

// call sends m. Every answer of 2xx has taken it; nothing of another is kept.
func (t *telling) call(ctx context.Context, m message) *failure {
	key, err := t.key()
	if err != nil {
		return &failure{reason: "its secret is no good", cause: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(m.body))
	if err != nil {
		return &failure{reason: "its URL is no good"}
	}
	now := t.cfg.Now()
	timestamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "flavorsync")
	req.Header.Set("Webhook-Id", m.id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", sign(key, m.id, timestamp, m.body))
	res, err := t.client.Do(req)
	if err != nil {
		if flaw := outgoing.TLSFlaw(err); flaw != "" {
			return &failure{reason: "it " + flaw}
		}
		if outgoing.TimedOut(err) {
			return &failure{reason: "it did not answer in time"}
		}
		return &failure{reason: "it cannot be called", cause: outgoing.Cause(err)}
	}
	defer res.Body.Close()
	// To its end, so that the connection can be used again; what it says is not ours.
	if _, err := io.Copy(io.Discard, res.Body); err != nil && !errors.Is(err, outgoing.ErrTooLarge) {
		return &failure{reason: "its answer broke off", cause: outgoing.Cause(err)}
	}
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusGone:
		return &failure{reason: "it answered 410: it is gone, and asked again now and then only", wish: longestWish}
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return &failure{reason: fmt.Sprintf("it answered %d: redirects are not followed, so give the final URL", res.StatusCode)}
	}
	return &failure{reason: fmt.Sprintf("it answered %d", res.StatusCode), wish: retryAfter(res.Header.Get("Retry-After"), now)}
}

// retryAfter is what the header asks for, in seconds or as a date; 0 for nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
