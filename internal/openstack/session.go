package openstack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
)

// microversion 2.61 (Rocky) is the first that lists extra specs and
// descriptions with the flavors.
const microversion = "2.61"

// session is how one caller gets at one region's Nova.
type session interface {
	// client is Nova with a token that was good when last seen.
	client(ctx context.Context) (*gophercloud.ServiceClient, error)
	// refused is told that Nova answered 401 to that client; it forgets the
	// token, and says whether another client may do better.
	refused(client *gophercloud.ServiceClient) (again bool)
}

// provider is a gophercloud client of one service at one origin, for which the
// certificates in ca vouch besides those of the system. It never retries, follows
// no redirect and does not authenticate again by itself. With no region it is about
// a caller's identity, which does not wait for regions that hang.
func (c *Clouds) provider(region string, at *url.URL, token, ca string) *gophercloud.ProviderClient {
	slots := c.slots
	if region == "" {
		slots = c.logins
	}
	p := &gophercloud.ProviderClient{
		TokenID: token,
		HTTPClient: http.Client{
			Transport:     &wire{clouds: c, slots: slots, region: region, ca: ca, origin: url.URL{Scheme: at.Scheme, Host: at.Host}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	p.UserAgent.Prepend("flavorsync")
	return p
}

// novaAt is a client of the Nova at endpoint.
func (c *Clouds) novaAt(region, endpoint, token, ca string) (*gophercloud.ServiceClient, error) {
	at, err := novaEndpoint(endpoint)
	if err != nil {
		return nil, attempt{clouds: c, region: region, party: nova, doing: "looking for the Nova of " + region}.explain(&badURLError{err})
	}
	p := c.provider(region, at, token, ca)
	p.EndpointLocator = func(gophercloud.EndpointOpts) (string, error) { return at.String(), nil }
	client, err := openstack.NewComputeV2(p, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, flavor.Errorf(flavor.CodeUnreachable, "the compute endpoint of %s cannot be used: %w", region, err)
	}
	client.Microversion = microversion
	return client, nil
}

// identity is a client of the Keystone at keystoneURL.
func (c *Clouds) identity(region, keystoneURL, token, ca string) (*gophercloud.ServiceClient, error) {
	base, err := keystoneBase(keystoneURL)
	if err != nil {
		return nil, err
	}
	p := c.provider(region, base, token, ca)
	p.IdentityBase = base.String()
	return openstack.NewIdentityV3(p, gophercloud.EndpointOpts{})
}

// grant is what Keystone says of a token, its own or a caller's.
type grant struct {
	ExpiresAt time.Time `json:"expires_at"`
	Catalog   []service `json:"catalog"`
	Project   *named    `json:"project"`
	User      named     `json:"user"`
}

// service is what a catalog says of one, as far as we need it.
type service struct {
	Type      string `json:"type"`
	Endpoints []struct {
		Interface string `json:"interface"`
		Region    string `json:"region"`
		RegionID  string `json:"region_id"`
		URL       string `json:"url"`
	} `json:"endpoints"`
}

// named is a user, a project, a role or a domain.
type named struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Domain *named `json:"domain"`
}

// compute is the public compute endpoint of each region.
func (g grant) compute() map[string]string {
	found := make(map[string]string)
	for _, service := range g.Catalog {
		if service.Type != "compute" {
			continue
		}
		for _, e := range service.Endpoints {
			if e.Interface != "public" || e.URL == "" {
				continue
			}
			// RegionID is the key, Region its older name; where both are
			// given they are the same.
			if region := cmp.Or(e.RegionID, e.Region); found[region] == "" {
				found[region] = e.URL
			}
		}
	}
	return found
}

func noEndpoint(region, catalog string) *flavor.Error {
	return flavor.Errorf(flavor.CodeUnreachable,
		"%s has no compute endpoint: %s names no public one for a region of this very name; register its nova_url, or ask who runs that Keystone to add it", region, catalog)
}

// credentials is all that a session of a service account depends on.
type credentials struct {
	region, keystoneURL, novaURL, ca            string
	authType                                    flavor.AuthType
	username, tenant, userDomain, projectDomain string
	applicationCredentialID                     string
	applicationCredentialName                   string
	identityProvider, protocol                  string
	secret                                      flavor.Secret
}

func credentialsOf(r flavor.Region) credentials {
	return credentials{
		region: r.Name, keystoneURL: r.KeystoneURL, novaURL: r.NovaURL, ca: r.CACertificate,
		authType: cmp.Or(r.AuthType, flavor.AuthPassword),
		username: r.Username, tenant: r.Tenant, userDomain: cmp.Or(r.UserDomain, "Default"), projectDomain: cmp.Or(r.ProjectDomain, "Default"),
		applicationCredentialID: r.ApplicationCredentialID, applicationCredentialName: r.ApplicationCredentialName,
		identityProvider: r.IdentityProvider, protocol: r.Protocol,
		secret: r.Password,
	}
}

// account is the session of a region's service account.
type account struct {
	clouds *Clouds
	credentials

	flight singleflight.Group
	mu     sync.Mutex
	nova   *gophercloud.ServiceClient // nil: to be authenticated
	until  time.Time                  // when nova is to be replaced
}

func (a *account) client(ctx context.Context) (*gophercloud.ServiceClient, error) {
	if client := a.current(); client != nil {
		return client, nil
	}
	// All who wait share one authentication; it is not the first one's, so it
	// does not end when that one goes away.
	done := a.flight.DoChan("", func() (any, error) {
		if client := a.current(); client != nil {
			return client, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.clouds.cfg.RegionTimeout)
		defer cancel()
		started := time.Now()
		client, err := a.authenticate(ctx)
		a.clouds.observe(ctx, a.attempt(), callAuthenticate, started, err)
		return client, err
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*gophercloud.ServiceClient), nil
	case <-ctx.Done():
		return nil, a.attempt().explain(ctx.Err())
	}
}

func (a *account) current() *gophercloud.ServiceClient {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.nova == nil || !a.clouds.now().Before(a.until) {
		return nil
	}
	return a.nova
}

func (a *account) refused(client *gophercloud.ServiceClient) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.nova == client {
		a.nova = nil
	}
	return true
}

func (a *account) attempt() attempt {
	return attempt{clouds: a.clouds, region: a.region, party: keystone, authType: a.authType, doing: "authenticating the service account of " + a.region}
}

func (a *account) authenticate(ctx context.Context) (*gophercloud.ServiceClient, error) {
	k, err := a.clouds.identity(a.region, a.keystoneURL, "", a.ca)
	if err != nil {
		return nil, a.attempt().explain(&badURLError{err})
	}
	var as tokens.AuthOptions
	switch a.authType {
	case flavor.AuthApplicationCredential:
		as = tokens.AuthOptions{
			ApplicationCredentialID: a.applicationCredentialID, ApplicationCredentialName: a.applicationCredentialName,
			ApplicationCredentialSecret: string(a.secret), Username: a.username, DomainName: a.userDomain,
		}
	case flavor.AuthOIDCAccessToken:
		unscoped, err := a.exchange(ctx, k)
		if err != nil {
			return nil, err
		}
		as = tokens.AuthOptions{TokenID: unscoped, Scope: a.project()}
	default:
		as = tokens.AuthOptions{Username: a.username, Password: string(a.secret), DomainName: a.userDomain, Scope: a.project()}
	}
	scope, err := as.ToTokenV3ScopeMap()
	if err != nil {
		return nil, a.attempt().explain(err)
	}
	body, err := as.ToTokenV3CreateMap(scope)
	if err != nil {
		return nil, a.attempt().explain(err)
	}
	g, token, err := granted(k.Post(ctx, k.ServiceURL("auth", "tokens"), body, nil, &gophercloud.RequestOpts{
		KeepResponseBody: true, OmitHeaders: []string{"X-Auth-Token"},
	}))
	if err != nil {
		return nil, a.attempt().explain(err)
	}
	if !wellFormedToken(token) {
		return nil, a.attempt().explain(errNonsense)
	}
	endpoint := cmp.Or(a.novaURL, g.compute()[a.region])
	if endpoint == "" {
		return nil, noEndpoint(a.region, "the catalog its Keystone gives the service account")
	}
	client, err := a.clouds.novaAt(a.region, endpoint, token, a.ca)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// A token must outlive the call it is used for; one that hardly lives
	// longer than that is used for most of its life.
	now := a.clouds.now()
	a.nova, a.until = client, g.ExpiresAt.Add(-min(30*time.Second, g.ExpiresAt.Sub(now)/4))
	return client, nil
}

func (a *account) project() tokens.Scope {
	return tokens.Scope{ProjectName: a.tenant, DomainName: a.projectDomain}
}

// exchange gives Keystone the access token for one of its own, which opens
// nothing yet. It is what keystoneauth's v3oidcaccesstoken does.
func (a *account) exchange(ctx context.Context, k *gophercloud.ServiceClient) (unscoped string, err error) {
	try := a.attempt()
	try.exchanges = true
	at := k.ServiceURL("OS-FEDERATION", "identity_providers", url.PathEscape(a.identityProvider), "protocols", url.PathEscape(a.protocol), "auth")
	resp, err := k.Post(ctx, at, nil, nil, &gophercloud.RequestOpts{
		MoreHeaders: map[string]string{"Authorization": "Bearer " + string(a.secret)},
		OkCodes:     []int{http.StatusOK, http.StatusCreated},
	})
	if err != nil {
		return "", try.explain(err)
	}
	resp.Body.Close()
	if unscoped = resp.Header.Get("X-Subject-Token"); !wellFormedToken(unscoped) {
		return "", try.explain(errNonsense)
	}
	return unscoped, nil
}

// granted takes Keystone's answer apart. Most of it is the catalog, which grows
// with the federation, and each of its regions gets the whole of it: gophercloud's
// own tokens.Create and Get would decode it to maps, encode these and decode them.
func granted(resp *http.Response, err error) (g grant, token string, _ error) {
	if err != nil {
		return grant{}, "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Token grant `json:"token"`
	}
	if _, err := decode(resp, &answer); err != nil {
		return grant{}, "", err
	}
	if answer.Token.ExpiresAt.IsZero() {
		return grant{}, "", errNonsense
	}
	return answer.Token, resp.Header.Get("X-Subject-Token"), nil
}

// tokenKey is a caller's token, the Keystone that vouched for it, and who vouched
// for that, hashed.
type tokenKey [sha256.Size]byte

// validated is what is remembered of a caller's token: not the token.
type validated struct {
	until   time.Time
	user    string            // its id
	compute map[string]string // endpoint of each region
}

// validate asks Keystone about a caller's token, or remembers.
func (c *Clouds) validate(ctx context.Context, r flavor.Region, token string) (*validated, tokenKey, error) {
	at, ca := c.cfg.KeystoneURL, ""
	try := attempt{
		clouds: c, region: r.Name, party: federationKeystone, delegated: true,
		doing: "validating your Keystone token for " + r.Name,
	}
	if r.Trusted {
		at, ca, try.party = r.KeystoneURL, vouching(r), keystone
	}
	key := tokenKey(sha256.Sum256([]byte(at + "\x00" + ca + "\x00" + token)))
	if v, ok := c.tokens.Get(key); ok {
		if c.now().Before(v.until) {
			return v, key, nil
		}
		c.tokens.Remove(key)
	}
	// Shared by all who bring this token first, so it is not the first one's.
	detached := context.WithoutCancel(ctx)
	done := c.validations.DoChan(string(key[:]), func() (any, error) {
		if v, ok := c.tokens.Get(key); ok && c.now().Before(v.until) {
			return v, nil
		}
		ctx, cancel := context.WithTimeout(detached, c.cfg.RegionTimeout)
		defer cancel()
		started := time.Now()
		v, err := c.ask(ctx, r.Name, at, token, ca)
		c.observe(ctx, try, callValidateToken, started, err)
		if err != nil {
			return nil, err
		}
		c.tokens.Add(key, v)
		return v, nil
	})
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RegionTimeout)
	defer cancel()
	select {
	case r := <-done:
		if r.Err != nil {
			// Those who share the answer may have asked for other regions.
			return nil, key, try.explain(r.Err)
		}
		return r.Val.(*validated), key, nil
	case <-ctx.Done():
		return nil, key, try.explain(ctx.Err())
	}
}

// ask shows the token to Keystone as its own subject: every user may, and no
// new token is made.
func (c *Clouds) ask(ctx context.Context, region, at, token, ca string) (*validated, error) {
	k, err := c.identity(region, at, token, ca)
	if err != nil {
		return nil, &badURLError{err}
	}
	g, _, err := granted(k.Get(ctx, k.ServiceURL("auth", "tokens"), nil, &gophercloud.RequestOpts{
		KeepResponseBody: true, MoreHeaders: map[string]string{"X-Subject-Token": token}, OkCodes: []int{http.StatusOK, http.StatusNonAuthoritativeInfo},
	}))
	if err != nil {
		return nil, err
	}
	if len(g.Catalog) == 0 && g.Project == nil {
		return nil, errUnscoped
	}
	if !c.now().Before(g.ExpiresAt) {
		return nil, errExpired
	}
	return &validated{until: g.ExpiresAt, user: g.User.ID, compute: g.compute()}, nil
}

// wellFormedToken says whether token can stand in a header. Fernet tokens have
// some 200 bytes, PKI tokens of old some thousand.
func wellFormedToken(token string) bool {
	return token != "" && len(token) <= 16<<10 && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

// delegation is the session of a caller's own token.
type delegation struct {
	clouds *Clouds
	key    tokenKey
	seen   *validated
	nova   *gophercloud.ServiceClient
}

func (d *delegation) client(context.Context) (*gophercloud.ServiceClient, error) { return d.nova, nil }

func (d *delegation) refused(*gophercloud.ServiceClient) bool {
	// It may have been validated anew meanwhile.
	if v, ok := d.clouds.tokens.Peek(d.key); ok && v == d.seen {
		d.clouds.tokens.Remove(d.key)
	}
	return false
}
