// Package openstack talks to Keystone and Nova of many regions: one Clouds for
// the process, one Compute for each region and caller. There are two ways in:
// the caller's own Keystone token (Delegated) and the service account an owner
// registered with a region (Service). Every error it returns is a *flavor.Error
// that names the region; none holds a byte of a foreign answer, a token or a
// password.
package openstack

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/flavorsync/flavorsync/internal/flavor"
	"github.com/flavorsync/flavorsync/internal/outgoing"
)

// Config says where the federation's Keystone is and how far calls may go.
type Config struct {
	KeystoneURL   string         // the federation's own; with or without /v3
	RegionTimeout time.Duration  // for one whole operation; 0 is 10 s
	MaxInFlight   int            // HTTP calls at once, over all regions; 0 is 32
	PerRegion     int            // HTTP calls at once to one region; 0 is 4
	AllowHTTP     bool           // plain http may be called
	AllowNetworks []netip.Prefix // loopback, link-local and private networks that may be called
	Unguarded     bool           // every address may be called: tests
	Resolver      *net.Resolver  // nil: the system's
	Log           *slog.Logger   // nil: slog.Default
	// Observe, where it is not nil, is told of every call when it has ended, under
	// the context of who asked. It must not take long.
	Observe func(context.Context, Call)
}

// How many sessions are remembered. A forgotten one costs an authentication or
// a validation, nothing else.
const (
	maxAccounts = 4096  // service accounts: one for each region
	maxTokens   = 16384 // callers' tokens: about 1 KB each
	maxLogins   = 64    // calls at once about callers' identity
	maxPools    = 1024  // connections of regions with certificates of their own
)

// Clouds holds what all regions share: connections, slots and sessions. It is
// safe for concurrent use.
type Clouds struct {
	cfg  Config
	log  *slog.Logger
	base *outgoing.Transport

	poolsMu sync.Mutex                // a pool is looked up and replaced in one step
	pools   *lru.Cache[string, *pool] // by region

	slots  *slots
	logins *slots // of what is asked about callers' identity
	now    func() time.Time

	accountsMu sync.Mutex // a session is looked up and replaced in one step
	accounts   *lru.Cache[string, *account]

	tokens      *lru.Cache[tokenKey, *validated]
	validations singleflight.Group

	undos sync.WaitGroup
	turns turns
}

// New makes the Clouds of a process. It calls nobody.
func New(cfg Config) *Clouds {
	cfg.RegionTimeout = cmp.Or(cfg.RegionTimeout, 10*time.Second)
	cfg.MaxInFlight = cmp.Or(cfg.MaxInFlight, 32)
	cfg.PerRegion = cmp.Or(cfg.PerRegion, 4)
	networks := cfg.AllowNetworks
	if cfg.Unguarded {
		networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	c := &Clouds{
		cfg: cfg,
		log: cmp.Or(cfg.Log, slog.Default()),
		base: outgoing.New(outgoing.Config{
			AllowHTTP: cfg.AllowHTTP, AllowNetworks: networks, Timeout: cfg.RegionTimeout, MaxAnswer: maxAnswer,
			Idle:     cfg.MaxInFlight, // regions may share a host
			Resolver: cfg.Resolver,
		}),
		slots:  newSlots(cfg.MaxInFlight, cfg.PerRegion),
		logins: newSlots(maxLogins, maxLogins),
		turns:  newTurns(),
		now:    time.Now,
	}
	// New fails for a size below 1 only.
	c.accounts, _ = lru.New[string, *account](maxAccounts)
	c.tokens, _ = lru.New[tokenKey, *validated](maxTokens)
	c.pools, _ = lru.NewWithEvict(maxPools, func(_ string, p *pool) { p.CloseIdleConnections() })
	return c
}

// Close waits for undos that still run, each bounded by the region's time
// limit, and ends idle connections.
func (c *Clouds) Close() {
	c.undos.Wait()
	c.base.CloseIdleConnections()
	c.pools.Purge()
}

// Forget drops the service-account session of a region that is no more, and its
// own connections.
func (c *Clouds) Forget(region string) {
	c.pools.Remove(region)
	c.accountsMu.Lock()
	defer c.accountsMu.Unlock()
	c.accounts.Remove(region)
}

// ownKeystone says whether callers' tokens for r are validated at another Keystone
// than the federation's.
func (c *Clouds) ownKeystone(r flavor.Region) bool {
	if !r.Trusted {
		return false
	}
	its, err := keystoneBase(r.KeystoneURL)
	federations, configErr := keystoneBase(c.cfg.KeystoneURL)
	return err != nil || configErr != nil || its.String() != federations.String()
}

// Service is r with its service account. It calls nobody yet: the account is
// authenticated by the first operation, its token kept and replaced. There is
// one session for each region; one with other credentials or URLs replaces it.
func (c *Clouds) Service(r flavor.Region) *Compute {
	want := credentialsOf(r)
	c.accountsMu.Lock()
	defer c.accountsMu.Unlock()
	a, ok := c.accounts.Get(r.Name)
	if !ok || a.credentials != want {
		a = &account{clouds: c, credentials: want}
		c.accounts.Add(r.Name, a)
	}
	return &Compute{clouds: c, region: r.Name, session: a}
}

// Delegated is r with the caller's own Keystone token. The token is validated
// at the federation's Keystone, or at the region's own where that is trusted,
// once: it is remembered by its hash until it expires or Nova refuses it. It
// goes to the compute endpoint its own catalog names for the region, or to the
// region's NovaURL where a manager registered that. The region's own certificates
// vouch for either where a manager registered them.
//
// It must be of the user whose id is user, where that is not "" and the Keystone
// asked is the federation's: another has users of its own.
//
// CodeKeystone: the token is missing, refused or not scoped. CodeForbidden: it is
// somebody else's. CodeUnreachable: Keystone cannot be asked, or the catalog has
// no compute endpoint there.
func (c *Clouds) Delegated(ctx context.Context, r flavor.Region, token flavor.Secret, user string) (*Compute, error) {
	if token == "" {
		return nil, flavor.Errorf(flavor.CodeKeystone,
			"%s is asked with your own Keystone token: send one, scoped to a project, as X-Auth-Token-KeyStone", r.Name)
	}
	if !wellFormedToken(string(token)) {
		return nil, flavor.Errorf(flavor.CodeKeystone,
			"X-Auth-Token-KeyStone does not hold a Keystone token: send one, scoped to a project, for %s", r.Name)
	}
	v, key, err := c.validate(ctx, r, string(token))
	if err != nil {
		return nil, err
	}
	if user != "" && v.user != user && !c.ownKeystone(r) {
		return nil, flavor.Forbidden("the Keystone token is not yours: the identity provider that knows you says that you are another user there; "+
			"issue one as yourself and send it as X-Auth-Token-KeyStone for %s", r.Name)
	}
	endpoint := v.compute[r.Name]
	if r.NovaURL != "" && r.NovaURLTrusted {
		endpoint = r.NovaURL
	}
	if endpoint == "" {
		return nil, noEndpoint(r.Name, "the Keystone token's catalog")
	}
	client, err := c.novaAt(r.Name, endpoint, string(token), vouching(r))
	if err != nil {
		return nil, err
	}
	return &Compute{clouds: c, region: r.Name, delegated: true, session: &delegation{clouds: c, key: key, seen: v, nova: client}}, nil
}
