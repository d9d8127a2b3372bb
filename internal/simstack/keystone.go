package simstack

import "net/http"

// AddUser adds a user with one role in one project (which is made if need be),
// all in domain Default, or changes the password and role of one.
func (s *Stack) AddUser(name, password, project, role string) {}

// ProjectID is the id of a project; "" if there is none.
func (s *Stack) ProjectID(name string) string { return "" }

// IssueToken is a fresh token of that user, as by his password; project ""
// is an unscoped one. It panics when user or project is unknown.
func (s *Stack) IssueToken(user, project string) string { return "" }

// RevokeToken is what DELETE /v3/auth/tokens does.
func (s *Stack) RevokeToken(token string) {}

type keystone struct{}

func (k *keystone) reset() {}

func (s *Stack) serveKeystone(w http.ResponseWriter, r *http.Request, c call) {}
