package identity

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Claims are what a provider says of a user, as decoded JSON: a token's claims,
// an introspection's answer, a Keystone token.
//
// A claim is named by its path: groups, realm_access.roles. At each step the
// longest name that is there goes first, so that one with dots is reached too,
// such as https://aai.example.org/groups. A step that meets a list is taken in
// each of its objects. At its end a claim is a text, an object with a name, or a
// list of these.

// RoleRule gives whoever has a claim with a value that matches a role.
type RoleRule struct {
	Claim string `koanf:"claim"` // the claim's path
	Match string `koanf:"match"` // RE2, for the whole value
	Role  string `koanf:"role"`  // InfrastructureManager makes a manager
}

// RegionRule makes whoever has a claim with a value that matches the owner of a
// region.
type RegionRule struct {
	Claim string   `koanf:"claim"` // the claim's path
	Match string   `koanf:"match"` // RE2, for the whole value, whose group named region is the region
	Role  string   `koanf:"role"`  // where set, only an object with this among its roles counts: an organisation of KeyRock's
	Allow []string `koanf:"allow"` // the only regions this rule may give; absent: any
}

// mapping turns claims into rights.
type mapping struct {
	roles   []roleRule
	regions []regionRule
}

type roleRule struct {
	claim string
	match *regexp.Regexp
	role  string
}

type regionRule struct {
	claim  string
	match  *regexp.Regexp
	region int // the group of match
	role   string
	allow  []string
}

// newMapping compiles rules that validateRules has found nothing wrong with.
func newMapping(roles []RoleRule, regions []RegionRule) mapping {
	var m mapping
	for _, r := range roles {
		match, _ := wholePattern(r.Match)
		m.roles = append(m.roles, roleRule{r.Claim, match, r.Role})
	}
	for _, r := range regions {
		match, _ := wholePattern(r.Match)
		m.regions = append(m.regions, regionRule{r.Claim, match, match.SubexpIndex("region"), r.Role, slices.Clone(r.Allow)})
	}
	return m
}

// apply gives p the roles and regions that claims are worth. The owner of a
// region has the role RoleOwner too.
func (m mapping) apply(p *flavor.Principal, claims map[string]any) {
	roles, regions := p.Roles, p.Regions
	for _, rule := range m.roles {
		if slices.ContainsFunc(claimTexts(claims, rule.claim), rule.match.MatchString) {
			roles = append(roles, rule.role)
		}
	}
	for _, rule := range m.regions {
		for _, value := range claimValues(claims, rule.claim) {
			found := rule.match.FindStringSubmatch(value.text)
			if found == nil || rule.role != "" && !slices.Contains(claimTexts(value.object, "roles"), rule.role) {
				continue
			}
			region := found[rule.region]
			if flavor.ValidRegionName(region) && (rule.allow == nil || slices.Contains(rule.allow, region)) {
				regions = append(regions, region)
				roles = append(roles, RoleOwner)
			}
		}
	}
	p.Roles, p.Regions = set(roles), set(regions)
	p.Manager = slices.Contains(p.Roles, RoleManager)
}

// validateRules tells what is wrong with rules.
func validateRules(roles []RoleRule, regions []RegionRule, wrong func(string, ...any)) {
	pattern := func(at, claim, match string) *regexp.Regexp {
		if !validClaim(claim) {
			wrong("%s.claim: must be a claim's path, such as groups or realm_access.roles", at)
		}
		re, err := wholePattern(match)
		switch {
		case match == "":
			wrong("%s.match: is missing: give a regular expression (RE2) for the whole value", at)
		case err != nil:
			wrong("%s.match: is no regular expression (RE2): %w", at, err)
		default:
			return re
		}
		return nil
	}
	for i, r := range roles {
		at := fmt.Sprintf("roles[%d]", i)
		pattern(at, r.Claim, r.Match)
		if r.Role == "" || strings.ContainsFunc(r.Role, unicode.IsControl) {
			wrong("%s.role: must be a role's name, such as %s", at, RoleManager)
		}
	}
	for i, r := range regions {
		at := fmt.Sprintf("regions[%d]", i)
		if re := pattern(at, r.Claim, r.Match); re != nil && re.SubexpIndex("region") < 0 {
			wrong("%s.match: needs a group named region, as in ^(?P<region>.+)-owners$", at)
		}
		if strings.ContainsFunc(r.Role, unicode.IsControl) {
			wrong("%s.role: must be a role's name, such as %s", at, RoleOwner)
		}
		if r.Allow != nil && len(r.Allow) == 0 {
			wrong("%s.allow: must name a region: leave it out to allow any", at)
		}
		for j, region := range r.Allow {
			if !flavor.ValidRegionName(region) {
				wrong("%s.allow[%d]: %q is no region's name, which has 1 to 64 letters, digits and . _ -", at, j, region)
			}
		}
	}
}

// validClaim says whether path can be a claim's. Each dot may part two names or
// be in one, which doubles the ways to read it.
func validClaim(path string) bool {
	return path != "" && strings.Count(path, ".") <= 8 && !strings.ContainsFunc(path, unicode.IsControl)
}

// claimValue is one value of a claim: a text, or the name of an object.
type claimValue struct {
	text   string
	object map[string]any
}

// claimValues is the values at path in claims.
func claimValues(claims map[string]any, path string) []claimValue {
	found, ok := claimAt(claims, path)
	if !ok {
		return nil
	}
	return appendValues(nil, found)
}

// claimTexts is the texts at path in claims.
func claimTexts(claims map[string]any, path string) []string {
	var texts []string
	for _, value := range claimValues(claims, path) {
		texts = append(texts, value.text)
	}
	return texts
}

// claimText is the one text at path in claims, "" where there is none or several.
func claimText(claims map[string]any, path string) string {
	if texts := claimTexts(claims, path); len(texts) == 1 && !strings.ContainsFunc(texts[0], unicode.IsControl) {
		return texts[0]
	}
	return ""
}

func claimAt(value any, path string) (any, bool) {
	switch v := value.(type) {
	case map[string]any:
		if inner, ok := v[path]; ok {
			return inner, true
		}
		for dot := strings.LastIndexByte(path, '.'); dot >= 0; dot = strings.LastIndexByte(path[:dot], '.') {
			if inner, ok := v[path[:dot]]; ok {
				if found, ok := claimAt(inner, path[dot+1:]); ok {
					return found, true
				}
			}
		}
	case []any:
		var all []any
		for _, element := range v {
			if _, list := element.([]any); list {
				continue // lists in lists are nobody's groups
			}
			if found, ok := claimAt(element, path); ok {
				all = append(all, found)
			}
		}
		return all, len(all) > 0
	}
	return nil, false
}

func appendValues(values []claimValue, found any) []claimValue {
	switch v := found.(type) {
	case string:
		values = append(values, claimValue{text: v})
	case map[string]any:
		if name, ok := v["name"].(string); ok {
			values = append(values, claimValue{name, v})
		}
	case []any:
		for _, element := range v {
			values = appendValues(values, element)
		}
	}
	return values
}
