package openstack

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// Whose is what the federation's Keystone says of a token of its own, as package
// identity wants to have it of a Keystone. It is asked each time, for as long as
// ctx says, on slots of its own: who is asking must not wait for regions that
// hang. Nothing is remembered here, nor is what Delegated remembers touched.
//
// CodeKeystone: Keystone does not accept the token. CodeUnreachable: it cannot be
// asked.
func (c *Clouds) Whose(ctx context.Context, token flavor.Secret, groups bool) (claims map[string]any, until time.Time, err error) {
	try := attempt{clouds: c, party: federationKeystone, delegated: true, doing: "asking whose Keystone token it is"}
	if !wellFormedToken(string(token)) {
		return nil, time.Time{}, flavor.Errorf(flavor.CodeKeystone, "that is no Keystone token")
	}
	k, err := c.identity("", c.cfg.KeystoneURL, string(token), "")
	if err != nil {
		return nil, time.Time{}, try.explain(&badURLError{err})
	}
	started := time.Now()
	defer func() { c.observe(ctx, try, callIdentifyToken, started, err) }()
	var answer struct {
		Token *saidOf `json:"token"`
	}
	k.MoreHeaders = map[string]string{"X-Subject-Token": string(token)}
	// Without the catalog, which may be long.
	_, err = fetch(ctx, k, k.ServiceURL("auth", "tokens")+"?nocatalog", &answer)
	switch {
	case err != nil:
		return nil, time.Time{}, try.explain(err)
	case answer.Token == nil || answer.Token.ExpiresAt.IsZero() || answer.Token.User.ID == "":
		return nil, time.Time{}, try.explain(errNonsense)
	case !c.now().Before(answer.Token.ExpiresAt):
		return nil, time.Time{}, try.explain(errExpired)
	}
	if claims = answer.Token.claims(); !groups {
		return claims, answer.Token.ExpiresAt, nil
	}
	var theirs struct {
		Groups []named `json:"groups"`
	}
	k.MoreHeaders = nil
	if _, err := fetch(ctx, k, k.ServiceURL("users", url.PathEscape(answer.Token.User.ID), "groups"), &theirs); err != nil {
		if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok && answer.Actual == http.StatusForbidden {
			return nil, time.Time{}, flavor.Errorf(flavor.CodeUnreachable, "the federation's Keystone does not let users list their own groups "+
				"(identity:list_groups_for_user); its operator can allow that, or an operator of this service do without rules about groups: %w",
				&statusError{method: answer.Method, url: answer.URL, status: answer.Actual})
		}
		return nil, time.Time{}, try.explain(err)
	}
	claims["groups"] = append(claims["groups"].([]any), objects(theirs.Groups)...)
	return claims, answer.Token.ExpiresAt, nil
}

// saidOf is what Keystone says of a token.
type saidOf struct {
	ExpiresAt time.Time `json:"expires_at"`
	User      struct {
		named
		Federation struct {
			Groups []named `json:"groups"` // ids alone
		} `json:"OS-FEDERATION"`
	} `json:"user"`
	Project *named  `json:"project"`
	Roles   []named `json:"roles"`
}

// claims are those that Whose tells, but for the groups that are asked for.
func (t *saidOf) claims() map[string]any {
	all := map[string]any{"user": t.User.object(), "roles": objects(t.Roles), "groups": objects(t.User.Federation.Groups)}
	if t.Project == nil {
		return all
	}
	all["project"] = t.Project.object()
	var assignments []any
	for _, role := range t.Roles {
		parts := []string{role.Name, t.Project.Name, ""}
		if t.Project.Domain != nil {
			parts[2] = t.Project.Domain.Name
		}
		// A name with an @ in it could pose as two.
		if assignment := strings.Join(parts, "@"); strings.Count(assignment, "@") == 2 {
			assignments = append(assignments, assignment)
		}
	}
	all["assignments"] = assignments
	return all
}

func (n named) object() map[string]any {
	o := map[string]any{"id": n.ID}
	if n.Name != "" {
		o["name"] = n.Name
	}
	if n.Domain != nil {
		o["domain"] = n.Domain.object()
	}
	return o
}

func objects(all []named) []any {
	list := make([]any, len(all))
	for i, n := range all {
		list[i] = n.object()
	}
	return list
}
