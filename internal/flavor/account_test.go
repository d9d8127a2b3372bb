package flavor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
)

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// patchOf is a patch of an infrastructure, by the fields' names in a body.
func patchOf(values map[string]string) RegionPatch {
	p := RegionPatch{Name: new("R"), KeystoneURL: new("https://keystone.example.org")}
	texts := map[string]**string{
		"auth_type": &p.AuthType, "username": &p.Username, "tenant": &p.Tenant, "user_domain_name": &p.UserDomain, "project_domain_name": &p.ProjectDomain,
		"application_credential_id": &p.ApplicationCredentialID, "application_credential_name": &p.ApplicationCredentialName,
		"identity_provider": &p.IdentityProvider, "protocol": &p.Protocol, "ca_certificate": &p.CACertificate,
	}
	secrets := map[string]**Secret{
		"password": &p.Password, "application_credential_secret": &p.ApplicationCredentialSecret, "access_token": &p.AccessToken,
	}
	for field, value := range values {
		if into, ok := texts[field]; ok {
			*into = new(value)
		} else {
			*secrets[field] = new(Secret(value))
		}
	}
	return p
}

var (
	byPassword   = map[string]string{"username": "u", "password": "s", "tenant": "t"}
	byCredential = map[string]string{"auth_type": "v3applicationcredential", "application_credential_id": "i", "application_credential_secret": "s"}
	byName       = map[string]string{"auth_type": "v3applicationcredential", "application_credential_name": "n", "username": "u", "application_credential_secret": "s"}
	byToken      = map[string]string{"auth_type": "v3oidcaccesstoken", "identity_provider": "egi.eu", "protocol": "openid", "access_token": "s", "tenant": "t"}
)

// with is a copy of fields with some changed; "-" takes one away.
func with(fields map[string]string, changes ...string) map[string]string {
	all := maps.Clone(fields)
	for i := 0; i < len(changes); i += 2 {
		if all[changes[i]] = changes[i+1]; changes[i+1] == "-" {
			delete(all, changes[i])
		}
	}
	return all
}

// Who registers a service account is told what it lacks, and what is not for it.
func TestServiceAccounts(t *testing.T) {
	pem := certificate(t)
	for _, test := range []struct {
		name   string
		fields map[string]string
		wrong  string // how the message begins; "" is none
	}{
		{"a password", byPassword, ""},
		{"said to be one", with(byPassword, "auth_type", "password"), ""},
		{"a credential", byCredential, ""},
		{"a credential by name", byName, ""},
		{"a token", byToken, ""},
		{"a long token", with(byToken, "access_token", strings.Repeat("t", 16<<10)), ""},
		{"another kind", with(byPassword, "auth_type", "v3totp"), "auth_type:"},
		{"no user", with(byPassword, "username", "-"), "username is missing"},
		{"no password", with(byPassword, "password", "-"), "password is missing"},
		{"an empty password", with(byPassword, "password", ""), "password is missing"},
		{"no project", with(byPassword, "tenant", "-"), "tenant is missing"},
		{"no domain", with(byPassword, "user_domain_name", ""), "user_domain_name is missing"},
		{"a password and a credential's secret", with(byPassword, "application_credential_secret", "x"), "application_credential_secret: is for auth_type v3applicationcredential"},
		{"a password and a credential", with(byPassword, "application_credential_id", "x"), "application_credential_id: says nothing"},
		{"neither id nor name", with(byCredential, "application_credential_id", "-"), "application_credential_id is missing"},
		{"id and name", with(byCredential, "application_credential_name", "n"), "application_credential_name: give"},
		{"an id and a user", with(byCredential, "username", "u"), "username: says nothing"},
		{"a name without a user", with(byName, "username", "-"), "username is missing"},
		{"a credential with a project", with(byCredential, "tenant", "t"), "tenant: says nothing"},
		{"a credential with a password", with(byCredential, "password", "p"), "password: is for auth_type password"},
		{"no secret", with(byCredential, "application_credential_secret", "-"), "application_credential_secret is missing"},
		{"no provider", with(byToken, "identity_provider", "-"), "identity_provider is missing"},
		{"a provider that is a path", with(byToken, "identity_provider", ".."), "identity_provider: must be"},
		{"no protocol", with(byToken, "protocol", "-"), "protocol is missing"},
		{"no token", with(byToken, "access_token", "-"), "access_token is missing"},
		{"a token too long", with(byToken, "access_token", strings.Repeat("t", 16<<10+1)), "access_token: must have"},
		{"a token that fits no header", with(byToken, "access_token", "a\r\nb"), "access_token: must have"},
		{"a token with a user", with(byToken, "username", "u"), "username: says nothing"},
		{"a certificate", with(byToken, "ca_certificate", pem), ""},
		{"a bundle with words", with(byPassword, "ca_certificate", "# the first\n"+pem+"\n# the second\n"+certificate(t)), ""},
		{"no certificate in it", with(byPassword, "ca_certificate", "hello"), "ca_certificate: must be certificates in PEM"},
		{"half a certificate", with(byPassword, "ca_certificate", pem+pem[:len(pem)/2]), "ca_certificate: must be certificates in PEM"},
		{"a key", with(byPassword, "ca_certificate", pem+strings.ReplaceAll(pem, "CERTIFICATE", "PRIVATE KEY")), "ca_certificate: must hold certificates only"},
		{"nonsense in PEM", with(byPassword, "ca_certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "ca_certificate: certificate 1 cannot be read"},
		{"too many", with(byPassword, "ca_certificate", strings.Repeat(pem, 65)), "ca_certificate: must hold at most 64"},
		{"too much", with(byPassword, "ca_certificate", strings.Repeat("#", 64<<10+1)), "ca_certificate: must have at most 65536"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := patchOf(test.fields).Apply(Region{})
			if err == nil {
				err = r.Validate()
			}
			switch {
			case test.wrong == "" && err != nil:
				t.Error(err)
			case test.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), test.wrong) || CodeOf(err) != CodeInvalid):
				t.Errorf("%v, not %s", err, test.wrong)
			}
			if err == nil && (r.Password == "" || strings.Contains(r.CACertificate, "#")) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// An account that is replaced by one of another kind leaves nothing behind, and
// one that is changed keeps what was not said.
func TestServiceAccountChanges(t *testing.T) {
	kinds := map[string]map[string]string{"password": byPassword, "credential": byCredential, "name": byName, "token": byToken}
	for from, old := range kinds {
		for to, next := range kinds {
			r, err := patchOf(old).Apply(Region{})
			if err != nil {
				t.Fatal(err)
			}
			if to == "password" {
				next = with(next, "auth_type", "password")
			}
			changed, err := patchOf(next).Apply(r)
			if err == nil {
				err = changed.Validate()
			}
			fresh, _ := patchOf(next).Apply(Region{})
			if err != nil || changed != fresh {
				t.Errorf("from %s to %s: %+v, %v", from, to, changed, err)
			}
			if same, err := (RegionPatch{Trusted: new(true)}).Apply(changed); err != nil || same.Password != "s" || same.AuthType != changed.AuthType {
				t.Errorf("unchanged: %+v, %v", same, err)
			}
		}
	}
}

// Who gives a field of another kind of account is told so, and not that some
// other field is missing.
func TestFieldOfAnotherKind(t *testing.T) {
	r, err := patchOf(byPassword).Apply(Region{})
	if err != nil {
		t.Fatal(err)
	}
	changed, err := (RegionPatch{ApplicationCredentialID: new("x")}).Apply(r)
	if err == nil {
		err = changed.Validate()
	}
	if err == nil || !strings.HasPrefix(err.Error(), "application_credential_id: says nothing") {
		t.Error(err)
	}
}
