package simstack

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

type keystone struct {
	mu          sync.RWMutex
	users       map[string]*user                  // by name
	projects    map[string]string                 // id by name
	tokens      map[string]*session               // by token
	credentials map[string]*applicationCredential // by id
	access      map[string]*user                  // by the access token of the OpenID provider
	catalog     struct {                          // the last one, for the last base URL and set of regions
		base       string
		generation int
		body       json.RawMessage
	}
}

type user struct {
	id, name, password string
	domain             string            // the identity provider's; "": Default, with a password
	roles              map[string]string // role by project name
	groups             []string
}

// session is what a token stands for. Only revoked changes, under the lock.
type session struct {
	token      string
	userID     string
	user       string
	domain     string                 // of the user; "": Default
	credential *applicationCredential // nil: issued for something else
	project    string                 // its name; "": unscoped
	projectID  string                 // "": unscoped, or system
	system     bool                   // scoped to the system
	roles      []string               // implied ones too
	methods    []string
	auditIDs   []string
	issued     time.Time
	expires    time.Time
	revoked    bool
}

func (t *session) admin() bool { return slices.Contains(t.roles, "admin") }

func (k *keystone) reset() {
	k.mu.Lock()
	k.users, k.projects, k.tokens = map[string]*user{}, map[string]string{}, map[string]*session{}
	k.credentials, k.access = map[string]*applicationCredential{}, map[string]*user{}
	k.mu.Unlock()
	k.addUser("admin", "admin-secret", "admin", "admin")
	k.addUser("operator", "operator-secret", "operators", "admin")
	k.addUser("member", "member-secret", "demo", "member")
	k.addUser("reader", "reader-secret", "demo", "reader")
	k.addUser("nova", "nova-secret", "service", "service")
	k.addAccessTokens()
}

// hexID is a stable id of the form Keystone gives.
func hexID(kind, name string) string {
	sum := md5.Sum([]byte(kind + ":" + name))
	return hex.EncodeToString(sum[:])
}

func (k *keystone) addUser(name, password, project, role string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.users[name]
	if u == nil {
		u = &user{id: hexID("user", name), name: name, roles: map[string]string{}}
		k.users[name] = u
	}
	if u.password != password {
		u.password = password
		for _, t := range k.tokens {
			t.revoked = t.revoked || t.user == name
		}
	}
	if project != "" {
		k.projects[project] = hexID("project", project)
		u.roles[project] = role
	}
}

// AddUser adds a user with one role (admin, member, reader, service) in one
// project, which is made if need be, all in domain Default. Where the user
// exists it gives him that role and password; another password revokes his
// tokens.
func (s *Stack) AddUser(name, password, project, role string) {
	s.keystone.addUser(name, password, project, role)
}

// ProjectID is the id of a project; "" if there is none.
func (s *Stack) ProjectID(name string) string {
	s.keystone.mu.RLock()
	defer s.keystone.mu.RUnlock()
	return s.keystone.projects[name]
}

// IssueToken is a fresh token of that user, as by his password; project ""
// is an unscoped one. It panics when the user has no role in that project.
func (s *Stack) IssueToken(name, project string) string {
	k := &s.keystone
	k.mu.Lock()
	defer k.mu.Unlock()
	u := k.users[name]
	if u == nil || project != "" && u.roles[project] == "" {
		panic(fmt.Sprintf("simstack: %s has no role in project %q", name, project))
	}
	return k.issue(u, project, false, []string{"password"}, nil, s.opts.Now(), s.opts.TokenLife).token
}

// RevokeToken is what DELETE /v3/auth/tokens does.
func (s *Stack) RevokeToken(token string) {
	s.keystone.mu.Lock()
	defer s.keystone.mu.Unlock()
	if t := s.keystone.tokens[token]; t != nil {
		t.revoked = true
	}
}

// issue makes a token; k is locked. A parent lends its expiry and audit id.
func (k *keystone) issue(u *user, project string, system bool, methods []string, parent *session, now time.Time, life time.Duration) *session {
	if len(k.tokens) > 10000 {
		for token, t := range k.tokens {
			if t.expires.Before(now) {
				delete(k.tokens, token)
			}
		}
	}
	t := &session{
		token:  "gAAAAAB" + randomText(132),
		userID: u.id, user: u.name, domain: u.domain, project: project, system: system, methods: methods,
		auditIDs: []string{randomText(16)},
		issued:   now.UTC().Truncate(time.Second),
	}
	t.expires = t.issued.Add(life)
	if parent != nil {
		t.expires = parent.expires
		t.auditIDs = append(t.auditIDs, parent.auditIDs[len(parent.auditIDs)-1])
	}
	switch {
	case project != "":
		t.projectID = k.projects[project]
		t.roles = implied(u.roles[project])
	case system:
		t.roles = implied("admin")
	}
	k.tokens[t.token] = t
	return t
}

func implied(role string) []string {
	switch role {
	case "admin":
		return []string{"admin", "member", "reader"}
	case "member":
		return []string{"member", "reader"}
	}
	return []string{role}
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// session is what a valid token stands for, nil for any other.
func (k *keystone) session(token string, now time.Time) *session {
	t, revoked := k.known(token, now)
	if revoked {
		return nil
	}
	return t
}

// known is what a token stands for that has not expired, and whether it was revoked.
func (k *keystone) known(token string, now time.Time) (t *session, revoked bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if t = k.tokens[token]; t == nil || !now.Before(t.expires) {
		return nil, false
	}
	return t, t.revoked
}

// requestID is one of OpenStack's form.
func requestID() string {
	a, b := mathrand.Uint64(), mathrand.Uint64()
	return fmt.Sprintf("req-%08x-%04x-4%03x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48)&0xfff, 0x8000|uint16(b>>48)&0x3fff, b&0xffffffffffff)
}

func keystoneRequestID(w http.ResponseWriter) {
	w.Header().Set("Vary", "X-Auth-Token")
	w.Header().Set("X-Openstack-Request-Id", requestID())
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // our own bodies can be marshalled
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b)
}

func keystoneError(w http.ResponseWriter, code int, message string) {
	writeJSON(w, code, map[string]any{"error": map[string]any{"code": code, "message": message, "title": http.StatusText(code)}})
}

func (s *Stack) keystoneUnauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.baseFor(r)+`/identity/v3"`)
	keystoneError(w, http.StatusUnauthorized, "The request you have made requires authentication.")
}

func keystoneInvalid(w http.ResponseWriter, missing, where string) {
	keystoneError(w, http.StatusBadRequest, "Expecting to find "+missing+" in "+where+
		". The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
}

func keystoneForbidden(w http.ResponseWriter, action string) {
	keystoneError(w, http.StatusForbidden, "You are not authorized to perform the requested action: identity:"+action+".")
}

func (s *Stack) serveKeystone(w http.ResponseWriter, r *http.Request, c call) {
	keystoneRequestID(w)
	path, versioned := strings.CutPrefix(r.URL.Path, "/identity/v3")
	path = strings.TrimSuffix(path, "/")
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	switch {
	case !versioned && (r.URL.Path == "/identity" || r.URL.Path == "/identity/"):
		w.Header().Set("Location", s.baseFor(r)+"/identity/v3/")
		writeJSON(w, http.StatusMultipleChoices, map[string]any{"versions": map[string]any{"values": []any{s.identityVersion(r)}}})
	case !versioned:
		keystoneHTML(w)
	case path == "" && method == http.MethodGet:
		writeJSON(w, http.StatusOK, map[string]any{"version": s.identityVersion(r)})
	case path == "/auth/tokens":
		switch method {
		case http.MethodPost:
			s.createToken(w, r)
		case http.MethodGet, http.MethodDelete:
			s.subjectToken(w, r, method)
		default:
			w.Header().Set("Allow", "GET, DELETE, HEAD, POST, OPTIONS")
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"message": "The method is not allowed for the requested URL."})
		}
	case strings.HasPrefix(path, "/users/"):
		s.serveUser(w, r, path)
	case strings.HasPrefix(path, "/OS-FEDERATION/"):
		s.exchange(w, r, path)
	case (path == "/auth/catalog" || path == "/auth/projects" || path == "/projects" || strings.HasPrefix(path, "/projects/")) && method == http.MethodGet:
		s.readKeystone(w, r, path)
	default:
		keystoneHTML(w)
	}
}

func keystoneHTML(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n")
}

func (s *Stack) identityVersion(r *http.Request) any {
	return map[string]any{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []any{map[string]string{"rel": "self", "href": s.baseFor(r) + "/identity/v3/"}},
		"media-types": []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

type domainRef struct{ ID, Name string }

func (d *domainRef) isDefault() bool {
	return d != nil && (d.ID == "default" || d.ID == "" && d.Name == "Default")
}

// authRequest is the body of POST /v3/auth/tokens, as far as it is understood.
type authRequest struct {
	Auth *struct {
		Identity *struct {
			Methods  []string
			Password *struct {
				User *struct {
					ID, Name, Password string
					Domain             *domainRef
				}
			}
			Token      *struct{ ID string }
			Credential *struct {
				ID, Name, Secret string
				User             *struct {
					ID, Name string
					Domain   *domainRef
				}
			} `json:"application_credential"`
		}
		Scope json.RawMessage // "unscoped" is a text
	}
}

type authScope struct {
	Project *struct {
		ID, Name string
		Domain   *domainRef
	}
	System *struct{ All bool }
}

func (s *Stack) createToken(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		keystoneError(w, http.StatusRequestEntityTooLarge, "Request is too large.")
		return
	}
	var body authRequest
	if len(bytes.TrimSpace(raw)) > 0 && json.Unmarshal(raw, &body) != nil {
		keystoneInvalid(w, "valid JSON", "request body")
		return
	}
	if body.Auth == nil {
		keystoneInvalid(w, "auth", "request body")
		return
	}
	identity := body.Auth.Identity
	if identity == nil || len(identity.Methods) == 0 {
		keystoneInvalid(w, "identity", "auth")
		return
	}
	var scope authScope
	if len(body.Auth.Scope) > 0 && body.Auth.Scope[0] == '{' && json.Unmarshal(body.Auth.Scope, &scope) != nil {
		keystoneInvalid(w, "valid JSON", "scope")
		return
	}
	k := &s.keystone
	now := s.opts.Now()
	k.mu.Lock()
	var u *user
	var parent *session
	var credential *applicationCredential
	switch method := identity.Methods[0]; method {
	case "password":
		if identity.Password == nil || identity.Password.User == nil {
			k.mu.Unlock()
			keystoneInvalid(w, "password", "identity")
			return
		}
		by := identity.Password.User
		if by.ID == "" && by.Domain == nil {
			k.mu.Unlock()
			keystoneInvalid(w, "domain", "user")
			return
		}
		for _, known := range k.users {
			if known.domain == "" && (by.ID == known.id || by.ID == "" && by.Name == known.name && by.Domain.isDefault()) {
				if by.Password == known.password {
					u = known
				}
			}
		}
	case "token":
		if identity.Token == nil {
			k.mu.Unlock()
			keystoneInvalid(w, "token", "identity")
			return
		}
		if parent = k.tokens[identity.Token.ID]; parent == nil {
			k.mu.Unlock()
			keystoneError(w, http.StatusNotFound, "Could not recognize Fernet token")
			return
		}
		if !parent.revoked && now.Before(parent.expires) {
			u = k.users[parent.user]
		}
	case "application_credential":
		by := identity.Credential
		switch {
		case by == nil:
			k.mu.Unlock()
			keystoneInvalid(w, "application_credential", "identity")
			return
		case by.ID != "" && k.credentials[by.ID] == nil:
			k.mu.Unlock()
			keystoneError(w, http.StatusNotFound, "Could not find Application Credential: "+by.ID+".")
			return
		case by.ID != "":
			credential = k.credentials[by.ID]
		case by.User == nil:
			k.mu.Unlock()
			keystoneInvalid(w, "user", "application credential")
			return
		default:
			for _, known := range k.users {
				if by.User.ID == known.id || by.User.ID == "" && by.User.Name == known.name && by.User.Domain.isDefault() {
					credential = k.credentialOf(known, by.Name)
				}
			}
		}
		if credential != nil && by.Secret == credential.secret && scope.Project == nil && scope.System == nil {
			u = credential.user
		}
	default:
		k.mu.Unlock()
		keystoneInvalid(w, method, "identity")
		return
	}
	project := ""
	if u != nil && credential != nil {
		project = credential.project
	}
	if u != nil && scope.Project != nil {
		for name, id := range k.projects {
			if scope.Project.ID == id || scope.Project.ID == "" && scope.Project.Name == name && scope.Project.Domain.isDefault() {
				project = name
			}
		}
		if u.roles[project] == "" {
			u = nil
		}
	}
	system := u != nil && scope.System != nil
	if system && u.roles["admin"] != "admin" {
		u = nil
	}
	var t *session
	if u != nil {
		methods := []string{identity.Methods[0]}
		switch {
		case parent != nil && parent.domain != "":
			methods = []string{"token", Protocol}
		case parent != nil:
			methods = []string{"password", "token"}
		}
		t = k.issue(u, project, system, methods, parent, now, s.opts.TokenLife)
		if credential != nil {
			t.credential, t.roles = credential, credential.roles
		}
	}
	k.mu.Unlock()
	if t == nil {
		s.keystoneUnauthorized(w, r)
		return
	}
	w.Header().Set("X-Subject-Token", t.token)
	writeJSON(w, http.StatusCreated, s.describe(r, t))
}

func (s *Stack) subjectToken(w http.ResponseWriter, r *http.Request, method string) {
	now := s.opts.Now()
	asking := s.keystone.session(r.Header.Get("X-Auth-Token"), now)
	if gone := s.keystone.goneCredential(r.Header.Get("X-Auth-Token")); gone != "" {
		keystoneError(w, http.StatusNotFound, "Could not find Application Credential: "+gone+".")
		return
	}
	if asking == nil {
		s.keystoneUnauthorized(w, r)
		return
	}
	token := r.Header.Get("X-Subject-Token")
	if token == "" {
		keystoneError(w, http.StatusNotFound, "No token in the request")
		return
	}
	subject := s.keystone.session(token, now)
	if subject == nil {
		keystoneError(w, http.StatusNotFound, "Could not recognize Fernet token")
		return
	}
	if asking.userID != subject.userID && !asking.admin() {
		if method == http.MethodDelete {
			keystoneForbidden(w, "revoke_token")
			return
		} else if !slices.Contains(asking.roles, "service") {
			keystoneForbidden(w, "validate_token")
			return
		}
	}
	if method == http.MethodDelete {
		s.RevokeToken(token)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("X-Subject-Token", token)
	writeJSON(w, http.StatusOK, s.describe(r, subject))
}

// readKeystone answers the few further things that clients look up.
func (s *Stack) readKeystone(w http.ResponseWriter, r *http.Request, path string) {
	t := s.keystone.session(r.Header.Get("X-Auth-Token"), s.opts.Now())
	if t == nil {
		s.keystoneUnauthorized(w, r)
		return
	}
	type project struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		DomainID string `json:"domain_id"`
		Enabled  bool   `json:"enabled"`
	}
	var all []project
	s.keystone.mu.RLock()
	for name, id := range s.keystone.projects {
		if path == "/auth/projects" && s.keystone.users[t.user].roles[name] == "" {
			continue
		}
		all = append(all, project{id, name, "default", true})
	}
	s.keystone.mu.RUnlock()
	slices.SortFunc(all, func(a, b project) int { return cmp.Compare(a.Name, b.Name) })
	links := map[string]any{"self": s.baseFor(r) + "/identity/v3" + path, "next": nil, "previous": nil}
	id, one := strings.CutPrefix(path, "/projects/")
	switch {
	case path == "/auth/catalog":
		writeJSON(w, http.StatusOK, map[string]any{"catalog": s.catalog(r), "links": links})
	case path == "/auth/projects":
		writeJSON(w, http.StatusOK, map[string]any{"projects": all, "links": links})
	case one && !t.admin() && t.projectID != id:
		keystoneForbidden(w, "get_project")
	case one:
		if i := slices.IndexFunc(all, func(p project) bool { return p.ID == id }); i >= 0 {
			writeJSON(w, http.StatusOK, map[string]any{"project": all[i]})
			return
		}
		keystoneError(w, http.StatusNotFound, "Could not find project: "+id+".")
	case !t.admin():
		keystoneForbidden(w, "list_projects")
	default:
		if name := r.URL.Query().Get("name"); name != "" {
			all = slices.DeleteFunc(all, func(p project) bool { return p.Name != name })
		}
		if all == nil {
			all = []project{}
		}
		writeJSON(w, http.StatusOK, map[string]any{"projects": all, "links": links})
	}
}

// describe is the body that tells of a token.
func (s *Stack) describe(r *http.Request, t *session) any {
	const form = "2006-01-02T15:04:05.000000Z"
	domain := map[string]string{"id": "default", "name": "Default"}
	who := map[string]any{"domain": domain, "id": t.userID, "name": t.user, "password_expires_at": nil}
	if t.domain != "" {
		who = map[string]any{
			"domain": map[string]string{"id": t.domain, "name": t.domain}, "id": t.userID, "name": t.user,
			"OS-FEDERATION": map[string]any{
				"groups": []any{}, "identity_provider": map[string]string{"id": IdentityProvider}, "protocol": map[string]string{"id": Protocol},
			},
		}
	}
	body := map[string]any{
		"methods":    t.methods,
		"user":       who,
		"audit_ids":  t.auditIDs,
		"expires_at": t.expires.Format(form),
		"issued_at":  t.issued.Format(form),
	}
	if len(t.roles) > 0 {
		var roles []any
		for _, role := range t.roles {
			roles = append(roles, map[string]string{"id": hexID("role", role), "name": role})
		}
		body["roles"] = roles
		if !r.URL.Query().Has("nocatalog") {
			body["catalog"] = s.catalog(r)
		}
	}
	if t.projectID != "" {
		body["project"] = map[string]any{"domain": domain, "id": t.projectID, "name": t.project}
		body["is_domain"] = false
	}
	if t.credential != nil {
		body["application_credential"] = map[string]any{"id": t.credential.id, "name": t.credential.name, "restricted": true}
	}
	if t.system {
		body["system"] = map[string]bool{"all": true}
	}
	return map[string]any{"token": body}
}

// catalog is the service catalog. It is kept: with hundreds of regions it is long.
func (s *Stack) catalog(r *http.Request) json.RawMessage {
	base := s.baseFor(r)
	type endpoint struct {
		ID        string `json:"id"`
		Interface string `json:"interface"`
		RegionID  string `json:"region_id"`
		URL       string `json:"url"`
		Region    string `json:"region"`
	}
	type service struct {
		Endpoints []endpoint `json:"endpoints"`
		ID        string     `json:"id"`
		Type      string     `json:"type"`
		Name      string     `json:"name"`
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := &s.keystone
	k.mu.RLock()
	kept := k.catalog
	k.mu.RUnlock()
	if kept.body != nil && kept.base == base && kept.generation == s.generation {
		return kept.body
	}
	identity := service{ID: hexID("service", "keystone"), Type: "identity", Name: "keystone", Endpoints: []endpoint{}}
	compute := service{ID: hexID("service", "nova"), Type: "compute", Name: "nova", Endpoints: []endpoint{}}
	add := func(to *service, region, url string) {
		if url == "" {
			return
		}
		for _, face := range []string{"public", "internal", "admin"} {
			to.Endpoints = append(to.Endpoints, endpoint{hexID("endpoint", to.Type+region+face), face, region, url, region})
		}
	}
	for _, name := range s.order {
		add(&identity, name, base+"/identity/v3")
		if own, ok := s.endpoints[name]; ok {
			add(&compute, name, own)
		} else {
			add(&compute, name, base+novaPath(name))
		}
	}
	body, err := json.Marshal([]service{identity, compute})
	if err != nil {
		panic(err) // texts can be marshalled
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.catalog.base, k.catalog.generation, k.catalog.body = base, s.generation, body
	return body
}

func (k *keystone) hasProject(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, known := range k.projects {
		if known == id {
			return true
		}
	}
	return false
}
