package identity

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// keyRock is FIWARE's identity manager, version 5 to 8: it tells at
// GET /user?access_token=T whose OAuth2 token T is.
type keyRock struct {
	*remote
	memory        *memory
	url           *url.URL
	appID         string
	organizations map[string]string
	organization  *regexp.Regexp
	region        int // the group of organization
	managerRole   string
	ownerRole     string
	keystoneUser  string
}

func newKeyRock(c ProviderConfig, s settings) *keyRock {
	k := &keyRock{
		remote: newRemote(TypeKeyRock, c.Timeout, s), memory: newMemory(TypeKeyRock, c.CacheSize, s.now),
		appID: c.AppID, organizations: maps.Clone(c.Organizations),
		managerRole: c.ManagerRole, ownerRole: c.OwnerRole, keystoneUser: c.KeystoneUserClaim,
	}
	// Validate has tried these.
	k.url, _ = url.Parse(c.URL)
	k.organization, _ = wholePattern(c.OrganizationPattern)
	k.region = k.organization.SubexpIndex("region")
	return k
}

func (k *keyRock) Name() string { return TypeKeyRock }

func (k *keyRock) Token(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	return k.memory.token(ctx, token, func(ctx context.Context) verdict {
		who, err := k.ask(ctx, token)
		return verdict{who: who, err: err}
	})
}

// ask shows the token to KeyRock.
func (k *keyRock) ask(ctx context.Context, token flavor.Secret) (flavor.Principal, error) {
	at := *k.url
	query := at.Query()
	query.Set("access_token", string(token))
	at.RawQuery = query.Encode()
	req := &http.Request{Method: http.MethodGet, URL: &at, Host: at.Host, Header: make(http.Header)}
	status, body, err := k.do(req.WithContext(ctx))
	switch {
	case err != nil:
		return flavor.Principal{}, err
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		return flavor.Principal{}, k.refused("does not accept the token")
	case status != http.StatusOK:
		return flavor.Principal{}, k.nonsense(at.Host, "status %d", status)
	}
	var u keyRockUser
	if err := json.Unmarshal(body, &u, jsontext.AllowInvalidUTF8(true)); err != nil {
		return flavor.Principal{}, k.nonsense(at.Host, "not the JSON of a user")
	}
	if u.ID == "" || strings.ContainsFunc(u.ID, unicode.IsControl) {
		return flavor.Principal{}, k.nonsense(at.Host, "no user id")
	}
	if k.appID != "" && u.AppID != k.appID {
		return flavor.Principal{}, k.refused("issued the token for another application: ask for one for app_id %s", k.appID)
	}
	who := k.principal(u)
	if k.keystoneUser != "" {
		var claims map[string]any
		if err := json.Unmarshal(body, &claims, jsontext.AllowInvalidUTF8(true)); err != nil {
			return flavor.Principal{}, k.nonsense(at.Host, "not the JSON of a user")
		}
		who.KeystoneUser = claimText(claims, k.keystoneUser)
	}
	return who, nil
}

// keyRockUser is what of KeyRock's answer counts here.
type keyRockUser struct {
	ID            string                `json:"id"`
	DisplayName   string                `json:"displayName"`
	Username      string                `json:"username"`
	AppID         string                `json:"app_id"`
	Roles         []keyRockRole         `json:"roles"`
	Organizations []keyRockOrganization `json:"organizations"`
}

type keyRockOrganization struct {
	ID    string        `json:"id"`
	Name  string        `json:"name"`
	Roles []keyRockRole `json:"roles"`
}

type keyRockRole struct {
	Name string `json:"name"`
}

// principal reads the rights out of KeyRock's answer. The role of a manager
// counts among the user's own roles only, that of an owner in the region's
// organisation only.
func (k *keyRock) principal(u keyRockUser) flavor.Principal {
	var roles, regions []string
	p := flavor.Principal{ID: u.ID, Provider: TypeKeyRock}
	for _, r := range u.Roles {
		p.Manager = p.Manager || r.Name == k.managerRole
		roles = append(roles, printable(r.Name))
	}
	for _, o := range u.Organizations {
		owner := slices.ContainsFunc(o.Roles, func(r keyRockRole) bool { return r.Name == k.ownerRole })
		if region := k.regionOf(o); owner && flavor.ValidRegionName(region) {
			regions = append(regions, region)
			roles = append(roles, k.ownerRole)
		}
	}
	for _, name := range []string{u.DisplayName, u.Username, u.ID} {
		if p.Name == "" {
			p.Name = printable(name)
		}
	}
	p.Roles, p.Regions = set(roles), set(regions)
	return p
}

// regionOf is the region whose organisation o is, "" for none.
func (k *keyRock) regionOf(o keyRockOrganization) string {
	if len(k.organizations) > 0 {
		return k.organizations[o.ID]
	}
	if m := k.organization.FindStringSubmatch(o.Name); m != nil {
		return m[k.region]
	}
	return ""
}

// printable is s as any answer can carry it, XML too.
func printable(s string) string {
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == 0xFFFE || r == 0xFFFF {
			return unicode.ReplacementChar
		}
		return r
	}, s), string(unicode.ReplacementChar))
}
