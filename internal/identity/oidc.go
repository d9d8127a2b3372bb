package identity

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// openID is one issuer of OpenID Connect tokens. JWTs are verified here, by the
// issuer's keys; opaque access tokens, where that is configured, are shown to the
// issuer's introspection (RFC 7662) or userinfo endpoint. The issuer is first
// asked when it is first needed: it may be down when Flavorsync starts.
type openID struct {
	*remote
	memory  *memory
	now     func() time.Time
	mapping mapping

	issuer         string
	host           string // of issuer, for errors
	audience       []string
	audienceClaims []string
	kinds          []string
	algorithms     []string
	skew           time.Duration
	nameClaims     []string
	keystoneUser   string

	opaque           string
	userInfo         bool
	clientID         string
	clientSecret     flavor.Secret
	introspectionURL string
	userInfoURL      string
	jwksURL          string

	discovery *fetched[published]
	keys      *fetched[[]jose.JSONWebKey]
}

// published is what of an issuer's discovery document counts here.
type published struct {
	JWKS          string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
	UserInfo      string `json:"userinfo_endpoint"`
}

func newOpenID(c ProviderConfig, s settings) *openID {
	issuer, _ := url.Parse(c.Issuer) // Validate has tried it
	o := &openID{
		remote: newRemote(c.Name, c.Timeout, s), memory: newMemory(c.Name, c.CacheSize, s.now), now: s.now,
		mapping: newMapping(c.Roles, c.Regions),
		issuer:  c.Issuer, host: issuer.Host, audience: c.Audience, audienceClaims: c.AudienceClaims, kinds: c.Tokens,
		algorithms: c.Algorithms, skew: c.ClockSkew, nameClaims: c.NameClaims, keystoneUser: c.KeystoneUserClaim,
		opaque: c.Opaque, userInfo: c.UserInfo, clientID: c.ClientID, clientSecret: c.ClientSecret,
		introspectionURL: c.IntrospectionURL, userInfoURL: c.UserInfoURL, jwksURL: c.JWKSURL,
	}
	o.discovery = &fetched[published]{fetch: o.discover, pause: fetchPause, now: s.now}
	o.keys = &fetched[[]jose.JSONWebKey]{fetch: o.fetchKeys, pause: fetchPause, now: s.now}
	return o
}

func (o *openID) Name() string { return o.name }

// Token tells whose opaque access token it is.
func (o *openID) Token(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	return o.judge(ctx, token, o.look)
}

// JWT tells whose JWT it is, whose issuer says that it is o's.
func (o *openID) JWT(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	return o.judge(ctx, token, o.verify)
}

// judge answers from memory, or by the claims that find finds within the
// timeout.
func (o *openID) judge(ctx context.Context, token flavor.Secret, find func(context.Context, flavor.Secret) (claims map[string]any, until time.Time, err error)) (flavor.Principal, error) {
	return o.memory.token(ctx, token, func(ctx context.Context) verdict {
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		claims, until, err := find(ctx, token)
		if err != nil {
			return verdict{err: err, until: until}
		}
		if o.userInfo {
			if err := o.addUserInfo(ctx, token, claims); err != nil {
				return verdict{err: err}
			}
		}
		who, err := o.principal(claims)
		return verdict{who: who, err: err, until: until}
	})
}

// The kinds of token an issuer signs. A token need not tell which it is.
const (
	kindAccess = "access"
	kindID     = "id"
	kindOther  = "other" // a refresh token, a logout token, a security event
)

// header is a JWT's protected header, as far as it decides.
type header struct {
	Algorithm string `json:"alg"`
	Type      string `json:"typ"`
	KeyID     string `json:"kid"`
	Critical  any    `json:"crit"`
}

// verify finds the claims of a JWT that is good here, and when it expires. With
// an error, until is when another answer is possible.
func (o *openID) verify(ctx context.Context, token flavor.Secret) (claims map[string]any, until time.Time, err error) {
	first, _, _ := strings.Cut(string(token), ".")
	text, err := decodePart(first)
	if err != nil {
		return nil, until, o.refused("does not accept the token: it is malformed")
	}
	var h header
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, until, o.refused("does not accept the token: its header is malformed")
	}
	switch {
	case h.Critical != nil:
		return nil, until, o.refused("does not accept the token: its header has crit, which nothing here understands")
	case !slices.Contains(o.algorithms, h.Algorithm):
		return nil, until, o.refused("does not accept the token: it is not signed with one of %s", strings.Join(o.algorithms, ", "))
	}
	s := &signature{o: o}
	verifier := oidc.NewVerifier(o.issuer, s, &oidc.Config{
		SupportedSigningAlgs: o.algorithms,
		// Checked below: with the skew that is configured, by any of several
		// audiences, in any of several claims.
		SkipExpiryCheck: true, SkipClientIDCheck: true,
	})
	if _, err := verifier.Verify(ctx, string(token)); s.err != nil {
		return nil, s.until, s.err
	} else if err != nil {
		return nil, until, o.refused("does not accept the token: it is malformed, or another issuer's")
	}
	if err := json.Unmarshal(s.payload, &claims); err != nil {
		return nil, until, o.refused("does not accept the token: its claims are malformed")
	}
	until, err = o.acceptable(h.Type, claims, true)
	return claims, until, err
}

// signature is a KeySet for one token; go-oidc hides the errors of a KeySet in
// its own, so they are kept here.
type signature struct {
	o       *openID
	payload []byte
	until   time.Time
	err     error
}

// VerifySignature checks token by the issuer's keys. What the header says of
// keys beyond kid (jwk, jku, x5c, x5u) is the sender's word, and does not count.
func (s *signature) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, joseAlgorithms(s.o.algorithms))
	if err != nil {
		s.err = s.o.refused("does not accept the token: it is malformed")
		return nil, s.err
	}
	h := jws.Signatures[0].Protected
	keys, until, err := s.o.signingKeys(ctx, h.KeyID, h.Algorithm)
	if len(keys) == 0 {
		s.err, s.until = s.o.refused("does not accept the token: no key that it publishes is the one that the token names"), until
		switch {
		case flavor.CodeOf(err) == flavor.CodeUnavailable:
			s.err = err
		case err != nil:
			s.err = s.o.broken(ctx, s.o.host, "cannot be reached", err)
		}
		return nil, s.err
	}
	for _, key := range keys {
		if s.payload, err = jws.Verify(key.Key); err == nil {
			return s.payload, nil
		}
	}
	s.err = s.o.refused("does not accept the token: its signature is wrong")
	return nil, s.err
}

func joseAlgorithms(names []string) []jose.SignatureAlgorithm {
	all := make([]jose.SignatureAlgorithm, len(names))
	for i, name := range names {
		all[i] = jose.SignatureAlgorithm(name)
	}
	return all
}

// acceptable refuses claims that are not those of a token for here and now, and
// tells when the token expires: zero where it need not say and does not.
func (o *openID) acceptable(typ string, claims map[string]any, mustExpire bool) (time.Time, error) {
	now := o.now()
	exp, expires := seconds(claims["exp"])
	nbf, early := seconds(claims["nbf"])
	iat, issued := seconds(claims["iat"])
	switch {
	case !expires && (mustExpire || claims["exp"] != nil):
		return time.Time{}, o.refused("does not accept the token: it does not say when it expires")
	case expires && !now.Before(exp.Add(o.skew)):
		return time.Time{}, o.refused("does not accept the token: it has expired")
	case !early && claims["nbf"] != nil, !issued && claims["iat"] != nil:
		return time.Time{}, o.refused("does not accept the token: its times are malformed")
	case early && now.Add(o.skew).Before(nbf), issued && now.Add(o.skew).Before(iat):
		return time.Time{}, o.refused("does not accept the token: it is not valid yet")
	case claims["iss"] != nil && claims["iss"] != any(o.issuer):
		return time.Time{}, o.refused("does not accept the token: it is another issuer's")
	case claims["cnf"] != nil:
		return time.Time{}, o.refused("does not accept the token: it is bound to a key of its user (cnf), which is not checked here")
	}
	if kind := kindOf(typ, claims); kind != "" && !slices.Contains(o.kinds, kind) {
		return time.Time{}, o.refused("does not accept the token: it is none of %s", strings.Join(o.kinds, ", "))
	}
	if !o.meant(claims) {
		return time.Time{}, o.refused("does not accept the token: it was issued for somebody else: ask for one for %s", strings.Join(o.audience, " or "))
	}
	return exp, nil
}

// meant says whether one of the audience is named in claims.
func (o *openID) meant(claims map[string]any) bool {
	for _, claim := range o.audienceClaims {
		for _, value := range claimTexts(claims, claim) {
			if slices.Contains(o.audience, value) {
				return true
			}
		}
	}
	return false
}

// kindOf is the kind of token that typ, of the header, and the claims tell; ""
// where they do not. at+jwt is RFC 9068, the claim typ Keycloak's, token_use
// Cognito's and Hydra's, events RFC 8417.
func kindOf(typ string, claims map[string]any) string {
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "at+jwt":
		return kindAccess
	case "", "jwt":
	default:
		return kindOther
	}
	if claims["events"] != nil {
		return kindOther
	}
	for _, name := range []string{"typ", "token_use", "token_type"} {
		value, ok := claims[name].(string)
		if !ok {
			continue
		}
		switch strings.ToLower(value) {
		case "bearer", "access", "access_token", "at+jwt":
			return kindAccess
		case "id", "id_token":
			return kindID
		case "jwt":
		default:
			return kindOther
		}
	}
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash"} {
		if claims[name] != nil {
			return kindID
		}
	}
	return ""
}

// seconds reads a NumericDate (RFC 7519), which may have a fraction.
func seconds(value any) (time.Time, bool) {
	s, ok := value.(float64)
	if !ok || s < 0 || s > 1<<40 {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(s)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// principal is whom claims are about.
func (o *openID) principal(claims map[string]any) (flavor.Principal, error) {
	sub, _ := claims["sub"].(string)
	if sub == "" || len(sub) > 255 || strings.ContainsFunc(sub, unicode.IsControl) {
		return flavor.Principal{}, o.refused("does not accept the token: it is no user's (sub)")
	}
	p := flavor.Principal{ID: printable(sub), Provider: o.name}
	for _, claim := range o.nameClaims {
		if texts := claimTexts(claims, claim); p.Name == "" && len(texts) == 1 {
			p.Name = printable(texts[0])
		}
	}
	if p.Name == "" {
		p.Name = p.ID
	}
	if o.keystoneUser != "" {
		p.KeystoneUser = claimText(claims, o.keystoneUser)
	}
	o.mapping.apply(&p, claims)
	return p, nil
}

// look shows an opaque access token to the issuer.
func (o *openID) look(ctx context.Context, token flavor.Secret) (claims map[string]any, until time.Time, err error) {
	if o.opaque == OpaqueUserInfo {
		// The userinfo endpoint does not say for whom the token was issued.
		claims = make(map[string]any)
		return claims, until, o.addUserInfo(ctx, token, claims)
	}
	req, err := o.endpoint(ctx, http.MethodPost, o.introspectionURL, "introspection_endpoint", url.Values{
		"token": {string(token)}, "token_type_hint": {"access_token"},
	})
	if err != nil {
		return nil, until, err
	}
	// RFC 6749, section 2.3.1, has both encoded first.
	req.SetBasicAuth(url.QueryEscape(o.clientID), url.QueryEscape(string(o.clientSecret)))
	status, body, err := o.do(req)
	switch {
	case err != nil:
		return nil, until, err
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return nil, until, unavailable("the identity provider %s at %s refuses client_id and client_secret: %w", o.name, req.URL.Host, errors.New(http.StatusText(status)))
	case status != http.StatusOK:
		return nil, until, o.nonsense(req.URL.Host, "status %d to an introspection", status)
	}
	if err := json.Unmarshal(body, &claims); err != nil {
		return nil, until, o.nonsense(req.URL.Host, "not the JSON of an introspection")
	}
	active, ok := claims["active"].(bool)
	switch {
	case !ok:
		return nil, until, o.nonsense(req.URL.Host, "an introspection without active")
	case !active:
		return nil, until, o.refused("does not accept the token")
	}
	until, err = o.acceptable("", claims, false)
	return claims, until, err
}

// addUserInfo adds to claims what the userinfo endpoint says of the token's
// user, who must be the one of the claims if they name any.
func (o *openID) addUserInfo(ctx context.Context, token flavor.Secret, claims map[string]any) error {
	req, err := o.endpoint(ctx, http.MethodGet, o.userInfoURL, "userinfo_endpoint", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	status, body, err := o.do(req)
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return o.refused("does not accept the token")
	case status != http.StatusOK:
		return o.nonsense(req.URL.Host, "status %d for userinfo", status)
	}
	var info map[string]any
	if err := json.Unmarshal(body, &info); err != nil || info["sub"] == nil {
		return o.nonsense(req.URL.Host, "not the JSON of a userinfo")
	}
	if claims["sub"] != nil && claims["sub"] != info["sub"] {
		return o.nonsense(req.URL.Host, "a userinfo of another user")
	}
	maps.Copy(claims, info)
	return nil
}

// endpoint is a request to the endpoint at configured, or at the one that the
// issuer publishes under name.
func (o *openID) endpoint(ctx context.Context, method, configured, name string, form url.Values) (*http.Request, error) {
	at := configured
	if at == "" {
		published, err := o.discovered(ctx)
		if err != nil {
			return nil, err
		}
		if at = published.UserInfo; name == "introspection_endpoint" {
			at = published.Introspection
		}
		if at == "" {
			return nil, o.nonsense(o.host, "no %s", name)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, o.nonsense(o.host, "a %s that is no URL", name)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, nil
}

// discovered is what the issuer publishes.
func (o *openID) discovered(ctx context.Context) (published, error) {
	if p, since := o.discovery.known(); !since.IsZero() {
		return p, nil
	}
	p, _, err := o.discovery.again(ctx)
	if err != nil && flavor.CodeOf(err) != flavor.CodeUnavailable {
		err = o.broken(ctx, o.host, "cannot be reached", err)
	}
	return p, err
}

// discover reads the issuer's discovery document.
func (o *openID) discover(ctx context.Context) (published, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.issuer)
	if err != nil {
		if _, ok := errors.AsType[*url.Error](err); ok {
			return published{}, o.broken(ctx, o.host, "cannot be reached", err)
		}
		if _, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
			return published{}, o.nonsense(o.host, "a discovery document of another issuer: write issuer exactly as it does")
		}
		return published{}, o.nonsense(o.host, "not a discovery document of at most %d bytes", maxAnswer)
	}
	var p published
	if err := provider.Claims(&p); err != nil {
		return published{}, o.nonsense(o.host, "not a discovery document")
	}
	for _, at := range []string{p.JWKS, p.Introspection, p.UserInfo} {
		if at != "" && !httpURL(at, strings.HasPrefix(o.issuer, "https:")) {
			return published{}, o.nonsense(o.host, "a discovery document with an endpoint that is no https URL")
		}
	}
	return p, nil
}

// httpURL says whether text is an absolute URL without user and fragment, of
// https where encrypted must be.
func httpURL(text string, encrypted bool) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http" && !encrypted) && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}
