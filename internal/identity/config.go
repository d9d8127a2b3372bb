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
	case TypeOIDC, TypeKeystone:
		wrong("type: %s is not in this version", c.Type)
		return errors.Join(errs...)
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
