package simstack

import (
	"net/http"
	"strings"
	"sync"
)

// Identity is what KeyRock answers for a token.
type Identity struct {
	ID            string         `json:"id"`
	DisplayName   string         `json:"displayName"`
	AppID         string         `json:"app_id"`
	Email         string         `json:"email,omitempty"`
	Roles         []Role         `json:"roles"`
	Organizations []Organization `json:"organizations"`
}

// Role is a role in KeyRock.
type Role struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Organization is an organisation in KeyRock, and the caller's roles in it.
type Organization struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Roles []Role `json:"roles"`
}

// The names of the roles that Flavorsync knows.
const (
	RoleManager = "InfrastructureManager"
	RoleOwner   = "InfrastructureOwner"
)

// AppID is the application for which the built-in IdM tokens were issued.
const AppID = "flavorsync-demo"

// Manager is an identity with the role InfrastructureManager.
func Manager(name string) Identity {
	return Identity{
		ID: name, DisplayName: name, AppID: AppID, Email: name + "@example.org",
		Roles: []Role{keyrockRole(RoleManager)}, Organizations: []Organization{},
	}
}

// Owner is an identity with the role InfrastructureOwner in the organisations
// of these regions; with none it is a user without any right.
func Owner(name string, regions ...string) Identity {
	id := Identity{
		ID: name, DisplayName: name, AppID: AppID, Email: name + "@example.org",
		Roles: []Role{}, Organizations: []Organization{},
	}
	for _, region := range regions {
		id.Organizations = append(id.Organizations, organization(region, RoleOwner))
	}
	return id
}

// organization is region's, where the caller has that role.
func organization(region, role string) Organization {
	name := region + " FIDASH"
	return Organization{ID: hexID("organization", name), Name: name, Roles: []Role{keyrockRole(role)}}
}

func keyrockRole(name string) Role { return Role{ID: hexID("idm role", name), Name: name} }

type keyrock struct {
	mu         sync.RWMutex
	identities map[string]Identity // by token
}

func (k *keyrock) reset() {
	user := Owner("user")
	// Belonging to a region's organisation is not owning the region.
	user.Organizations = append(user.Organizations, organization("Trento", "Member"))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.identities = map[string]Identity{
		"manager":        Manager("manager"),
		"owner-spain2":   Owner("owner-spain2", "Spain2"),
		"owner-trento":   Owner("owner-trento", "Trento"),
		"owner-lannion2": Owner("owner-lannion2", "Lannion2"),
		"user":           user,
	}
}

// AddIdentity makes KeyRock know a token, or answer otherwise for it.
func (s *Stack) AddIdentity(token string, id Identity) {
	if id.Roles == nil {
		id.Roles = []Role{}
	}
	if id.Organizations == nil {
		id.Organizations = []Organization{}
	}
	s.keyrock.mu.Lock()
	defer s.keyrock.mu.Unlock()
	s.keyrock.identities[token] = id
}

// RemoveIdentity makes KeyRock refuse a token from now on.
func (s *Stack) RemoveIdentity(token string) {
	s.keyrock.mu.Lock()
	defer s.keyrock.mu.Unlock()
	delete(s.keyrock.identities, token)
}

func (s *Stack) serveKeyRock(w http.ResponseWriter, r *http.Request, c call) {
	if strings.TrimSuffix(c.path, "/") != "/user" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	s.keyrock.mu.RLock()
	id, ok := s.keyrock.identities[r.URL.Query().Get("access_token")]
	s.keyrock.mu.RUnlock()
	if !ok {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusUnauthorized)
		w.Write([]byte(`{"error":{"message":"The request you have made requires authentication.","code":401,"title":"Unauthorized"}}`))
		return
	}
	writeJSON(w, http.StatusOK, id)
}
