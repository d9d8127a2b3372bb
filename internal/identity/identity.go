// Package identity tells who is asking: it shows a caller's token or password
// to the configured identity providers, in their order, and answers with a
// flavor.Principal.
package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// Provider is an identity provider that knows tokens.
type Provider interface {
	// Name is what a Principal of this provider has as its Provider.
	Name() string
	// Token tells whose token it is. Its errors are flavor.CodeUnauthorized
	// where the provider does not accept it, and flavor.CodeUnavailable, with
	// RetryAfter, where the provider cannot be asked. No error holds the token.
	// The Principal may be shared with other callers: read it only.
	Token(ctx context.Context, token flavor.Secret) (flavor.Principal, error)
}

// BasicProvider is an identity provider that knows names and passwords.
type BasicProvider interface {
	Name() string
	// Basic tells who the user is; errors and Principal are those of Token.
	Basic(ctx context.Context, user string, password flavor.Secret) (flavor.Principal, error)
}

// Kind is the kind of a Credential.
type Kind int

// The kinds of credential.
const (
	None  Kind = iota // the caller sent none
	Token             // a token of whatever provider
	Basic             // user and password
)

// Credential is what a caller sent to say who they are.
type Credential struct {
	Kind     Kind
	Token    flavor.Secret
	User     string
	Password flavor.Secret
}

// Chain is the configured identity providers in their order. It is safe for
// concurrent use.
type Chain struct {
	tokens    []Provider // who are asked about opaque tokens
	jwts      []*openID  // each is asked about the JWTs of its issuer
	keystones []Provider // who are asked about Keystone's own tokens
	basics    []BasicProvider
	close     []func()
}

// Option changes how New builds a Chain.
type Option func(*settings)

type settings struct {
	now      func() time.Time
	calls    outgoing.Config
	keystone Keystone
	observe  func(context.Context, Call) // nil: nobody is told
}

// Call is one question to an identity provider, as an observer is told of it.
// Nothing of what was sent or answered is in it.
type Call struct {
	Provider string // its name
	Outcome  string // ok; refused: a 4xx, which is about the token; unavailable: anything else
	Started  time.Time
	Took     time.Duration
}

// The outcomes of a Call.
const (
	outcomeOK          = "ok"
	outcomeRefused     = "refused"
	outcomeUnavailable = "unavailable"
)

// WithObserver has observe told of every question to a provider when it was
// answered, or was not. It must not take long.
func WithObserver(observe func(context.Context, Call)) Option {
	return func(s *settings) { s.observe = observe }
}

// asked tells the observer of a question to a provider.
func (s settings) asked(ctx context.Context, provider, outcome string, started time.Time) {
	if s.observe != nil {
		s.observe(ctx, Call{Provider: provider, Outcome: outcome, Started: started, Took: time.Since(started)})
	}
}

// WithClock replaces time.Now as the clock by which answers are remembered.
func WithClock(now func() time.Time) Option { return func(s *settings) { s.now = now } }

// WithOutgoing lets providers be asked by plain http, or in other networks than
// the public ones, where cfg allows it.
func WithOutgoing(cfg outgoing.Config) Option { return func(s *settings) { s.calls = cfg } }

// WithKeystone is what providers of type keystone ask.
func WithKeystone(k Keystone) Option { return func(s *settings) { s.keystone = k } }

// New makes the providers of cfg, to be asked in that order. What is not set
// has its default. All errors of cfg come at once.
func New(cfg []ProviderConfig, opts ...Option) (*Chain, error) {
	s := settings{now: time.Now}
	for _, opt := range opts {
		opt(&s)
	}
	c := new(Chain)
	var errs []error
	for i, p := range cfg {
		p = p.WithDefaults()
		if err := p.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("identity[%d]: %w", i, err))
			continue
		}
		switch p.Type {
		case TypeKeyRock:
			k := newKeyRock(p, s)
			c.tokens = append(c.tokens, k)
			c.close = append(c.close, k.transport.CloseIdleConnections)
		case TypeOIDC:
			o := newOpenID(p, s)
			c.jwts = append(c.jwts, o)
			if p.Opaque != "" {
				c.tokens = append(c.tokens, o)
			}
			c.close = append(c.close, o.transport.CloseIdleConnections)
		case TypeKeystone:
			if s.keystone == nil {
				errs = append(errs, fmt.Errorf("identity[%d].type: there is no Keystone to ask", i))
				continue
			}
			k := newKeystoneTokens(p, s)
			c.tokens, c.keystones = append(c.tokens, k), append(c.keystones, k)
		case TypeAccounts:
			c.basics = append(c.basics, newAccounts(p.Users, s.now))
		}
	}
	if err := Distinct(cfg); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// Close gives up the idle connections to the providers.
func (c *Chain) Close() {
	for _, f := range c.close {
		f()
	}
}

// Authenticate tells who sent cred: the first provider to accept it says so. A
// provider that cannot be asked does not keep the others from being asked; only
// where none accepts is the error flavor.CodeUnavailable, with RetryAfter, for
// that provider might have. Else it is flavor.CodeUnauthorized. No error holds
// the token or the password. The Principal is shared: read it only.
func (c *Chain) Authenticate(ctx context.Context, cred Credential) (flavor.Principal, error) {
	switch cred.Kind {
	case Token:
		return c.token(ctx, cred.Token)
	case Basic:
		return firstOf(c.basics, "user name and password", func(p BasicProvider) (flavor.Principal, error) {
			return p.Basic(ctx, cred.User, cred.Password)
		})
	}
	return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "no credential was sent: send a token or a user name and password")
}

// token shows a token to those it may be shown to. A JWT is its issuer's alone,
// whatever its signature, and Keystone's tokens are Keystone's.
func (c *Chain) token(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	// Whose JWT it is takes some reading, which a remembered one does not need.
	if strings.HasPrefix(string(token), jwtPrefix) {
		for _, o := range c.jwts {
			if v, ok := o.memory.recall(o.memory.digest(token)); ok {
				return v.who, v.err
			}
		}
	}
	asked := c.tokens
	switch shapeOf(token) {
	case malformed:
		return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "the token is empty, longer than %d bytes, or holds blanks or control characters", maxToken)
	case fernet:
		if len(c.keystones) == 0 {
			return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "the token is Keystone's, and Keystone is not configured as an identity provider")
		}
		asked = c.keystones
	case jwt:
		issuer := issuerOf(token)
		for _, o := range c.jwts {
			if o.issuer == issuer {
				return o.JWT(ctx, token)
			}
		}
		return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "the token is a JWT, and no provider is configured for its issuer")
	}
	return firstOf(asked, "token", func(p Provider) (flavor.Principal, error) {
		return p.Token(ctx, token)
	})
}

func firstOf[P any](providers []P, what string, ask func(P) (flavor.Principal, error)) (flavor.Principal, error) {
	var unavailable, refused error
	for _, p := range providers {
		who, err := ask(p)
		switch {
		case err == nil:
			return who, nil
		case flavor.CodeOf(err) == flavor.CodeUnauthorized:
			if refused == nil {
				refused = err
			}
		case unavailable == nil:
			unavailable = err
		}
	}
	switch {
	case unavailable != nil:
		return flavor.Principal{}, unavailable
	case refused != nil:
		return flavor.Principal{}, refused
	}
	return flavor.Principal{}, flavor.Errorf(flavor.CodeUnauthorized, "no identity provider here takes a %s", what)
}
