package contract_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/simstack"
)

// serviceAccounts: a region's service account may be more than a user with a
// password, and its Keystone may have a certificate of an authority of its own.
func serviceAccounts(t *testing.T, s *setup) {
	manager := s.product.as(s.manager)

	// registered registers a region, which is forgotten when the test ends.
	registered := func(t *testing.T, by client, d *document, f format) {
		t.Helper()
		by.post(t, "/infrastructures", d, in(f)).want(t, 201)
		name := d.fields[0].value.(string)
		t.Cleanup(func() { manager.delete(t, "/infrastructures/"+name, query("force", "true")) })
	}
	read := func(t *testing.T, region string, f format) infrastructureBody {
		t.Helper()
		return manager.get(t, "/infrastructures/"+region, in(f)).want(t, 200).infrastructure(t)
	}
	// works says that flavors can be managed there.
	works := func(t *testing.T, c *cloud, region string) {
		t.Helper()
		made := manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region})).want(t, 201).flavor(t)
		if !slices.ContainsFunc(c.stack.Flavors(region), func(f flavor.NovaFlavor) bool { return f.ID == made.ID }) {
			t.Errorf("Nova of %s has no flavor %s", region, made.ID)
		}
	}
	// credential is a new application credential, whose secret no answer may hold.
	credential := func(c *cloud, name string) (id, word string) {
		id, word = c.stack.AddApplicationCredential("operator", "operators", name)
		secrets.add(word)
		return id, word
	}

	for _, f := range formats {
		t.Run("an application credential registers a region in "+f.name, func(t *testing.T) {
			c := extra(t, "credential", "named")
			id, word := credential(c, "flavorsync")
			region, named := c.regions[0], c.regions[1]
			registered(t, manager, infrastructureOf("name", region, "keystone_url", c.keystone, "auth_type", "v3applicationcredential",
				"application_credential_id", id, "application_credential_secret", word), f)
			registered(t, manager, infrastructureOf("name", named, "keystone_url", c.keystone, "auth_type", "v3applicationcredential",
				"application_credential_name", "flavorsync", "username", "operator", "application_credential_secret", word), f)
			got := read(t, region, f)
			if got.AuthType != "v3applicationcredential" || got.ApplicationCredentialID != id || got.Username+got.Tenant+got.UserDomain+got.ProjectDomain != "" {
				t.Errorf("read: %+v", got)
			}
			if got := read(t, named, f); got.ApplicationCredentialName != "flavorsync" || got.Username != "operator" || got.UserDomain != "Default" || got.Tenant != "" {
				t.Errorf("read: %+v", got)
			}
			works(t, c, region)
			works(t, c, named)

			// Rotated: the old one is deleted at Keystone, the status tells, and the new one is put.
			c.stack.DeleteApplicationCredential(id)
			c.stack.Fault(region, simstack.Fault{Kind: simstack.Unauthorized, Times: 1}) // Nova would believe its token for minutes
			manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region}), in(f)).want(t, 502).says(t, "application credential")
			eventually(t, "the status tells of the refusal", func() bool {
				return read(t, region, f).Status.State == "refused"
			})
			if told := read(t, region, f).Status.LastError; !strings.Contains(told, "application credential") || !strings.Contains(told, "PUT /v1/infrastructures/"+region) {
				t.Errorf("the status says: %s", told)
			}
			id, word = credential(c, "flavorsync2")
			manager.put(t, "/infrastructures/"+region, infrastructureOf("application_credential_id", id), in(f)).want(t, 400).says(t, "application_credential_secret")
			manager.put(t, "/infrastructures/"+region, infrastructureOf("application_credential_id", id, "application_credential_secret", word), in(f)).want(t, 200)
			works(t, c, region)
		})

		t.Run("an access token is exchanged at Keystone, and a new one is put when it has expired, in "+f.name, func(t *testing.T) {
			c := extra(t, "token")
			region := c.regions[0]
			first, second := secret("access-token"), secret("access-token")
			c.stack.AddAccessToken(first)
			registered(t, manager, infrastructureOf("name", region, "keystone_url", c.keystone, "auth_type", "v3oidcaccesstoken",
				"identity_provider", simstack.IdentityProvider, "protocol", simstack.Protocol, "access_token", first, "tenant", "operators"), f)
			got := read(t, region, f)
			if got.AuthType != "v3oidcaccesstoken" || got.IdentityProvider != "egi.eu" || got.Protocol != "openid" || got.Tenant != "operators" || got.Status.State != "up" {
				t.Errorf("read: %+v, %+v", got, got.Status)
			}
			works(t, c, region)
			c.stack.ExpireAccessToken(first)
			works(t, c, region) // Keystone's own token lives on
			c.stack.Fault(region, simstack.Fault{Kind: simstack.Unauthorized, Times: 1})
			manager.post(t, "/flavors", sized(unique()("x")).and("nodes", []string{region}), in(f)).want(t, 502).says(t, "access_token")
			eventually(t, "the status tells that the access token is refused", func() bool {
				st := read(t, region, f).Status
				return st.State == "refused" && strings.Contains(st.LastError, "give a new access_token") && strings.Contains(st.LastError, "PUT /v1/infrastructures/"+region)
			})
			c.stack.AddAccessToken(second)
			manager.put(t, "/infrastructures/"+region, infrastructureOf("access_token", second), in(f)).want(t, 200)
			works(t, c, region)
		})
	}

	t.Run("what an account lacks, and what is not for it, is 400 and named", func(t *testing.T) {
		c := extra(t, "lacking")
		at := infrastructureOf("name", c.regions[0], "keystone_url", c.keystone)
		for field, d := range map[string]*document{
			"username":                      at,
			"auth_type":                     at.and("auth_type", "v3totp"),
			"application_credential_id":     at.and("auth_type", "v3applicationcredential").and("application_credential_secret", secret("x")),
			"application_credential_secret": at.and("auth_type", "v3applicationcredential").and("application_credential_id", "x"),
			"tenant":                        at.and("auth_type", "v3applicationcredential").and("application_credential_id", "x").and("application_credential_secret", secret("x")).and("tenant", "operators"),
			"identity_provider":             at.and("auth_type", "v3oidcaccesstoken").and("access_token", secret("x")),
			"access_token":                  c.infrastructure(c.regions[0]).and("access_token", secret("x")),
			"ca_certificate":                c.infrastructure(c.regions[0]).and("ca_certificate", "no certificate"),
		} {
			manager.post(t, "/infrastructures", d).want(t, 400).says(t, field)
		}
	})

	t.Run("another kind of account needs its secret in the same body, and forgets the old account", func(t *testing.T) {
		c := extra(t, "changed")
		region := c.regions[0]
		registered(t, manager, c.infrastructure(region), formats[0])
		id, word := credential(c, "flavorsync")
		to := infrastructureOf("auth_type", "v3applicationcredential", "application_credential_id", id)
		manager.put(t, "/infrastructures/"+region, to).want(t, 400).says(t, "application_credential_secret")
		manager.put(t, "/infrastructures/"+region, to.and("application_credential_secret", word)).want(t, 200)
		if got := read(t, region, formats[0]); got.Username+got.Tenant+got.UserDomain != "" || got.Status.State != "up" {
			t.Errorf("%+v, %+v", got, got.Status)
		}
		manager.put(t, "/infrastructures/"+region, infrastructureOf("auth_type", "password")).want(t, 400).says(t, "password")
		manager.put(t, "/infrastructures/"+region, infrastructureOf("auth_type", "password", "username", "operator", "password", "operator-secret", "tenant", "operators")).want(t, 200)
		if got := read(t, region, formats[0]); got.AuthType+got.ApplicationCredentialID != "" || got.Status.State != "up" {
			t.Errorf("%+v, %+v", got, got.Status)
		}
	})

	// overTLS serves the cloud with a certificate that is its own authority.
	overTLS := func(t *testing.T, c *cloud) (keystone, certificate string) {
		t.Helper()
		server := httptest.NewUnstartedServer(c.stack.Handler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		c.stack.SetBaseURL(server.URL) // the catalog names it too
		return server.URL + "/identity/v3", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	}

	for _, f := range formats {
		t.Run("a region's own CA certificate vouches for its Keystone and Nova in "+f.name, func(t *testing.T) {
			c := extra(t, "authority")
			region := c.regions[0]
			keystoneURL, certificate := overTLS(t, c)
			d := c.infrastructure(region).and("keystone_url", keystoneURL)
			registered(t, manager, d, f)
			if st := read(t, region, f).Status; !strings.Contains(st.LastError, "authority unknown") || !strings.Contains(st.LastError, "ca_certificate") {
				t.Errorf("without it the status is %+v", st)
			}
			manager.put(t, "/infrastructures/"+region, infrastructureOf("ca_certificate", certificate), in(f)).want(t, 400).says(t, "password")
			manager.put(t, "/infrastructures/"+region, infrastructureOf("ca_certificate", certificate, "password", "operator-secret"), in(f)).want(t, 200)
			got := read(t, region, f)
			if got.CACertificate != certificate || got.Status.State != "up" {
				t.Errorf("with it: %+v, %+v", got, got.Status)
			}
			works(t, c, region)
			// What was read may be sent back.
			manager.put(t, "/infrastructures/"+region, infrastructureOf("ca_certificate", got.CACertificate), in(f)).want(t, 200)
			manager.put(t, "/infrastructures/"+region, infrastructureOf("ca_certificate", "", "password", "operator-secret"), in(f)).want(t, 200)
			if got := read(t, region, f); got.CACertificate != "" || got.Status.State == "up" {
				t.Errorf("taken away: %+v, %+v", got, got.Status)
			}
		})
	}

	t.Run("callers' Keystone tokens go by a CA certificate's word where a manager registered it", func(t *testing.T) {
		c := extra(t, "owned")
		region := c.regions[0]
		keystoneURL, certificate := overTLS(t, c)
		registered(t, s.product.as(s.owner(region)), c.infrastructure(region).and("keystone_url", keystoneURL).and("ca_certificate", certificate), formats[0])
		manager.put(t, "/infrastructures/"+region, infrastructureOf("trusted", true)).want(t, 200)
		works(t, c, region) // the service account
		token := keystone(c.stack.IssueToken("operator", "operators"))
		user := s.product.as(s.user)
		user.get(t, "/regions/"+region+"/flavors", token).want(t, 502).says(t, "authority unknown")
		manager.put(t, "/infrastructures/"+region, infrastructureOf("ca_certificate", "", "password", "operator-secret")).want(t, 200)
		manager.put(t, "/infrastructures/"+region, infrastructureOf("ca_certificate", certificate, "password", "operator-secret")).want(t, 200)
		user.get(t, "/regions/"+region+"/flavors", token).want(t, 200)
	})
}
