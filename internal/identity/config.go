package identity

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/bcrypt"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// The types of identity providers.
const (
	TypeKeyRock  = "keyrock"
	TypeAccounts = "accounts"
	TypeOIDC     = "oidc"
	TypeKeystone = "keystone"
)

// Types are the types of identity providers.
var Types = []string{TypeKeyRock, TypeAccounts, TypeOIDC, TypeKeystone}

// The ways to look up an opaque access token of OpenID Connect.
const (
	OpaqueIntrospection = "introspection" // RFC 7662
	OpaqueUserInfo      = "userinfo"      // says nothing of the token's audience
)

// Texts is a list of texts; in the configuration it may be written as one text.
type Texts []string

// The role names of the contract.
const (
	RoleManager = "InfrastructureManager"
	RoleOwner   = "InfrastructureOwner"
)

// ProviderConfig is one entry of the configuration's identity list. Each setting
// says in its tag of which types it is one; it must be absent in the others.
type ProviderConfig struct {
	Type string `koanf:"type"` // one of Types

	// URL is where KeyRock tells whose token it is; Flavorsync asks
	// GET URL?access_token=TOKEN.
	URL string `koanf:"url" of:"keyrock"`
	// AppID, where set, is the application a token must have been issued for.
	AppID string `koanf:"app_id" of:"keyrock"`
	// Organizations, where set, are the only organisations that are regions:
	// the id of each, and the name of its region. The organisation's name then
	// does not count.
	Organizations map[string]string `koanf:"organizations" of:"keyrock"`
	// OrganizationPattern is a regular expression, with a group named region,
	// that matches the whole name of a region's organisation; not used where
	// Organizations is set. Default "(?P<region>.+) FIDASH".
	OrganizationPattern string `koanf:"organization_pattern" of:"keyrock"`
	// ManagerRole is the user's role that makes a manager. Default RoleManager.
	ManagerRole string `koanf:"manager_role" of:"keyrock"`
	// OwnerRole is the user's role in a region's organisation that makes its
	// owner. Default RoleOwner.
	OwnerRole string `koanf:"owner_role" of:"keyrock"`

	// Name is the provider's in a Principal, in limits and in the audit. No two
	// providers may share one. Default "oidc".
	Name string `koanf:"name" of:"oidc"`
	// Issuer is the issuer, exactly as its tokens have it in iss.
	Issuer string `koanf:"issuer" of:"oidc"`
	// Audience are the clients or services for whom a token must have been issued:
	// one of them must stand in one of the claims AudienceClaims. Default of these:
	// aud.
	Audience       Texts `koanf:"audience" of:"oidc"`
	AudienceClaims Texts `koanf:"audience_claims" of:"oidc"`
	// Tokens are the kinds that are accepted, of those that tell what they are:
	// access, id. Default both.
	Tokens Texts `koanf:"tokens" of:"oidc"`
	// Algorithms are those that may sign, asymmetric ones only. Default all.
	Algorithms Texts `koanf:"algorithms" of:"oidc"`
	// ClockSkew is how far the issuer's clock may be from ours, 1s to 5m. Default
	// 30s.
	ClockSkew time.Duration `koanf:"clock_skew" of:"oidc"`
	// Opaque says how access tokens that are no JWTs are looked up: by
	// OpaqueIntrospection or OpaqueUserInfo. Empty: the issuer is shown none.
	Opaque string `koanf:"opaque" of:"oidc"`
	// UserInfo has the claims of the userinfo endpoint added to those of the token.
	UserInfo bool `koanf:"userinfo" of:"oidc"`
	// ClientID and ClientSecret are for the introspection.
	ClientID     string        `koanf:"client_id" of:"oidc"`
	ClientSecret flavor.Secret `koanf:"client_secret" of:"oidc"`
	// IntrospectionURL, UserInfoURL and JWKSURL, where set, go before what the
	// issuer's discovery document says.
	IntrospectionURL string `koanf:"introspection_url" of:"oidc"`
	UserInfoURL      string `koanf:"userinfo_url" of:"oidc"`
	JWKSURL          string `koanf:"jwks_url" of:"oidc"`
	// NameClaims are the claims of which the first that is there is the user's
	// name. Default name, preferred_username, email, sub.
	NameClaims Texts `koanf:"name_claims" of:"oidc"`

	// Roles and Regions say which rights claims are worth.
	Roles   []RoleRule   `koanf:"roles" of:"oidc keystone"`
	Regions []RegionRule `koanf:"regions" of:"oidc keystone"`

	// KeystoneUserClaim, where set, is the path of the claim (of the field of
	// KeyRock's answer) that is the id of the user in the federation's Keystone.
	KeystoneUserClaim string `koanf:"keystone_user_claim" of:"keyrock oidc"`

	// Timeout bounds one look-up, waiting for a connection included. Default 2s.
	Timeout time.Duration `koanf:"timeout" of:"keyrock oidc keystone"`
	// CacheSize is how many accepted and how many refused tokens are
	// remembered. Default 10000 of each.
	CacheSize int `koanf:"cache_size" of:"keyrock oidc keystone"`

	// Users are the accounts.
	Users []Account `koanf:"users" of:"accounts"`
}

// Account is one user of a provider of type accounts.
type Account struct {
	Name         string        `koanf:"name"`
	PasswordHash flavor.Secret `koanf:"password_hash"` // bcrypt, as htpasswd -B makes it
	Roles        []string      `koanf:"roles"`         // InfrastructureManager makes a manager
	Regions      []string      `koanf:"regions"`       // the regions the user owns
}

// WithDefaults is c with what its Type has defaults for and c does not set.
func (c ProviderConfig) WithDefaults() ProviderConfig {
	if c.Type == TypeKeyRock {
		c.OrganizationPattern = cmp.Or(c.OrganizationPattern, "(?P<region>.+) FIDASH")
		c.ManagerRole = cmp.Or(c.ManagerRole, RoleManager)
		c.OwnerRole = cmp.Or(c.OwnerRole, RoleOwner)
	}
	if c.Type == TypeOIDC {
		c.Name = cmp.Or(c.Name, TypeOIDC)
		c.ClockSkew = cmp.Or(c.ClockSkew, 30*time.Second)
		for _, list := range []struct {
			of       *Texts
			absently Texts
		}{
			{&c.AudienceClaims, Texts{"aud"}}, {&c.Tokens, Texts{kindAccess, kindID}}, {&c.Algorithms, algorithms},
			{&c.NameClaims, Texts{"name", "preferred_username", "email", "sub"}},
		} {
			if *list.of == nil {
				*list.of = slices.Clone(list.absently)
			}
		}
	}
	if c.Type == TypeKeyRock || c.Type == TypeOIDC || c.Type == TypeKeystone {
		c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
		c.CacheSize = cmp.Or(c.CacheSize, 10_000)
	}
	return c
}

// Validate tells everything that is wrong with c, defaults filled in, as an
// errors.Join of errors that each begin with the setting's path inside c and a
// colon, and say what to do. No error holds a secret.
func (c ProviderConfig) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Type {
	case TypeKeyRock:
		c.validateKeyRock(wrong)
	case TypeAccounts:
		c.validateAccounts(wrong)
	case TypeOIDC:
		c.validateOIDC(wrong)
	case TypeKeystone:
		c.validateAsked(wrong)
	case "":
		wrong("type: is missing: it is one of %s", strings.Join(Types, ", "))
		return errors.Join(errs...)
	default:
		wrong("type: %q is unknown: it is one of %s", c.Type, strings.Join(Types, ", "))
		return errors.Join(errs...)
	}
	for field, value := range reflect.ValueOf(c).Fields() {
		of := strings.Fields(field.Tag.Get("of"))
		if len(of) > 0 && !slices.Contains(of, c.Type) && !value.IsZero() {
			wrong("%s: is a setting of type %s, not of %s: remove it", field.Tag.Get("koanf"), strings.Join(of, " and "), c.Type)
		}
	}
	return errors.Join(errs...)
}

// Distinct tells which of cfg cannot stand beside another one, as an errors.Join
// of errors that each begin with the setting's path inside cfg and a colon.
func Distinct(cfg []ProviderConfig) error {
	var errs []error
	names := map[string]string{TypeKeyRock: "a type", TypeAccounts: "a type", TypeKeystone: "a type"}
	issuers := make(map[string]string)
	for i, c := range cfg {
		if c = c.WithDefaults(); c.Type != TypeOIDC {
			continue
		}
		at := fmt.Sprintf("identity[%d]", i)
		if other, taken := names[c.Name]; taken {
			errs = append(errs, fmt.Errorf("%s.name: %s is the name of %s already: users are told apart by it", at, c.Name, other))
		}
		if other, taken := issuers[c.Issuer]; taken && c.Issuer != "" {
			errs = append(errs, fmt.Errorf("%s.issuer: is that of %s already: name several clients in its audience", at, other))
		}
		names[c.Name], issuers[c.Issuer] = at, at
	}
	return errors.Join(errs...)
}

// maxSkew is more than any clock that is set at all is wrong by.
const maxSkew = 5 * time.Minute

// validName is what may be part of a key, as oidc/4711.
var validName = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z`)

func (c ProviderConfig) validateOIDC(wrong func(string, ...any)) {
	if !validName.MatchString(c.Name) {
		wrong("name: must have 1 to 64 letters, digits and . _ -, such as egi")
	}
	if c.Issuer == "" {
		wrong("issuer: is missing: give it exactly as tokens have it in iss, such as https://aai.egi.eu/auth/realms/egi")
	} else if !httpURL(c.Issuer, false) || strings.Contains(c.Issuer, "?") {
		wrong("issuer: must be an http or https URL with a host, without user, query and fragment")
	}
	if len(c.Audience) == 0 || slices.Contains(c.Audience, "") {
		wrong("audience: is missing: name the clients or services whose tokens are good here; without it, so is a token that a user gave to any other service")
	}
	claims := func(key string, of Texts) {
		if len(of) == 0 || slices.ContainsFunc(of, func(claim string) bool { return !validClaim(claim) }) {
			wrong("%s: must be claims' paths, such as [aud, azp]", key)
		}
	}
	claims("audience_claims", c.AudienceClaims)
	claims("name_claims", c.NameClaims)
	oneOf := func(key string, list Texts, known ...string) {
		if len(list) == 0 || slices.ContainsFunc(list, func(value string) bool { return !slices.Contains(known, value) }) {
			wrong("%s: must be a list of %s", key, strings.Join(known, ", "))
		}
	}
	oneOf("tokens", c.Tokens, kindAccess, kindID)
	oneOf("algorithms", c.Algorithms, algorithms...)
	if c.ClockSkew < time.Second || c.ClockSkew > maxSkew {
		wrong("clock_skew: must be between 1s and %s", maxSkew)
	}
	for _, at := range []struct{ key, url string }{{"introspection_url", c.IntrospectionURL}, {"userinfo_url", c.UserInfoURL}, {"jwks_url", c.JWKSURL}} {
		if at.url != "" && !httpURL(at.url, false) {
			wrong("%s: must be an http or https URL with a host, without user and fragment", at.key)
		}
	}
	switch c.Opaque {
	case OpaqueIntrospection:
		if c.ClientID == "" || c.ClientSecret == "" {
			wrong("client_id: opaque: introspection needs client_id and client_secret, which the issuer gives to a client")
		}
	case OpaqueUserInfo, "":
		if c.ClientID != "" || c.ClientSecret != "" || c.IntrospectionURL != "" {
			wrong("opaque: client_id, client_secret and introspection_url are for opaque: introspection")
		}
	default:
		wrong("opaque: %q is unknown: write introspection or userinfo, or leave it out", c.Opaque)
	}
	c.validateAsked(wrong)
}

// validateAsked checks what every provider has that is asked over HTTP.
func (c ProviderConfig) validateAsked(wrong func(string, ...any)) {
	if c.KeystoneUserClaim != "" && !validClaim(c.KeystoneUserClaim) {
		wrong("keystone_user_claim: must be a claim's path, such as keystone_user_id")
	}
	validateRules(c.Roles, c.Regions, wrong)
	if c.Timeout <= 0 {
		wrong("timeout: must be above 0, such as 2s")
	}
	if c.CacheSize < 1 {
		wrong("cache_size: must be at least 1")
	}
}

func (c ProviderConfig) validateKeyRock(wrong func(string, ...any)) {
	if u, err := url.Parse(c.URL); c.URL == "" {
		wrong("url: is missing: give the address that tells whose token it is, such as https://account.example.org/user")
	} else if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		wrong("url: must be an http or https URL with a host, without user and fragment")
	}
	for _, id := range slices.Sorted(maps.Keys(c.Organizations)) {
		if id == "" {
			wrong("organizations: an organisation id must not be empty")
		}
		if region := c.Organizations[id]; !flavor.ValidRegionName(region) {
			wrong("organizations[%s]: %q is no region's name, which has 1 to 64 letters, digits and . _ -", id, region)
		}
	}
	if re, err := wholePattern(c.OrganizationPattern); err != nil {
		wrong("organization_pattern: is no regular expression (RE2): %w", err)
	} else if re.SubexpIndex("region") < 0 {
		wrong("organization_pattern: needs a group named region, as in (?P<region>.+) FIDASH")
	}
	if c.ManagerRole == "" {
		wrong("manager_role: must not be empty")
	}
	if c.OwnerRole == "" {
		wrong("owner_role: must not be empty")
	}
	c.validateAsked(wrong)
}

// maxCost keeps one login below some five seconds of processor time.
const maxCost = 16

func (c ProviderConfig) validateAccounts(wrong func(string, ...any)) {
	if len(c.Users) == 0 {
		wrong("users: is missing or empty: name at least one user")
	}
	seen := make(map[string]int)
	for i, u := range c.Users {
		at := fmt.Sprintf("users[%d]", i)
		switch first, twice := seen[u.Name]; {
		case u.Name == "":
			wrong("%s.name: is missing", at)
		case strings.Contains(u.Name, ":") || strings.ContainsFunc(u.Name, unicode.IsControl):
			wrong("%s.name: must not hold a colon or a control character, which Basic cannot carry", at)
		case twice:
			wrong("%s.name: %s is users[%d] already", at, u.Name, first)
		default:
			seen[u.Name] = i
		}
		switch cost, err := bcrypt.Cost([]byte(u.PasswordHash)); {
		case u.PasswordHash == "":
			wrong("%s.password_hash: is missing: make one with htpasswd -nBC 10 NAME", at)
		case err != nil || len(u.PasswordHash) != 60:
			wrong("%s.password_hash: is no bcrypt hash ($2a$, $2b$ or $2y$, 60 characters): make one with htpasswd -nBC 10 NAME", at)
		case cost > maxCost:
			wrong("%s.password_hash: its cost of %d takes too long: use 10 to 12", at, cost)
		}
		for j, role := range u.Roles {
			if role == "" || strings.ContainsFunc(role, unicode.IsControl) {
				wrong("%s.roles[%d]: must be a role's name, such as %s", at, j, RoleManager)
			}
		}
		for j, region := range u.Regions {
			if !flavor.ValidRegionName(region) {
				wrong("%s.regions[%d]: %q is no region's name, which has 1 to 64 letters, digits and . _ -", at, j, region)
			}
		}
	}
}

// wholePattern compiles pattern so that it matches all of a text or nothing.
func wholePattern(pattern string) (*regexp.Regexp, error) {
	// Compiled alone first: "a)(b" must not become valid by our own group.
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// set is values sorted, each once.
func set(values []string) []string {
	sorted := slices.Sorted(slices.Values(values))
	return slices.Clip(slices.Compact(sorted))
}
