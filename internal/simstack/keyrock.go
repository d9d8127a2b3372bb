package simstack

import "net/http"

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

// AddIdentity makes KeyRock know a token, or another answer to it.
func (s *Stack) AddIdentity(token string, id Identity) {}

// RemoveIdentity makes KeyRock refuse a token from now on.
func (s *Stack) RemoveIdentity(token string) {}

type keyrock struct{}

func (k *keyrock) reset() {}

func (s *Stack) serveKeyRock(w http.ResponseWriter, r *http.Request, c call) {}
