package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

func claims(t testing.TB, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Whoever writes a rule names a claim as its provider shows it: a wrong reading
// gives somebody no rights, or another's.
func TestClaimTexts(t *testing.T) {
	for _, c := range []struct {
		name, claims, path string
		want               []string
	}{
		{"a text", `{"groups": "a"}`, "groups", []string{"a"}},
		{"a list", `{"groups": ["a", "b"]}`, "groups", []string{"a", "b"}},
		{"a list of objects with a name", `{"roles": [{"id": "1", "name": "a"}, {"name": "b"}, {"id": "c"}]}`, "roles", []string{"a", "b"}},
		{"a list of mixed values", `{"roles": ["a", 1, true, null, {"name": 2}, {"name": "b"}]}`, "roles", []string{"a", "b"}},
		{"inside an object", `{"realm_access": {"roles": ["a"]}}`, "realm_access.roles", []string{"a"}},
		{"two deep, with a client's id that has dots", `{"resource_access": {"my.client": {"roles": ["a"]}}}`, "resource_access.my.client.roles", []string{"a"}},
		{"a name that is a URL", `{"https://aai.example.org/groups": ["a"]}`, "https://aai.example.org/groups", []string{"a"}},
		{"inside a name that is a URL", `{"https://aai.example.org/x": {"groups": ["a"]}}`, "https://aai.example.org/x.groups", []string{"a"}},
		{"the exact name goes first", `{"a.b": "exact", "a": {"b": "inside"}}`, "a.b", []string{"exact"}},
		{"the longest name goes first", `{"a.b": {"c": "long"}, "a": {"b.c": "short"}}`, "a.b.c", []string{"long"}},
		{"a longer name that leads nowhere", `{"a.b": {"x": "y"}, "a": {"b": {"c": "short"}}}`, "a.b.c", []string{"short"}},
		{"in each object of a list", `{"orgs": [{"roles": [{"name": "a"}]}, {"roles": ["b"]}, {"x": 1}, "c"]}`, "orgs.roles", []string{"a", "b"}},
		{"ids of a list", `{"groups": [{"id": "1"}, {"id": "2"}]}`, "groups.id", []string{"1", "2"}},
		{"absent", `{"groups": ["a"]}`, "roles", nil},
		{"absent inside", `{"a": {"b": "c"}}`, "a.c", nil},
		{"through a text", `{"a": "b"}`, "a.b", nil},
		{"null", `{"a": null}`, "a", nil},
		{"other spelling", `{"Groups": ["a"]}`, "groups", nil},
		{"a number", `{"a": 7}`, "a", nil},
		{"empty names", `{"": {"": "a"}}`, ".", []string{"a"}},
	} {
		if diff := cmp.Diff(c.want, claimTexts(claims(t, c.claims), c.path)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestMapping(t *testing.T) {
	const egi = `^urn:mace:egi\.eu:group:(?P<region>[^:]+):role=owner#aai\.egi\.eu$`
	manager := RoleRule{Claim: "groups", Match: "^managers$", Role: RoleManager}
	for _, c := range []struct {
		name    string
		claims  string
		roles   []RoleRule
		regions []RegionRule
		want    flavor.Principal
	}{
		{"nothing configured", `{"groups": ["managers"], "roles": ["InfrastructureManager"]}`, nil, nil, flavor.Principal{}},
		{"manager", `{"groups": ["x", "managers"]}`, []RoleRule{manager}, nil, flavor.Principal{Roles: []string{RoleManager}, Manager: true}},
		{"a part of a value is none", `{"groups": ["managers2", "no managers", "managers\n", "MANAGERS"]}`, []RoleRule{{"groups", "managers", RoleManager}}, nil, flavor.Principal{}},
		{"several rules, one role", `{"groups": ["managers", "b"]}`, []RoleRule{manager, {"groups", "b", RoleManager}, {"groups", "b", "tester"}}, nil, flavor.Principal{Roles: []string{RoleManager, "tester"}, Manager: true}},
		{
			"owner by entitlement", `{"eduperson_entitlement": ["urn:mace:egi.eu:group:Trento:role=owner#aai.egi.eu", "urn:mace:egi.eu:group:Trento:role=member#aai.egi.eu", "urn:mace:egi.eu:group:Spain2:role=owner#aai.egi.eu"]}`, nil,
			[]RegionRule{{Claim: "eduperson_entitlement", Match: egi}}, flavor.Principal{Roles: []string{RoleOwner}, Regions: []string{"Spain2", "Trento"}},
		},
		{
			"only what is allowed", `{"eduperson_entitlement": ["urn:mace:egi.eu:group:Trento:role=owner#aai.egi.eu", "urn:mace:egi.eu:group:Lannion2:role=owner#aai.egi.eu"]}`, nil,
			[]RegionRule{{Claim: "eduperson_entitlement", Match: egi, Allow: []string{"Spain2", "Trento"}}}, flavor.Principal{Roles: []string{RoleOwner}, Regions: []string{"Trento"}},
		},
		{
			"what is no region's name", `{"g": ["own-a/b", "own-", "own-..", "own-Trento"]}`, nil,
			[]RegionRule{{Claim: "g", Match: "own-(?P<region>.*)"}}, flavor.Principal{Roles: []string{RoleOwner}, Regions: []string{"Trento"}},
		},
		{
			"the organisations of KeyRock's tokens, only with the role", `{"organizations": [{"name": "Trento FIDASH", "roles": [{"name": "InfrastructureOwner"}]}, {"name": "Spain2 FIDASH", "roles": [{"name": "member"}]}, {"name": "Prague FIDASH"}, "Lannion2 FIDASH"], "roles": [{"name": "InfrastructureOwner"}]}`, nil,
			[]RegionRule{{Claim: "organizations", Match: "(?P<region>.+) FIDASH", Role: RoleOwner}}, flavor.Principal{Roles: []string{RoleOwner}, Regions: []string{"Trento"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var wrong []error
			validateRules(c.roles, c.regions, func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) })
			if len(wrong) > 0 {
				t.Fatal(errors.Join(wrong...))
			}
			var got flavor.Principal
			newMapping(c.roles, c.regions).apply(&got, claims(t, c.claims))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRulesThatAreWrong(t *testing.T) {
	var got []string
	validateRules(
		[]RoleRule{{}, {"a", "(", "r"}},
		[]RegionRule{{Claim: "a", Match: "x"}, {Claim: "a", Match: "(?P<region>x)", Allow: []string{}}, {Claim: strings.Repeat("a.", 9), Match: "(?P<region>x)", Allow: []string{"a/b"}}},
		func(format string, args ...any) {
			got = append(got, strings.SplitAfter(fmt.Errorf(format, args...).Error(), ": ")[0])
		},
	)
	want := []string{
		"roles[0].claim: ", "roles[0].match: ", "roles[0].role: ", "roles[1].match: ", "regions[0].match: ", "regions[1].allow: ",
		"regions[2].claim: ", "regions[2].allow[0]: ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever a provider says of its users, nobody owns what cannot be a region or
// is not allowed, and nobody is a manager without the very value.
func FuzzClaims(f *testing.F) {
	f.Add(`{"groups": ["managers", "own-Trento"]}`, "groups")
	f.Add(`{"realm_access": {"roles": [{"name": "managers"}]}}`, "realm_access.roles")
	f.Add(`{"https://aai.example.org/groups": ["own-Spain2", "own-../x"]}`, "https://aai.example.org/groups")
	f.Add(`[[[{"a": {"a": ["own-"]}}]]]`, "a.a.a.a.a.a.a.a.a")
	f.Fuzz(func(t *testing.T, text, path string) {
		var m map[string]any
		if json.Unmarshal([]byte(text), &m) != nil || !validClaim(path) {
			return
		}
		allow := []string{"Trento", "Spain2"}
		var p flavor.Principal
		newMapping([]RoleRule{{path, "managers", RoleManager}}, []RegionRule{{Claim: path, Match: "own-(?P<region>.*)", Allow: allow}}).apply(&p, m)
		for _, region := range p.Regions {
			if !slices.Contains(allow, region) {
				t.Errorf("somebody owns %q", region)
			}
		}
		if p.Manager && !slices.Contains(claimTexts(m, path), "managers") {
			t.Error("somebody is a manager")
		}
	})
}
