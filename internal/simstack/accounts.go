package simstack

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
)

// What services authenticate with besides a password: application credentials,
// and access tokens of an OpenID provider that Keystone exchanges for its own.

// The OpenID provider of the simulated federation, as the real one of
// scripts/openstack has it.
const (
	IdentityProvider = "egi.eu"
	Protocol         = "openid"
)

// applicationCredential lets its holder be a user in one project.
type applicationCredential struct {
	id, name, secret string
	user             *user
	project          string // its name
	roles            []string
}

// federated is a user whom the OpenID provider vouches for: nobody has a password
// for them, and their domain is that of the identity provider.
func federated(subject string, roles map[string]string) *user {
	return &user{id: hexID("federated", subject), name: subject, domain: hexID("domain", IdentityProvider), roles: roles}
}

// addAccessTokens makes the two that scripts/openstack knows: of one who may
// manage flavors in the project operators, and of one who may nothing.
func (k *keystone) addAccessTokens() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.access["operator-access-token"] = federated("operator@example.org", map[string]string{"operators": "admin"})
	k.access["stranger-access-token"] = federated("stranger@example.org", map[string]string{})
}

// AddAccessToken makes the OpenID provider vouch for token: it is of one who may
// manage flavors in the project operators.
func (s *Stack) AddAccessToken(token string) {
	s.keystone.mu.Lock()
	defer s.keystone.mu.Unlock()
	s.keystone.access[token] = federated("operator@example.org", map[string]string{"operators": "admin"})
}

// ExpireAccessToken makes the OpenID provider vouch for token no more. What
// Keystone gave for it lives on.
func (s *Stack) ExpireAccessToken(token string) {
	s.keystone.mu.Lock()
	defer s.keystone.mu.Unlock()
	delete(s.keystone.access, token)
}

// AddApplicationCredential makes one of that user's, with the roles that they
// have in that project. It panics when the user has none there.
func (s *Stack) AddApplicationCredential(userName, project, name string) (id, secret string) {
	s.keystone.mu.Lock()
	defer s.keystone.mu.Unlock()
	u := s.keystone.users[userName]
	if u == nil || u.roles[project] == "" {
		panic("simstack: " + userName + " has no role in project " + project)
	}
	c := s.keystone.addCredential(u, project, name, implied(u.roles[project]), "")
	return c.id, c.secret
}

// DeleteApplicationCredential takes one away, and the tokens issued for it.
func (s *Stack) DeleteApplicationCredential(id string) {
	s.keystone.mu.Lock()
	defer s.keystone.mu.Unlock()
	s.keystone.deleteCredential(id)
}

// addCredential makes an application credential; k is locked.
func (k *keystone) addCredential(u *user, project, name string, roles []string, secret string) *applicationCredential {
	if secret == "" {
		secret = randomText(64)
	}
	c := &applicationCredential{id: hexID("credential", randomText(16)), name: name, secret: secret, user: u, project: project, roles: roles}
	k.credentials[c.id] = c
	return c
}

func (k *keystone) deleteCredential(id string) {
	delete(k.credentials, id)
	for _, t := range k.tokens {
		t.revoked = t.revoked || t.credential != nil && t.credential.id == id
	}
}

// goneCredential is the id of the application credential that token was issued
// for, where that is no more; "" where it is, or was none.
func (k *keystone) goneCredential(token string) string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	t := k.tokens[token]
	if t == nil || t.credential == nil || k.credentials[t.credential.id] != nil {
		return ""
	}
	return t.credential.id
}

// credentialOf is the one with that name of u's; k is locked.
func (k *keystone) credentialOf(u *user, name string) *applicationCredential {
	for _, c := range k.credentials {
		if c.user == u && c.name == name {
			return c
		}
	}
	return nil
}

// describe is c as Keystone tells of it, without its secret.
func (c *applicationCredential) describe(k *keystone) map[string]any {
	roles := []any{}
	for _, role := range c.roles {
		roles = append(roles, map[string]any{"id": hexID("role", role), "name": role, "domain_id": nil})
	}
	return map[string]any{
		"id": c.id, "name": c.name, "description": nil, "user_id": c.user.id, "project_id": k.projects[c.project],
		"system": nil, "expires_at": nil, "unrestricted": nil, "roles": roles,
	}
}

// serveUser answers below /users/{id}: a user's own groups and application
// credentials.
func (s *Stack) serveUser(w http.ResponseWriter, r *http.Request, path string) {
	asking := s.keystone.session(r.Header.Get("X-Auth-Token"), s.opts.Now())
	if asking == nil {
		s.keystoneUnauthorized(w, r)
		return
	}
	userID, rest, _ := strings.Cut(strings.TrimPrefix(path, "/users/"), "/")
	what, id, one := strings.Cut(rest, "/")
	forbidden := func(action string, may bool) bool {
		if may {
			return false
		}
		keystoneForbidden(w, action)
		return true
	}
	mine := asking.userID == userID
	switch {
	case what == "groups" && !one && r.Method == http.MethodGet:
		if forbidden("list_groups_for_user", mine || asking.admin()) {
			return
		}
		s.listGroups(w, r, userID)
	case what == "application_credentials" && !one && r.Method == http.MethodPost:
		if forbidden("create_application_credential", mine) {
			return
		}
		s.createCredential(w, r, asking)
	case what == "application_credentials" && one && r.Method == http.MethodDelete:
		if forbidden("delete_application_credential", mine || asking.admin()) {
			return
		}
		s.keystone.mu.Lock()
		known := s.keystone.credentials[id] != nil
		s.keystone.deleteCredential(id)
		s.keystone.mu.Unlock()
		if !known {
			keystoneError(w, http.StatusNotFound, "Could not find Application Credential: "+id+".")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		keystoneHTML(w)
	}
}

func (s *Stack) createCredential(w http.ResponseWriter, r *http.Request, asking *session) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		keystoneError(w, http.StatusRequestEntityTooLarge, "Request is too large.")
		return
	}
	var body struct {
		Credential struct {
			Name, Secret string
			Roles        []struct{ ID, Name string }
		} `json:"application_credential"`
	}
	if json.Unmarshal(raw, &body) != nil || body.Credential.Name == "" {
		keystoneError(w, http.StatusBadRequest, "'name' is a required property")
		return
	}
	roles := asking.roles
	if body.Credential.Roles != nil {
		roles = nil
		for _, role := range body.Credential.Roles {
			i := slices.IndexFunc(asking.roles, func(has string) bool { return has == role.Name || hexID("role", has) == role.ID })
			if i < 0 {
				keystoneError(w, http.StatusBadRequest, "Invalid application credential: Cannot create an application credential with unassigned role")
				return
			}
			roles = append(roles, asking.roles[i])
		}
	}
	k := &s.keystone
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.users[asking.user]
	if k.credentialOf(u, body.Credential.Name) != nil {
		keystoneError(w, http.StatusConflict, "Conflict occurred attempting to store application_credential - Duplicate entry found with name "+body.Credential.Name+".")
		return
	}
	c := k.addCredential(u, asking.project, body.Credential.Name, roles, body.Credential.Secret)
	told := c.describe(k)
	told["secret"] = c.secret
	writeJSON(w, http.StatusCreated, map[string]any{"application_credential": told})
}

// AddToGroup makes a user of domain Default a member of a group there.
func (s *Stack) AddToGroup(userName, group string) {
	s.keystone.mu.Lock()
	defer s.keystone.mu.Unlock()
	u := s.keystone.users[userName]
	if u == nil {
		panic("simstack: there is no user " + userName)
	}
	if !slices.Contains(u.groups, group) {
		u.groups = append(u.groups, group)
	}
}

func (s *Stack) listGroups(w http.ResponseWriter, r *http.Request, userID string) {
	groups := []any{}
	s.keystone.mu.RLock()
	for _, u := range s.keystone.users {
		if u.id != userID {
			continue
		}
		for _, name := range u.groups {
			groups = append(groups, map[string]any{"id": hexID("group", name), "name": name, "domain_id": "default", "description": ""})
		}
	}
	s.keystone.mu.RUnlock()
	writeJSON(w, http.StatusOK, map[string]any{"groups": groups, "links": map[string]any{
		"self": s.baseFor(r) + "/identity/v3/users/" + userID + "/groups", "next": nil, "previous": nil,
	}})
}

// exchange is /OS-FEDERATION/identity_providers/{idp}/protocols/{protocol}/auth
// behind Apache's mod_auth_openidc, which lets good access tokens through only,
// and guards one protocol.
func (s *Stack) exchange(w http.ResponseWriter, r *http.Request, path string) {
	parts := strings.Split(path, "/") // "", OS-FEDERATION, identity_providers, ID, protocols, ID, auth
	if len(parts) != 7 || parts[2] != "identity_providers" || parts[4] != "protocols" || parts[6] != "auth" ||
		r.Method != http.MethodPost && r.Method != http.MethodGet {
		keystoneHTML(w)
		return
	}
	if parts[5] != Protocol {
		s.keystoneUnauthorized(w, r)
		return
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	k := &s.keystone
	k.mu.Lock()
	u := k.access[token]
	if u == nil || !bearer {
		k.mu.Unlock()
		w.Header().Del("X-Openstack-Request-Id")
		w.Header().Del("Vary")
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.Header().Set("Content-Type", "text/html; charset=iso-8859-1")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "<html><head><title>401 Unauthorized</title></head></html>")
		return
	}
	if parts[3] != IdentityProvider {
		k.mu.Unlock()
		keystoneError(w, http.StatusNotFound, "Could not find Identity Provider: "+parts[3]+".")
		return
	}
	k.users[u.name] = u
	t := k.issue(u, "", false, []string{Protocol}, nil, s.opts.Now(), s.opts.TokenLife)
	k.mu.Unlock()
	w.Header().Set("X-Subject-Token", t.token)
	writeJSON(w, http.StatusCreated, s.describe(r, t))
}
