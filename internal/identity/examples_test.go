package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/config"
	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/identity"
	"github.com/flavorsync/flavorsync/internal/identity/oidctest"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// The ready-made examples load as they are, and give the users of such a provider
// the roles and regions that they say.
func TestExamples(t *testing.T) {
	p := oidctest.New(t)
	const group = "urn:mace:egi.eu:group:vo.example.org:"
	egi := map[string]any{"eduperson_entitlement": []string{
		group + "Trento:role=owner#aai.egi.eu", group + "Spain2:role=member#aai.egi.eu", group + "Prague:role=owner#aai.egi.eu",
		group + "Spain2:role=owner#evil.example.org", "urn:mace:egi.eu:group:vo.other.org:Spain2:role=owner#aai.egi.eu",
		group + "role=member#aai.egi.eu", "urn:mace:egi.eu:res:gocdb#aai.egi.eu", "urn:mace:egi.eu:goc.egi.eu:100453G0:Spain2:Site+Administrator@egi.eu",
	}}
	owner := flavor.Principal{ID: "ada", Name: "Ada of ada", Roles: []string{identity.RoleOwner}, Regions: []string{"Trento"}}
	manager := flavor.Principal{ID: "ada", Name: "Ada of ada", Roles: []string{identity.RoleManager}, Manager: true}
	plain := flavor.Principal{ID: "ada", Name: "Ada of ada"}
	for _, c := range []struct {
		file, name string
		claims     map[string]any
		want       flavor.Principal
	}{
		{"egi-checkin", "egi", egi, owner},
		{"egi-checkin", "egi", map[string]any{"entitlements": egi["eduperson_entitlement"]}, owner},
		{"egi-checkin", "egi", map[string]any{"eduperson_entitlement": group + "flavorsync:role=manager#aai.egi.eu"}, manager},
		{"egi-checkin", "egi", map[string]any{"eduperson_entitlement": group + "flavorsync:role=owner#aai.egi.eu"}, plain},
		{"keycloak", "keycloak", map[string]any{"realm_access": map[string]any{"roles": []string{"offline_access", "flavorsync-manager"}}, "name": "Ada of ada"}, manager},
		{"keycloak", "keycloak", map[string]any{"groups": []string{"/regions/Trento/owners", "/regions/Spain2/members", "/x/regions/Spain2/owners"}, "name": "Ada of ada"}, owner},
		{"keycloak", "keycloak", map[string]any{"realm_access": map[string]any{"roles": []string{"InfrastructureManager"}}, "name": "Ada of ada"}, plain},
	} {
		cfg := load(t, c.file)[0]
		cfg.Issuer = p.Issuer // as the test's provider is not at that address
		chain := build(t, cfg)
		who, err := authenticate(chain, p.JWT(t, oidctest.Grant{User: "ada", Audience: cfg.Audience[:1], Claims: c.claims}).Access)
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		c.want.Provider = c.name
		if diff := cmp.Diff(c.want, who); diff != "" {
			t.Errorf("%s, claims %v:\n%s", c.file, c.claims, diff)
		}
	}

	// Check-in's access tokens have no aud; azp is the client.
	cfg := load(t, "egi-checkin")[0]
	cfg.Issuer, cfg.UserInfo = p.Issuer, false
	chain := build(t, cfg)
	for client, want := range map[string]flavor.Code{cfg.Audience[1]: "", "another-client": flavor.CodeUnauthorized} {
		claims := p.Claims("ada")
		delete(claims, "aud")
		claims["azp"], claims["typ"] = client, "Bearer"
		if _, err := authenticate(chain, p.Sign(t, claims, nil)); flavor.CodeOf(err) != want {
			t.Errorf("a token of the client %s got %v", client, err)
		}
	}
}

// KeyRock's ID tokens hold what /user answers; HS256, its default, is refused.
func TestKeyRockExample(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "KeyRock"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	certs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"rs_256_certificate": "-----BEGIN CERTIFICATE-----%s-----END CERTIFICATE-----"}`, base64.StdEncoding.EncodeToString(der))
	}))
	t.Cleanup(certs.Close)
	all := load(t, "keyrock-oidc")
	if len(all) != 2 || all[1].Type != identity.TypeKeyRock {
		t.Fatalf("the example has %d providers", len(all))
	}
	cfg := all[0]
	cfg.JWKSURL = certs.URL
	claims := map[string]any{
		"id": "ada", "app_id": cfg.Audience[0], "username": "Ada", "email": "", "type": "user", "isGravatarEnabled": false,
		"roles": []any{map[string]any{"id": "1", "name": "InfrastructureManager"}},
		"organizations": []any{
			map[string]any{"id": "o1", "name": "Trento FIDASH", "description": "", "website": nil, "roles": []any{map[string]any{"id": "2", "name": "InfrastructureOwner"}}},
			map[string]any{"id": "o2", "name": "Spain2 FIDASH", "description": "", "website": nil, "roles": []any{map[string]any{"id": "3", "name": "member"}}},
		},
		"trusted_apps": []any{}, "iss": "https://account.example.org", "sub": "ada", "aud": cfg.Audience[0],
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	}
	chain := build(t, cfg)
	who, err := authenticate(chain, oidctest.Sign(t, jose.RS256, private, claims, map[string]any{"typ": "JWT"}))
	if err != nil {
		t.Fatal(err)
	}
	want := flavor.Principal{ID: "ada", Name: "Ada", Provider: "fiware", Roles: []string{identity.RoleManager, identity.RoleOwner}, Manager: true, Regions: []string{"Trento"}}
	if diff := cmp.Diff(want, who); diff != "" {
		t.Error(diff)
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	if _, err := authenticate(chain, oidctest.Sign(t, jose.HS256, secret, claims, map[string]any{"typ": "JWT"})); flavor.CodeOf(err) != flavor.CodeUnauthorized {
		t.Errorf("KeyRock's default got %v", err)
	}
}

func load(t *testing.T, name string) []identity.ProviderConfig {
	t.Helper()
	c, err := config.Load("../../configs/identity-"+name+".yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Identity
}

func build(t *testing.T, cfg identity.ProviderConfig) *identity.Chain {
	t.Helper()
	cfg.Timeout = time.Minute
	chain, err := identity.New([]identity.ProviderConfig{cfg}, identity.WithOutgoing(outgoing.Config{AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chain.Close)
	return chain
}

func authenticate(chain *identity.Chain, token string) (flavor.Principal, error) {
	return chain.Authenticate(context.Background(), identity.Credential{Kind: identity.Token, Token: flavor.Secret(token)})
}
