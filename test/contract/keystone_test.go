package contract_test

import (
	"slices"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// keystoneIdentity: callers whose identity manager is the federation's Keystone,
// as widget-compareflavors has it: it sends the scoped Keystone token as both
// tokens.
func keystoneIdentity(t *testing.T, s *setup) {
	pr := s.serve(t, with("identity", []any{
		map[string]any{"type": "keyrock", "url": s.idm.url},
		map[string]any{
			"type":    "keystone",
			"timeout": patience.String(), // a real Keystone of one process, on a machine with other work
			"roles":   []any{map[string]any{"claim": "assignments", "match": "admin@admin@Default", "role": managerRole}},
			"regions": []any{map[string]any{"claim": "assignments", "match": "admin@operators@(?P<region>.+)"}, map[string]any{"claim": "project.name", "match": "(?P<region>operators)", "allow": []string{"operators"}}},
		},
	}), with("engine", map[string]any{"region_timeout": patience.String()}))
	s.registerAll(t, pr)
	as := func(token string) client { return pr.as(byToken("one with a Keystone token", token)) }
	operator, member := s.cloud.token(t, "operator"), s.cloud.token(t, "member")
	admin := s.cloud.token(t, "admin")

	t.Run("a scoped token says who is asking", func(t *testing.T) {
		got := as(operator).whoami(t)
		if got.Name != "operator" || got.Provider != "keystone" || !slices.Equal(got.Regions, []string{"Default", "operators"}) || slices.Contains(got.Roles, managerRole) {
			t.Errorf("%+v", got)
		}
		if got := as(admin).whoami(t); !slices.Contains(got.Roles, managerRole) {
			t.Errorf("whom the rules make a manager: %+v", got)
		}
		if got := as(member).whoami(t); got.Name != "member" || len(got.Roles)+len(got.Regions) != 0 {
			t.Errorf("a member: %+v", got)
		}
		as(member).post(t, "/promotedflavors", sized(unique()("x"))).wantManagersOnly(t)
		made := as(admin).post(t, "/promotedflavors", sized(unique()("x"))).want(t, 201).flavor(t)
		as(admin).delete(t, "/promotedflavors/"+made.ID).want(t, 204)
	})

	t.Run("an unscoped token says who is asking, and opens no Nova", func(t *testing.T) {
		unscoped := s.cloud.unscoped(t, "member")
		if got := as(unscoped).whoami(t); got.Name != "member" || len(got.Roles)+len(got.Regions) != 0 {
			t.Errorf("%+v", got)
		}
		as(unscoped).get(t, "/regions/Trento/flavors", keystone(unscoped)).want(t, 401)
		as(unscoped).get(t, "/regions/Trento/flavors", keystone(member)).want(t, 200)
	})

	for _, f := range formats {
		t.Run("one token is both, as a deployed widget sends it, in "+f.name, func(t *testing.T) {
			n := s.names(t)
			made := as(operator).post(t, "/regions/Trento/flavors", sized(n("mine")), keystone(operator), in(f)).want(t, 201).flavor(t)
			as(operator).get(t, "/regions/Trento/flavors/"+made.ID, keystone(operator), in(f)).want(t, 200)
			as(operator).delete(t, "/regions/Trento/flavors/"+made.ID, keystone(operator), in(f)).want(t, 204)
		})
	}

	t.Run("a token that is bad, or of nobody, is 401", func(t *testing.T) {
		fernet := "gAAAAABmZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV5"
		jwt := "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJvcGVyYXRvciJ9.c2lnbmF0dXJlLW9mLWEta2V5c3RvbmU"
		for _, token := range []string{fernet, jwt} {
			secrets.add(token)
			as(token).get(t, "/regions").wantNoCredential(t)
		}
	})

	t.Run("a Keystone token of somebody else is 403", func(t *testing.T) {
		n := s.names(t)
		made := as(operator).post(t, "/regions/Trento/flavors", sized(n("theirs")), keystone(operator)).want(t, 201).flavor(t)
		for range 2 { // the second time what Keystone said is remembered
			for _, f := range formats {
				as(member).get(t, "/regions/Trento/flavors", keystone(operator), in(f)).want(t, 403).says(t, "not yours")
				as(member).get(t, "/regions/Trento/flavors/"+made.ID, keystone(operator), in(f)).want(t, 403).says(t, "X-Auth-Token-KeyStone")
				as(member).post(t, "/regions/Lannion2/flavors", sized(n("x")), keystone(operator), in(f)).want(t, 403)
				as(member).put(t, "/regions/Trento/flavors/"+made.ID, flavorOf("ram", 4096), keystone(operator), in(f)).want(t, 403)
				as(member).delete(t, "/regions/Trento/flavors/"+made.ID, keystone(operator), in(f)).want(t, 403)
			}
		}
		as(operator).get(t, "/regions/Trento/flavors/"+made.ID, keystone(operator)).want(t, 200)
		// One whose provider does not say who they are at Keystone may.
		pr.as(s.user).get(t, "/regions/Trento/flavors", keystone(operator)).want(t, 200)
	})

	t.Run("no Nova is shown a token of somebody else", func(t *testing.T) {
		c := extra(t, "shown")
		region := c.regions[0]
		own := s.serve(t, with("keystone_url", c.keystone), with("identity", []any{
			map[string]any{"type": "keyrock", "url": s.idm.url}, map[string]any{"type": "keystone"},
		}))
		own.as(s.manager).post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		caller := own.as(byToken("a member", c.token(t, "member")))
		// The engine looks at a region that is new, with the service account.
		if err := c.stack.Await(t.Context(), 1, simstack.Nova, region, "GET", "/flavors"); err != nil {
			t.Fatal(err)
		}
		c.stack.ForgetRequests()
		for range 2 {
			caller.get(t, "/regions/"+region+"/flavors", keystone(c.token(t, "operator"))).want(t, 403)
			caller.post(t, "/regions/"+region+"/flavors", sized(unique()("x")), keystone(c.token(t, "operator"))).want(t, 403)
		}
		if n := c.stack.Count(simstack.Nova, "", "", ""); n != 0 {
			t.Errorf("Nova was asked %d times", n)
		}
		caller.get(t, "/regions/"+region+"/flavors", keystone(c.token(t, "member"))).want(t, 200)
	})

	t.Run("a KeyRock that says who its users are at Keystone holds them to that", func(t *testing.T) {
		other := startIDM(t)
		token := secret("idm")
		other.stack.AddIdentity(token, simstack.Identity{ID: s.cloud.userID(t, "member"), DisplayName: "a member"})
		own := s.serve(t, with("identity", []any{
			map[string]any{"type": "keyrock", "url": other.url, "keystone_user_claim": "id"}, map[string]any{"type": "keyrock", "url": s.idm.url},
		}), with("engine", map[string]any{"region_timeout": patience.String()}))
		s.registerAll(t, own)
		caller := own.as(byToken("a member", token))
		caller.get(t, "/regions/Trento/flavors", keystone(member)).want(t, 200)
		caller.get(t, "/regions/Trento/flavors", keystone(operator)).want(t, 403)
	})

	t.Run("a Keystone that is down is 503, not 401", func(t *testing.T) {
		c := extra(t, "down")
		down := s.serve(t, with("keystone_url", c.keystone), with("identity", []any{map[string]any{"type": "keystone"}}))
		token := c.stack.IssueToken("member", "demo")
		secrets.add(token)
		caller := down.as(byToken("a member", token))
		mend := c.stack.Fault("", simstack.Fault{Service: simstack.Keystone, Kind: simstack.ServerError})
		a := caller.get(t, "/regions").want(t, 503)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %s", a)
		}
		mend()
		caller.get(t, "/regions").want(t, 200)
		// No role of OpenStack means anything that is not configured.
		operator := c.stack.IssueToken("operator", "operators")
		secrets.add(operator)
		if got := down.as(byToken("an admin", operator)).whoami(t); len(got.Roles)+len(got.Regions) != 0 {
			t.Errorf("an administrator of OpenStack is %+v", got)
		}
	})
}
