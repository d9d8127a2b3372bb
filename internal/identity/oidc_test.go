package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity/oidctest"
)

// today is a clock that stands still now: the provider's own clock cannot be set.
func today() *clock {
	c := new(clock)
	c.advance(time.Since(c.now()))
	return c
}

func openid(p *oidctest.Provider) ProviderConfig {
	return ProviderConfig{
		Type: TypeOIDC, Issuer: p.Issuer, Audience: Texts{oidctest.ClientID}, Timeout: time.Minute,
		Roles:   []RoleRule{{Claim: "groups", Match: "^managers$", Role: RoleManager}},
		Regions: []RegionRule{{Claim: "groups", Match: "^(?P<region>.+)-owners$"}},
	}
}

func introspecting(p *oidctest.Provider) ProviderConfig {
	cfg := openid(p)
	cfg.Opaque, cfg.ClientID, cfg.ClientSecret = OpaqueIntrospection, oidctest.ClientID, oidctest.ClientSecret
	return cfg
}

// adasGrant is that of the owner of Trento, with whom adaOf compares.
var adasGrant = oidctest.Grant{User: "ada", Claims: map[string]any{"groups": []string{"Trento-owners", "staff"}}}

// adaOf is ada by provider and name; access tokens of the test's provider hold
// no name.
func adaOf(provider, name string) flavor.Principal {
	return flavor.Principal{ID: "ada", Name: name, Provider: provider, Roles: []string{RoleOwner}, Regions: []string{"Trento"}}
}

// Each kind of token that an issuer hands out lets its user in, with the rights
// that the claims are worth.
func TestOIDCTokens(t *testing.T) {
	p := oidctest.New(t)
	jwts, opaque := p.JWT(t, adasGrant), p.Opaque(t, adasGrant)
	userinfo := openid(p)
	userinfo.Opaque = OpaqueUserInfo
	both := openid(p)
	both.UserInfo = true
	named := openid(p)
	named.Name, named.NameClaims = "egi", Texts{"nickname", "sub"}
	keystone := openid(p)
	keystone.KeystoneUserClaim = "keystone.user"
	withKeystone := adaOf("oidc", "ada")
	withKeystone.KeystoneUser = "5f7e"
	manager := flavor.Principal{ID: "mia", Name: "mia", Provider: "oidc", Roles: []string{RoleManager}, Manager: true}
	for _, c := range []struct {
		name  string
		cfg   ProviderConfig
		token string
		want  flavor.Principal
	}{
		{"a JWT access token", openid(p), jwts.Access, adaOf("oidc", "ada")},
		{"an ID token", openid(p), jwts.ID, adaOf("oidc", "Ada of ada")},
		{"an opaque token, introspected", introspecting(p), opaque.Access, adaOf("oidc", "ada")},
		{"an opaque token, by userinfo", userinfo, opaque.Access, adaOf("oidc", "Ada of ada")},
		{"a JWT, and userinfo beside it", both, jwts.Access, adaOf("oidc", "Ada of ada")},
		{"another provider's name and another claim for the user's", named, jwts.ID, adaOf("egi", "ada")},
		{"a manager", openid(p), p.JWT(t, oidctest.Grant{User: "mia", Claims: map[string]any{"groups": "managers"}}).Access, manager},
		{"somebody without rights", openid(p), p.JWT(t, oidctest.Grant{User: "bob"}).Access, flavor.Principal{ID: "bob", Name: "bob", Provider: "oidc"}},
		{"the Keystone user", keystone, p.JWT(t, oidctest.Grant{User: "ada", Claims: map[string]any{
			"groups": adasGrant.Claims["groups"], "keystone": map[string]any{"user": "5f7e"},
		}}).Access, withKeystone},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := token(newChain(t, today(), c.cfg), flavor.Secret(c.token))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is not a good token of this issuer for this service lets nobody in, and
// no error shows a byte of it.
func TestOIDCRefuses(t *testing.T) {
	p, other := oidctest.New(t), oidctest.New(t)
	private, kid := p.Key()
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	claims := func(change func(map[string]any)) map[string]any {
		c := p.Claims("ada")
		change(c)
		return c
	}
	with := func(name string, value any) map[string]any {
		return claims(func(c map[string]any) { c[name] = value })
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	good := p.Claims("ada")
	payload, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	signed := p.Sign(t, good, nil)
	parts := strings.Split(signed, ".")
	for _, c := range []struct {
		name, token string
		good        bool
	}{
		{"a good one", signed, true},
		{"without kid", p.Sign(t, good, map[string]any{"kid": nil}), true},
		{"RFC 9068's", p.Sign(t, good, map[string]any{"typ": "at+jwt"}), true},
		{"for several, us among them", p.Sign(t, with("aud", []string{"x", oidctest.ClientID}), nil), true},
		{"expired, within the skew", p.Sign(t, with("exp", ago(20*time.Second)), nil), true},
		{"not yet valid, within the skew", p.Sign(t, with("nbf", in(20*time.Second)), nil), true},
		{"jwk in the header, beside the good key", p.Sign(t, good, map[string]any{"jku": other.Issuer + "/keys"}), true},

		{"expired", p.Sign(t, with("exp", ago(31*time.Second)), nil), false},
		{"without expiry", p.Sign(t, claims(func(c map[string]any) { delete(c, "exp") }), nil), false},
		{"an expiry that is text", p.Sign(t, with("exp", "tomorrow"), nil), false},
		{"not yet valid", p.Sign(t, with("nbf", in(32*time.Second)), nil), false},
		{"issued in the future", p.Sign(t, with("iat", in(32*time.Second)), nil), false},
		{"for somebody else", p.Sign(t, with("aud", "other"), nil), false},
		{"for nobody", p.Sign(t, claims(func(c map[string]any) { delete(c, "aud") }), nil), false},
		{"for us by azp, which does not count here", p.Sign(t, claims(func(c map[string]any) { c["aud"], c["azp"] = "other", oidctest.ClientID }), nil), false},
		{"without user", p.Sign(t, claims(func(c map[string]any) { delete(c, "sub") }), nil), false},
		{"a user with a line break", p.Sign(t, with("sub", "a\nb"), nil), false},
		{"a user of 256 bytes", p.Sign(t, with("sub", strings.Repeat("a", 256)), nil), false},
		{"signed by a stranger, with our kid", oidctest.Sign(t, jose.RS256, stranger, good, map[string]any{"kid": kid}), false},
		{"signed by a stranger, without kid", oidctest.Sign(t, jose.RS256, stranger, good, nil), false},
		{"signed by a stranger, jwk in the header", oidctest.Sign(t, jose.RS256, stranger, good, map[string]any{"kid": kid, "jwk": jose.JSONWebKey{Key: &stranger.PublicKey}}), false},
		{"signed by another issuer", other.Sign(t, good, nil), false},
		{"signed by another issuer, jku in the header", other.Sign(t, good, map[string]any{"jku": other.Issuer + "/keys"}), false},
		{"kid as a path", p.Sign(t, good, map[string]any{"kid": "../../dev/null"}), false},
		{"kid as SQL", p.Sign(t, good, map[string]any{"kid": "x' UNION SELECT 'k"}), false},
		{"alg none", b64(`{"alg":"none"}`) + "." + parts[1] + ".", false},
		{"alg None, with the good signature", b64(`{"alg":"None","kid":"`+kid+`"}`) + "." + parts[1] + "." + parts[2], false},
		{"HS256 with the public key in PEM", oidctest.Sign(t, jose.HS256, publicPEM, good, map[string]any{"kid": kid}), false},
		{"HS256 with the public key in DER", oidctest.Sign(t, jose.HS256, der, good, map[string]any{"kid": kid}), false},
		{"other claims under the signature", parts[0] + "." + b64(strings.Replace(string(payload), "ada", "eve", 1)) + "." + parts[2], false},
		{"without signature", parts[0] + "." + parts[1] + ".", false},
		{"crit", oidctest.Sign(t, jose.RS256, private, good, map[string]any{"kid": kid, "crit": []string{"exp"}, "exp": in(time.Hour)}), false},
		{"crit that go-jose understands", oidctest.Sign(t, jose.RS256, private, good, map[string]any{"kid": kid, "crit": []string{"b64"}, "b64": true}), false},
		{"b64", b64(`{"alg":"RS256","kid":"`+kid+`","b64":false,"crit":["b64"]}`) + "." + parts[1] + "." + parts[2], false},
		{"alg twice", b64(`{"alg":"RS256","alg":"none","kid":"`+kid+`"}`) + "." + parts[1] + "." + parts[2], false},
		{"a logout token", p.Sign(t, with("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), nil), false},
		{"a logout token by its header", p.Sign(t, good, map[string]any{"typ": "logout+jwt"}), false},
		{"a refresh token of Keycloak's", p.Sign(t, with("typ", "Refresh"), nil), false},
		{"bound to a key of its user", p.Sign(t, with("cnf", map[string]any{"jkt": "x"}), nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := token(newChain(t, today(), openid(p)), flavor.Secret(c.token))
			if c.good {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			expectCode(t, err, flavor.CodeUnauthorized)
			for part := range strings.SplitSeq(c.token, ".") {
				if len(part) > 8 && strings.Contains(fmt.Sprintf("%v %+v", err, err), part) {
					t.Errorf("the error shows a piece of the token: %v", err)
				}
			}
		})
	}
}

// Which provider is shown which token: a JWT of a configured issuer is that
// one's alone, however bad it is; other JWTs are shown to nobody.
func TestOIDCWhoSeesWhat(t *testing.T) {
	first, second, stranger := oidctest.New(t), oidctest.New(t), oidctest.New(t)
	k := newIDM(t, text(200, ownerOfTrento))
	one, two := introspecting(first), introspecting(second)
	two.Name = "second"
	chain := newChain(t, today(), keyrock(k), one, two)
	who, err := token(chain, flavor.Secret(second.JWT(t, adasGrant).Access))
	if err != nil || who.Provider != "second" {
		t.Errorf("the second issuer's JWT is %+v, %v", who, err)
	}
	if n := first.Asked(""); n != 0 {
		t.Errorf("the first issuer was asked %d times about the second's", n)
	}
	bad := first.Sign(t, map[string]any{"iss": first.Issuer, "sub": "ada"}, nil)
	_, err = token(chain, flavor.Secret(bad))
	expectCode(t, err, flavor.CodeUnauthorized)
	_, err = token(chain, flavor.Secret(stranger.JWT(t, adasGrant).Access))
	expectCode(t, err, flavor.CodeUnauthorized)
	_, err = token(chain, "gAAAAABm1234")
	expectCode(t, err, flavor.CodeUnauthorized)
	twice := b64(`{"alg":"RS256"}`) + "." + b64(`{"iss":"`+first.Issuer+`","iss":"`+second.Issuer+`"}`) + ".c2ln"
	_, err = token(chain, flavor.Secret(twice))
	expectCode(t, err, flavor.CodeUnauthorized)
	k.expect(t, 0)
	if n := stranger.Asked(""); n != 0 {
		t.Errorf("an issuer that is not configured was asked %d times", n)
	}
	for _, p := range []*oidctest.Provider{first, second} {
		if n := p.Asked(oidctest.Introspection); n != 0 {
			t.Errorf("a JWT was shown to the introspection %d times", n)
		}
	}
	// An opaque one goes round in the configured order, until one knows it.
	k.says(text(401, ""))
	if who, err := token(chain, flavor.Secret(second.Opaque(t, adasGrant).Access)); err != nil || who.Provider != "second" {
		t.Errorf("the second issuer's opaque token is %+v, %v", who, err)
	}
	k.expect(t, 1)
	if a, b := first.Asked(oidctest.Introspection), second.Asked(oidctest.Introspection); a != 1 || b != 1 {
		t.Errorf("the introspections were asked %d and %d times, want once each", a, b)
	}
	// An issuer that is not told to look opaque tokens up is shown none.
	third := oidctest.New(t)
	_, err = token(newChain(t, today(), openid(third)), "opaque")
	expectCode(t, err, flavor.CodeUnauthorized)
	if n := third.Asked(""); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

// Settings that make a token acceptable or not.
func TestOIDCSettings(t *testing.T) {
	p := oidctest.New(t)
	byAZP := p.Claims("ada")
	delete(byAZP, "aud")
	byAZP["azp"] = "widget"
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old := p.Claims("ada")
	old["exp"] = time.Now().Add(-2 * time.Minute).Unix()
	id := p.JWT(t, adasGrant).ID
	for _, c := range []struct {
		name   string
		change func(*ProviderConfig)
		token  string
		good   bool
	}{
		{"the audience in azp", func(c *ProviderConfig) { c.AudienceClaims, c.Audience = Texts{"aud", "azp"}, Texts{"portal", "widget"} }, p.Sign(t, byAZP, nil), true},
		{"the audience in azp, another client", func(c *ProviderConfig) { c.AudienceClaims, c.Audience = Texts{"aud", "azp"}, Texts{"portal"} }, p.Sign(t, byAZP, nil), false},
		{"ID tokens only", func(c *ProviderConfig) { c.Tokens = Texts{"id"} }, id, true},
		{"access tokens only", func(c *ProviderConfig) { c.Tokens = Texts{"access"} }, id, false},
		{"access tokens only, and Keycloak says that it is none", func(c *ProviderConfig) { c.Tokens = Texts{"access"} }, p.Sign(t, mergedClaims(p.Claims("ada"), "typ", "ID"), nil), false},
		{"ID tokens only, and Keycloak says that it is none", func(c *ProviderConfig) { c.Tokens = Texts{"id"} }, p.Sign(t, mergedClaims(p.Claims("ada"), "typ", "Bearer"), nil), false},
		{"another algorithm than is allowed", func(c *ProviderConfig) { c.Algorithms = Texts{"ES256"} }, p.Sign(t, p.Claims("ada"), nil), false},
		{"another kind of key than is published", nil, oidctest.Sign(t, jose.ES256, es, p.Claims("ada"), nil), false},
		{"a clock that is minutes off", func(c *ProviderConfig) { c.ClockSkew = 5 * time.Minute }, p.Sign(t, old, nil), true},
		{"a clock that is not", nil, p.Sign(t, old, nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := openid(p)
			if c.change != nil {
				c.change(&cfg)
			}
			_, err := token(newChain(t, today(), cfg), flavor.Secret(c.token))
			if c.good && err != nil {
				t.Error(err)
			} else if !c.good {
				expectCode(t, err, flavor.CodeUnauthorized)
			}
		})
	}
}

// Every algorithm that may sign is understood, whatever key its issuer has.
func TestOIDCAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"ES256": curve(elliptic.P256()), "ES384": curve(elliptic.P384()), "ES512": curve(elliptic.P521()), "EdDSA": edKey}
	for _, algorithm := range algorithms {
		key, ok := keys[algorithm]
		if !ok {
			key = rsaKey
		}
		set, err := json.Marshal(map[string]any{"keys": []any{jose.JSONWebKey{Key: key.Public(), KeyID: "k"}}})
		if err != nil {
			t.Fatal(err)
		}
		cfg := ProviderConfig{Type: TypeOIDC, Issuer: "https://idm.example.org", JWKSURL: newIDM(t, text(200, string(set))).URL, Audience: Texts{"us"}, Timeout: time.Minute}
		claims := map[string]any{"iss": cfg.Issuer, "aud": "us", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
		signed := oidctest.Sign(t, jose.SignatureAlgorithm(algorithm), key, claims, map[string]any{"kid": "k"})
		if _, err := token(newChain(t, today(), cfg), flavor.Secret(signed)); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	// A key is good for the algorithm that it is published for, and no other.
	set, err := json.Marshal(map[string]any{"keys": []any{jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "k", Algorithm: "PS256"}}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := ProviderConfig{Type: TypeOIDC, Issuer: "https://idm.example.org", JWKSURL: newIDM(t, text(200, string(set))).URL, Audience: Texts{"us"}, Timeout: time.Minute}
	claims := map[string]any{"iss": cfg.Issuer, "aud": "us", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	for algorithm, want := range map[jose.SignatureAlgorithm]flavor.Code{jose.PS256: "", jose.RS256: flavor.CodeUnauthorized} {
		_, err := token(newChain(t, today(), cfg), flavor.Secret(oidctest.Sign(t, algorithm, rsaKey, claims, map[string]any{"kid": "k"})))
		expectCode(t, err, want)
	}
}

func mergedClaims(claims map[string]any, name string, value any) map[string]any {
	all := maps.Clone(claims)
	all[name] = value
	return all
}

// A verified token costs nothing while it is remembered, and never longer than
// until it expires; a new token of a known key asks nobody.
func TestOIDCRemembers(t *testing.T) {
	p, now := oidctest.New(t), today()
	chain := newChain(t, now, openid(p))
	long := p.Sign(t, p.Claims("ada"), nil)
	short := p.Claims("ada")
	short["exp"] = now.now().Add(10 * time.Second).Unix()
	ask := func(token_ string, want flavor.Code) {
		t.Helper()
		_, err := token(chain, flavor.Secret(token_))
		expectCode(t, err, want)
	}
	ask(long, "")
	asked := p.Asked("")
	for range 3 {
		ask(long, "")
		ask(p.Sign(t, p.Claims("bob"), nil), "")
		now.advance(31 * time.Second)
	}
	if n := p.Asked("") - asked; n != 0 {
		t.Errorf("the issuer was asked %d times about tokens of a key that is known", n)
	}
	brief := p.Sign(t, mergedClaims(p.Claims("ada"), "exp", now.now().Add(10*time.Second).Unix()), nil)
	ask(brief, "")
	now.advance(10*time.Second + 30*time.Second - time.Second)
	ask(brief, "") // the skew
	now.advance(2 * time.Second)
	ask(brief, flavor.CodeUnauthorized)
}

// An introspected token ends when the issuer says, not when the memory would.
func TestOIDCIntrospectionExpiry(t *testing.T) {
	p, now := oidctest.New(t), today()
	cfg := introspecting(p)
	cfg.ClockSkew = time.Second
	chain := newChain(t, now, cfg)
	opaque := flavor.Secret(p.Opaque(t, adasGrant).Access)
	p.Expire(now.now().Add(10 * time.Second))
	for range 2 {
		if _, err := token(chain, opaque); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Asked(oidctest.Introspection); n != 1 {
		t.Errorf("it was asked %d times, want once", n)
	}
	now.advance(12 * time.Second)
	_, err := token(chain, opaque)
	expectCode(t, err, flavor.CodeUnauthorized)
	if n := p.Asked(oidctest.Introspection); n != 2 {
		t.Errorf("it was asked %d times, want twice", n)
	}
}

// A key that the issuer has rotated in is learnt at once, or 5 s after somebody
// made it be asked for nothing; what older keys have signed stays good while
// they are published, and a withdrawn key ends within ten minutes.
func TestOIDCRotation(t *testing.T) {
	p, now := oidctest.New(t), today()
	chain := newChain(t, now, openid(p))
	ask := func(token_ string, want flavor.Code) {
		t.Helper()
		_, err := token(chain, flavor.Secret(token_))
		expectCode(t, err, want)
	}
	old := p.Sign(t, p.Claims("ada"), nil)
	ask(old, "")
	now.advance(fetchPause)
	p.Rotate(t)
	rotated := p.Sign(t, p.Claims("ada"), nil)
	ask(rotated, "")
	ask(old, "")
	if n := p.Asked(oidctest.Keys); n != 2 {
		t.Errorf("the keys were fetched %d times, want twice", n)
	}
	// Somebody spoils it a moment before the next rotation: for whoever brings the
	// new key it is a matter of 5 s all the same, although he was refused just
	// before, which is remembered.
	now.advance(fetchPause)
	ask(p.Sign(t, p.Claims("eve"), map[string]any{"kid": "bad"}), flavor.CodeUnauthorized)
	p.Rotate(t)
	rotated = p.Sign(t, p.Claims("ada"), nil)
	now.advance(fetchPause - 1)
	ask(rotated, flavor.CodeUnauthorized)
	for i := range 100 {
		ask(p.Sign(t, p.Claims("eve"), map[string]any{"kid": fmt.Sprint("bad", i)}), flavor.CodeUnauthorized)
	}
	now.advance(1)
	ask(rotated, "")
	if n := p.Asked(oidctest.Keys); n != 4 {
		t.Errorf("the keys were fetched %d times, want 4", n)
	}

	p.Retire()
	now.advance(keysFor)
	ask(old, "") // and the keys are fetched beside it
	for begun := time.Now(); p.Asked(oidctest.Keys) == 4; runtime.Gosched() {
		if time.Since(begun) > time.Minute {
			t.Fatal("keys of ten minutes ago are not fetched anew")
		}
	}
	<-chain.jwts[0].keys.start(context.Background()) // until that fetch has landed
	now.advance(goodFor)
	ask(old, flavor.CodeUnauthorized)
	ask(rotated, "")
}

// Whoever makes key ids up has the issuer asked once in 5 s, however many come
// at once.
func TestOIDCFloodOfKeyIDs(t *testing.T) {
	p, now := oidctest.New(t), today()
	chain := newChain(t, now, openid(p))
	var tokens []string
	for i := range 200 {
		tokens = append(tokens, p.Sign(t, p.Claims("eve"), map[string]any{"kid": fmt.Sprint("bad", i)}))
	}
	for round := range 3 {
		var done sync.WaitGroup
		for _, bad := range tokens {
			done.Go(func() {
				if _, err := token(chain, flavor.Secret(bad)); flavor.CodeOf(err) != flavor.CodeUnauthorized {
					t.Errorf("a made-up key id got %v", err)
				}
			})
		}
		done.Wait()
		if n := p.Asked(oidctest.Keys); n != round+1 {
			t.Errorf("after %d floods the keys were fetched %d times", round+1, n)
		}
		now.advance(fetchPause)
	}
	if n := p.Asked(oidctest.Discovery); n != 1 {
		t.Errorf("the discovery document was fetched %d times", n)
	}
}

// A thousand callers with one unknown token, of either kind, are one look-up.
func TestOIDCCrowd(t *testing.T) {
	p := oidctest.New(t)
	for _, c := range []struct{ token, path string }{
		{p.JWT(t, adasGrant).Access, oidctest.Keys},
		{p.Opaque(t, adasGrant).Access, oidctest.Introspection},
	} {
		chain := newChain(t, today(), introspecting(p))
		asked := p.Asked(c.path)
		var done sync.WaitGroup
		for range 1000 {
			done.Go(func() {
				if _, err := token(chain, flavor.Secret(c.token)); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if n := p.Asked(c.path) - asked; n != 1 {
			t.Errorf("%s was asked %d times, want once", c.path, n)
		}
	}
}

// An issuer that is down at start, or later, or hangs, or talks nonsense, is a
// 503 for whoever needs it; what it has published before stays good.
func TestOIDCDown(t *testing.T) {
	huge := strings.Repeat("x", maxAnswer)
	for _, c := range []struct {
		name  string
		down  http.HandlerFunc
		hangs bool
	}{
		{"closes every connection", oidctest.Down, false},
		{"hangs", oidctest.Hang, true},
		{"500", text(500, `{"error": "secret"}`), false},
		{"404", text(404, "secret"), false},
		{"HTML", text(200, "<html>secret</html>"), false},
		{"an enormous document", text(200, `{"issuer": "`+huge+`"}`), false},
		{"another issuer's document", text(200, `{"issuer": "https://secret.example.org"}`), false},
		{"redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/secret", http.StatusFound)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, now := oidctest.New(t), today()
			p.Instead(c.down)
			cfg := introspecting(p)
			if c.hangs {
				cfg.Timeout = 20 * time.Millisecond
			}
			chain := newChain(t, now, cfg)
			jwts, opaque := p.JWT(t, adasGrant), p.Opaque(t, adasGrant)
			unavailable := func(token_ string) {
				t.Helper()
				_, err := token(chain, flavor.Secret(token_))
				expectCode(t, err, flavor.CodeUnavailable)
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows what was answered: %v", err)
				}
			}
			unavailable(jwts.Access)
			unavailable(opaque.Access)
			asked := p.Asked("")
			unavailable(jwts.Access)
			unavailable(opaque.Access)
			if n := p.Asked("") - asked; n != 0 {
				t.Errorf("it was asked %d times more within 5 s", n)
			}
			if c.hangs {
				return // within that limit no answer is certain
			}

			p.Instead(nil)
			now.advance(fetchPause)
			for _, good := range []string{jwts.Access, opaque.Access} {
				if _, err := token(chain, flavor.Secret(good)); err != nil {
					t.Fatal("it is up again, and nobody comes in:", err)
				}
			}

			p.Instead(c.down)
			now.advance(time.Minute)
			if _, err := token(chain, flavor.Secret(p.JWT(t, adasGrant).Access)); err != nil {
				t.Error("the keys that are known are not good any more:", err)
			}
			unavailable(opaque.Access)
			p.Rotate(t)
			unavailable(p.JWT(t, adasGrant).Access)
		})
	}
}

// What the introspection or userinfo says decides, and only that.
func TestOIDCOpaque(t *testing.T) {
	p := oidctest.New(t)
	opaque := p.Opaque(t, adasGrant)
	revoked := p.Opaque(t, oidctest.Grant{User: "eve"})
	p.Revoke("eve")
	foreign := p.Opaque(t, oidctest.Grant{User: "ada", Audience: []string{"other"}})
	userinfo := openid(p)
	userinfo.Opaque = OpaqueUserInfo
	wrongSecret := introspecting(p)
	wrongSecret.ClientSecret = "wrong"
	for _, c := range []struct {
		name  string
		cfg   ProviderConfig
		token string
		want  flavor.Code
	}{
		{"introspection, good", introspecting(p), opaque.Access, ""},
		{"introspection, revoked", introspecting(p), revoked.Access, flavor.CodeUnauthorized},
		{"introspection, made up", introspecting(p), "made-up", flavor.CodeUnauthorized},
		{"introspection, for somebody else", introspecting(p), foreign.Access, flavor.CodeUnauthorized},
		{"introspection, our secret is wrong", wrongSecret, opaque.Access, flavor.CodeUnavailable},
		{"userinfo, good", userinfo, opaque.Access, ""},
		{"userinfo, revoked", userinfo, revoked.Access, flavor.CodeUnauthorized},
		{"userinfo, made up", userinfo, "made-up", flavor.CodeUnauthorized},
		{"userinfo does not tell for whom", userinfo, foreign.Access, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := token(newChain(t, today(), c.cfg), flavor.Secret(c.token))
			expectCode(t, err, c.want)
			if err != nil && strings.Contains(err.Error(), c.token) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
	now := time.Now()
	answer := func(change string) string {
		return fmt.Sprintf(`{"active": true, "sub": "ada", "aud": "flavorsync", "exp": %d%s}`, now.Add(time.Hour).Unix(), change)
	}
	for _, c := range []struct {
		name, answer string
		want         flavor.Code
	}{
		{"good", answer(""), ""},
		{"without expiry", `{"active": true, "sub": "ada", "aud": ["flavorsync"]}`, ""},
		{"not active", `{"active": false}`, flavor.CodeUnauthorized},
		{"active by a text", `{"active": "true", "sub": "ada", "aud": "flavorsync"}`, flavor.CodeUnavailable},
		{"twice active", `{"active": false, "active": true, "sub": "ada", "aud": "flavorsync"}`, flavor.CodeUnavailable},
		{"nothing", `{}`, flavor.CodeUnavailable},
		{"a list", `[]`, flavor.CodeUnavailable},
		{"expired", fmt.Sprintf(`{"active": true, "sub": "ada", "aud": "flavorsync", "exp": %d}`, now.Add(-time.Minute).Unix()), flavor.CodeUnauthorized},
		{"without audience", `{"active": true, "sub": "ada"}`, flavor.CodeUnauthorized},
		{"without user", `{"active": true, "aud": "flavorsync"}`, flavor.CodeUnauthorized},
		{"another issuer's", answer(`, "iss": "https://other.example.org"`), flavor.CodeUnauthorized},
		{"a refresh token", answer(`, "token_use": "refresh_token"`), flavor.CodeUnauthorized},
		{"bound to a key of its user", answer(`, "cnf": {"jkt": "x"}`), flavor.CodeUnauthorized},
	} {
		t.Run("introspection says "+c.name, func(t *testing.T) {
			s := newIDM(t, text(200, c.answer))
			cfg := introspecting(p)
			cfg.IntrospectionURL = s.URL
			_, err := token(newChain(t, today(), cfg), "opaque")
			expectCode(t, err, c.want)
			s.expect(t, 1)
		})
	}
}

// Userinfo beside a token must be about its user.
func TestOIDCUserInfoOfAnother(t *testing.T) {
	p := oidctest.New(t)
	for _, c := range []struct {
		answer http.HandlerFunc
		want   flavor.Code
	}{
		{text(200, `{"sub": "ada", "groups": ["managers"]}`), ""},
		{text(200, `{"sub": "eve", "groups": ["managers"]}`), flavor.CodeUnavailable},
		{text(200, `{"groups": ["managers"]}`), flavor.CodeUnavailable},
		{text(401, ""), flavor.CodeUnauthorized},
		{text(500, ""), flavor.CodeUnavailable},
	} {
		cfg := openid(p)
		cfg.UserInfo, cfg.UserInfoURL = true, newIDM(t, c.answer).URL
		who, err := token(newChain(t, today(), cfg), flavor.Secret(p.JWT(t, adasGrant).Access))
		expectCode(t, err, c.want)
		if who.Manager != (c.want == "") {
			t.Errorf("the manager by userinfo is %+v", who)
		}
	}
}

// KeyRock publishes one certificate instead of a key set, and signs without kid.
func TestOIDCKeyRockCertificate(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "KeyRock"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	s := newIDM(t, text(200, `{"rs_256_certificate": "-----BEGIN CERTIFICATE-----`+base64.StdEncoding.EncodeToString(der)+`-----END CERTIFICATE-----"}`))
	cfg := ProviderConfig{
		Type: TypeOIDC, Name: "fiware", Issuer: "https://keyrock.example.org", JWKSURL: s.URL, Audience: Texts{"app"}, Timeout: time.Minute,
		Regions: []RegionRule{{Claim: "organizations", Match: "(?P<region>.+) FIDASH", Role: RoleOwner}}, NameClaims: Texts{"username"},
	}
	claims := map[string]any{
		"iss": "https://keyrock.example.org", "aud": "app", "sub": "ada", "username": "Ada", "exp": time.Now().Add(time.Hour).Unix(),
		"organizations": []any{map[string]any{"id": "1", "name": "Trento FIDASH", "roles": []any{map[string]any{"id": "2", "name": RoleOwner}}}},
	}
	who, err := token(newChain(t, today(), cfg), flavor.Secret(oidctest.Sign(t, jose.RS256, private, claims, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(adaOf("fiware", "Ada"), who); diff != "" {
		t.Error(diff)
	}
}

// Of a key set, only what may sign is used, and one odd key does not spoil the
// others.
func TestParseKeys(t *testing.T) {
	key := func(bits int) *rsa.PublicKey {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return &private.PublicKey
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	good := jose.JSONWebKey{Key: key(2048), KeyID: "good", Use: "sig"}
	keys := []any{
		good,
		jose.JSONWebKey{Key: key(1024), KeyID: "short"},
		jose.JSONWebKey{Key: key(2048), KeyID: "for encryption", Use: "enc"},
		jose.JSONWebKey{Key: []byte("secret secret secret secret secret"), KeyID: "symmetric"},
		jose.JSONWebKey{Key: key(2048), KeyID: "of another algorithm", Algorithm: "RSA-OAEP"},
		map[string]any{"kty": "OKP", "crv": "Ed448", "x": "AA", "kid": "of an unknown curve"},
		map[string]any{"kty": "RSA", "kid": "without modulus"},
		"not even an object",
	}
	body, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	found, err := parseKeys(body)
	if err != nil || len(found) != 1 || found[0].KeyID != "good" {
		t.Errorf("found %d keys, %v", len(found), err)
	}
	for _, body := range []string{``, `[]`, `{}`, `{"keys": []}`, `{"keys": {}}`, `{"keys": [{"kty": "oct", "k": "AAAA"}]}`, `{"rs_256_certificate": "x"}`, `{"rs_256_certificate": "AAAA"}`} {
		if found, err := parseKeys([]byte(body)); err == nil {
			t.Errorf("%s has %d keys", body, len(found))
		}
	}
}

// Whatever an issuer that is believed says in an introspection, nobody comes in
// without an id, for another audience, or as the owner of what is no region.
func FuzzIntrospection(f *testing.F) {
	f.Add([]byte(`{"active": true, "sub": "ada", "aud": "flavorsync", "groups": ["Trento-owners"]}`))
	f.Add([]byte(`{"active": true, "sub": "ada", "aud": ["x", "flavorsync"], "exp": 1e300, "groups": {"name": "../-owners"}}`))
	f.Add([]byte(`{"active": false}`))
	chain, err := New([]ProviderConfig{{
		Type: TypeOIDC, Issuer: "https://idm.example.org", Audience: Texts{"flavorsync"}, Opaque: OpaqueIntrospection, ClientID: "a", ClientSecret: "b",
		IntrospectionURL: "https://idm.example.org/introspect", Regions: []RegionRule{{Claim: "groups", Match: "(?P<region>.*)-owners"}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	o := chain.jwts[0]
	f.Fuzz(func(t *testing.T, answer []byte) {
		o.client.Transport = answering(answer)
		claims, _, err := o.look(context.Background(), "t")
		if err != nil {
			return
		}
		if !o.meant(claims) || claims["active"] != true {
			t.Errorf("it was accepted: %s", answer)
		}
		who, err := o.principal(claims)
		if err == nil && (who.ID == "" || who.Name == "") {
			t.Error("somebody without an id came in")
		}
		for _, region := range who.Regions {
			if !flavor.ValidRegionName(region) {
				t.Errorf("somebody owns %q", region)
			}
		}
	})
}
