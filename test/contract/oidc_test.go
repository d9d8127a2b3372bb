package contract_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/flavorsync/flavorsync/internal/identity/oidctest"
)

// openID is the service with an OpenID provider, KeyRock and accounts together,
// as a federation has them whose users come with different tokens.
func openID(t *testing.T, s *setup) {
	p := oidctest.New(t)
	hashes := passwordHashes()
	pr := s.serve(t, with("identity", []any{
		map[string]any{"type": "keyrock", "url": s.idm.url},
		map[string]any{
			"type": "oidc", "name": "federation", "issuer": p.Issuer, "audience": oidctest.ClientID,
			"opaque": "introspection", "client_id": oidctest.ClientID, "client_secret": oidctest.ClientSecret,
			"roles":   []any{map[string]any{"claim": "groups", "match": "managers", "role": managerRole}},
			"regions": []any{map[string]any{"claim": "groups", "match": "(?P<region>.+)-owners", "allow": []string{spain2, trento}}},
		},
		map[string]any{"type": "accounts", "users": []any{
			map[string]any{"name": accounts.nobody, "password_hash": hashes[accounts.nobody]},
		}},
	}))
	grant := func(user string, groups ...string) oidctest.Grant {
		return oidctest.Grant{User: user, Claims: map[string]any{"groups": groups}}
	}
	secretly := func(token string) string {
		secrets.add(token)
		return token
	}
	manager := p.JWT(t, grant("mia", "managers"))
	owner, opaque := p.JWT(t, grant("ada", "Spain2-owners", "Lannion2-owners")), p.Opaque(t, grant("ada", "Spain2-owners"))
	ada := whoami{ID: "ada", Name: "ada", Provider: "federation", Roles: []string{ownerRole}, Regions: []string{spain2}}
	named := ada
	named.Name = "Ada of ada"

	t.Run("every kind of token says who its user is", func(t *testing.T) {
		for _, c := range []struct {
			name string
			by   caller
			want whoami
		}{
			{"JWT, X-Auth-Token", byToken("ada", secretly(owner.Access)), ada},
			{"JWT, Bearer", byBearer("ada", owner.Access), ada},
			{"JWT, access_token", byQuery("ada", owner.Access), ada},
			{"ID token", byBearer("ada", secretly(owner.ID)), named},
			{"opaque token", byBearer("ada", secretly(opaque.Access)), ada},
			{"manager", byBearer("mia", secretly(manager.Access)), whoami{ID: "mia", Name: "mia", Provider: "federation", Roles: []string{managerRole}, Regions: []string{}}},
			{"account", byBasic(accounts.nobody, accounts.passwords[accounts.nobody]), whoami{ID: accounts.nobody, Name: accounts.nobody, Provider: "accounts", Roles: []string{}, Regions: []string{}}},
		} {
			if got := pr.as(c.by).whoami(t); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s is %+v, want %+v", c.name, got, c.want)
			}
		}
		if got := pr.as(byToken("a manager", s.idm.learn([]string{managerRole}, nil))).whoami(t); got.Provider != "keyrock" {
			t.Errorf("a KeyRock token beside OpenID Connect is %+v", got)
		}
	})

	t.Run("claims give rights", func(t *testing.T) {
		boss, ada := pr.as(byBearer("mia", manager.Access)), pr.as(byBearer("ada", owner.Access))
		for _, region := range []string{spain2, trento} {
			boss.post(t, "/infrastructures", s.cloud.infrastructure(region)).want(t, http.StatusCreated)
		}
		ada.get(t, "/infrastructures/"+spain2).want(t, 200)
		ada.get(t, "/infrastructures/"+trento).want(t, 403)
		ada.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 405)
		boss.post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201)
	})

	t.Run("a token that is not good here is 401", func(t *testing.T) {
		private, kid := p.Key()
		claim := func(name string, value any) map[string]any {
			claims := p.Claims("ada")
			claims[name] = value
			return claims
		}
		for name, token := range map[string]string{
			"expired":                    p.Sign(t, claim("exp", time.Now().Add(-time.Hour).Unix()), nil),
			"not yet valid":              p.Sign(t, claim("nbf", time.Now().Add(time.Hour).Unix()), nil),
			"for somebody else":          p.Sign(t, claim("aud", "other"), nil),
			"of another issuer":          p.Sign(t, claim("iss", "https://other.example.org"), nil),
			"of a key that nobody knows": p.Sign(t, p.Claims("ada"), map[string]any{"kid": "made-up"}),
			"signed with the public key": oidctest.Sign(t, jose.HS256, private.N.Bytes(), p.Claims("ada"), map[string]any{"kid": kid}),
			"opaque and made up":         secret("opaque"),
		} {
			t.Run(name, func(t *testing.T) {
				pr.as(byBearer("ada", secretly(token))).get(t, "/regions").want(t, 401)
			})
		}
	})

	t.Run("an issuer that is down is 503 for who needs it, and nobody else", func(t *testing.T) {
		fresh := p.JWT(t, grant("bob"))
		p.Instead(oidctest.Down)
		pr.as(byBearer("a stranger", secret("opaque"))).get(t, "/regions").want(t, 503)
		pr.as(byBearer("bob", secretly(fresh.Access))).get(t, "/regions").want(t, 200)
		pr.as(byToken("a user", s.idm.learn(nil, nil))).get(t, "/regions").want(t, 200)
		pr.as(byBasic(accounts.nobody, accounts.passwords[accounts.nobody])).get(t, "/regions").want(t, 200)
	})
}
