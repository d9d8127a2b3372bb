package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// client calls the API of a running Flavorsync for a command.
type client struct {
	at         *url.URL // without /v1
	credential func(*http.Request)
	http       *http.Client
}

// maxClientAnswer is what is read of one answer, in bytes.
const maxClientAnswer = 64 << 20

// newClient makes a client of FLAVORSYNC_URL, with FLAVORSYNC_TOKEN or
// FLAVORSYNC_USERNAME and FLAVORSYNC_PASSWORD, as getenv gives them.
func newClient(getenv func(string) string) (*client, error) {
	raw := getenv("FLAVORSYNC_URL")
	if raw == "" {
		return nil, errors.New("FLAVORSYNC_URL is not set: say where Flavorsync answers, such as https://flavorsync.example.org")
	}
	at, err := url.Parse(strings.TrimSuffix(strings.TrimRight(raw, "/"), "/v1"))
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.User != nil || at.RawQuery != "" || at.Fragment != "" {
		return nil, errors.New("FLAVORSYNC_URL must be an http or https URL with a host, without user, query and fragment")
	}
	if ip, err := netip.ParseAddr(at.Hostname()); at.Scheme == "http" && at.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, errors.New("FLAVORSYNC_URL is plain http, and what is secret would be sent unencrypted: use https")
	}
	c := &client{at: at, http: &http.Client{
		Timeout: 2 * time.Minute,
		// A redirect would carry the credential to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	token, user, password := getenv("FLAVORSYNC_TOKEN"), getenv("FLAVORSYNC_USERNAME"), getenv("FLAVORSYNC_PASSWORD")
	switch {
	case token != "" && user != "":
		return nil, errors.New("both FLAVORSYNC_TOKEN and FLAVORSYNC_USERNAME are set: unset one of them")
	case token != "":
		c.credential = func(r *http.Request) { r.Header.Set("X-Auth-Token", token) }
	case user != "" && password != "":
		c.credential = func(r *http.Request) { r.SetBasicAuth(user, password) }
	default:
		return nil, errors.New("nobody is asking: set FLAVORSYNC_TOKEN, or FLAVORSYNC_USERNAME and FLAVORSYNC_PASSWORD")
	}
	return c, nil
}

// callError is an answer that is none of success.
type callError struct {
	status     int
	message    string
	retryAfter time.Duration // 0 where the answer does not say
}

func (e *callError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("Flavorsync answers %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("Flavorsync answers %d: %s", e.status, e.message)
}

// call sends in as JSON, unless it is nil, and reads the answer into out, unless
// that is nil. The path begins behind /v1. An answer that is none of success is a
// *callError.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	_, err := c.callWith(ctx, method, path, nil, in, out)
	return err
}

// callWith is call with headers of the request, and with those of the answer.
func (c *client) callWith(ctx context.Context, method, path string, with http.Header, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		sent, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("while writing a request: %w", err)
		}
		body = bytes.NewReader(sent)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.at.String()+"/v1"+path, body)
	if err != nil {
		return nil, fmt.Errorf("while making a request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	// A proxy that compresses makes the tag a weak one, which If-Match never matches.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "flavorsync")
	maps.Copy(req.Header, with)
	c.credential(req)
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("Flavorsync cannot be reached: %w; check FLAVORSYNC_URL", err) //nolint:staticcheck // a name
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxClientAnswer))
	if err != nil {
		return nil, fmt.Errorf("while reading the answer of Flavorsync: %w", err)
	}
	if answer.StatusCode >= 300 {
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return nil, &callError{answer.StatusCode, told(answer, text), time.Duration(max(seconds, 0)) * time.Second}
	}
	if out == nil {
		return answer.Header, nil
	}
	if json.Unmarshal(text, out) != nil {
		return nil, fmt.Errorf("%s does not answer as Flavorsync does: check FLAVORSYNC_URL", c.at.Host)
	}
	return answer.Header, nil
}

// told is the message of an error's body, with those of the nodes that failed each
// in its own way; "" where whoever answers is no Flavorsync.
func told(answer *http.Response, text []byte) string {
	var body struct {
		Error struct {
			Message string
			Nodes   []struct{ Node, Message string }
		}
	}
	if json.Unmarshal(text, &body) == nil {
		message := body.Error.Message
		for _, n := range body.Error.Nodes {
			if !strings.Contains(message, n.Message) {
				message += "; " + n.Node + ": " + n.Message
			}
		}
		return message
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized:
		return "the credential is not accepted: check FLAVORSYNC_TOKEN, or FLAVORSYNC_USERNAME and FLAVORSYNC_PASSWORD"
	case http.StatusMethodNotAllowed:
		return "only a manager may do this: give a manager's FLAVORSYNC_TOKEN, or FLAVORSYNC_USERNAME and FLAVORSYNC_PASSWORD"
	}
	return ""
}

// stars is body with its secrets hidden.
func stars(body map[string]string, secrets ...string) map[string]string {
	shown := maps.Clone(body)
	for _, field := range secrets {
		if value, ok := body[field]; ok {
			shown[field] = flavor.Secret(value).String()
		}
	}
	return shown
}
