package contract_test

import (
	"strings"
	"testing"
	"time"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// infrastructures: registering, changing and forgetting regions.
func infrastructures(t *testing.T, s *setup) {
	manager := s.product.as(s.manager)

	// forget removes a region when the test ends, if it is still there.
	forget := func(t *testing.T, region string) {
		t.Cleanup(func() { manager.delete(t, "/infrastructures/"+region, query("force", "true")) })
	}

	for _, f := range formats {
		t.Run("an infrastructure lives from POST to DELETE in "+f.name, func(t *testing.T) {
			c := extra(t, "Mordor")
			region := c.regions[0]
			a := manager.post(t, "/infrastructures", c.infrastructure(region), in(f)).want(t, 201)
			checkShortInfrastructure(t, a, f, region)

			got := manager.get(t, "/infrastructures/"+region, in(f)).want(t, 200).infrastructure(t)
			if got.ID != region || got.Name != region || got.KeystoneURL != c.keystone || got.Username != "operator" || got.Tenant != "operators" {
				t.Errorf("read: %+v", got)
			}
			if got.UserDomain != "Default" || got.ProjectDomain != "Default" {
				t.Errorf("the domains are %q and %q", got.UserDomain, got.ProjectDomain)
			}
			if got.Status == nil || got.Status.State == "" {
				t.Errorf("it has no status: %+v", got)
			}
			listed := false
			for _, one := range manager.get(t, "/infrastructures", in(f)).want(t, 200).infrastructures(t) {
				if one.Name == region {
					listed = one.KeystoneURL == c.keystone && one.Status != nil
				}
			}
			if !listed {
				t.Error("the list does not hold it")
			}

			a = manager.put(t, "/infrastructures/"+region, infrastructureOf("nova_url", c.stack.NovaURL(region)), in(f)).want(t, 200)
			checkShortInfrastructure(t, a, f, region)
			if got := manager.get(t, "/infrastructures/"+region, in(f)).want(t, 200).infrastructure(t); got.NovaURL != c.stack.NovaURL(region) || got.Username != "operator" {
				t.Errorf("changed: %+v", got)
			}

			manager.delete(t, "/infrastructures/"+region, in(f)).want(t, 204)
			manager.get(t, "/infrastructures/"+region, in(f)).want(t, 404)
			manager.put(t, "/infrastructures/"+region, infrastructureOf("nova_url", "http://127.0.0.1:9"), in(f)).want(t, 404)
			manager.delete(t, "/infrastructures/"+region, in(f)).want(t, 404)
		})
	}

	t.Run("a body without its envelope is taken, and so is what was read", func(t *testing.T) {
		c := extra(t, "bare")
		region := c.regions[0]
		forget(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("id", region), withoutEnvelope).want(t, 201)
		read := infrastructureOf("id", region, "name", region, "keystone_url", c.keystone, "username", "operator", "tenant", "operators",
			"user_domain_name", "Default", "project_domain_name", "Default")
		manager.put(t, "/infrastructures/"+region, read).want(t, 200)
		manager.put(t, "/infrastructures/"+region, nil, raw("application/json",
			`{"infrastructure": {"name": "`+region+`", "status": {"state": "up", "last_error": "", "checked_at": "2026-01-01T00:00:00Z"}}}`)).want(t, 200)
	})

	t.Run("a password never comes out, not even after a change", func(t *testing.T) {
		c := extra(t, "hidden")
		region := c.regions[0]
		forget(t, region)
		word := secret("password") // every answer and the log are searched for it
		c.stack.AddUser("somebody", word, "operators", "admin")
		manager.post(t, "/infrastructures", c.infrastructure(region).and("username", "somebody").and("password", word)).want(t, 201)
		for _, f := range formats {
			a := manager.get(t, "/infrastructures/"+region, in(f)).want(t, 200)
			if strings.Contains(string(a.body), "password") {
				t.Errorf("there is a word of a password: %s", a)
			}
			manager.get(t, "/infrastructures", in(f)).want(t, 200)
			manager.put(t, "/infrastructures/"+region, infrastructureOf("password", word), in(f)).want(t, 200)
		}
	})

	t.Run("an owner registers, sees, changes and removes their own region only", func(t *testing.T) {
		c := extra(t, "mine", "theirs")
		mine, theirs := c.regions[0], c.regions[1]
		owner := s.product.as(s.owner(mine))
		owner.post(t, "/infrastructures", c.infrastructure(mine)).want(t, 201)
		owner.post(t, "/infrastructures", c.infrastructure(theirs)).want(t, 403)
		manager.post(t, "/infrastructures", c.infrastructure(theirs)).want(t, 201)
		forget(t, theirs)

		list := owner.get(t, "/infrastructures").want(t, 200).infrastructures(t)
		if len(list) != 1 || list[0].Name != mine {
			t.Errorf("the owner sees %+v", list)
		}
		owner.get(t, "/infrastructures/"+mine).want(t, 200)
		owner.get(t, "/infrastructures/"+theirs).want(t, 403)
		owner.put(t, "/infrastructures/"+mine, infrastructureOf("nova_url", c.stack.NovaURL(mine))).want(t, 200)
		owner.put(t, "/infrastructures/"+theirs, infrastructureOf("nova_url", "http://127.0.0.1:9")).want(t, 403)
		owner.delete(t, "/infrastructures/"+theirs).want(t, 403)
		owner.delete(t, "/infrastructures/"+theirs, query("force", "true")).want(t, 403)
		if got := manager.get(t, "/infrastructures/"+theirs).want(t, 200).infrastructure(t); got.NovaURL != "" {
			t.Errorf("a forbidden change was done: %+v", got)
		}
		owner.delete(t, "/infrastructures/"+mine).want(t, 204)
		owner.get(t, "/infrastructures/"+mine).want(t, 404)
	})

	t.Run("a user who owns nothing is shown none and registers none", func(t *testing.T) {
		user := s.product.as(s.user)
		if list := user.get(t, "/infrastructures").want(t, 200).infrastructures(t); len(list) != 0 {
			t.Errorf("the user sees %+v", list)
		}
		user.get(t, "/infrastructures/"+spain2).want(t, 403)
		user.post(t, "/infrastructures", s.cloud.infrastructure(unique()("x"))).want(t, 403)
		user.put(t, "/infrastructures/"+spain2, infrastructureOf("nova_url", "http://127.0.0.1:9")).want(t, 403)
		user.delete(t, "/infrastructures/"+spain2).want(t, 403)
	})

	t.Run("only a manager makes a region trusted", func(t *testing.T) {
		c := extra(t, "own")
		region := c.regions[0]
		forget(t, region)
		owner := s.product.as(s.owner(region))
		a := owner.post(t, "/infrastructures", c.infrastructure(region).and("trusted", true)).wantOneOf(t, 201, 400, 403)
		if a.status != 201 {
			owner.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		}
		if got := manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t); got.Trusted {
			t.Errorf("%+v", got)
		}
		owner.put(t, "/infrastructures/"+region, infrastructureOf("trusted", true)).want(t, 403)
		manager.put(t, "/infrastructures/"+region, infrastructureOf("trusted", true)).want(t, 200)
	})

	t.Run("a name that is taken is 409, and so is one that differs in case only", func(t *testing.T) {
		c := extra(t, "Taken")
		region := c.regions[0]
		forget(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 409).says(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(strings.ToUpper(region))).want(t, 409).says(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(strings.ToLower(region))).want(t, 409).says(t, region)
	})

	t.Run("a name cannot be changed", func(t *testing.T) {
		c := extra(t, "name")
		region := c.regions[0]
		forget(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		manager.put(t, "/infrastructures/"+region, infrastructureOf("name", unique()("other"))).want(t, 400).says(t, "name")
		manager.put(t, "/infrastructures/"+region, infrastructureOf("name", region)).want(t, 200)
	})

	t.Run("two regions may name one Nova", func(t *testing.T) {
		c := extra(t, "one")
		c.register(t, s, s.product)
		alias := unique()("alias")
		forget(t, alias)
		manager.post(t, "/infrastructures", c.infrastructure(alias).and("nova_url", c.stack.NovaURL(c.regions[0]))).want(t, 201)
		n := unique()
		for _, region := range []string{c.regions[0], alias} {
			made := manager.post(t, "/flavors", sized(n(region)).and("nodes", []string{region})).want(t, 201).flavor(t)
			c.hasFlavor(t, c.regions[0], flavorIn(made.ID, made.Name))
		}
	})

	for what, shape := range map[string]func(keystone string) string{
		"with /v3":          func(keystone string) string { return keystone },
		"with /v3/":         func(keystone string) string { return keystone + "/" },
		"without a version": func(keystone string) string { return strings.TrimSuffix(keystone, "/v3") },
		"with a slash":      func(keystone string) string { return strings.TrimSuffix(keystone, "v3") },
	} {
		t.Run("a Keystone URL "+what+" works, and so does a Nova URL", func(t *testing.T) {
			c := extra(t, "versioned")
			region := c.regions[0]
			forget(t, region)
			novaURL := c.stack.NovaURL(region)
			if !strings.Contains(what, "/v3") {
				novaURL = strings.TrimSuffix(novaURL, "/v2.1")
			}
			if strings.HasSuffix(what, "/") || what == "with a slash" {
				novaURL += "/"
			}
			for _, d := range []*document{
				c.infrastructure(region).and("keystone_url", shape(c.keystone)),
				c.infrastructure(region).and("keystone_url", shape(c.keystone)).and("nova_url", novaURL),
			} {
				manager.post(t, "/infrastructures", d).want(t, 201)
				made := manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region})).want(t, 201).flavor(t)
				c.hasFlavor(t, region, flavorIn(made.ID, made.Name))
				manager.delete(t, "/infrastructures/"+region).want(t, 204)
			}
			manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		})
	}

	t.Run("any well-formed URL registers, and the status tells what is wrong", func(t *testing.T) {
		c := extra(t, "fine", "unreachable", "refused", "certificate", "elsewhere", "dns")
		for i, d := range []*document{
			c.infrastructure(c.regions[0]),
			c.infrastructure(c.regions[1]).and("keystone_url", closedPort(t)+"/v3"),
			c.infrastructure(c.regions[2]).and("password", secret("wrong")),
			c.infrastructure(c.regions[3]).and("keystone_url", selfSigned(t)+"/v3"),
			c.infrastructure(c.regions[4]).and("name", unique()("not-in-the-catalog")),
			c.infrastructure(c.regions[5]).and("keystone_url", "https://keystone.invalid:5000/v3"),
		} {
			name := d.fields[0].value.(string)
			forget(t, name)
			manager.post(t, "/infrastructures", d).want(t, 201)
			got := manager.get(t, "/infrastructures/"+name).want(t, 200).infrastructure(t)
			if got.Status == nil {
				t.Fatalf("no status: %+v", got)
			}
			if (got.Status.LastError == "") != (i == 0) {
				t.Errorf("region %d has the status %+v", i, *got.Status)
			}
			if checked, err := time.Parse(time.RFC3339, got.Status.CheckedAt); err != nil || time.Since(checked) > time.Minute {
				t.Errorf("checked_at is %q: %v", got.Status.CheckedAt, err)
			}
		}
	})

	t.Run("the status follows the region", func(t *testing.T) {
		c := extra(t, "follows")
		region := c.regions[0]
		forget(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		up := manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status.State
		mend := c.stack.Fault("", simstack.Fault{Kind: simstack.ServerError})
		eventually(t, "the status tells of the failure", func() bool {
			st := manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status
			return st.State != up && st.LastError != ""
		})
		mend()
		eventually(t, "the status tells that it is over", func() bool {
			st := manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t).Status
			return st.State == up && st.LastError == ""
		})
	})

	t.Run("changing keystone_url, username, tenant or a domain needs the password in the same body", func(t *testing.T) {
		c := extra(t, "guarded")
		region := c.regions[0]
		forget(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		harvester := startHarvester(t)
		for field, value := range map[string]string{
			"keystone_url": harvester.url + "/v3", "username": "admin", "tenant": "admin", "user_domain_name": "Other", "project_domain_name": "Other",
		} {
			for _, as := range []client{manager, s.product.as(s.owner(region))} {
				as.put(t, "/infrastructures/"+region, infrastructureOf(field, value)).want(t, 400).says(t, "password")
			}
		}
		got := manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t)
		if got.KeystoneURL != c.keystone || got.Username != "operator" || got.Tenant != "operators" || got.UserDomain != "Default" {
			t.Errorf("a refused change was done: %+v", got)
		}
		manager.put(t, "/infrastructures/"+region, infrastructureOf("username", "admin", "tenant", "admin", "password", "admin-secret")).want(t, 200)
		if got := manager.get(t, "/infrastructures/"+region).want(t, 200).infrastructure(t); got.Username != "admin" || got.Status.LastError != "" {
			t.Errorf("after the change: %+v", got)
		}
		if len(harvester.got) != 0 {
			t.Error("the refused Keystone was asked")
		}
	})

	t.Run("a new password is used at once", func(t *testing.T) {
		c := extra(t, "rotated")
		region := c.regions[0]
		forget(t, region)
		manager.post(t, "/infrastructures", c.infrastructure(region).and("password", secret("wrong"))).want(t, 201)
		manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region})).want(t, 502)
		manager.put(t, "/infrastructures/"+region, infrastructureOf("password", "operator-secret")).want(t, 200)
		manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region})).want(t, 201)
	})

	t.Run("DELETE is 409 while a catalogue flavor is installed there", func(t *testing.T) {
		c := extra(t, "busy")
		region := c.regions[0]
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		f := manager.post(t, "/promotedflavors", sized(unique()("there"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+f.ID, flavorOf("node", region)).want(t, 200)
		manager.delete(t, "/infrastructures/"+region).want(t, 409).says(t, f.Name)
		s.product.as(s.owner(region)).delete(t, "/infrastructures/"+region).want(t, 409)
		s.product.as(s.owner(region)).delete(t, "/infrastructures/"+region, query("force", "true")).wantOneOf(t, 403, 405, 409)
		manager.get(t, "/infrastructures/"+region).want(t, 200)

		manager.delete(t, "/flavors/"+f.ID, query("node", region)).want(t, 204)
		manager.delete(t, "/infrastructures/"+region).want(t, 204)
	})

	t.Run("?force=true by a manager forgets its nodes without calling it", func(t *testing.T) {
		c := extra(t, "dead")
		region := c.regions[0]
		manager.post(t, "/infrastructures", c.infrastructure(region)).want(t, 201)
		f := manager.post(t, "/promotedflavors", sized(unique()("there"))).want(t, 201).flavor(t)
		manager.put(t, "/flavors/"+f.ID, flavorOf("node", region)).want(t, 200)
		public := manager.post(t, "/flavors", sized(unique()("only there")).and("public", true).and("nodes", []string{region})).want(t, 201).flavor(t)
		mend := c.stack.Fault("", simstack.Fault{Kind: simstack.Refuse})
		manager.delete(t, "/infrastructures/"+region, query("force", "true")).want(t, 204)
		if got := manager.get(t, "/flavors/"+f.ID).want(t, 200).flavor(t); len(got.Nodes) != 0 {
			t.Errorf("its nodes are %v", got.Nodes)
		}
		manager.delete(t, "/promotedflavors/"+f.ID).want(t, 204)
		mend()
		for _, id := range []string{f.ID, public.ID} {
			if _, ok := c.nova(t, region).get(t, id); !ok {
				t.Errorf("%s was deleted in the Nova that should be left alone", id)
			}
		}
	})
}

// checkShortInfrastructure: POST and PUT answer the name alone.
func checkShortInfrastructure(t *testing.T, a *answer, f format, region string) {
	t.Helper()
	got, want := string(compactJSON(a.body)), `{"infrastructure":{"name":"`+region+`"}}`
	if f.name == "XML" {
		got, want = squeeze(a.body), `<infrastructure><name>`+region+`</name></infrastructure>`
	}
	if got != want {
		t.Errorf("the body is %s, not %s", got, want)
	}
}
