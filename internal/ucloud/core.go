package ucloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

const (
	callTimeout   = 20 * time.Second // of one call, its answer included
	maxAnswer     = 8 << 20          // bytes of a good answer
	maxPages      = 400              // of one browse
	maxBrowsed    = 64 << 20         // bytes of one browse, in all
	refreshBefore = 3 * time.Minute  // a token with less life left is replaced
	maxRetryAfter = time.Hour        // however long Core asks us to wait
)

// core is UCloud's Core as a provider calls it.
type core struct {
	base     string // the URL, without a slash at its end
	provider string
	refresh  flavor.Secret
	client   *http.Client
	timeout  time.Duration
	now      func() time.Time

	mu     sync.Mutex
	access flavor.Secret
	expiry time.Time
}

func newCore(cfg Config) *core {
	return &core{
		base: strings.TrimRight(cfg.CoreURL, "/"), provider: cfg.ProviderID, refresh: cfg.RefreshToken,
		timeout: callTimeout, now: cfg.Now,
		client: outgoing.New(outgoing.Config{
			AllowHTTP: cfg.AllowHTTP, AllowNetworks: cfg.AllowNetworks, Timeout: callTimeout, MaxAnswer: maxAnswer,
		}).Client(),
	}
}

// session is the conversation of one run with Core.
type session struct {
	*core
	// before is asked before each call whether it may still be made.
	before  func(context.Context) error
	renewed bool // the token was replaced because Core refused it
}

// request is one thing asked of Core.
type request struct {
	method, path string
	query        url.Values
	body         any
	create       bool // 400, 403 and 409 are about what is sent
}

// call makes r with a token of Core's. One that Core refuses is replaced, once
// in a session.
func (s *session) call(ctx context.Context, r request, answer any) error {
	token, err := s.token(ctx)
	if err != nil {
		return err
	}
	err = s.ask(ctx, r, token, answer)
	if f, ok := errors.AsType[*failure](err); !ok || f.status != http.StatusUnauthorized || s.renewed {
		return err
	}
	s.renewed = true
	s.forget(token)
	if token, err = s.token(ctx); err != nil {
		return err
	}
	return s.ask(ctx, r, token, answer)
}

// token is the one at hand while it lives long enough, else a new one.
func (s *session) token(ctx context.Context) (flavor.Secret, error) {
	s.mu.Lock()
	token, left := s.access, s.expiry.Sub(s.now())
	s.mu.Unlock()
	if token != "" && left >= refreshBefore {
		return token, nil
	}
	var answer struct {
		Responses []struct {
			AccessToken string `json:"accessToken"`
		} `json:"responses"`
	}
	r := request{method: http.MethodPost, path: "/auth/providers/refresh", body: bulk(map[string]string{"refreshToken": string(s.refresh)})}
	if err := s.ask(ctx, r, "", &answer); err != nil {
		return "", refreshFailed(err)
	}
	if len(answer.Responses) == 0 {
		return "", r.nonsense("the answer has no access token")
	}
	token = flavor.Secret(answer.Responses[0].AccessToken)
	expiry, err := expiryOf(token)
	if err != nil {
		return "", r.nonsense("the access token is no JWT signed with RS256 that expires")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access, s.expiry = token, expiry
	return token, nil
}

// expiryOf reads exp of a token that Core has just made for us: nothing but
// when to ask for the next one depends on it, so it is not verified.
func expiryOf(token flavor.Secret) (time.Time, error) {
	signed, err := jwt.ParseSigned(string(token), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return time.Time{}, err
	}
	var c claims
	err = signed.UnsafeClaimsWithoutVerification(&c)
	if err == nil && c.Expiry == nil {
		err = errors.New("no exp")
	}
	return c.Expiry.Time(), err
}

// forget drops the token at hand if it is still that one.
func (c *core) forget(token flavor.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.access == token {
		c.access = ""
	}
}

func (c *core) secrets() []flavor.Secret {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []flavor.Secret{c.refresh, c.access}
}

// bulk is how Core takes and gives several things at once.
func bulk[T any](items ...T) any {
	return struct {
		Items []T `json:"items"`
	}{items}
}

// ask makes one call, and reads its answer into answer. Its error is a *failure,
// or that of s.before.
func (s *session) ask(ctx context.Context, r request, token flavor.Secret, answer any) error {
	if err := ctx.Err(); err != nil {
		return s.unanswered(ctx, r, err)
	}
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	req, err := s.build(ctx, r, token)
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return s.unanswered(ctx, r, err)
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		body, _ := io.ReadAll(res.Body) // what there is of it
		return s.refused(r, res, body)
	}
	body, err := io.ReadAll(res.Body)
	switch {
	case errors.Is(err, outgoing.ErrTooLarge):
		return r.nonsense("the answer is longer than 8 MiB")
	case err != nil:
		return s.unanswered(ctx, r, err)
	case jsontext.Value(bytes.TrimSpace(body)).Kind() != jsontext.KindBeginObject:
		return r.nonsense("the answer is no JSON object")
	}
	if err := json.Unmarshal(body, answer, jsontext.AllowInvalidUTF8(true)); err != nil {
		// Its own words would quote what was read.
		return r.nonsense("the answer is not the JSON that UCloud answers, or not the whole of it")
	}
	return nil
}

func (s *session) build(ctx context.Context, r request, token flavor.Secret) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, r.nonsense("what is to be sent cannot be written as JSON: is there a text that is not UTF-8?")
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, s.base+r.path, body)
	if err != nil {
		return nil, r.nonsense("ucloud.core_url is no URL that may be called")
	}
	req.URL.RawQuery = r.query.Encode()
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "flavorsync")
	if body != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	return req, nil
}

// create sends definitions, in the order of items.
func (s *session) create(ctx context.Context, path string, items []jsontext.Value) error {
	var anything struct{}
	return s.call(ctx, request{method: http.MethodPost, path: path, body: bulk(items...), create: true}, &anything)
}

// browse lists the provider's definitions in Core, through every page.
func (s *session) browse(ctx context.Context, path string, perPage int) ([]jsontext.Value, error) {
	r := request{method: http.MethodGet, path: path}
	var all []jsontext.Value
	seen := map[string]bool{}
	next, size := "", 0
	for range maxPages {
		var page struct {
			Items jsontext.Value `json:"items"`
			Next  *string        `json:"next"`
		}
		r.query = url.Values{"itemsPerPage": {strconv.Itoa(perPage)}, "filterProvider": {s.provider}}
		if next != "" {
			r.query.Set("next", next)
		}
		if err := s.call(ctx, r, &page); err != nil {
			return nil, err
		}
		var items []jsontext.Value
		// Go writes an empty list as null.
		if page.Items == nil || json.Unmarshal(page.Items, &items, jsontext.AllowInvalidUTF8(true)) != nil {
			return nil, r.nonsense("the answer has no list of items")
		}
		all = append(all, items...)
		if page.Next == nil {
			return all, nil
		}
		next = *page.Next
		if seen[next] {
			return nil, r.nonsense("the list has no end: a page leads to one that was read before")
		}
		seen[next] = true
		if size += len(page.Items); size > maxBrowsed {
			break
		}
	}
	return nil, r.nonsense("the list has no end: it is longer than %d pages or %d MiB", maxPages, maxBrowsed>>20)
}
