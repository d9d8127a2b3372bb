package flavor

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
)

// AuthType is how a service account authenticates at its Keystone, in the words
// of keystoneauth and of clouds.yaml.
type AuthType string

// The kinds of service account.
const (
	AuthPassword              AuthType = "password" // also where none is said
	AuthApplicationCredential AuthType = "v3applicationcredential"
	AuthOIDCAccessToken       AuthType = "v3oidcaccesstoken"
)

// Secret is what a body calls the secret of such an account; "" where there is
// no such kind of account.
func (t AuthType) Secret() string {
	switch t {
	case AuthPassword:
		return "password"
	case AuthApplicationCredential:
		return "application_credential_secret"
	case AuthOIDCAccessToken:
		return "access_token"
	}
	return ""
}

// needs is what a body must say of such an account.
func (t AuthType) needs() string {
	switch t {
	case AuthApplicationCredential:
		return "application_credential_id (or application_credential_name and username) and application_credential_secret"
	case AuthOIDCAccessToken:
		return "identity_provider, protocol, access_token and tenant"
	default:
		return "username, password and tenant"
	}
}

// accountField is one field of a service account.
type accountField struct {
	name  string
	value *string
	used  bool // it means something to an account of this kind, which needs it
}

// accountFields are the fields of r's service account but for its secret.
func (r *Region) accountFields() []accountField {
	var (
		password   = r.AuthType == AuthPassword
		credential = r.AuthType == AuthApplicationCredential
		token      = r.AuthType == AuthOIDCAccessToken
		byName     = credential && r.ApplicationCredentialID == ""
	)
	return []accountField{
		{"application_credential_id", &r.ApplicationCredentialID, credential && r.ApplicationCredentialName == ""},
		{"application_credential_name", &r.ApplicationCredentialName, byName},
		{"username", &r.Username, password || byName},
		{"identity_provider", &r.IdentityProvider, token},
		{"protocol", &r.Protocol, token},
		{"tenant", &r.Tenant, password || token},
		{"user_domain_name", &r.UserDomain, password || byName},
		{"project_domain_name", &r.ProjectDomain, password || token},
	}
}

// maxAccessToken is the longest access token, in bytes: those with many groups
// in them have some thousand.
const maxAccessToken = 16 << 10

// validateAccount tells the first field of r's service account that is missing,
// malformed, or not for an account of its kind.
func (r Region) validateAccount() error {
	secret := r.AuthType.Secret()
	if secret == "" {
		return Invalid("auth_type: must be %s, %s or %s", AuthPassword, AuthApplicationCredential, AuthOIDCAccessToken)
	}
	if r.ApplicationCredentialID != "" && r.ApplicationCredentialName != "" {
		return Invalid("application_credential_name: give application_credential_id or application_credential_name, not both")
	}
	for _, f := range r.accountFields() {
		switch {
		case f.used && *f.value == "":
			return Invalid("%s is missing: a service account of auth_type %s needs %s", f.name, r.AuthType, r.AuthType.needs())
		case f.used:
			if err := text(f.name, *f.value, 255); err != nil {
				return err
			}
		case *f.value != "":
			return Invalid("%s: says nothing to a service account of auth_type %s, which needs %s: leave it out", f.name, r.AuthType, r.AuthType.needs())
		}
	}
	for _, f := range []struct{ name, value string }{{"identity_provider", r.IdentityProvider}, {"protocol", r.Protocol}} {
		if f.value == "." || f.value == ".." { // as a path they lead elsewhere
			return Invalid("%s: must be the id that Keystone has for it", f.name)
		}
	}
	switch {
	case r.Password == "":
		return Invalid("%s is missing: a service account of auth_type %s needs %s", secret, r.AuthType, r.AuthType.needs())
	case r.AuthType == AuthOIDCAccessToken:
		if len(r.Password) > maxAccessToken || strings.ContainsFunc(string(r.Password), func(c rune) bool { return c <= ' ' || c > '~' }) {
			return Invalid("access_token: must have 1 to %d characters, visible and of ASCII", maxAccessToken)
		}
		return nil
	}
	return text(secret, string(r.Password), 255)
}

// The bounds of a region's certificates: each is parsed, and tried against what
// the region shows.
const (
	maxCACertificate  = 64 << 10 // bytes
	maxCACertificates = 64
)

// caCertificate is the certificates in bundle, as PEM without what may stand
// between them; "" where bundle is empty.
func caCertificate(bundle string) (string, error) {
	if strings.TrimSpace(bundle) == "" {
		return "", nil
	}
	if len(bundle) > maxCACertificate {
		return "", Invalid("ca_certificate: must have at most %d bytes, not %d", maxCACertificate, len(bundle))
	}
	var clean bytes.Buffer
	count := 0
	for block, rest := pem.Decode([]byte(bundle)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return "", Invalid("ca_certificate: must hold certificates only (-----BEGIN CERTIFICATE-----), and no key")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", Invalid("ca_certificate: certificate %d cannot be read", count+1)
		}
		if count++; count > maxCACertificates {
			return "", Invalid("ca_certificate: must hold at most %d certificates: leave out those of the system", maxCACertificates)
		}
		if err := pem.Encode(&clean, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", Invalid("ca_certificate: certificate %d cannot be written", count)
		}
	}
	if count == 0 || count != strings.Count(bundle, "-----BEGIN") {
		return "", Invalid("ca_certificate: must be certificates in PEM, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----")
	}
	return clean.String(), nil
}

// RegionPatch is what a POST or a PUT says of an infrastructure; nil is what it
// does not say.
type RegionPatch struct {
	Name                        *string
	KeystoneURL                 *string
	NovaURL                     *string
	AuthType                    *string
	Username                    *string
	Password                    *Secret
	Tenant                      *string
	UserDomain                  *string
	ProjectDomain               *string
	ApplicationCredentialID     *string
	ApplicationCredentialName   *string
	ApplicationCredentialSecret *Secret
	IdentityProvider            *string
	Protocol                    *string
	AccessToken                 *Secret
	CACertificate               *string
	Trusted                     *bool
}

// Secret is the secret that p gives an account of that kind, nil where it gives
// none.
func (p RegionPatch) Secret(t AuthType) *Secret {
	switch t {
	case AuthApplicationCredential:
		return p.ApplicationCredentialSecret
	case AuthOIDCAccessToken:
		return p.AccessToken
	default:
		return p.Password
	}
}

// Apply is r with what p names. Of another kind of account, or of an application
// credential named in the other way, nothing of the old account stays. It fails
// for a secret that is not for such an account, and for a ca_certificate that is
// none; all else is for Validate.
func (p RegionPatch) Apply(r Region) (Region, error) {
	if r.AuthType == "" {
		r.AuthType = AuthPassword
	}
	if p.AuthType != nil && AuthType(*p.AuthType) != r.AuthType {
		for _, f := range r.accountFields() {
			*f.value = ""
		}
		r.AuthType, r.Password = AuthType(*p.AuthType), ""
	}
	if r.AuthType == AuthApplicationCredential && said(p.ApplicationCredentialID) != said(p.ApplicationCredentialName) {
		r.ApplicationCredentialID, r.ApplicationCredentialName, r.Username, r.UserDomain = "", "", "", ""
	}
	set(&r.Name, p.Name)
	set(&r.KeystoneURL, p.KeystoneURL)
	set(&r.NovaURL, p.NovaURL)
	set(&r.Username, p.Username)
	set(&r.Tenant, p.Tenant)
	set(&r.UserDomain, p.UserDomain)
	set(&r.ProjectDomain, p.ProjectDomain)
	set(&r.ApplicationCredentialID, p.ApplicationCredentialID)
	set(&r.ApplicationCredentialName, p.ApplicationCredentialName)
	set(&r.IdentityProvider, p.IdentityProvider)
	set(&r.Protocol, p.Protocol)
	set(&r.Trusted, p.Trusted)
	for _, t := range []AuthType{AuthPassword, AuthApplicationCredential, AuthOIDCAccessToken} {
		secret := p.Secret(t)
		switch {
		case secret == nil:
		case t == r.AuthType:
			r.Password = *secret
		case *secret != "" && r.AuthType.Secret() != "": // else Validate tells of the auth_type
			return r, Invalid("%s: is for auth_type %s: leave it out, or give that auth_type too", t.Secret(), t)
		}
	}
	// Where no domain was given, the one that every Keystone has is meant.
	for _, f := range r.accountFields() {
		given := f.name == "user_domain_name" && p.UserDomain != nil || f.name == "project_domain_name" && p.ProjectDomain != nil
		if f.used && *f.value == "" && !given && (f.name == "user_domain_name" || f.name == "project_domain_name") {
			*f.value = "Default"
		}
	}
	if p.CACertificate != nil {
		var err error
		if r.CACertificate, err = caCertificate(*p.CACertificate); err != nil {
			return r, err
		}
	}
	return r, nil
}

func said(value *string) bool { return value != nil && *value != "" }
