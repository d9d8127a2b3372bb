package flavor_test

import (
	"testing"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Who may do what in which regions; what the table does not name is refused.
func TestRights(t *testing.T) {
	user := flavor.Principal{Name: "u"}
	owner := flavor.Principal{Name: "o", Regions: []string{"Spain2", "Trento"}}
	manager := flavor.Principal{Name: "m", Manager: true}
	for _, c := range []struct {
		action               flavor.Action
		regions              []string
		user, owner, manager flavor.Code
	}{
		{flavor.ReadPromoted, nil, "", "", ""},
		{flavor.CreateRegionFlavor, []string{"Mordor"}, "", "", ""},
		{flavor.InstallFlavor, []string{"Trento"}, flavor.CodeForbidden, "", ""},
		{flavor.InstallFlavor, []string{"Trento", "Mordor"}, flavor.CodeForbidden, flavor.CodeForbidden, ""},
		{flavor.InstallFlavor, nil, "", "", ""},
		{flavor.CreatePromoted, nil, flavor.CodeManagerOnly, flavor.CodeManagerOnly, ""},
		{flavor.PromoteFlavor, []string{"Trento"}, flavor.CodePromote, flavor.CodePromote, ""},
		{flavor.TrustInfrastructure, []string{"Trento"}, flavor.CodeForbidden, flavor.CodeForbidden, ""},
		{flavor.CallAsCore, nil, flavor.CodeForbidden, flavor.CodeForbidden, flavor.CodeForbidden},
		{"no.such", nil, flavor.CodeForbidden, flavor.CodeForbidden, flavor.CodeForbidden},
		{"", nil, flavor.CodeForbidden, flavor.CodeForbidden, flavor.CodeForbidden},
	} {
		for _, who := range []struct {
			flavor.Principal
			want flavor.Code
		}{{user, c.user}, {owner, c.owner}, {manager, c.manager}} {
			if got := flavor.CodeOf(who.May(c.action, c.regions...)); got != who.want {
				t.Errorf("%s, %s in %v: %q, not %q", who.Name, c.action, c.regions, got, who.want)
			}
			if who.Can(c.action, c.regions...) != (who.want == "") {
				t.Errorf("%s, %s in %v: Can and May differ", who.Name, c.action, c.regions)
			}
		}
	}
}
