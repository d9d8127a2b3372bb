package contract_test

import (
	"strings"
	"testing"

	"github.com/flavorsync/flavorsync/internal/simstack"
)

// idm is the identity provider of a set-up: a simulated KeyRock that learns the
// callers each test needs.
type idm struct {
	url   string
	stack *simstack.Stack
}

func startIDM(t *testing.T) *idm {
	t.Helper()
	c := startStack(t, simstack.Options{Regions: []string{}})
	return &idm{c.stack.KeyRockURL(), c.stack}
}

// The roles and organisations of a caller, by their names.
const (
	managerRole  = "InfrastructureManager"
	ownerRole    = "InfrastructureOwner"
	organisation = " FIDASH" // after the region's name
)

// learn makes KeyRock know a new token with those roles, and the role of an
// owner in the organisations of those regions.
func (i *idm) learn(roles, owned []string) (token string) {
	token = secret("idm")
	id := simstack.Identity{ID: "id-of-" + token[4:12], DisplayName: "caller " + token[4:12], AppID: "an-app"}
	for _, role := range roles {
		id.Roles = append(id.Roles, simstack.Role{ID: strings.ToLower(role), Name: role})
	}
	for _, region := range owned {
		id.Organizations = append(id.Organizations, simstack.Organization{
			ID: "organisation-of-" + region, Name: region + organisation, Roles: []simstack.Role{{ID: "owner", Name: ownerRole}},
		})
	}
	i.stack.AddIdentity(token, id)
	return token
}

func (i *idm) manager(*testing.T) caller {
	return byToken("a manager", i.learn([]string{managerRole}, nil))
}
func (i *idm) user(*testing.T) caller { return byToken("a user", i.learn(nil, nil)) }

// owner is the owner of those regions.
func (s *setup) owner(regions ...string) caller {
	return byToken("the owner of "+strings.Join(regions, " and "), s.idm.learn(nil, regions))
}
