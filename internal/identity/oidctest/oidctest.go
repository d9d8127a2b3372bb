// Package oidctest is a real OpenID provider (zitadel/oidc) in one process, for
// the tests: it issues JWTs and opaque tokens, publishes and rotates its keys,
// introspects, tells userinfo, counts what it is asked, and fails when a test
// orders it to.
package oidctest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// ClientID and ClientSecret are the client that may introspect; tokens are issued
// for it where a Grant names no other audience.
const (
	ClientID     = "flavorsync"
	ClientSecret = "flavorsync-secret"
)

// Provider is a running OpenID provider. Its methods may be called from any
// goroutine.
type Provider struct {
	Issuer string

	server *httptest.Server
	op     *op.Provider
	store  *store
	client *storage.Client

	mu      sync.Mutex
	asked   map[string]int
	instead http.HandlerFunc
}

// Grant is what a token is issued for.
type Grant struct {
	User     string         // sub
	Audience []string       // nil: ClientID
	Claims   map[string]any // what else the tokens, introspection and userinfo tell
}

// Tokens are the tokens of one grant.
type Tokens struct{ Access, ID string }

// New starts a provider that ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{asked: make(map[string]int)}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	p.Issuer = p.server.URL
	p.client = storage.WebClient(ClientID, ClientSecret)
	p.store = &store{
		Storage: storage.NewStorageWithClients(users{}, map[string]*storage.Client{ClientID: p.client}),
		issuer:  p.Issuer, grants: make(map[string]Grant), expiry: make(map[string]time.Time),
	}
	p.Rotate(t)
	var err error
	p.op, err = op.NewProvider(&op.Config{CodeMethodS256: true, GrantTypeRefreshToken: true}, p.store, op.StaticIssuer(p.Issuer),
		op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The paths of what a provider is asked, for Asked.
const (
	Discovery     = "/.well-known/openid-configuration"
	Keys          = "/keys"
	Introspection = "/oauth/introspect"
	UserInfo      = "/userinfo"
)

// Asked is how often path was asked, "" for all together.
func (p *Provider) Asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if path != "" {
		return p.asked[path]
	}
	all := 0
	for _, n := range p.asked {
		all += n
	}
	return all
}

// Instead has everything answered by h from now on, until it is nil.
func (p *Provider) Instead(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = h
}

// Down has every connection closed without an answer.
func Down(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// Hang answers nothing until the caller gives up.
func Hang(_ http.ResponseWriter, r *http.Request) {
	// A server only sees that the caller has gone when the body is read.
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked[r.URL.Path]++
	h := p.instead
	p.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	p.op.ServeHTTP(w, r)
}

// Rotate makes a new signing key; the older ones stay published.
func (p *Provider) Rotate(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.keys = append([]*signingKey{{id: uuid.NewString(), private: key}}, p.store.keys...)
}

// Retire publishes the newest key only.
func (p *Provider) Retire() {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.keys = p.store.keys[:1]
}

// Key is the newest signing key and its id.
func (p *Provider) Key() (*rsa.PrivateKey, string) {
	key := p.store.newest()
	return key.private, key.id
}

// JWT issues a JWT access token and the ID token beside it.
func (p *Provider) JWT(t testing.TB, g Grant) Tokens {
	t.Helper()
	return p.issue(t, g, op.AccessTokenTypeJWT)
}

// Opaque issues an opaque access token and the ID token beside it.
func (p *Provider) Opaque(t testing.TB, g Grant) Tokens {
	t.Helper()
	return p.issue(t, g, op.AccessTokenTypeBearer)
}

func (p *Provider) issue(t testing.TB, g Grant, kind op.AccessTokenType) Tokens {
	t.Helper()
	ctx := op.ContextWithIssuer(context.Background(), p.Issuer)
	if g.Audience == nil {
		g.Audience = []string{ClientID}
	}
	r := request{Grant: g}
	res, err := op.CreateTokenResponse(ctx, r, client{Client: p.client, kind: kind}, p.op, true, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return Tokens{Access: res.AccessToken, ID: res.IDToken}
}

// Revoke ends all opaque tokens of a user.
func (p *Provider) Revoke(user string) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	for id, g := range p.store.grants {
		if g.User == user {
			delete(p.store.grants, id)
		}
	}
}

// Expire has the introspection of all opaque tokens say that they end at t.
func (p *Provider) Expire(t time.Time) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	for id := range p.store.expiry {
		p.store.expiry[id] = t
	}
}

// Claims are those of an access token for ClientID that is good for an hour, for
// Sign.
func (p *Provider) Claims(user string) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": p.Issuer, "sub": user, "aud": ClientID, "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
	}
}

// Sign signs any claims with the newest key and any further header.
func (p *Provider) Sign(t testing.TB, claims, header map[string]any) string {
	t.Helper()
	private, id := p.Key()
	return Sign(t, jose.RS256, private, claims, merged(map[string]any{"kid": id, "typ": "JWT"}, header))
}

// Sign signs claims with key. A nil in header leaves that name out.
func Sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, claims, header map[string]any) string {
	t.Helper()
	options := new(jose.SignerOptions)
	for name, value := range header {
		if value != nil {
			options.WithHeader(jose.HeaderKey(name), value)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func merged(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// request is a Grant as the library wants it.
type request struct{ Grant }

func (r request) GetSubject() string     { return r.User }
func (r request) GetAudience() []string  { return r.Audience }
func (r request) GetScopes() []string    { return []string{oidc.ScopeOpenID, oidc.ScopeProfile} }
func (r request) GetAMR() []string       { return nil }
func (r request) GetAuthTime() time.Time { return time.Now() }
func (r request) GetClientID() string    { return ClientID }

type client struct {
	*storage.Client
	kind op.AccessTokenType
}

func (c client) AccessTokenType() op.AccessTokenType  { return c.kind }
func (c client) IDTokenUserinfoClaimsAssertion() bool { return true }

// users knows every user there may be.
type users struct{}

func (users) GetUserByID(id string) *storage.User {
	return &storage.User{ID: id, Username: id, FirstName: "Ada", LastName: "of " + id}
}
func (u users) GetUserByUsername(name string) *storage.User { return u.GetUserByID(name) }
func (users) ExampleClientID() string                       { return ClientID }

type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *signingKey) Key() any                                    { return k.private }

type publicKey struct{ *signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return &k.private.PublicKey }

// store is the library's example, with keys that rotate and claims.
type store struct {
	*storage.Storage
	issuer string

	mu     sync.Mutex
	keys   []*signingKey // the newest first
	grants map[string]Grant
	expiry map[string]time.Time
}

func (s *store) newest() *signingKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[0]
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.newest(), nil }

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []op.Key
	for _, key := range s.keys {
		all = append(all, publicKey{key})
	}
	return all, nil
}

func (s *store) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, expiry, err := s.Storage.CreateAccessToken(ctx, r)
	if err != nil {
		return "", time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[id], s.expiry[id] = r.(request).Grant, expiry
	return id, expiry, nil
}

func (s *store) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	return r.(request).Claims, nil
}

func (s *store) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	for name, value := range r.(request).Claims {
		info.AppendClaims(name, value)
	}
	return s.Storage.SetUserinfoFromRequest(ctx, info, r, scopes)
}

func (s *store) grant(tokenID string) (Grant, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[tokenID]
	if !ok {
		return Grant{}, time.Time{}, fmt.Errorf("the token %s was revoked", tokenID)
	}
	return g, s.expiry[tokenID], nil
}

func (s *store) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, subject, origin string) error {
	g, _, err := s.grant(tokenID)
	if err != nil {
		return err
	}
	for name, value := range g.Claims {
		info.AppendClaims(name, value)
	}
	return s.Storage.SetUserinfoFromToken(ctx, info, tokenID, subject, origin)
}

func (s *store) SetIntrospectionFromToken(_ context.Context, r *oidc.IntrospectionResponse, tokenID, subject, clientID string) error {
	g, expiry, err := s.grant(tokenID)
	if err != nil {
		return err
	}
	r.Subject, r.Audience, r.Issuer, r.TokenType = subject, g.Audience, s.issuer, oidc.BearerToken
	r.Expiration, r.ClientID = oidc.FromTime(expiry), cmp.Or(clientID, ClientID)
	r.Username, r.Claims = subject, g.Claims
	return nil
}
