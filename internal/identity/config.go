package identity

import (
	"errors"
	"fmt"
	"net/url"
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
)

// The role names of the contract.
const (
	RoleManager = "InfrastructureManager"
	RoleOwner   = "InfrastructureOwner"
)

// ProviderConfig is one entry of the configuration's identity list. A setting
// that is not of its Type must be absent.
type ProviderConfig struct {
	Type string `koanf:"type"` // keyrock or accounts

	// URL is where KeyRock tells whose token it is; Flavorsync asks
	// GET URL?access_token=TOKEN.
	URL string `koanf:"url"`
	// AppID, where set, is the application a token must have been issued for.
	AppID string `koanf:"app_id"`
	// Organizations, where set, are the only organisations that are regions:
	// the id of each, and the name of its region. The organisation's name then
	// does not count.
	Organizations map[string]string `koanf:"organizations"`
	// OrganizationPattern is a regular expression, with a group named region,
	// that matches the whole name of a region's organisation; not used where
	// Organizations is set. Default "(?P<region>.+) FIDASH".
	OrganizationPattern string `koanf:"organization_pattern"`
	// ManagerRole is the user's role that makes a manager. Default RoleManager.
	ManagerRole string `koanf:"manager_role"`
	// OwnerRole is the user's role in a region's organisation that makes its
	// owner. Default RoleOwner.
	OwnerRole string `koanf:"owner_role"`
	// Timeout bounds one look-up, waiting for a connection included. Default 2s.
	Timeout time.Duration `koanf:"timeout"`
	// CacheSize is how many accepted and how many refused tokens are
	// remembered. Default 10000 of each.
	CacheSize int `koanf:"cache_size"`

	// Users are the accounts.
	Users []Account `koanf:"users"`
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
	if c.Type != TypeKeyRock {
		return c
	}
	if c.OrganizationPattern == "" {
		c.OrganizationPattern = "(?P<region>.+) FIDASH"
	}
	if c.ManagerRole == "" {
		c.ManagerRole = RoleManager
	}
	if c.OwnerRole == "" {
		c.OwnerRole = RoleOwner
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.CacheSize == 0 {
		c.CacheSize = 10_000
	}
	return c
}

// Validate tells everything that is wrong with c, defaults filled in, as an
// errors.Join of errors that each begin with the setting's path inside c and a
// colon, and say what to do. No error holds a password hash.
func (c ProviderConfig) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Type {
	case TypeKeyRock:
		c.validateKeyRock(wrong)
		if c.Users != nil {
			wrong("users: is a setting of type accounts, not of keyrock: remove it")
		}
	case TypeAccounts:
		c.validateAccounts(wrong)
		for _, s := range []struct {
			key string
			set bool
		}{
			{"url", c.URL != ""}, {"app_id", c.AppID != ""}, {"organizations", c.Organizations != nil},
			{"organization_pattern", c.OrganizationPattern != ""}, {"manager_role", c.ManagerRole != ""},
			{"owner_role", c.OwnerRole != ""}, {"timeout", c.Timeout != 0}, {"cache_size", c.CacheSize != 0},
		} {
			if s.set {
				wrong("%s: is a setting of type keyrock, not of accounts: remove it", s.key)
			}
		}
	case "":
		wrong("type: is missing: it is keyrock or accounts")
	case "oidc", "keystone":
		wrong("type: %s is not in this version: the types that exist are keyrock and accounts", c.Type)
	default:
		wrong("type: %q is unknown: the types that exist are keyrock and accounts", c.Type)
	}
	return errors.Join(errs...)
}

func (c ProviderConfig) validateKeyRock(wrong func(string, ...any)) {
	if u, err := url.Parse(c.URL); c.URL == "" {
		wrong("url: is missing: give the address that tells whose token it is, such as https://account.example.org/user")
	} else if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		wrong("url: must be an http or https URL with a host, without user and fragment")
	}
	for _, id := range sortedKeys(c.Organizations) {
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
	if c.Timeout <= 0 {
		wrong("timeout: must be above 0, such as 2s")
	}
	if c.CacheSize < 1 {
		wrong("cache_size: must be at least 1")
	}
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
